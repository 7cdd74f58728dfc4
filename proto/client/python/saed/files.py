"""A file of activations in, shards of features out, within a bounded memory.

Rows are read, sent and written batch by batch. While a shard is not whole, each of its tensors grows in a
file of its own (`SHARD.TENSOR.part`), whose length says how far it is; then they are put together in one
safetensors file, which is renamed to its place. So a run that was killed goes on with the first row that
its parts lack: the rows in flight, at most `batch_rows`, are sent again. `encode.json` in the folder holds
what the shards are of; another file, dictionary or option is refused there. What a crash of the whole
machine leaves in a part is not looked into: delete the folder's `.part` files after one.
"""
from __future__ import annotations

import collections
import contextlib
import fcntl
import importlib
import json
import math
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO, Deque, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
from numpy.typing import NDArray

from .arrays import Rows
from .sparse import Sparse, TopK
from .wire import DTYPES, Shape, read_safetensors_header, safetensors_header

if TYPE_CHECKING:
    from .dictionary import Dictionary

BATCH_ROWS = 2048
BATCH_BYTES = 64 << 20  # of a batch's features
MAX_FILE_HEADER = 100 << 20
Path = Union[str, "os.PathLike[str]"]
FLOATS = ("F64", "F32", "F16", "BF16")


# ---- what is read ----

class Source(NamedTuple):
    """Where the rows of a file lie: `shape` `(..., width)` from `offset` on, in C order, or (two dimensions
    only) in Fortran order. dtype: numpy's, int16 for bfloat16."""
    path: str
    shape: Shape
    dtype: Any
    bf16: bool
    offset: int
    is_fortran: bool

    @property
    def n_rows(self) -> int:
        return math.prod(self.shape[:-1])

    def read(self, begin: int, end: int) -> Rows:
        """Rows begin..end. Read, not mapped: pages of a mapping would count as resident."""
        width, size = self.shape[-1], self.dtype.itemsize
        with open(self.path, "rb", buffering=0) as file:
            if not self.is_fortran:
                values = np.empty((end - begin, width), self.dtype)
                _read_at(file, self.offset + begin * width * size, values)
            else:
                columns = np.empty((width, end - begin), self.dtype)
                for i, column in enumerate(columns):
                    _read_at(file, self.offset + (i * self.n_rows + begin) * size, column)
                values = columns.T
        return Rows(values, self.bf16, (end - begin,))


def _read_at(file: Any, offset: int, into: NDArray[Any]) -> None:
    if into.nbytes == 0:
        return
    view = memoryview(into.data).cast("B")
    file.seek(offset)
    while len(view):
        n = file.readinto(view)
        if n == 0:
            raise ValueError(f"cannot read {file.name}: it ends {len(view)} bytes before its rows do")
        view = view[n:]


def open_source(path: str, tensor: Optional[str], width: int) -> Source:
    """The rows of `path`. tensor: of a safetensors file; without it, the one float tensor `(..., width)`."""
    if path.endswith(".safetensors"):
        return _open_safetensors(path, tensor, width)
    if tensor is not None:
        raise ValueError(f"cannot read tensor {tensor} of {path}: only .safetensors has tensors by name")
    a = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(a, np.memmap):
        raise ValueError(f"cannot read {path}: wanted .npy or .safetensors")
    is_fortran = not a.flags.c_contiguous
    if a.dtype.kind not in "fiub" or a.ndim == 0 or (is_fortran and a.ndim != 2):
        raise ValueError(f"cannot read {path}: it has {a.dtype} of shape {a.shape}"
                         f"{', in Fortran order' if is_fortran else ''}")
    return Source(path, a.shape, a.dtype, False, a.offset, is_fortran)


def _open_safetensors(path: str, tensor: Optional[str], width: int) -> Source:
    with open(path, "rb") as file:
        tensors, _, at = read_safetensors_header(file.read, MAX_FILE_HEADER)
    fit = []
    for name, dtype, shape, n in tensors:
        if name == tensor or (tensor is None and dtype in FLOATS and shape and shape[-1] == width):
            fit.append(Source(path, shape, np.dtype(DTYPES.get(dtype, "V")), dtype == "BF16", at, False))
            if dtype not in FLOATS or not shape:
                raise ValueError(f"cannot read tensor {name} of {path}: it has {dtype} of shape {shape}")
        at += n
    if len(fit) != 1:
        raise ValueError(f"cannot choose a tensor of {path}: {len(fit)} fit {tensor or f'(..., {width})'}; "
                         f"it has {', '.join(name for name, *_ in tensors) or 'none'}")
    return fit[0]


# ---- what is written ----

class Shard:
    """Rows begin..end of the source as a safetensors file, `path` once it is whole."""

    def __init__(self, folder: str, i: int, n: int, begin: int, end: int, form: Form) -> None:
        self.path = os.path.join(folder, f"shard-{i:05}-of-{n:05}.safetensors")
        self.begin, self.end, self.form = begin, end, form

    def part_path(self, name: str) -> str:
        return f"{self.path}.{name}.part"

    def is_whole(self) -> bool:
        return os.path.exists(self.path)

    def resume(self) -> int:
        """The first row that the parts lack; they are cut to where it begins."""
        sizes = {name: _size(self.part_path(name)) for name in self.form.row_bytes}
        rows = min(sizes[name] // n for name, n in self.form.row_bytes.items())
        if any(_size(self.part_path(name)) < 4 * self.entries(rows) for name in self.form.entry_parts):
            rows = 0  # no kill leaves this, but a crash of the machine may
        for name, n in self.form.row_bytes.items():
            _cut(self.part_path(name), rows * n)
        for name in self.form.entry_parts:
            _cut(self.part_path(name), 4 * self.entries(rows))
        return self.begin + rows

    def entries(self, rows: int) -> int:
        """CSR entries of the first `rows` rows; 0 in other forms."""
        if rows == 0 or not self.form.entry_parts:
            return 0
        with open(self.part_path("f.indptr"), "rb") as file:
            file.seek(8 * (rows - 1))
            return int.from_bytes(file.read(8), "little")

    def append(self, answer: Any, row: int) -> None:
        """Features of the rows from `row` on. What says how many rows there are is written last."""
        for name, values in self.form.parts(answer, self.entries(row - self.begin)):
            _append(self.part_path(name), values)

    def finish(self, metadata: Dict[str, str]) -> None:
        rows = self.end - self.begin
        tensors = []
        for name, dtype, shape in self.form.tensors(rows, self.entries(rows)):
            tensors.append((name, dtype, shape, math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize))
        with open(self.path + ".tmp", "wb") as file:
            file.write(safetensors_header(tensors, {**metadata, "first_row": str(self.begin)}))
            for name, *_ in tensors:
                self.put(name, rows, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(self.path + ".tmp", self.path)
        self.remove_parts()

    def put(self, name: str, rows: int, file: BinaryIO) -> None:
        if name == "f.shape":
            file.write(np.array([rows, self.form.width], "<i8").tobytes())
            return
        if name == "f.indptr":
            file.write(bytes(8))  # the part has where each row ends
        with open(self.part_path(name), "rb") as part:
            shutil.copyfileobj(part, file, 1 << 20)

    def remove_parts(self) -> None:
        for name in (*self.form.row_bytes, *self.form.entry_parts):
            with contextlib.suppress(FileNotFoundError):
                os.remove(self.part_path(name))


class Form(NamedTuple):
    """How features are written. row_bytes: tensors with so many bytes a row; entry_parts: with 4 bytes an
    entry of CSR. width: columns of the dense tensor; k: of top_k."""
    row_bytes: Dict[str, int]
    entry_parts: Tuple[str, ...]
    width: int
    k: int

    @classmethod
    def of(cls, options: Dict[str, str], features: Optional[Sequence[int]], dict_size: int) -> Form:
        if int(options.get("top_k", 1)) < 1 or features == []:
            raise ValueError("cannot encode into files: no column is asked for")
        if "top_k" in options:
            k = min(int(options["top_k"]), dict_size if features is None else len(set(features)))
            return cls({"f.top_indices": 4 * k, "f.top_values": 4 * k}, (), dict_size, k)
        if "sparse" in options:
            return cls({"f.indptr": 8}, ("f.indices", "f.values"), dict_size, 0)
        width = dict_size if features is None else len(features)
        return cls({"f": 4 * width}, (), width, 0)

    def parts(self, answer: Any, entries: int) -> Iterator[Tuple[str, NDArray[Any]]]:
        """What an answer adds to each part, behind so many entries."""
        if isinstance(answer, TopK):
            yield "f.top_indices", answer.indices
            yield "f.top_values", answer.values
        elif isinstance(answer, Sparse):
            yield "f.indices", answer.indices
            yield "f.values", answer.values
            yield "f.indptr", answer.indptr[1:] + entries
        else:
            yield "f", answer

    def tensors(self, rows: int, entries: int) -> List[Tuple[str, str, Shape]]:
        """Name, dtype and shape of each tensor of a shard; the 8-byte ones first, so that all are aligned."""
        if self.k:
            return [("f.top_indices", "I32", (rows, self.k)), ("f.top_values", "F32", (rows, self.k))]
        if self.entry_parts:
            return [("f.shape", "I64", (2,)), ("f.indptr", "I64", (rows + 1,)),
                    ("f.indices", "I32", (entries,)), ("f.values", "F32", (entries,))]
        return [("f", "F32", (rows, self.width))]


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0


def _cut(path: str, n: int) -> None:
    with open(path, "ab") as file:
        file.truncate(n)


def _append(path: str, values: NDArray[Any]) -> None:
    with open(path, "ab") as file:
        file.write(np.ascontiguousarray(values).data)


# ---- the run ----

def encode_file(ae: Dictionary, path: Path, out: Path, tensor: Optional[str], options: Dict[str, str],
                features: Optional[Sequence[int]], shard_rows: int, batch_rows: Optional[int],
                progress: bool) -> List[str]:
    """As `Dictionary.encode_file`; `options` as the query has them."""
    path, out = os.fspath(path), os.fspath(out)
    if shard_rows < 1 or (batch_rows is not None and batch_rows < 1):
        raise ValueError(f"cannot encode {path}: a shard of {shard_rows} rows, a batch of {batch_rows}")
    source = open_source(path, tensor, ae.activation_dim)
    if source.shape[-1] != ae.activation_dim:
        raise ValueError(f"cannot encode {path}: its rows have width {source.shape[-1]}, {ae.name} wants "
                         f"{ae.activation_dim}")
    features = None if features is None else [int(i) for i in features]
    form = Form.of(options, features, ae.dict_size)
    n = source.n_rows
    n_shards = max(1, -(-n // shard_rows))
    shards = [Shard(out, i, n_shards, i * shard_rows, min(n, (i + 1) * shard_rows), form)
              for i in range(n_shards)]
    if batch_rows is None:
        row_bytes = 8 * form.k or 4 * form.width or 1
        batch_rows = min(BATCH_ROWS, max(ae.client.connections, BATCH_BYTES // row_bytes))
    what = _identity(ae, source, tensor, options, features, shard_rows)
    metadata = {"dictionary": ae.name, "shape": json.dumps([*source.shape[:-1], form.width])}
    os.makedirs(out, exist_ok=True)
    with _begun(out, what), _bar(n, progress) as advance:
        for shard in shards:
            if shard.is_whole():
                shard.remove_parts()  # a run may have been killed right before it did
                advance(shard.end - shard.begin)
                continue
            _encode_shard(ae, source, shard, options, features, batch_rows, advance)
            shard.finish(metadata)
    return [shard.path for shard in shards]


def _encode_shard(ae: Dictionary, source: Source, shard: Shard, options: Dict[str, str],
                  features: Optional[Sequence[int]], batch_rows: int, advance: Any) -> None:
    """Send the rows that the shard lacks: so many requests at once, and together no more than a batch."""
    step = max(1, batch_rows // ae.client.connections)
    asked: Dict[str, Any] = {"features": features, "sparse": "sparse" in options,
                             "top_k": int(options["top_k"]) if "top_k" in options else None}

    def work(begin: int, end: int) -> Any:
        return ae.encode(source.read(begin, end), **asked, dtype=np.float32)

    row = shard.resume()
    advance(row - shard.begin)
    next_row = row
    flying: Deque[Tuple[int, Future[Any]]] = collections.deque()
    # Threads of its own: a piece too large for one request waits for the client's.
    with ThreadPoolExecutor(ae.client.connections, "saed-file") as workers:
        while next_row < shard.end or flying:
            while next_row < shard.end and len(flying) < ae.client.connections:
                end = min(next_row + step, shard.end)
                flying.append((end, workers.submit(work, next_row, end)))
                next_row = end
            end, future = flying.popleft()
            shard.append(future.result(), row)
            advance(end - row)
            row = end


def _identity(ae: Dictionary, source: Source, tensor: Optional[str], options: Dict[str, str],
              features: Optional[Sequence[int]], shard_rows: int) -> Dict[str, Any]:
    """What makes shards what they are."""
    status = os.stat(source.path)
    return {"dictionary": ae.name, "weights_sha256": _weights(ae), "tensor": tensor, "shape": list(source.shape),
            "dtype": "bfloat16" if source.bf16 else str(source.dtype), "bytes": status.st_size,
            "mtime_ns": status.st_mtime_ns, "options": options,
            "features": features, "shard_rows": shard_rows}


def _weights(ae: Dictionary) -> Any:
    """The digest of the weights that are served now; a row is encoded where they are yet to be loaded."""
    digest = ae.client.info(ae.name)["weights_sha256"]
    if digest is None:
        ae.encode(np.zeros((1, ae.activation_dim), np.float32), features=[0])
        digest = ae.client.info(ae.name)["weights_sha256"]
    return digest


@contextlib.contextmanager
def _begun(out: str, what: Dict[str, Any]) -> Iterator[None]:
    """Hold the folder for one run, which must want what an earlier one began."""
    with open(os.path.join(out, "encode.json"), "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"cannot write to {out}: another run does") from None
        file.seek(0)
        try:
            begun = json.load(file)
        except ValueError:  # new, or killed while it was written: nothing else is there yet
            file.truncate(0)
            json.dump(what, file)
            file.flush()
            begun = what
        for key, value in what.items():
            if begun.get(key) != value:
                raise ValueError(f"cannot go on in {out}: it was begun with {key} {begun.get(key)!r}, "
                                 f"now it is {value!r}")
        yield


@contextlib.contextmanager
def _bar(n: int, progress: bool) -> Iterator[Any]:
    """A function that is told how many rows are done, and shows it if tqdm is there and a terminal is."""
    try:
        if not progress:
            raise ImportError
        tqdm: Any = importlib.import_module("tqdm").tqdm
    except ImportError:
        yield lambda rows: None
        return
    with tqdm(total=n, unit="row", disable=None) as bar:
        yield bar.update

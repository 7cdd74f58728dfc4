"""A served dictionary that stands in for dictionary_learning's object."""
from __future__ import annotations

import http.client
import math
import os
import threading
import urllib.parse
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
from numpy.typing import NDArray

from .arrays import Rows, half, like, requires_grad, to_numpy
from .client import Client
from .errors import RequestError
from .sparse import Sparse, TopK, join
from .weights import FeatureRows, fetch_vectors
from .wire import RAW, SAFETENSORS, Part, Shape, body, read_answer

# From here on more rows a request gain nothing (README, "How many rows to send at once").
ENOUGH_ROWS = 2048
Path = Union[str, "os.PathLike[str]"]
LABELS_AT_ONCE = 1024  # the daemon's limit

FORWARD = ("x_hat", "x_ghost", "f", "pre_jump", "input_state")
CSR_PARTS = (".indptr", ".indices", ".values", ".shape")


class Dictionary:
    """The dictionary `name` of the daemon at `url` (or of a `Client`, whose connections it then shares).

    `encode`, `decode` and the call answer as the classes of dictionary_learning do: arrays for arrays,
    tensors for tensors, on the same device. saed computes float32, and answers are float32 unless `dtype`
    (here, or in a call) names another; 16-bit floats are sent as they are, all else as float32. Rows have
    the shape `(..., activation_dim)`, features `(..., dict_size)`, and leading dimensions are kept. Rows
    that do not fit in one request travel in several.

    Answers of a tensor that requires grad have its graph, while grad mode is on: see saed.autograd. grad:
    "active": the derivative is made of the rows of active features alone, which is exact but for entries
    of a dense f of 0 that decode is given: they get 0. "all": decode gives these theirs too, of all rows.
    "refuse": such a tensor is a ValueError.
    """

    def __init__(self, url: Union[str, Client], name: str, *, dtype: Any = None, grad: str = "active",
                 **client: Any) -> None:
        """client: timeout, patience, connections, api_key, uds, ca_file, as in `Client`."""
        if grad not in ("active", "all", "refuse"):
            raise ValueError(f"cannot take grad={grad!r}: wanted active, all or refuse")
        if isinstance(url, Client):
            if client:
                raise TypeError(f"cannot set {', '.join(client)}: the client that is given has its own")
            self.client = url
        else:
            self.client = Client(url, **client)
        self.name = name
        self.dtype = dtype
        self.grad = grad
        self._info = self.client.info(name)
        self._path = f"/v1/dictionaries/{urllib.parse.quote(name, safe='')}/"

    @property
    def info(self) -> Dict[str, Any]:
        """`GET /v1/dictionaries/NAME`, as it was when the daemon could first read its file. RequestError
        (`unavailable`): it cannot yet."""
        if self._info["dict_class"] is None:
            self._look_again()
            self._info = self.client.info(self.name)
        return self._info

    def _look_again(self) -> None:
        """The daemon looks at the file when something is asked of it."""
        try:
            self.client.transport.call("POST", self._path + "encode", http.client.HTTPResponse.read,
                                       headers={"Content-Type": "application/json"}, body=[b'{"x":[]}'])
        except RequestError as e:
            if e.status == 503:
                raise

    @property
    def activation_dim(self) -> int:
        """Width of a row."""
        width: int = self.info["activation_dim"]
        return width

    @property
    def dict_size(self) -> int:
        """Number of features."""
        size: int = self.info["dict_size"]
        return size

    @property
    def output_dim(self) -> int:
        """Width of a row of x_hat: activation_dim but for transcoders; 0 where there is no decoder."""
        return int(self.info["output_dim"] or 0)

    @property
    def W_enc(self) -> FeatureRows:
        """`(dict_size, activation_dim)`: `W_enc[ids]` asks the daemon for these rows."""
        return FeatureRows(self, "encoder", self.activation_dim)

    @property
    def W_dec(self) -> FeatureRows:
        """`(dict_size, output_dim)`: row j is what f_j is multiplied by."""
        return FeatureRows(self, "decoder", self.output_dim)

    def vectors(self, *names: str) -> Dict[str, NDArray[Any]]:
        """Of `b_dec`, `b_enc`, `gate_bias`, `mag_bias`, `r`, `threshold`, `jump`, `norms`, `centre`, `skip`
        those that are named, by name. RequestError: the reading has not one of them."""
        return fetch_vectors(self, names)

    def labels(self, features: Any = None) -> List[Optional[str]]:
        """What the dictionary's source (`labels=PATH`) calls the features of these ids (default: all), in their
        order; None where it has no label. RequestError: it states none, or there is no such feature."""
        ids = np.arange(self.dict_size) if features is None else _ids(features).ravel()
        wanted = np.unique(ids)
        asked = [(wanted[i:i + LABELS_AT_ONCE],) for i in range(0, len(wanted), LABELS_AT_ONCE)]
        found: Dict[str, Optional[str]] = {}
        for part in self.client.each(self._labels, asked):
            found.update(part)
        return [found[str(i)] for i in ids.tolist()]

    def _labels(self, ids: NDArray[Any]) -> Dict[str, Optional[str]]:
        path = self._path + "labels?features=" + ",".join(map(str, ids.tolist()))
        found: Dict[str, Optional[str]] = self.client.get(path)["labels"]
        return found

    def __repr__(self) -> str:
        what = self._info
        return (f"saed.Dictionary({self.client.url!r}, {self.name!r}): {what['dict_class']} "
                f"{what['activation_dim']} x {what['dict_size']}")

    def encode(self, x: Any, return_gate: bool = False, output_pre_jump: bool = False, *,
               top_k: Optional[int] = None, sparse: bool = False, features: Optional[Sequence[int]] = None,
               input_state: bool = False, dtype: Any = None) -> Any:
        """Features of rows: `f` `(..., dict_size)`, `(f, gate)` or `(f, pre_jump)`.

        top_k: only the k strongest of each row, as `TopK`. sparse: the active ones, as `Sparse`. features:
        ids; only these columns, in this order (with top_k or sparse: only these count). input_state: adds,
        last, each row's own numbers under rms and layer_norm, `(..., 1)` or `(..., 2)`, for decode.
        """
        options = _asked(return_gate=return_gate, output_pre_jump=output_pre_jump, top_k=top_k, sparse=sparse,
                         input_state=input_state)
        is_tracked = self._tracks(x)
        columns = _columns(features)
        found = self._found("encode", _Dense("x", x), options, columns,
                            ["f", "gate", "pre_jump", "input_state"], dtype)
        if is_tracked:
            from .autograd import of_encode
            found = of_encode(self, x, found, columns[0].ids if columns else None)
        return _as_asked(found)

    def decode(self, f: Any, *, x: Any = None, input_state: Any = None, dtype: Any = None) -> Any:
        """Rows `x_hat` `(..., output_dim)` from features: dense `(..., dict_size)`, `TopK` or `Sparse`.

        x: the rows that were encoded, where there is a skip of them. input_state: what encode gave, where
        the output undoes each row's own scaling (`info["reading"]`: input rms or layer_norm, output follow).
        """
        given: _Given = _Listed(f) if isinstance(f, (TopK, Sparse)) else _Dense("f", f)
        beside = [_Dense(name, rows) for name, rows in (("x", x), ("input_state", input_state))
                  if rows is not None]
        for rows in beside:
            if rows.lead != given.lead:
                raise ValueError(f"cannot decode: {rows.name} has the leading dimensions {rows.lead}, f "
                                 f"{given.lead}")
        is_tracked = self._tracks(given.model, x, input_state)
        found = self._found("decode", given, {}, beside, ["x_hat"], dtype)
        if is_tracked:
            from .autograd import of_decode
            found = of_decode(self, found, f, {rows.name: rows.model for rows in beside})
        return _as_asked(found)

    def __call__(self, x: Any, output_features: bool = False, ghost_mask: Any = None,
                 output_pre_jump: bool = False, *, top_k: Optional[int] = None, sparse: bool = False,
                 features: Optional[Sequence[int]] = None, input_state: bool = False, dtype: Any = None) -> Any:
        """forward: `x_hat`, or of `(x_hat, x_ghost, f, pre_jump, input_state)` what was asked for and the
        class has.

        ghost_mask: AutoEncoder's, `(dict_size)`, `(..., 1)` or `(..., dict_size)`. f is as the class's
        forward gives it: GatedAutoEncoder and AutoEncoderNew multiply it by the decoder's norms. top_k,
        sparse, features shape f, and input_state is, as in encode.
        """
        options = _asked(output_features=output_features, output_pre_jump=output_pre_jump, top_k=top_k,
                         sparse=sparse, input_state=input_state)
        given = _Dense("x", x)
        columns = _columns(features)
        if self._tracks(x, ghost_mask):
            if ghost_mask is not None:
                raise ValueError("cannot call with a ghost_mask and a tensor that requires grad: x_ghost has no "
                                 "gradient here")
            return _as_asked(self._tracked_forward(given, options, columns, dtype))
        beside: List[_Beside] = [*columns]
        if ghost_mask is not None:
            beside.append(_Mask(ghost_mask, given.lead, self.dict_size))
        return _as_asked(self._found("forward", given, options, beside, FORWARD, dtype))

    def forward(self, x: Any, *args: Any, **options: Any) -> Any:
        """The call, by the name that `torch.nn.Module` has for it."""
        return self(x, *args, **options)

    def eval(self) -> Dictionary:
        """Itself: there is no other mode. For code that says so of a module."""
        return self

    def to(self, *_: Any, **__: Any) -> Dictionary:
        """Itself: the weights stay where saed is, and answers are on the device of what is asked."""
        return self

    def encode_file(self, path: Path, out: Path, *, tensor: Optional[str] = None, top_k: Optional[int] = None,
                    sparse: bool = False, features: Optional[Sequence[int]] = None, shard_rows: int = 65536,
                    batch_rows: Optional[int] = None, progress: bool = True) -> List[str]:
        """Features of the rows in a file (`.npy`, or `tensor` of `.safetensors`) into the folder `out`, as
        safetensors of `shard_rows` rows, whose paths are the answer. See saed.files."""
        from .files import encode_file
        options = _asked(top_k=top_k, sparse=sparse)
        return encode_file(self, path, out, tensor, options, features, shard_rows, batch_rows, progress)

    # ---- requests ----

    def _found(self, op: str, given: _Given, options: Dict[str, str], beside: Sequence[_Beside],
               names: Sequence[str], dtype: Any) -> Dict[str, Any]:
        """Those of the answer's tensors `names` that came, in this order."""
        dtype = self.dtype if dtype is None else dtype
        request = _Request(self, op, given, options, beside, names[0], dtype)
        step = request.rows_at_once()
        n = given.n_rows
        self.client.each(request.piece, [(i, min(i + step, n)) for i in range(0, n, step)] or [(0, 0)])
        found = {name: request.joined.give(name, given, self.dict_size, dtype) for name in names}
        return {name: a for name, a in found.items() if a is not None}

    def _tracked_forward(self, given: _Dense, options: Dict[str, str], columns: List[_Columns],
                         dtype: Any) -> Dict[str, Any]:
        """forward with its graph, for which all active features must be known."""
        from .autograd import never_off, of_forward
        is_asked = "output_features" in options or "output_pre_jump" in options
        if not (is_asked or never_off(self)):
            options = {**options, "output_features": "true", "sparse": "true"}
        found = self._found("forward", given, options, columns, FORWARD, dtype)
        f = found.get("f")
        if is_asked and (columns or "top_k" in options) and not never_off(self):
            f = self._found("encode", given, {"sparse": "true"}, [], ["f"], dtype)["f"]
        if not is_asked:
            found.pop("f", None)
        return of_forward(self, given.model, found, columns[0].ids if columns else None, f)

    def _tracks(self, *given: Any) -> bool:
        """Whether the answer of these has a graph."""
        tracks = any(requires_grad(x) for x in given)
        if tracks and self.grad == "refuse":
            raise ValueError("cannot send a tensor that requires grad under grad=\"refuse\" (detach it, or call "
                             "within torch.no_grad())")
        return tracks


def _as_asked(found: Dict[str, Any]) -> Any:
    answer = tuple(found.values())
    return answer[0] if len(answer) == 1 else answer


class _Dense:
    """Rows of an array or tensor."""

    def __init__(self, name: str, x: Any) -> None:
        self.name = name
        self.rows = Rows.of(x, name)
        self.lead, self.n_rows = self.rows.lead, len(self.rows.values)
        self.model = x
        self.metadata: Dict[str, str] = {}

    def part(self, begin: int, end: int) -> Part:
        return self.rows.part(self.name, begin, end)

    def parts(self, begin: int, end: int) -> List[Part]:
        return [self.part(begin, end)]


class _Listed:
    """Rows of a TopK or Sparse."""

    def __init__(self, f: Union[TopK, Sparse]) -> None:
        self.lead, self.n_rows = f.shape[:-1], f._n_rows()
        self.model = f.values
        self.metadata = {} if f.f_units == "encode" else {"f_units": f.f_units}
        self.parts = f._parts


class _Columns:
    """Ids of features, the same for all rows."""
    name = "features"

    def __init__(self, features: Any) -> None:
        self.ids = _ids(features)

    def part(self, begin: int, end: int) -> Part:
        return Part(self.name, "I64", self.ids)


def _columns(features: Any) -> List[_Columns]:
    return [] if features is None else [_Columns(features)]


class _Request:
    """One call, in as many requests as it takes."""

    def __init__(self, ae: Dictionary, op: str, given: _Given, options: Dict[str, str],
                 beside: Sequence[_Beside], main: str, dtype: Any) -> None:
        self.ae, self.op, self.given, self.beside, self.main = ae, op, given, beside, main
        self.top_k = "top_k" in options
        self.is_raw = not (options or any(isinstance(b, _Mask) for b in beside))
        self.path = f"{ae._path}{op}?{urllib.parse.urlencode(options)}".rstrip("?")
        self.joined = _Joined(given.n_rows)
        # Where 16 bits are wanted no more travel; but decode needs all of an input_state.
        bits = "" if "input_state" in options else half(dtype)
        self.accept = (RAW if self.is_raw else SAFETENSORS) + (bits and f";dtype={bits}")

    def rows_at_once(self) -> int:
        form = "top_k" if self.top_k else "octet-stream" if self.is_raw else "safetensors"
        most: int = self.ae.info["max_rows"][self.op][form]
        return min(ENOUGH_ROWS, max(1, most // self.ae.client.connections))

    def piece(self, begin: int, end: int) -> None:
        """Rows begin..end. What max_rows cannot know (options, how many are active) may be too much for
        one answer: then in halves."""
        parts = [*self.given.parts(begin, end), *(b.part(begin, end) for b in self.beside)]
        headers, buffers = body(parts, self.given.metadata)
        headers["Accept"] = self.accept

        def slot(name: str, dtype: str, shape: Shape) -> NDArray[Any]:
            return self.joined.slot(begin, end, name, dtype, shape)

        try:
            self.joined.metadata = self.ae.client.transport.call(
                "POST", self.path, lambda r: read_answer(r, self.main, slot), headers=headers, body=buffers)
        except RequestError as e:
            if e.status != 413 or end - begin < 2:
                raise
            middle = (begin + end) // 2
            self.piece(begin, middle)
            self.piece(middle, end)


def _ids(features: Any) -> NDArray[Any]:
    ids = to_numpy(features)
    if ids.size and ids.dtype.kind not in "iu":
        raise TypeError(f"cannot send features of {ids.dtype}: wanted ids")
    return np.ascontiguousarray(ids, "<i8")


class _Mask:
    """A ghost mask: one row for all, or as many as x has."""

    def __init__(self, mask: Any, lead: Tuple[int, ...], dict_size: int) -> None:
        values = to_numpy(mask)
        self.is_shared = values.ndim < 2
        if self.is_shared and values.size == 1:
            values = np.broadcast_to(values, (dict_size,))
        elif not self.is_shared:
            width = values.shape[-1]
            values = np.broadcast_to(values, (*lead, width)).reshape(math.prod(lead), width)
        self.values, self.dtype = (values, "BOOL") if values.dtype == bool else (values.astype("<f4"), "F32")

    def part(self, begin: int, end: int) -> Part:
        values = self.values if self.is_shared else self.values[begin:end]
        return Part("ghost_mask", self.dtype, np.ascontiguousarray(values))


_Given = Union[_Dense, _Listed]
_Beside = Union[_Dense, _Columns, _Mask]


class _Joined:
    """The tensors of the whole answer. Dense ones are allocated when the first piece names their width,
    and pieces are read right into their rows; CSR parts are kept by piece until all are there."""

    def __init__(self, n_rows: int) -> None:
        self.n_rows = n_rows
        self.dense: Dict[str, NDArray[Any]] = {}
        self.ragged: Dict[int, Dict[str, NDArray[Any]]] = {}
        self.metadata: Dict[str, str] = {}
        self.lock = threading.Lock()

    def slot(self, begin: int, end: int, name: str, dtype: str, shape: Shape) -> NDArray[Any]:
        if name.endswith(CSR_PARTS):
            part = np.empty(shape, dtype)
            with self.lock:
                self.ragged.setdefault(begin, {})[name] = part
            return part
        if len(shape) != 2 or shape[0] != end - begin:
            raise ValueError(f"cannot read {name}: its shape is {shape}, wanted {end - begin} rows")
        with self.lock:
            if name not in self.dense:
                self.dense[name] = np.empty((self.n_rows, shape[1]), dtype)
        return self.dense[name][begin:end]

    def give(self, name: str, given: _Given, dict_size: int, dtype: Any) -> Any:
        """Tensor `name` in the form in which it came; None: it did not."""
        units = self.metadata.get("f_units", "encode") if name == "f" else "encode"
        if name in self.dense:
            return like(self._shaped(name, given), given.model, None if name == "input_state" else dtype)
        if name + ".top_values" in self.dense:
            return TopK(like(self._shaped(name + ".top_indices", given), given.model),
                        like(self._shaped(name + ".top_values", given), given.model, dtype), dict_size, units)
        if self.ragged and name + ".values" in next(iter(self.ragged.values())):
            pieces = [self.ragged[begin] for begin in sorted(self.ragged)]
            return join(pieces, name, (*given.lead, dict_size), given.model, dtype, units)
        return None

    def _shaped(self, name: str, given: _Given) -> NDArray[Any]:
        a = self.dense[name]
        return a.reshape(*given.lead, a.shape[1])


def _asked(**options: Any) -> Dict[str, str]:
    """The options that were asked for, as the query has them."""
    return {name: "true" if value is True else str(value)
            for name, value in options.items() if value is not None and value is not False}

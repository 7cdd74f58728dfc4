"""Bodies and answers in bytes: raw float32, and safetensors.

A body is a list of buffers, of which arrays are sent as they lie in memory. An answer is read into arrays
that `slot(name, dtype, shape)` gives, so that it need not be copied again.
"""
from __future__ import annotations

import http.client
import json
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

RAW = "application/octet-stream"
SAFETENSORS = "application/x-safetensors"

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<i2", "I64": "<i8", "I32": "<i4",
          "U32": "<u4", "U16": "<u2", "BOOL": "?"}

# Far above the header of any answer of saed's.
MAX_HEADER = 1 << 20

Shape = Tuple[int, ...]
Slot = Callable[[str, str, Shape], NDArray[Any]]


class Part(NamedTuple):
    """A tensor of a body: its name, its dtype as safetensors has it, its values (C-contiguous; BF16 as
    int16)."""
    name: str
    dtype: str
    array: NDArray[Any]


def safetensors_header(tensors: Sequence[Tuple[str, str, Shape, int]],
                       metadata: Optional[Mapping[str, str]] = None) -> bytes:
    """The head of a safetensors file: (name, dtype, shape, bytes) of each tensor, in the file's order."""
    entries: Dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, dtype, shape, n in tensors:
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


class Header(NamedTuple):
    """What the head of safetensors says: (name, dtype, shape, bytes) of each tensor in the order in which
    they lie, the metadata, and the head's own bytes."""
    tensors: List[Tuple[str, str, Shape, int]]
    metadata: Dict[str, str]
    n_bytes: int


def read_safetensors_header(read: Callable[[int], bytes], most: int = MAX_HEADER) -> Header:
    """`read(n)` gives the next n bytes."""
    n = int.from_bytes(read(8), "little")
    if n > most:
        raise ValueError(f"cannot read safetensors: its header has {n} bytes, wanted at most {most}")
    header = json.loads(read(n))
    metadata = header.pop("__metadata__", {})
    tensors = []
    at = 0
    for name, entry in sorted(header.items(), key=_begin_of):
        begin, end = entry["data_offsets"]
        if begin != at:
            raise ValueError(f"cannot read safetensors: tensor {name} begins at {begin}, wanted {at}")
        at = end
        tensors.append((name, entry["dtype"], tuple(entry["shape"]), end - begin))
    return Header(tensors, metadata, 8 + n)


def _begin_of(entry: Tuple[str, Any]) -> Tuple[int, int]:
    begin, end = entry[1]["data_offsets"]
    return begin, end


def body(parts: Sequence[Part], metadata: Optional[Mapping[str, str]] = None
         ) -> Tuple[Dict[str, str], List[Any]]:
    """Headers and buffers of a request: raw where it is one float32 tensor, else safetensors."""
    if len(parts) == 1 and parts[0].dtype == "F32" and not metadata:
        shape = ",".join(map(str, parts[0].array.shape))
        return {"Content-Type": RAW, "Saed-Shape": shape}, [parts[0].array]
    header = safetensors_header([(p.name, p.dtype, p.array.shape, p.array.nbytes) for p in parts], metadata)
    return {"Content-Type": SAFETENSORS}, [header, *(p.array for p in parts)]


def read_answer(response: http.client.HTTPResponse, main: str, slot: Slot) -> Dict[str, str]:
    """Read an answer of either binary form; `main` is what a raw one holds. Gives the metadata."""
    metadata: Dict[str, str] = {}
    media, _, dtype = response.headers.get("Content-Type", "").partition(";dtype=")
    if media == RAW:
        shape = tuple(int(n) for n in response.headers["Saed-Shape"].split(","))
        _fill(response, slot(main, DTYPES[dtype.upper() or "F32"], shape))
    else:
        tensors, metadata, _ = read_safetensors_header(lambda n: _exactly(response, n))
        for name, dtype, shape, _ in tensors:
            _fill(response, slot(name, DTYPES[dtype], shape))
    response.read()  # nothing is left; this lets the connection serve again
    return metadata


def _exactly(response: http.client.HTTPResponse, n: int) -> bytes:
    data = response.read(n)
    if len(data) < n:
        raise http.client.IncompleteRead(data, n - len(data))
    return data


def _fill(response: http.client.HTTPResponse, into: NDArray[Any]) -> None:
    if into.nbytes == 0:
        return
    view = memoryview(into.data).cast("B")
    while len(view):
        n = response.readinto(view)
        if n == 0:
            raise http.client.IncompleteRead(b"", len(view))
        view = view[n:]

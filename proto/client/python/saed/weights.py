"""Weights of a served dictionary, as they are in use: rows of its matrices on demand, and its vectors.

`POST /v1/dictionaries/NAME/weights` gives them. Nothing is kept here.
"""
from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING, Any, Dict, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from .arrays import is_tensor, like, to_numpy
from .errors import RequestError
from .wire import SAFETENSORS, Part, Shape, body, read_answer

if TYPE_CHECKING:
    from .dictionary import Dictionary

ROW_BYTES = 32 << 20  # of one answer


class FeatureRows:
    """A matrix `(dict_size, width)`, a row a feature, of which rows come when it is indexed, as numpy is:
    `W[7]` is one row; `W[ids]` (any shape), `W[a:b]` and `W[mask]` are rows, each distinct one sent once.
    Arrays for arrays, tensors for tensors, on the same device; for all else what `model` is."""

    def __init__(self, ae: Dictionary, part: str, width: int, model: Any = None) -> None:
        self._ae, self._part, self._model = ae, part, model
        self.shape = (ae.dict_size, width)
        self.ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: Any) -> Any:
        ids = np.asarray(np.arange(len(self))[to_numpy(which) if hasattr(which, "shape") else which])
        distinct, place = np.unique(ids, return_inverse=True)
        rows = fetch_rows(self._ae, (self._part,), distinct)[self._part]
        if len(distinct) < ids.size or not np.array_equal(distinct, ids.reshape(-1)):
            rows = rows[place]
        rows = rows.reshape(*ids.shape, self.shape[1])
        return like(rows, which if is_tensor(which) else self._model, self._ae.dtype)

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        """The whole matrix."""
        whole = to_numpy(self[:])
        return whole if dtype is None else whole.astype(dtype, copy=False)

    @property
    def T(self) -> FeatureColumns:
        """The same `(width, dict_size)`: `W.T[:, ids]`."""
        return FeatureColumns(self)

    def __repr__(self) -> str:
        return f"saed.FeatureRows of {self._ae.name}: {self._part} {self.shape}"


class FeatureColumns:
    """FeatureRows transposed, which `[:, ids]` indexes."""

    def __init__(self, rows: FeatureRows) -> None:
        self._rows = rows
        self.shape = rows.shape[::-1]
        self.ndim = 2

    def __getitem__(self, which: Any) -> Any:
        if not isinstance(which, tuple) or len(which) != 2 or which[0] not in (slice(None), Ellipsis):
            raise TypeError("cannot index columns of weights: wanted [:, ids]")
        rows = self._rows[which[1]]
        return rows if rows.ndim == 1 else rows.T

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        return self._rows.__array__(dtype).T

    @property
    def T(self) -> FeatureRows:
        return self._rows


def fetch_rows(ae: Dictionary, parts: Tuple[str, ...], ids: NDArray[Any]) -> Dict[str, NDArray[Any]]:
    """Rows `ids` of each of `parts` ("encoder", "decoder"), in as many requests as they take."""
    widths = {"encoder": ae.activation_dim, "decoder": ae.output_dim}
    rows = {part: np.empty((len(ids), widths[part]), "<f4") for part in parts}
    step = max(1, ROW_BYTES // (4 * max(1, sum(widths[part] for part in parts))))

    def piece(begin: int, end: int) -> None:
        def slot(name: str, dtype: str, shape: Shape) -> NDArray[Any]:
            return rows[name][begin:end]

        some = np.ascontiguousarray(ids[begin:end], "<i8")
        try:
            _ask(ae, "", [Part(part, "I64", some) for part in parts], slot)
        except RequestError as e:
            if e.status != 413 or end - begin < 2:
                raise
            middle = (begin + end) // 2
            piece(begin, middle)
            piece(middle, end)

    pieces = [(i, min(i + step, len(ids))) for i in range(0, len(ids), step)]
    if pieces:
        ae.client.each(piece, pieces)
    return rows


def fetch_vectors(ae: Dictionary, names: Sequence[str]) -> Dict[str, NDArray[Any]]:
    """What weights calls `vectors`, by name."""
    found: Dict[str, NDArray[Any]] = {}

    def slot(name: str, dtype: str, shape: Shape) -> NDArray[Any]:
        found[name] = np.empty(shape, dtype)
        return found[name]

    if names:
        _ask(ae, "?" + urllib.parse.urlencode({"vectors": ",".join(names)}), [], slot)
    return found


def _ask(ae: Dictionary, query: str, parts: Sequence[Part], slot: Any) -> None:
    headers, buffers = body(parts)
    headers["Accept"] = SAFETENSORS
    ae.client.transport.call("POST", f"{ae._path}weights{query}", lambda r: read_answer(r, "", slot),
                             headers=headers, body=buffers)

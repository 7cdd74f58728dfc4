"""Feature activations of which only the active ones are kept."""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

import numpy as np
from numpy.typing import NDArray

from .arrays import is_tensor, like, to_numpy
from .wire import Part


@dataclass(frozen=True, eq=False)
class TopK:
    """The k strongest features of each row.

    indices: ids `(..., k)`, int32; values: `(..., k)`, descending. A row with fewer active features is
    filled with value 0 at ids that are off. Both are numpy arrays, or tensors where rows were. f_units:
    "encode", or "decoder_norm" where forward has scaled the values by the decoder's norms.
    """
    indices: Any
    values: Any
    dict_size: int
    f_units: str = "encode"

    @property
    def shape(self) -> Tuple[int, ...]:
        """Of the dense tensor: `(..., dict_size)`."""
        return (*self.values.shape[:-1], self.dict_size)

    def dense(self) -> Any:
        """`(..., dict_size)`, as what `values` is."""
        ids = to_numpy(self.indices).reshape(-1, self.values.shape[-1]).astype(np.int64)
        return _spread(self.values, ids + np.arange(len(ids))[:, None] * self.dict_size, self.shape)

    def sparse(self) -> Sparse:
        """The same as CSR, ids ascending, without fillers."""
        width = self.values.shape[-1]
        ids = to_numpy(self.indices).reshape(-1, width)
        values = to_numpy(self.values).reshape(-1, width)
        order = np.argsort(ids, axis=1)
        on = np.take_along_axis(values, order, 1) != 0
        indptr = np.concatenate([[0], np.cumsum(on.sum(1))])
        places = (order + np.arange(len(ids))[:, None] * width)[on]
        return Sparse(like(indptr, self.values), like(ids.reshape(-1)[places], self.values),
                      self.values.reshape(-1)[like(places, self.values)], self.shape, self.f_units)

    def to_scipy(self) -> Any:
        """scipy's csr_matrix `(rows, dict_size)`, leading dimensions flattened."""
        return self.sparse().to_scipy()

    def to_torch_sparse(self) -> Any:
        """torch's sparse CSR tensor `(rows, dict_size)`, leading dimensions flattened."""
        return self.sparse().to_torch_sparse()

    def _n_rows(self) -> int:
        return math.prod(self.shape[:-1])

    def _parts(self, begin: int, end: int) -> List[Part]:
        """Rows begin..end as a body has them."""
        width = self.values.shape[-1]
        ids = to_numpy(self.indices).reshape(-1, width)[begin:end]
        values = to_numpy(self.values).reshape(-1, width)[begin:end]
        return [Part("f.top_indices", "I32", np.ascontiguousarray(ids, "<i4")),
                Part("f.top_values", "F32", np.ascontiguousarray(values, "<f4"))]


@dataclass(frozen=True, eq=False)
class Sparse:
    """The active features of each row, as CSR over the flattened rows.

    indptr: `(rows + 1)`, int64; indices: ids, ascending in a row, int32; values: in the same order. Row r
    has the entries indptr[r] to indptr[r + 1]. shape: of the dense tensor, `(..., dict_size)`. Arrays or
    tensors, and f_units, as in TopK.
    """
    indptr: Any
    indices: Any
    values: Any
    shape: Tuple[int, ...]
    f_units: str = "encode"

    @property
    def dict_size(self) -> int:
        return self.shape[-1]

    @property
    def nnz(self) -> int:
        return len(self.values)

    def dense(self) -> Any:
        """`(..., dict_size)`, as what `values` is."""
        indptr, ids = to_numpy(self.indptr), to_numpy(self.indices)
        rows = np.repeat(np.arange(self._n_rows()), np.diff(indptr))
        return _spread(self.values, rows * self.dict_size + ids, self.shape)

    def to_scipy(self) -> Any:
        """scipy's csr_matrix `(rows, dict_size)`, leading dimensions flattened."""
        from scipy.sparse import csr_matrix
        return csr_matrix((to_numpy(self.values), to_numpy(self.indices), to_numpy(self.indptr)),
                          (self._n_rows(), self.dict_size))

    def to_torch_sparse(self) -> Any:
        """torch's sparse CSR tensor `(rows, dict_size)`, leading dimensions flattened."""
        import torch
        indptr, ids, values = (torch.as_tensor(a) for a in (self.indptr, self.indices, self.values))
        return torch.sparse_csr_tensor(indptr.long(), ids.long(), values, (self._n_rows(), self.dict_size))

    def _n_rows(self) -> int:
        return math.prod(self.shape[:-1])

    def _parts(self, begin: int, end: int) -> List[Part]:
        """Rows begin..end as a body has them."""
        indptr = to_numpy(self.indptr)[begin:end + 1]
        ids = to_numpy(self.indices)[indptr[0]:indptr[-1]]
        values = to_numpy(self.values)[indptr[0]:indptr[-1]]
        return [Part("f.indptr", "I64", np.ascontiguousarray(indptr - indptr[0], "<i8")),
                Part("f.indices", "I32", np.ascontiguousarray(ids, "<i4")),
                Part("f.values", "F32", np.ascontiguousarray(values, "<f4")),
                Part("f.shape", "I64", np.array([end - begin, self.dict_size], "<i8"))]


def _spread(values: Any, places: NDArray[Any], shape: Tuple[int, ...]) -> Any:
    """Zeros, and `values` at `places` of the flattened shape; on the graph of tensors."""
    flat, at = values.reshape(-1), places.reshape(-1)
    if is_tensor(values):
        return values.new_zeros(math.prod(shape)).scatter(0, like(at, values), flat).reshape(shape)
    out = np.zeros(math.prod(shape), values.dtype)
    out[at] = flat
    return out.reshape(shape)


def join(pieces: List[Dict[str, Any]], name: str, shape: Tuple[int, ...], model: Any, dtype: Any,
         f_units: str) -> Sparse:
    """One Sparse of the CSR parts of consecutive rows."""
    counts = [np.diff(p[name + ".indptr"]) for p in pieces]
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(counts), dtype=np.int64)])
    ids, values = (np.concatenate([p[name + part] for p in pieces]) for part in (".indices", ".values"))
    return Sparse(like(indptr, model), like(ids, model), like(values, model, dtype), shape, f_units)

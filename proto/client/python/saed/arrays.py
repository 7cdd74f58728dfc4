"""Rows from numpy arrays and torch tensors, and answers as what the rows were.

torch is never imported: who gives a tensor has it.
"""
from __future__ import annotations

import math
import sys
from typing import Any, NamedTuple, Tuple

import numpy as np
from numpy.typing import NDArray

from .wire import Part


def is_tensor(x: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def requires_grad(x: Any) -> bool:
    """Whether torch would record a graph of what is made of `x`."""
    return is_tensor(x) and bool(x.requires_grad) and bool(sys.modules["torch"].is_grad_enabled())


def _values(x: Any) -> Tuple[NDArray[Any], bool]:
    """The values of `x` on this machine, not copied where they are here; True: int16 that are bfloat16."""
    if not is_tensor(x):
        a = np.asarray(x)
        if a.dtype.kind not in "fiub":
            raise TypeError(f"cannot send values of {a.dtype}: wanted real numbers")
        return a, False
    torch = sys.modules["torch"]
    x = x.detach().cpu()
    if x.dtype == torch.bfloat16:
        return x.view(torch.int16).numpy(), True
    return x.numpy(), False


def to_numpy(x: Any) -> NDArray[Any]:
    """The values of an array or tensor as numpy has them; bfloat16 as float32, which is exact."""
    a, bf16 = _values(x)
    if bf16:
        return (a.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
    return a


def half(dtype: Any) -> str:
    """What the wire calls a result's dtype where it has 16 bits; ""."""
    name = str(dtype).rsplit(".", 1)[-1] if "torch" in str(dtype) else "" if dtype is None else np.dtype(dtype).name
    return {"float16": "f16", "bfloat16": "bf16"}.get(name, "")


def like(a: NDArray[Any], model: Any, dtype: Any = None) -> Any:
    """`a`, whose int16 are bfloat16, as what `model` is: an array, or a tensor on the model's device. dtype: of
    the result."""
    if is_tensor(model):
        torch = sys.modules["torch"]
        tensor = torch.from_numpy(a)
        return (tensor.view(torch.bfloat16) if a.dtype == np.int16 else tensor).to(device=model.device, dtype=dtype)
    return a if dtype is None else a.astype(dtype, copy=False)


class Rows(NamedTuple):
    """An argument of shape `(..., width)` as rows: values `(n, width)` and the leading dimensions."""
    values: NDArray[Any]
    bf16: bool
    lead: Tuple[int, ...]

    @classmethod
    def of(cls, x: Any, what: str) -> Rows:
        if isinstance(x, Rows):
            return x
        values, bf16 = _values(x)
        if values.ndim == 0:
            raise ValueError(f"cannot send {what}: it is a single number, wanted rows or one row")
        lead = values.shape[:-1]
        return cls(values.reshape(math.prod(lead), values.shape[-1]), bf16, lead)

    def part(self, name: str, begin: int, end: int) -> Part:
        """Rows begin..end as they travel: 16-bit floats as they are, all else as float32."""
        rows = self.values[begin:end]
        if self.bf16:
            return Part(name, "BF16", np.ascontiguousarray(rows))
        if rows.dtype == np.float16:
            return Part(name, "F16", np.ascontiguousarray(rows, "<f2"))
        try:
            with np.errstate(over="raise"):
                return Part(name, "F32", np.ascontiguousarray(rows, "<f4"))
        except FloatingPointError:
            raise ValueError(f"cannot send {name}: it has values that float32 cannot hold") from None

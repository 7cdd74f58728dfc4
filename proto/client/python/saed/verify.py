"""What torch computes from a weights file beside what saed serves.

The formulae are those of dictionary_learning (44318e9; JumpReluAutoEncoder and AutoEncoderTopK: 60ec6bf).
"""
from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Tuple

import numpy as np
from numpy.typing import NDArray

from .dictionary import Dictionary

AT_ONCE = 2048
# Of the active features, so many may be on in one of the two only, where a sum is about 0.
ONE_SIDED = 1e-4

Weights = Dict[str, Any]
Formula = Tuple[Callable[[Weights, Any], Any], Callable[[Weights, Any], Any]]


def _linear(bias: str) -> Callable[[Weights, Any], Any]:
    def project(w: Weights, x: Any) -> Any:
        return (x - w[bias]) @ w["encoder.weight"].T
    return project


def _decode(bias: str) -> Callable[[Weights, Any], Any]:
    def decode(w: Weights, f: Any) -> Any:
        return f @ w["decoder.weight"].T + w[bias]
    return decode


def _auto(w: Weights, x: Any) -> Any:
    return (_linear("bias")(w, x) + w["encoder.bias"]).relu()


def _new(w: Weights, x: Any) -> Any:
    return (x @ w["encoder.weight"].T + w["encoder.bias"]).relu()


def _gated(w: Weights, x: Any) -> Any:
    p = _linear("decoder_bias")(w, x)
    return (p + w["gate_bias"] > 0) * (w["r_mag"].exp() * p + w["mag_bias"]).relu()


def _jump(w: Weights, x: Any) -> Any:
    pre = _auto(w, x)
    return pre + w["jump"] * (pre > 0)


def _jump_relu(w: Weights, x: Any) -> Any:
    h = x @ w["W_enc"] + w["b_enc"]
    return h.relu() * (h > w["threshold"])


def _top_k(w: Weights, x: Any) -> Any:
    f = (_linear("b_dec")(w, x) + w["encoder.bias"]).relu()
    best = f.topk(int(w["k"]), -1)
    return f.new_zeros(f.shape).scatter_(-1, best.indices, best.values)


FORMULAE: Dict[str, Formula] = {
    "AutoEncoder": (_auto, _decode("bias")),
    "AutoEncoderNew": (_new, _decode("decoder.bias")),
    "GatedAutoEncoder": (_gated, _decode("decoder_bias")),
    "JumpAutoEncoder": (_jump, _decode("bias")),
    "JumpReluAutoEncoder": (_jump_relu, lambda w, f: f @ w["W_dec"] + w["b_dec"]),
    "AutoEncoderTopK": (_top_k, _decode("b_dec")),
}


@dataclass
class Side:
    """The largest difference seen, and the largest value that torch gave."""
    error: float = 0.0
    scale: float = 0.0

    def see(self, torch_has: NDArray[Any], saed_has: NDArray[Any]) -> None:
        with np.errstate(invalid="ignore"):  # infinity less infinity is NaN, which stays
            self.error = float(np.maximum(self.error, np.abs(torch_has - saed_has).max(initial=0.0)))
            self.scale = float(np.maximum(self.scale, np.abs(torch_has).max(initial=0.0)))

    def fits(self, tolerance: float) -> bool:
        """Not where either gave what is no finite number."""
        return math.isfinite(self.scale) and self.error <= tolerance * max(1.0, self.scale)


@dataclass
class Report:
    """f: features that are on in both; x_hat: decode of torch's f by both. Seconds of encode and decode."""
    rows: int = 0
    equal_rows: int = 0
    active: int = 0
    one_sided: int = 0
    f: Side = field(default_factory=Side)
    x_hat: Side = field(default_factory=Side)
    torch_seconds: float = 0.0
    saed_seconds: float = 0.0

    def fits(self, tolerance: float) -> bool:
        """There were rows, and they agree."""
        return (self.rows > 0 and self.f.fits(tolerance) and self.x_hat.fits(tolerance)
                and self.one_sided <= 1 + ONE_SIDED * self.active)

    def __str__(self) -> str:
        return (f"active sets  equal in {self.equal_rows} of {self.rows} rows; of {self.active} active features "
                f"{self.one_sided} are on in one of the two only\n"
                f"f            largest error {self.f.error:.3g}, largest value {self.f.scale:.3g}\n"
                f"x_hat        largest error {self.x_hat.error:.3g}, largest value {self.x_hat.scale:.3g}\n"
                f"seconds      torch {self.torch_seconds:.3f}, saed {self.saed_seconds:.3f}")


def load_weights(path: str) -> Weights:
    """The state dict in a file of torch.save, as float32; nothing in it is run."""
    import torch
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: t.float() for name, t in state.items() if isinstance(t, torch.Tensor)}


def verify(ae: Dictionary, weights: Weights, rows: NDArray[Any]) -> Report:
    """Encode and decode finite `rows` `(n, activation_dim)` by torch and by saed."""
    import torch
    cls = ae.info["dict_class"]
    if cls not in FORMULAE:
        raise ValueError(f"cannot verify {ae.name}: no formula of {cls} is here, only of {', '.join(FORMULAE)}")
    encode, decode = FORMULAE[cls]
    report = Report()
    with torch.no_grad():
        for begin in range(0, len(rows), AT_ONCE):
            x = torch.from_numpy(np.ascontiguousarray(rows[begin:begin + AT_ONCE], "<f4"))
            t0 = time.perf_counter()
            try:
                f = encode(weights, x)
                x_hat = decode(weights, f)
            except KeyError as e:
                raise ValueError(f"cannot compute {cls}: the weights have no {e}, only "
                                 f"{', '.join(weights) or 'none'}") from None
            t1 = time.perf_counter()
            served, decoded = ae.encode(x), ae.decode(f)
            t2 = time.perf_counter()
            _compare(report, f.numpy(), served.numpy())
            report.x_hat.see(x_hat.numpy(), decoded.numpy())
            report.torch_seconds += t1 - t0
            report.saed_seconds += t2 - t1
    return report


def _compare(report: Report, f: NDArray[Any], served: NDArray[Any]) -> None:
    on = f != 0
    both = on & (served != 0)
    differs = on != (served != 0)
    report.rows += len(f)
    report.equal_rows += int((~differs.any(1)).sum())
    report.active += int(on.sum())
    report.one_sided += int(differs.sum())
    report.f.see(f[both], served[both])

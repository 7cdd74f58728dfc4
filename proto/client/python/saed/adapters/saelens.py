"""A dictionary as SAELens's `SAE` (decoderesearch/SAELens 00a0bb3, sae_lens/saes/sae.py): what reads `cfg`
and calls `encode`, `decode` or the object itself. It has no weights: `W_enc` and `W_dec` say so."""
from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Dict

from ..dictionary import Dictionary

ARCHITECTURES = {"AutoEncoder": "standard", "AutoEncoderNew": "standard", "GatedAutoEncoder": "gated",
                 "JumpReluAutoEncoder": "jumprelu", "AutoEncoderTopK": "topk"}


class Metadata(Dict[str, Any]):
    """Attributes that are None until they are set."""
    def __getattr__(self, name: str) -> Any:
        return self.get(name)
    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


@dataclass
class Config:
    """What saed knows of SAELens's cfg; centring and scaling are the dictionary's own."""
    d_in: int
    d_sae: int
    name: str
    dtype: str = "float32"
    device: str = "cpu"
    normalize_activations: str = "none"
    reshape_activations: str = "none"
    metadata: Metadata = field(default_factory=Metadata)

    def architecture(self) -> str:
        return self.name

    def to_dict(self) -> Dict[str, Any]:
        return {**asdict(self), "architecture": self.name}


class SAE:
    """`ae` as an SAE of float32 on the CPU; tensors of other devices come back where they were. encode and
    decode are the dictionary's. use_error_term: the call adds what the dictionary leaves out of x."""

    def __init__(self, ae: Dictionary, use_error_term: bool = False, **metadata: Any) -> None:
        import torch
        name = ae.info["dict_class"]
        self.cfg = Config(ae.activation_dim, ae.dict_size, ARCHITECTURES.get(name, name),
                          metadata=Metadata(metadata))
        self.ae, self.encode, self.decode, self.use_error_term = ae, ae.encode, ae.decode, use_error_term
        self.dtype, self.device = torch.float32, torch.device("cpu")

    def __call__(self, x: Any) -> Any:
        x_hat = self.ae(x)
        return x_hat + (x - x_hat) if self.use_error_term else x_hat
    forward = __call__

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"an SAE that saed serves has no {name}: its weights are not on the wire")

"""A dictionary as SAELens's `SAE` (decoderesearch/SAELens 00a0bb3, sae_lens/saes/sae.py): what reads `cfg`, `W_enc`
and `W_dec`, and calls `encode`, `decode` or the object itself."""
from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Dict

from ..dictionary import Dictionary
from ..weights import FeatureRows

ARCHITECTURES = {"AutoEncoder": "standard", "AutoEncoderNew": "standard", "GatedAutoEncoder": "gated",
                 "JumpReluAutoEncoder": "jumprelu", "AutoEncoderTopK": "topk"}


class Metadata(Dict[str, Any]):
    """Attributes that are None until they are set."""
    def __getattr__(self, name: str) -> Any: return self.get(name)
    def __setattr__(self, name: str, value: Any) -> None: self[name] = value


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
    def architecture(self) -> str: return self.name
    def to_dict(self) -> Dict[str, Any]: return {**asdict(self), "architecture": self.name}


class SAE:
    """`ae` as an SAE of float32 on the CPU; tensors of other devices come back where they were. `W_enc[:, ids]` and
    `W_dec[ids]` are fetched when indexed. use_error_term: the call adds what the dictionary leaves out of x. As
    there, decode undoes the scaling of the rows that were encoded last."""

    def __init__(self, ae: Dictionary, use_error_term: bool = False, **metadata: Any) -> None:
        import torch
        name = ae.info["dict_class"]
        self.cfg = Config(ae.activation_dim, ae.dict_size, ARCHITECTURES.get(name, name), metadata=Metadata(metadata))
        self.ae, self.use_error_term, self.dtype, self.device = ae, use_error_term, torch.float32, torch.device("cpu")
        self.state, self.keeps_state = None, "input_state" in ae.info["options"]
        self.W_enc = FeatureRows(ae, "encoder", ae.activation_dim, torch.empty(0)).T
        self.W_dec = FeatureRows(ae, "decoder", ae.output_dim, torch.empty(0))
    def encode(self, x: Any) -> Any:
        f, self.state = self.ae.encode(x, input_state=True) if self.keeps_state else (self.ae.encode(x), None)
        return f
    def decode(self, f: Any) -> Any:
        return self.ae.decode(f, input_state=self.state)
    def __call__(self, x: Any) -> Any:
        x_hat = self.ae(x)
        return x_hat + (x - x_hat).detach() if self.use_error_term else x_hat
    forward = __call__
    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"an SAE that saed serves has no {name}; ae.vectors(...) has its biases")

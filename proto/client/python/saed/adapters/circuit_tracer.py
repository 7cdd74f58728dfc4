"""A dictionary as circuit-tracer's `SingleLayerTranscoder` (decoderesearch/circuit-tracer 4bb8c0e,
circuit_tracer/transcoder/single_layer_transcoder.py), as its TranscoderSet takes one a layer: `encode_sparse`
and `decode_sparse` for attribution, the others for the rest. `apply_activation_function=False` is refused."""
from __future__ import annotations

from typing import Any, Tuple

import torch

from ..dictionary import Dictionary
from ..sparse import Sparse


class SingleLayerTranscoder(torch.nn.Module):  # type: ignore[misc]
    """`ae` at layer `layer_idx`. Rows of weights are asked for, each distinct one once a call."""

    def __init__(self, ae: Dictionary, layer_idx: int) -> None:
        super().__init__()
        self.ae, self.layer_idx, self.d_model, self.d_transcoder = ae, layer_idx, ae.activation_dim, ae.dict_size
        self.W_enc, self.W_dec = ae.W_enc, ae.W_dec
        has_skip = ae.info["reading"]["skip"] != "none"
        self.register_buffer("W_skip", torch.from_numpy(ae.vectors("skip")["skip"]) if has_skip else None)

    def encode(self, input_acts: Any, apply_activation_function: bool = True) -> Any:
        if not apply_activation_function:
            raise ValueError(f"cannot encode by {self.ae.name} without its activation: saed does not send that")
        return self.ae.encode(input_acts, dtype=input_acts.dtype)

    def decode(self, acts: Any, input_acts: Any = None) -> Any:
        values = acts.values if isinstance(acts, Sparse) else acts
        return self.ae.decode(acts, x=None if self.W_skip is None else input_acts, dtype=values.dtype)

    def forward(self, input_acts: Any) -> Any:
        return self.ae(input_acts, dtype=input_acts.dtype)

    def compute_skip(self, input_acts: Any) -> Any:
        if self.W_skip is None:
            raise ValueError("Transcoder has no skip connection")
        return input_acts @ self.W_skip.T

    def encode_sparse(self, input_acts: Any, zero_positions: slice = slice(0, 1)) -> Tuple[Any, Any]:
        """Activations `(positions, d_transcoder)`, sparse, and the encoder's row of each entry."""
        kept = torch.ones(len(input_acts), dtype=torch.bool, device=input_acts.device)
        kept[zero_positions] = False
        f = self.ae.encode(input_acts[kept], sparse=True, dtype=input_acts.dtype)
        at = torch.stack([torch.repeat_interleave(kept.nonzero()[:, 0], f.indptr.diff()), f.indices.long()])
        acts = torch.sparse_coo_tensor(at, f.values, (len(input_acts), self.d_transcoder)).coalesce()
        return acts, self.W_enc[acts.indices()[1]].to(acts.dtype)

    def decode_sparse(self, sparse_acts: Any, input_acts: Any = None) -> Tuple[Any, Any]:
        """x_hat `(positions, d_model)`, and of each entry its value times the decoder's row."""
        (pos, ids), values = sparse_acts.indices(), sparse_acts.values()
        ends = torch.bincount(pos, minlength=len(sparse_acts)).cumsum(0)
        f = Sparse(torch.cat([ends.new_zeros(1), ends]), ids.int(), values, tuple(sparse_acts.shape))
        return self.decode(f, input_acts), self.W_dec[ids].to(values.dtype) * values[:, None]

    def _get_decoder_vectors(self, feat_ids: Any = None) -> Any:
        return self.W_dec[torch.arange(self.d_transcoder) if feat_ids is None else feat_ids]

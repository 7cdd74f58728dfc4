#!/usr/bin/python3
"""saed.adapters that stand in for other libraries' modules, beside what those compute with torch."""
import base64
import os
import unittest

from support import GOLDEN, Case, load_safetensors, main
import numpy as np
import saed
import torch
import zstandard
from saed.adapters.circuit_tracer import SingleLayerTranscoder
from saed.adapters.saelens import SAE
from saed.adapters.vllm import lens_activations
from saed.verify import load_weights

NAMES = ["autoencoder_33x70_f32", "gated_16x48_f32", "jump_7x5_f32"]
CIRCUITS = os.path.join(os.path.dirname(GOLDEN), "formats", "circuit_tracer")


class SaeLens(Case):
    SERVED = [f"{name}={GOLDEN}/{name}.pt" for name in NAMES] + [
        f"ln={GOLDEN}/{NAMES[0]}.pt:input=layer_norm", f"ln_none={GOLDEN}/{NAMES[0]}.pt:input=layer_norm:output=none"]

    def test_what_reads_an_sae(self):
        for name, architecture in zip(NAMES, ("standard", "gated", "JumpAutoEncoder")):
            ae = saed.Dictionary(self.url, name)
            sae = SAE(ae, hook_name="blocks.8.hook_resid_pre")
            x = torch.randn(2, 3, sae.cfg.d_in)
            f = sae.encode(x)
            self.assertEqual(f.shape, (2, 3, sae.cfg.d_sae))
            self.assertTrue(torch.equal(sae(x), sae.decode(f)) and torch.equal(sae.forward(x), sae(x)))
            self.assertEqual((sae.cfg.architecture(), sae.cfg.metadata.hook_name, sae.cfg.metadata.model_name),
                             (architecture, "blocks.8.hook_resid_pre", None))
            self.assertEqual(sae.cfg.to_dict()["architecture"], architecture)
            self.assertEqual((sae.dtype, sae.device, sae.cfg.dtype), (torch.float32, x.device, "float32"))
            with self.assertRaisesRegex(AttributeError, "no fold_W_dec_norm"):
                sae.fold_W_dec_norm

    def test_weights(self):
        """Oriented as there: W_enc (d_in, d_sae), W_dec (d_sae, d_in)."""
        w = load_weights(f"{GOLDEN}/{NAMES[0]}.pt")
        enc, dec = w["encoder.weight"].T, w["decoder.weight"].T
        sae = SAE(saed.Dictionary(self.url, NAMES[0]))
        self.assertEqual((sae.W_enc.shape, sae.W_dec.shape), (enc.shape, dec.shape))
        for ids in (7, [3, 3, 1], slice(5, 9), torch.tensor([60, 2])):
            self.assertTrue(torch.equal(sae.W_enc[:, ids], enc[:, ids]) and torch.equal(sae.W_dec[ids], dec[ids]))
        np.testing.assert_array_equal(np.asarray(sae.W_enc), enc.numpy())

    def test_the_error_term_has_no_gradient(self):
        ae = saed.Dictionary(self.url, NAMES[0])
        x = torch.randn(4, 33, requires_grad=True)
        out = SAE(ae, use_error_term=True)(x)
        torch.testing.assert_close(out, x)
        got, = torch.autograd.grad(out[:, 0].sum(), x)
        want, = torch.autograd.grad(ae(x)[:, 0].sum(), x)
        self.assertTrue(torch.equal(got, want))

    def test_rows_that_are_scaled(self):
        """encode leaves what decode undoes, as SAELens's ln_mu and ln_std."""
        x = 3 + torch.randn(4, 33)
        for name in ("ln", "ln_none"):
            sae = SAE(saed.Dictionary(self.url, name))
            self.assertTrue(torch.equal(sae.decode(sae.encode(x)), sae(x)))


class Producer:
    """What SingleLayerTranscoder of circuit-tracer computes, from its file."""

    def __init__(self, folder):
        name, = os.listdir(os.path.join(CIRCUITS, folder))
        arrays, _ = load_safetensors(os.path.join(CIRCUITS, folder, name))
        self.w = {key: torch.from_numpy(np.array(a)) for key, a in arrays.items()}

    def encode(self, x):
        h = x @ self.w["W_enc"].T + self.w["b_enc"]
        theta = self.w.get("activation_function.threshold")
        return h.relu() if theta is None else h * (h > theta)

    def skip(self, x):
        return x @ self.w["W_skip"].T if "W_skip" in self.w else 0

    def encode_sparse(self, x, zero_positions=slice(0, 1)):
        acts = self.encode(x)
        acts[zero_positions] = 0
        acts = acts.to_sparse()
        return acts, self.w["W_enc"][acts.indices()[1]]

    def decode_sparse(self, acts, x):
        scaled = self.w["W_dec"][acts.indices()[1]] * acts.values()[:, None]
        return acts.to_dense() @ self.w["W_dec"] + self.w["b_dec"] + self.skip(x), scaled


class CircuitTracer(Case):
    FOLDERS = ["relu", "jump", "skip"]
    SERVED = [f"{name}={CIRCUITS}/{name}" for name in FOLDERS]

    def each(self):
        for name in self.FOLDERS:
            there = SingleLayerTranscoder(saed.Dictionary(self.url, name), 4)
            yield Producer(name), there, 3 * torch.randn(6, there.d_model)

    def same(self, got, want):
        self.assertEqual((got.dtype, got.shape), (want.dtype, want.shape))
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)

    def test_what_attribution_calls(self):
        """As TranscoderSet.compute_attribution_components does, layer by layer."""
        for here, there, x in self.each():
            for zero in (slice(0, 1), slice(0, 3), slice(0, 0), slice(None)):
                acts, rows = there.encode_sparse(x, zero_positions=zero)
                want, want_rows = here.encode_sparse(x, zero_positions=zero)
                self.assertTrue(acts.is_sparse and acts.is_coalesced())
                self.assertTrue(torch.equal(acts.indices(), want.indices()))
                self.same(acts.values(), want.values())
                self.same(rows, want_rows)
                x_hat, scaled = there.decode_sparse(acts, x)
                want_x_hat, want_scaled = here.decode_sparse(want, x)
                self.same(x_hat, want_x_hat)
                self.same(scaled, want_scaled)
            self.assertEqual(torch.stack([acts, acts]).coalesce().shape, (2, 6, there.d_transcoder))

    def test_what_a_replacement_model_calls(self):
        for here, there, x in self.each():
            layers = torch.nn.ModuleList([there])
            layers.to("cpu", torch.float32)
            self.assertEqual((there.layer_idx, there.d_transcoder), (4, len(here.w["b_enc"])))
            f = there.encode(x)
            self.same(f, here.encode(x))
            self.same(there.decode(f, x), here.decode_sparse(f.to_sparse(), x)[0])
            self.same(layers[0](x), there.decode(f, x))
            self.same(there._get_decoder_vectors(torch.tensor([2, 0])), here.w["W_dec"][[2, 0]])
            self.same(there._get_decoder_vectors(), here.w["W_dec"])
            self.assertEqual(there.encode(x.bfloat16()).dtype, torch.bfloat16)
            with self.assertRaisesRegex(ValueError, "without its activation"):
                there.encode(x, apply_activation_function=False)
            if "W_skip" in here.w:
                self.same(there.compute_skip(x), here.skip(x))
            else:
                self.assertIsNone(there.W_skip)
                with self.assertRaises(ValueError):
                    there.compute_skip(x)


class VllmLens(unittest.TestCase):
    def test_zstd(self):
        """What its ZstdCompressor wrote, in bfloat16."""
        x = torch.randn(2, 5, 8).bfloat16()
        data = zstandard.ZstdCompressor(level=1).compress(x.view(torch.int16).numpy().tobytes())
        said = {"data": base64.b64encode(data).decode(), "dtype": "int16", "original_dtype": "torch.bfloat16",
                "shape": [2, 5, 8], "compression": "zstd"}
        layers = lens_activations({"activations": {"residual_stream": said}})
        for rows, want in zip(layers, x):
            self.assertTrue(rows.bf16)
            np.testing.assert_array_equal(rows.values, want.view(torch.int16).numpy())


if __name__ == "__main__":
    main()

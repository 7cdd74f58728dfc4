#!/usr/bin/python3
"""saed.Dictionary with tensors: beside dictionary_learning's own calls in torch, and what scipy gets."""
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

from support import GOLDEN, PACKAGE, Case, daemon, golden, main
import numpy as np
import saed
import torch
from saed.__main__ import main as verify
from saed.verify import Report, Side


class Module:
    """The formulae of the AutoEncoder, GatedAutoEncoder and JumpAutoEncoder of dictionary_learning at
    44318e9, called as there."""

    def __init__(self, name):
        self.cls, arrays = golden(name)
        self.w = {k[2:]: torch.from_numpy(v.copy()) for k, v in arrays.items() if k.startswith("w:")}
        bias = "decoder_bias" if self.cls == "GatedAutoEncoder" else "bias"
        self.bias = self.w[bias]

    def project(self, x):
        return (x - self.bias) @ self.w["encoder.weight"].T

    def encode(self, x, **asked):
        p = self.project(x)
        if self.cls == "GatedAutoEncoder":
            gate = p + self.w["gate_bias"]
            f = (gate > 0).float() * torch.relu(self.w["r_mag"].exp() * p + self.w["mag_bias"])
            return (f, torch.relu(gate)) if asked.get("return_gate") else f
        pre = torch.relu(p + self.w["encoder.bias"])
        if self.cls == "JumpAutoEncoder":
            f = pre + self.w["jump"] * (pre > 0)
            return (f, pre) if asked.get("output_pre_jump") else f
        return pre

    def decode(self, f):
        return f @ self.w["decoder.weight"].T + self.bias

    def __call__(self, x, output_features=False, ghost_mask=None, output_pre_jump=False):
        f = self.encode(x)
        x_hat = self.decode(f)
        if ghost_mask is not None:
            f_ghost = torch.exp(self.project(x) + self.w["encoder.bias"]) * ghost_mask.to(x)
            x_ghost = f_ghost @ self.w["decoder.weight"].T
            return (x_hat, x_ghost, f) if output_features else (x_hat, x_ghost)
        if output_pre_jump:
            return (x_hat, *self.encode(x, output_pre_jump=True))
        if self.cls == "GatedAutoEncoder":
            f = f * self.w["decoder.weight"].norm(dim=0, keepdim=True)
        return (x_hat, f) if output_features else x_hat


NAMES = ["autoencoder_33x70_f32", "gated_16x48_f32", "jump_7x5_f32"]


class Tensors(Case):
    SERVED = [f"{name}={GOLDEN}/{name}.pt" for name in NAMES]

    def same(self, got, want):
        got, want = (a if isinstance(a, tuple) else (a,) for a in (got, want))
        self.assertEqual(len(got), len(want))
        for g, w in zip(got, want):
            self.assertEqual((g.dtype, g.device, g.shape), (torch.float32, w.device, w.shape))
            torch.testing.assert_close(g, w, rtol=1e-5, atol=1e-5)

    def test_calls_of_the_module(self):
        for name in NAMES:
            here, there = Module(name), saed.Dictionary(self.url, name)
            x = torch.randn(3, 4, there.activation_dim)
            calls = [lambda ae: ae.encode(x), lambda ae: ae(x), lambda ae: ae.decode(here.encode(x)),
                     lambda ae: ae(x, output_features=True), lambda ae: ae.encode(x[0, 0])]
            if here.cls == "AutoEncoder":
                mask = torch.rand(3, 4, there.dict_size) < 0.5
                calls += [lambda ae: ae(x, ghost_mask=mask), lambda ae: ae(x, True, mask[0, 0].float())]
            if here.cls == "GatedAutoEncoder":
                calls += [lambda ae: ae.encode(x, return_gate=True)]
            if here.cls == "JumpAutoEncoder":
                calls += [lambda ae: ae.encode(x, output_pre_jump=True), lambda ae: ae(x, output_pre_jump=True)]
            for i, call in enumerate(calls):
                with self.subTest(name=name, call=i):
                    self.same(call(there), call(here))

    def test_dtypes_and_strides(self):
        ae = saed.Dictionary(self.url, NAMES[0])
        x = torch.randn(6, 33)
        wide = torch.zeros(6, 66)
        wide[:, ::2] = x
        whole = (x * 4).round()
        for what, given, same in (
                ("bfloat16", x.bfloat16(), x.bfloat16().float()), ("float16", x.half(), x.half().float()),
                ("strided bfloat16", wide.bfloat16()[:, ::2], x.bfloat16().float()),
                ("float64", x.double(), x), ("strided", wide[:, ::2], x), ("turned", x.T.contiguous().T, x),
                ("expanded", x[:1].expand(6, 33), x[:1].repeat(6, 1)), ("int64", whole.long(), whole),
                ("no rows", x[:0], x[:0])):
            with self.subTest(what=what):
                got = ae.encode(given)
                self.assertEqual(got.dtype, torch.float32)
                self.assertTrue(torch.equal(got, ae.encode(same)))
        self.assertEqual(ae.encode(x, dtype=torch.bfloat16).dtype, torch.bfloat16)
        self.assertEqual(ae.encode(x, top_k=2, dtype=torch.float64).values.dtype, torch.float64)

    def test_sixteen_bits_travel(self):
        """Rounded as torch does; what decode wants stays whole."""
        ae = saed.Dictionary(self.url, NAMES[0])
        x = 100 * torch.randn(500, 33)
        for dtype in (torch.float16, torch.bfloat16):
            with mock.patch.object(ae.client.transport, "call", wraps=ae.client.transport.call) as call:
                f = ae.encode(x, dtype=dtype)
            self.assertRegex(call.call_args.kwargs["headers"]["Accept"], "octet-stream;dtype=b?f16")
            self.assertTrue(torch.equal(f, ae.encode(x).to(dtype)))
            self.assertTrue(torch.equal(ae.encode(x, sparse=True, dtype=dtype).values,
                                        ae.encode(x, sparse=True).values.to(dtype)))
            x_hat, top = ae(x, output_features=True, top_k=3, dtype=dtype)
            self.assertTrue(torch.equal(x_hat, ae(x).to(dtype)))
            self.assertTrue(torch.equal(top.values, ae.encode(x, top_k=3).values.to(dtype)))

    def test_sparse(self):
        ae = saed.Dictionary(self.url, NAMES[0])
        x = torch.randn(2, 3, 33)
        f = ae.encode(x)
        for g in (ae.encode(x, sparse=True), ae.encode(x, top_k=70)):
            self.assertTrue(torch.equal(g.dense(), f))
            self.assertTrue(torch.equal(g.to_torch_sparse().to_dense(), f.reshape(6, 70)))
            np.testing.assert_array_equal(g.to_scipy().toarray(), f.reshape(6, 70).numpy())
            self.assertTrue(torch.equal(ae.decode(g), ae.decode(f)))
        half = ae.encode(x, top_k=70, dtype=torch.bfloat16)
        self.assertEqual((half.dense().dtype, half.sparse().values.dtype), (torch.bfloat16,) * 2)
        self.assertTrue(torch.equal(half.dense(), f.bfloat16()))
        self.assertTrue(torch.equal(ae.decode(half), ae.decode(f.bfloat16())))
        rows = ae.encode(x.numpy(), sparse=True)
        self.assertTrue(torch.equal(rows.to_torch_sparse().to_dense(), f.reshape(6, 70)))
        self.assertTrue(torch.equal(ae.encode(x, features=torch.tensor([5, 1])), f[..., [5, 1]]))

    def test_workers_of_a_data_loader(self):
        ae = saed.Dictionary(self.url, NAMES[0])
        x = torch.randn(40, 33)
        want = ae.encode(x)  # a connection is there before the workers are

        class Rows(torch.utils.data.Dataset):
            def __len__(self):
                return len(x)

            def __getitem__(self, i):
                return ae.encode(x[i])
        got = torch.cat(list(torch.utils.data.DataLoader(Rows(), batch_size=4, num_workers=2)))
        self.assertTrue(torch.equal(got, want))

    def test_rows_of_weights(self):
        ae, here = saed.Dictionary(self.url, NAMES[0]), Module(NAMES[0])
        ids = torch.tensor([[5, 2], [-1, 5]])
        for rows, whole in ((ae.W_enc, here.w["encoder.weight"]), (ae.W_dec, here.w["decoder.weight"].T)):
            self.assertTrue(torch.equal(rows[ids], whole[ids]))
            self.assertTrue(torch.equal(rows[ids[0, 0]], whole[5]))
            self.assertTrue(torch.equal(rows.T[:, torch.arange(70) > 60], whole[61:].T))


class Verify(Case):
    """python -m saed verify: every class that is served from a file here."""
    CLASSES = ["autoencoder_33x70_f32", "gated_33x70_bf16", "jump_33x70_f16", "jumprelu_33x70_f32",
               "new_33x70_bf16", "topk_33x70_k8_f32"]
    SERVED = [f"{name}={GOLDEN}/{name}.pt" for name in CLASSES] + ["identity=identity:33"]

    def run_it(self, served, weights, *more):
        """Exit status, stdout and stderr."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = verify(["verify", served, "--weights", os.path.join(GOLDEN, weights + ".pt"), "--rows",
                             self.rows, "--url", self.url, *more])
        return status, out.getvalue(), err.getvalue()

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.rows = os.path.join(self.folder.name, "x.npy")
        np.save(self.rows, np.random.default_rng(1).normal(size=(10, 250, 33)).astype("f2"))

    def test_they_agree(self):
        for name in self.CLASSES:
            with self.subTest(name=name):
                status, said, errors = self.run_it(name, name)
                self.assertEqual((status, errors), (0, ""))
                self.assertIn(f"{name}: ", said)
                self.assertRegex(said, r"active sets  equal in \d+ of 2500 rows; of [1-9]\d* active")
                self.assertTrue(said.endswith("they agree\n"))

    def test_they_do_not(self):
        other = os.path.join(self.folder.name, "other")
        state = torch.load(f"{GOLDEN}/autoencoder_33x70_f32.pt")
        state["decoder.weight"][0, 0] += 1
        torch.save(state, other + ".pt")
        for weights, more in ((other, ()), ("autoencoder_33x70_f32", ("--tolerance", "0"))):
            status, said, _ = self.run_it("autoencoder_33x70_f32", weights, *more)
            self.assertEqual((status, said.endswith("they do NOT agree\n")), (1, True), said)

    def test_what_cannot_be_asked(self):
        for served, weights, message in (
                ("gated_33x70_bf16", "autoencoder_33x70_f32", "the weights have no 'decoder_bias', only bias"),
                ("identity", "autoencoder_33x70_f32", "no formula of IdentityDict"),
                ("nobody", "autoencoder_33x70_f32", "unknown_dictionary"),
                ("identity", "nowhere", "No such file")):
            with self.subTest(message=message):
                status, _, errors = self.run_it(served, weights)
                self.assertEqual(status, 1)
                self.assertIn(message, errors)

    def test_what_is_no_number_never_agrees(self):
        for torch_has, saed_has in ((1, np.nan), (np.nan, 1), (np.nan, np.nan), (np.inf, np.inf), (1, np.inf)):
            with self.subTest(torch=torch_has, saed=saed_has):
                side = Side()
                side.see(np.float32([torch_has, 0]), np.float32([saed_has, 0]))
                side.see(np.float32([1, 2]), np.float32([1, 2]))
                self.assertFalse(side.fits(1.0))
        self.assertFalse(Report().fits(1.0))  # of no rows

    def test_a_key_of_the_environment(self):
        key = os.path.join(self.folder.name, "keys")
        with open(key, "w") as file:
            file.write("me:0123456789abcdef\n")
        name = self.CLASSES[0]
        with daemon("--api-key-file", key, f"{name}={GOLDEN}/{name}.pt") as url:
            status, _, errors = self.run_it(name, name, "--url", url)
            self.assertEqual((status, "401" in errors), (1, True), errors)
            status, _, errors = self.run_it(name, name, "--url", url, "--api-key-env", "SAED_TEST_NO_KEY")
            self.assertEqual((status, "SAED_TEST_NO_KEY" in errors), (1, True), errors)
            with mock.patch.dict(os.environ, SAED_TEST_KEY="0123456789abcdef"):
                self.assertEqual(self.run_it(name, name, "--url", url, "--api-key-env", "SAED_TEST_KEY")[0], 0)

    def test_the_command(self):
        ran = subprocess.run([sys.executable, "-m", "saed", "verify", "a", "--weights", "b"], text=True,
                             env={**os.environ, "PYTHONPATH": PACKAGE}, capture_output=True)
        self.assertEqual(ran.returncode, 2)
        self.assertIn("--rows", ran.stderr)


class Imports(unittest.TestCase):
    def test_torch_is_imported_by_nobody_but_the_caller(self):
        code = "import saed, sys; assert not {'torch', 'scipy', 'tqdm'} & set(sys.modules)"
        subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": PACKAGE}, check=True)


if __name__ == "__main__":
    main()

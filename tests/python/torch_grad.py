#!/usr/bin/python3
"""Gradients of saed.Dictionary beside torch's own autograd over the same formula in float64."""
import asyncio
import functools
import os
import tempfile
from unittest import mock

from support import GOLDEN, Case, main, save_safetensors
import numpy as np
import saed
import torch
from saed import autograd
from saed.verify import FORMULAE, load_weights

D, F, M = 12, 40, 9
SEED = {"AutoEncoder": "autoencoder_33x70_f32", "AutoEncoderNew": "new_33x70_bf16",
        "GatedAutoEncoder": "gated_33x70_bf16", "JumpAutoEncoder": "jump_33x70_f16",
        "JumpReluAutoEncoder": "jumprelu_33x70_f32", "AutoEncoderTopK": "topk_33x70_k8_f32"}

# Readings beside them: what a source states, and how many dimensions x_hat has.
READINGS = [
    ("relu", {"activation": "relu"}, D), ("centred", {"activation": "relu", "centre": "b_dec"}, D),
    ("linear", {"activation": "linear"}, D), ("linear_k", {"activation": "linear", "k": "5"}, D),
    ("top_k", {"activation": "relu", "k": "5"}, D),
    ("threshold", {"activation": "threshold", "threshold": "theta"}, D),
    ("signed", {"activation": "threshold_signed", "threshold": "theta"}, D),
    ("gated", {"activation": "gated"}, D), ("jump", {"activation": "jump"}, D),
    ("scale", {"activation": "relu", "input": "scale:2.5"}, D),
    ("scale_out", {"activation": "relu", "input": "scale:2.5", "output": "scale:0.5", "kind": "transcoder"}, D),
    ("rms", {"activation": "relu", "input": "rms", "centre": "b_dec"}, D),
    ("rms_none", {"activation": "relu", "input": "rms", "output": "none"}, D),
    ("layer_norm", {"activation": "relu", "input": "layer_norm"}, D),
    ("layer_norm_k", {"activation": "linear", "k": "6", "input": "layer_norm"}, D),
    ("layer_norm_none", {"activation": "relu", "input": "layer_norm", "output": "none"}, D),
    ("norm", {"activation": "relu", "score": "decoder_norm", "k": "5"}, D),
    ("folded", {"activation": "threshold", "threshold": "theta", "score": "decoder_norm_folded"}, D),
    ("folded_k", {"activation": "relu", "score": "decoder_norm_folded", "k": "5", "input": "rms"}, D),
    ("skip", {"activation": "relu", "skip": "W_skip@m,d"}, M),
    ("skip_ln", {"activation": "relu", "skip": "W_skip@m,d", "input": "layer_norm"}, M),
]


def tensors(m):
    rng = np.random.default_rng(m)
    shapes = {"W_enc": (F, D), "W_dec": (F, m), "b_enc": (F,), "b_dec": (m,), "theta": (F,), "gate_bias": (F,),
              "mag_bias": (F,), "r_mag": (F,), "jump": (F,), "W_skip": (m, D)}
    w = {name: rng.normal(0, 0.4, shape).astype("<f4") for name, shape in shapes.items()}
    w["theta"] = np.abs(w["theta"]) - np.float32(0.1)
    return w


def source(path, reading, w):
    """What serves this reading of a file that has the tensors which it uses."""
    keys = {"encoder": "W_enc@F,d", "decoder": "W_dec@F,m", "dec_bias": "b_dec", "centre": "none"}
    keys.update({"gated": {"gate_bias": "gate_bias", "mag_bias": "mag_bias", "r_mag": "r_mag"},
                 "jump": {"enc_bias": "b_enc", "jump": "jump"}}.get(reading["activation"], {"enc_bias": "b_enc"}))
    keys.update(reading)
    used = {value.split("@")[0] for value in keys.values()} & set(w)
    save_safetensors(path, **{name: ("F32", w[name]) for name in used})
    return path + ":format=custom" + "".join(f":{key}={value}" for key, value in keys.items())


class Stated:
    """formats.md's formula of a reading, with torch's autograd."""

    def __init__(self, reading, w):
        self.r = {"input": "none", "centre": "none", "score": "value", **reading}
        self.w = {name: torch.from_numpy(a).double() for name, a in w.items()}
        self.norms = self.w["W_dec"].norm(dim=1)

    def state(self, x):
        if self.r["input"] == "rms":
            return D ** 0.5 / x.norm(dim=-1, keepdim=True)
        return torch.cat([x.mean(-1, keepdim=True), x.std(-1, keepdim=True)], -1)

    def encode(self, x):
        w, r = self.w, self.r
        if r["input"].startswith("scale"):
            x = x * float(r["input"].split(":")[1])
        elif r["input"] == "rms":
            x = x * self.state(x)
        elif r["input"] == "layer_norm":
            x = (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-5)
        p = (x - (w["b_dec"] if r["centre"] != "none" else 0)) @ w["W_enc"].T
        if r["activation"] == "gated":
            return (p + w["gate_bias"] > 0) * (w["r_mag"].exp() * p + w["mag_bias"]).relu()
        h = p + w["b_enc"]
        v = h if r["score"] == "value" else h * self.norms
        keep = {"threshold": v > w["theta"], "threshold_signed": v > w["theta"]}.get(r["activation"], True)
        signed = r["activation"] in ("linear", "threshold_signed")
        t = (v if signed else v.relu()) * keep
        if "k" in r:
            best = t.topk(int(r["k"]), -1)
            keep = keep * torch.zeros_like(t).scatter(-1, best.indices, 1)
        u = h if r["score"] == "decoder_norm" else v
        f = (u if signed else u.relu()) * keep
        return f + w["jump"] * (h > 0) if r["activation"] == "jump" else f

    def decode(self, f, x, state=None):
        w, r = self.w, self.r
        y = (f / self.norms if r["score"] == "decoder_norm_folded" else f) @ w["W_dec"] + w["b_dec"]
        state = self.state(x) if state is None else state
        out = r.get("output", r["input"])
        if out.startswith("scale"):
            y = y / float(out.split(":")[1])
        elif out == "rms":
            y = y / state
        elif out == "layer_norm":
            y = y * state[..., 1:] + state[..., :1]
        return y + x @ w["W_skip"].T if "skip" in r else y

    def forward(self, x):
        f = self.encode(x)
        return self.decode(f, x), f


class Seed:
    """A class of dictionary_learning: the formulae of saed.verify. forward scales two classes' f."""

    def __init__(self, cls, name):
        self.w = {key: t.double() for key, t in load_weights(f"{GOLDEN}/{name}.pt").items()}
        self.encode_, self.decode_ = FORMULAE[cls]
        self.scales = cls in ("GatedAutoEncoder", "AutoEncoderNew")

    def encode(self, x):
        return self.encode_(self.w, x)

    def decode(self, f, x, state=None):
        return self.decode_(self.w, f)

    def forward(self, x):
        f = self.encode(x)
        return self.decode(f, x), f * self.w["decoder.weight"].norm(dim=0) if self.scales else f


class Identity:
    def encode(self, x):
        return x * 1

    def decode(self, f, x, state=None):
        return f * 1

    def forward(self, x):
        return x * 1, x * 1


def each(test):
    """The test of each dictionary, the formula beside it and rows that require grad."""
    @functools.wraps(test)
    def run(self):
        for name, here in self.there.items():
            with self.subTest(name=name):
                ae = saed.Dictionary(self.url, name)
                test(self, ae, here, (torch.randn(3, 4, ae.activation_dim) + 0.5).requires_grad_())
    return run


class Grad(Case):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.there = {name: Seed(name, file) for name, file in SEED.items()}
        cls.SERVED = [f"{name}={GOLDEN}/{file}.pt" for name, file in SEED.items()] + ["IdentityDict=identity:12"]
        cls.there["IdentityDict"] = Identity()
        for name, reading, m in READINGS:
            path = os.path.join(cls.folder.name, name + ".safetensors")
            cls.there[name] = Stated(reading, tensors(m))
            cls.SERVED.append(f"{name}={source(path, reading, tensors(m))}")
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.folder.cleanup()

    def setUp(self):
        torch.manual_seed(1)
        self.fetched = []
        plain = autograd.fetch_rows

        def counted(ae, parts, ids):
            self.fetched += [(part, int(i)) for part in parts for i in ids]
            return plain(ae, parts, ids)
        patch = mock.patch.object(autograd, "fetch_rows", counted)
        patch.start()
        self.addCleanup(patch.stop)

    def close(self, got, want):
        self.assertEqual((got.dtype, got.shape), (torch.float32, want.shape))
        scale = want.abs().max().item()
        self.assertGreater(scale, 0)
        self.assertLessEqual((got - want).abs().max().item(), 1e-5 * scale)

    def same_gradient(self, got, want, x, there):
        """got and want: answers of equal shapes, on the graphs of x and `there`."""
        loss = [torch.randn_like(g) for g in got]
        self.fetched.clear()
        here = torch.autograd.grad(sum((g * a).sum() for g, a in zip(got, loss)), x)[0]
        self.close(here, torch.autograd.grad(
            sum((w * a.double()).sum() for w, a in zip(want, loss)), there, retain_graph=True)[0])

    def only(self, parts, f):
        """The rows that were fetched are those of the features that are on, each once."""
        on = (f.reshape(-1, f.shape[-1]) != 0).any(0).nonzero()[:, 0].tolist()
        self.assertEqual(sorted(self.fetched), sorted((part, i) for part in parts for i in on))

    @each
    def test_encode(self, ae, here, x):
        there = x.detach().double().requires_grad_()
        f = ae.encode(x)
        self.same_gradient([f], [here.encode(there)], x, there)
        if ae.name not in ("IdentityDict", "linear"):
            self.only(["encoder"], f)

    @each
    def test_forms_of_encode(self, ae, here, x):
        ids = [7, 3, 3, 11]
        there = x.detach().double().requires_grad_()
        want = here.encode(there)
        for form in ({"top_k": 3}, {"sparse": True}, {"features": ids}, {"features": ids, "top_k": 2},
                     {"features": ids, "sparse": True}):
            f = ae.encode(x, **form)
            kept = want[..., ids]
            if not isinstance(f, torch.Tensor):
                kept = want * (f.dense() != 0)
                if isinstance(f, saed.TopK):
                    self.assertEqual(f.sparse().values.requires_grad, True)
                f = f.dense()
            if (f != 0).any():
                self.same_gradient([f], [kept], x, there)

    @each
    def test_forward(self, ae, here, x):
        there = x.detach().double().requires_grad_()
        x_hat, f = here.forward(there)
        self.same_gradient([ae(x)], [x_hat], x, there)
        if ae.name not in ("IdentityDict", "linear"):
            self.only(["encoder", "decoder"], f)
        self.same_gradient(ae(x, output_features=True), (x_hat, f), x, there)
        for form in ({"sparse": True}, {"top_k": 3}):
            x_hat_, g = ae(x, output_features=True, **form)
            g = g.dense()
            self.same_gradient([x_hat_, g], (x_hat, f * (g != 0)), x, there)
        got = ae(x, output_features=True, features=[5, 2])
        self.same_gradient(got, (x_hat, f[..., [5, 2]]), x, there)

    @each
    def test_decode(self, ae, here, x):
        reading = getattr(here, "r", {})
        state = None
        if reading.get("output") is None and reading.get("input") in ("rms", "layer_norm"):
            state = ae.encode(x.detach(), input_state=True)[1].requires_grad_()
        beside = {"input_state": state, "x": x if "skip" in reading else None}
        f = ae.encode(x.detach()).requires_grad_()
        there = [None if a is None else a.detach().double().requires_grad_() for a in (f, x, state)]
        x_hat, want = ae.decode(f, **beside), here.decode(*there)
        loss = torch.randn_like(x_hat)
        self.fetched.clear()
        inputs = [(a, b) for a, b in zip((f, beside["x"], state), there) if a is not None]
        got = torch.autograd.grad((x_hat * loss).sum(), [a for a, _ in inputs])
        wanted = torch.autograd.grad((want * loss.double()).sum(), [b for _, b in inputs])
        every = ae.name in ("IdentityDict", "linear")
        self.close(got[0], wanted[0] if every else wanted[0] * (f != 0))
        for a, b in zip(got[1:], wanted[1:]):
            self.close(a, b)
        if not every:
            self.only(["decoder"], f)

    def test_decode_of_lists(self):
        ae, here = saed.Dictionary(self.url, "relu"), self.there["relu"]
        for form in ({"top_k": 6}, {"sparse": True}):
            f = ae.encode(torch.randn(5, D), **form)
            v = f.values.clone().requires_grad_()
            loss = torch.randn(5, D)
            (ae.decode(type(f)(**{**f.__dict__, "values": v})) * loss).sum().backward()
            want = (loss.double() @ here.w["W_dec"].T) * (f.dense() != 0)
            self.close(type(f)(**{**f.__dict__, "values": v.grad}).dense(), want)

    def test_decode_of_all(self):
        """grad="all": what is off has its derivative too."""
        ae = saed.Dictionary(self.url, "relu", grad="all")
        f = torch.zeros(2, F, requires_grad=True)
        loss = torch.randn(2, D)
        (ae.decode(f) * loss).sum().backward()
        self.close(f.grad, loss.double() @ self.there["relu"].w["W_dec"].T)

    @each
    def test_chain(self, ae, here, x):
        """decode of encode has forward's gradient, the row's own numbers and the skip included."""
        reading = getattr(here, "r", {})
        there = x.detach().double().requires_grad_()
        for form in ({}, {"sparse": True}, {"top_k": ae.dict_size}):
            f, beside = ae.encode(x, **form), {}
            if reading.get("output") is None and reading.get("input") in ("rms", "layer_norm"):
                f, beside["input_state"] = ae.encode(x, input_state=True, **form)
            if "skip" in reading:
                beside["x"] = x
            self.same_gradient([ae.decode(f, **beside)], [here.forward(there)[0]], x, there)

    def test_gate_and_pre_jump(self):
        for name, option, aux in (
                ("gated", {"return_gate": True}, lambda w, p: (p + w["gate_bias"]).relu()),
                ("JumpAutoEncoder", {"output_pre_jump": True}, lambda w, p: (p + w["encoder.bias"]).relu())):
            ae, here = saed.Dictionary(self.url, name), self.there[name]
            x = torch.randn(6, ae.activation_dim, requires_grad=True)
            there = x.detach().double().requires_grad_()
            p = there @ here.w["W_enc"].T if name == "gated" else (there - here.w["bias"]) @ here.w["encoder.weight"].T
            want = [here.encode(there), aux(here.w, p)]
            self.same_gradient(ae.encode(x, **option), want, x, there)
            if name != "gated":
                self.same_gradient(ae(x, **option), [here.forward(there)[0], *want], x, there)

    def test_many_rows_and_chunks(self):
        """Rows in several requests, rows of weights in several chunks."""
        ae, here = saed.Dictionary(self.url, "rms"), self.there["rms"]
        x = torch.randn(5000, D, requires_grad=True)
        there = x.detach().double().requires_grad_()
        with mock.patch.object(autograd, "CHUNK_BYTES", 1000), mock.patch.object(autograd, "PICKED", 100):
            self.same_gradient([ae(x)], [here.forward(there)[0]], x, there)
            self.only(["encoder", "decoder"], here.encode(there))
            few = x[:2]
            self.same_gradient([ae(few)], [here.forward(there[:2])[0]], x, there)

    def test_kinds_of_tensors(self):
        ae, here = saed.Dictionary(self.url, "relu"), self.there["relu"]
        x = torch.randn(3, D)
        for given in (x.double(), x.bfloat16(), torch.zeros(3, 2 * D)[:, ::2] + x, x.T.contiguous().T):
            given = given.detach().requires_grad_()
            there = given.detach().double().requires_grad_()
            ae(given).sum().backward()
            here.forward(there)[0].sum().backward()
            self.assertEqual(given.grad.dtype, given.dtype)
            torch.testing.assert_close(given.grad.double(), there.grad, rtol=2e-2 if given.dtype == torch.bfloat16
                                       else 1e-5, atol=1e-4)
        for empty in (torch.zeros(0, D), torch.zeros(2, D) - 100 * here.w["W_enc"].sum(0).float()):
            empty.requires_grad_()
            ae(empty).sum().backward()
            self.assertEqual(empty.grad.shape, empty.shape)
        half = ae.encode(x.requires_grad_(), dtype=torch.bfloat16)
        half.sum().backward()
        self.assertEqual((half.dtype, x.grad.dtype), (torch.bfloat16, torch.float32))

    def test_a_row_without_deviation(self):
        """Its own derivative is torch's: that of a deviation of 0 is 0."""
        ae, here = saed.Dictionary(self.url, "layer_norm_none"), self.there["layer_norm_none"]
        x = torch.full((1, D), 3.0, requires_grad=True)
        there = x.detach().double().requires_grad_()
        self.same_gradient([ae.encode(x)], [here.encode(there)], x, there)

    def test_gradients_of_own_functions(self):
        """What is made of an answer before and after: in-place changes are found, other parts do without."""
        ae = saed.Dictionary(self.url, "relu")
        x = torch.randn(3, D, requires_grad=True)
        x_hat, f = ae(x * 2, output_features=True)
        f.sum().backward()
        self.assertEqual({part for part, _ in self.fetched}, {"encoder"})
        g = ae.encode(x)
        with torch.no_grad():
            g.mul_(2)
        with self.assertRaisesRegex(RuntimeError, "inplace"):
            g.sum().backward()
        with self.assertRaisesRegex(RuntimeError, "once_differentiable"):
            slope, = torch.autograd.grad(ae(x).pow(2).sum(), x, create_graph=True)
            slope.sum().backward()

    def test_refused(self):
        x = torch.randn(2, D, requires_grad=True)
        ae = saed.Dictionary(self.url, "relu", grad="refuse")
        for call in (ae.encode, ae, lambda x: ae.decode(ae.encode(x.detach()).requires_grad_())):
            with self.assertRaisesRegex(ValueError, "requires grad"):
                call(x)
        with torch.no_grad():
            self.assertFalse(ae.encode(x).requires_grad)
        self.assertFalse(ae.encode(x.detach()).requires_grad)
        with self.assertRaisesRegex(ValueError, "active, all or refuse"):
            saed.Dictionary(self.url, "relu", grad="none")
        seed = saed.Dictionary(self.url, "AutoEncoder")
        with self.assertRaisesRegex(ValueError, "x_ghost"):
            seed(torch.randn(2, 33, requires_grad=True), ghost_mask=torch.ones(70))

    def test_grad_mode_of_who_awaits(self):
        async def run():
            async with saed.AsyncDictionary(saed.Dictionary(self.url, "relu")) as ae:
                x = torch.randn(2, D, requires_grad=True)
                (await ae(x)).sum().backward()
                self.assertIsNotNone(x.grad)
                with torch.no_grad():
                    self.assertFalse((await ae.encode(x)).requires_grad)
        asyncio.run(run())


if __name__ == "__main__":
    main()

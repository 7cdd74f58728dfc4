#!/usr/bin/python3
"""--check --sample: every figure against numpy's, what a wrong reading trips, and files that are no sample.

The dictionary: an orthonormal decoder, rows that are sums of three of its rows around a mean, and noise, so that
each figure of the right reading is far from suspicious."""
import json
import os
import re
import subprocess
import tempfile
import unittest

import numpy as np

from support import binary, main, save_safetensors

F = D = 48
RNG = np.random.default_rng(5)
Q = np.linalg.qr(RNG.standard_normal((D, D)))[0]
MEAN = Q[:8].sum(0) * 3.5
ENC = (Q + RNG.normal(0, 0.01, Q.shape)).astype("f4")


def rows(n, mean=MEAN, scale=1.0):
    f = np.zeros((n, F))
    for r in f:
        r[RNG.permutation(F - 1)[:3]] = RNG.uniform(2, 4, 3)
    return ((f @ Q + mean + RNG.normal(0, 0.05, (n, D))) * scale).astype("f4")


X = rows(256)
RELU = {"encoder.weight": ENC, "encoder.bias": np.full(F, -0.3, "f4"), "decoder.weight": Q.T.astype("f4"),
        "bias": MEAN.astype("f4")}
TOPK = {"encoder.weight": ENC, "encoder.bias": np.full(F, 0.5, "f4"), "decoder.weight": Q.T.astype("f4"),
        "b_dec": MEAN.astype("f4"), "k": np.int64(3)}
NAMES = ["rows", "nonfinite_rows", "l0", "l0_q1", "l0_median", "l0_q3", "l0_declared", "zero_rows", "dead", "fvu",
         "cosine", "norm_min", "norm_median", "norm_max", "threshold_unset", "nan"]


def figures(x, t, f, x_hat):
    """Of rows, features, reconstructions; t: tensors by RELU's names."""
    l0 = np.sort(np.count_nonzero(f, 1))
    rank = lambda q: l0[-(-int(q * 4) * len(l0) // 4) - 1]
    enc, dec = t["encoder.weight"].astype("f8"), t["decoder.weight"].T.astype("f8")
    norms = np.linalg.norm(dec, axis=1)
    cosine = (enc * dec).sum(1)[norms > 0] / np.linalg.norm(enc, axis=1)[norms > 0] / norms[norms > 0]
    return {"rows": len(x), "nonfinite_rows": 0, "l0": l0.mean(), "l0_q1": rank(.25), "l0_median": rank(.5),
            "l0_q3": rank(.75), "zero_rows": (l0 == 0).mean(), "dead": (f == 0).all(0).sum(),
            "fvu": np.square(x - x_hat).sum() / np.square(x - x.mean(0)).sum(),
            "cosine": cosine.mean(),
            "norm_min": norms.min(), "norm_median": np.median(norms), "norm_max": norms.max(), "nan": 0}


class Sample(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)
        self.path = lambda name: os.path.join(self.dir.name, name)
        np.save(self.path("x.npy"), X)
        np.savez(self.path("relu.npz"), **RELU)
        np.savez(self.path("topk.npz"), **TOPK)

    def run_check(self, source, *samples, status=0):
        """Figures of each sample line, the figures named as suspicious, stdout."""
        words = [binary(), "--check", "--threads", "2"] + [w for s in samples for w in ("--sample", s)]
        got = subprocess.run(words + ["d=" + source], capture_output=True, text=True)
        self.assertEqual(got.returncode, status, got.stdout + got.stderr)
        lines = re.findall(r"^  sample: (rows=.*)$", got.stdout, re.M)
        parsed = [dict(pair.split("=") for pair in line.split()) for line in lines]
        for one in parsed:
            self.assertEqual(list(one), NAMES)
        return parsed, re.findall(r"^  suspicious: (\w+)=\S+, expected .", got.stdout, re.M), got.stdout

    def suspects(self, source, *names, sample="x.npy"):
        parsed, got, out = self.run_check(self.path(source), self.path(sample), status=3 if names else 0)
        self.assertEqual(sorted(set(got)), sorted(names), out)
        return parsed[0]

    def compare(self, got, want):
        for name, value in want.items():
            self.assertNotEqual(got[name], "-", name)
            self.assertAlmostEqual(float(got[name]), value, delta=1e-4 * max(1, abs(value)), msg=name)

    def test_every_figure(self):
        x, t = X.astype("f8"), {k: np.asarray(v, "f8") for k, v in RELU.items()}
        f = np.maximum((x - t["bias"]) @ t["encoder.weight"].T + t["encoder.bias"], 0)
        got = self.suspects("relu.npz")
        want = figures(x, RELU, f, f @ t["decoder.weight"].T + t["bias"])
        self.compare(got, want)
        self.assertLess(want["fvu"], 0.1)
        self.assertEqual((got["l0_declared"], got["threshold_unset"]), ("-", "-"))
        h = (x - t["bias"]) @ t["encoder.weight"].T + TOPK["encoder.bias"]
        f = np.where(h >= np.sort(h, 1)[:, -3:-2], h, 0)
        got = self.suspects("topk.npz")
        self.compare(got, {**figures(x, RELU, f, f @ t["decoder.weight"].T + t["bias"]), "l0_declared": 3})

    def test_gated(self):
        """Forward scales its f there; L0 is encode's."""
        dec = RELU["decoder.weight"].copy()
        dec[:, 5] = 0
        t = {"encoder.weight": ENC, "decoder.weight": dec, "decoder_bias": RELU["bias"],
             "gate_bias": RELU["encoder.bias"], "mag_bias": np.zeros(F, "f4"), "r_mag": np.full(F, .1, "f4")}
        np.savez(self.path("gated.npz"), **t)
        p = (X.astype("f8") - t["decoder_bias"]) @ ENC.T.astype("f8")
        f = (p + t["gate_bias"] > 0) * np.maximum(np.exp(np.float64(np.float32(.1))) * p, 0)
        want = figures(X.astype("f8"), t, f, f @ dec.T.astype("f8") + t["decoder_bias"])
        self.compare(self.suspects("gated.npz", "norm_min"), want)

    def test_rows_of_all_kinds(self):
        """Containers, orders, dtypes and dimensions; rows that are not finite; the first 16,384."""
        y = X[:72]
        np.save(self.path("fortran.npy"), np.asfortranarray(y))
        np.save(self.path("cube.npy"), y.reshape(3, 24, D))
        np.save(self.path("cube_f.npy"), np.asfortranarray(y.reshape(3, 24, D)))
        np.save(self.path("f8.npy"), y.astype("f8"))
        np.save(self.path("one.npy"), y[0])
        np.save(self.path("none.npy"), y[:0])
        bf16 = (y.view("<u4") >> 16).astype("<u2")
        save_safetensors(self.path("x.safetensors"), a=("F32", y), b=("BF16", bf16), c=("F16", y.astype("<f2")))
        bad = y.copy()
        bad[3, 1], bad[70, 0] = np.nan, np.inf
        np.save(self.path("bad.npy"), bad)
        np.save(self.path("many.npy"), np.concatenate([np.repeat(y, 228, 0)[:16384], np.full((5, D), np.nan, "f4")]))
        names = ["x.safetensors:a", "fortran.npy", "cube.npy", "cube_f.npy", "f8.npy", "x.safetensors:b",
                 "x.safetensors:c", "bad.npy", "many.npy", "one.npy", "none.npy"]
        got = self.run_check(self.path("relu.npz"), *(self.path(n) for n in names))[0]
        by = dict(zip(names, got))
        for name in names[1:5]:
            self.assertEqual(by[name], by[names[0]], name)
        for name, width in (("x.safetensors:b", .02), ("x.safetensors:c", .001)):
            self.assertAlmostEqual(float(by[name]["fvu"]), float(by[names[0]]["fvu"]), delta=width)
        self.assertEqual((by["bad.npy"]["rows"], by["bad.npy"]["nonfinite_rows"]), ("72", "2"))
        keep = np.isfinite(bad).all(1)
        np.save(self.path("kept.npy"), bad[keep])
        kept = self.run_check(self.path("relu.npz"), self.path("kept.npy"))[0][0]
        self.assertEqual({**kept, "rows": "72", "nonfinite_rows": "2"}, by["bad.npy"])
        self.assertEqual((by["many.npy"]["rows"], by["many.npy"]["nonfinite_rows"]), ("16384", "0"))
        self.assertEqual((by["one.npy"]["rows"], by["one.npy"]["fvu"]), ("1", "-"))
        self.assertEqual((by["none.npy"]["rows"], by["none.npy"]["l0"], by["none.npy"]["dead"]), ("0", "-", "-"))

    def test_parts_and_transcoders(self):
        none = lambda got, *names: self.assertEqual([n for n in NAMES if got[n] == "-"], list(names))
        got = self.suspects("relu.npz:parts=encoder")
        none(got, "l0_declared", "fvu", "cosine", "norm_min", "norm_median", "norm_max", "threshold_unset")
        np.savez(self.path("t.npz"), W=ENC, V=Q[:, :40].astype("f4"), b=np.full(F, -.3, "f4"), c=MEAN.astype("f4"))
        none(self.suspects("t.npz:encoder=W@F,d:decoder=V@F,m:enc_bias=b:centre=c:activation=relu"),
             "l0_declared", "fvu", "cosine", "threshold_unset")
        np.savez(self.path("tied.npz"), W=Q.astype("f4"), b=np.full(F, -.3, "f4"), c=MEAN.astype("f4"))
        none(self.suspects("tied.npz:encoder=W@F,d:decoder=W@F,m:enc_bias=b:centre=c:dec_bias=c:activation=relu"),
             "l0_declared", "cosine", "threshold_unset")

    def test_what_trips(self):
        self.suspects("relu.npz:centre=none", "fvu")
        self.suspects("topk.npz:k=none", "l0")
        scrambled = {**RELU, "decoder.weight": np.ascontiguousarray(RELU["decoder.weight"]).reshape(-1)
                     [RNG.permutation(D * F)].reshape(D, F)}
        np.savez(self.path("scrambled.npz"), **scrambled)
        self.suspects("scrambled.npz", "cosine", "fvu")
        self.suspects("relu.npz:threshold=-1", "threshold_unset")
        self.suspects("relu.npz:threshold=0.5")
        large = RELU["decoder.weight"].copy()
        large[:, F - 1] *= 1000
        off = RELU["encoder.bias"].copy()
        off[F - 1] = -50
        np.savez(self.path("large.npz"), **{**RELU, "decoder.weight": large, "encoder.bias": off})
        self.suspects("large.npz", "norm_max")

    def test_a_missing_scale(self):
        small = (X - MEAN.astype("f4")) * np.float32(0.02)
        np.save(self.path("small.npy"), small)
        np.savez(self.path("scaled.npz"), **{**RELU, "bias": np.zeros(D, "f4")})
        self.suspects("scaled.npz:input=scale:50", sample="small.npy")
        np.save(self.path("few.npy"), small[:63])
        self.suspects("scaled.npz", "zero_rows", "fvu", sample="small.npy")
        self.suspects("scaled.npz", sample="few.npy")  # 63 rows are not judged

    def test_not_a_number(self):
        enc, bias = ENC.copy(), RELU["encoder.bias"].copy()
        enc[F - 1], bias[F - 1] = Q[F - 1] * 100, -1000
        np.savez(self.path("big.npz"), **{**RELU, "encoder.weight": enc, "encoder.bias": bias})
        huge = X.copy()
        huge[7] = 3e38  # finite, and its products are not
        np.save(self.path("huge.npy"), huge)
        self.assertEqual(self.suspects("big.npz", "nan", sample="huge.npy")["nan"], "1")
        zero = X - X.mean(0)
        zero[9] = 0
        np.save(self.path("zero.npy"), zero)
        np.savez(self.path("rms.npz"), **{**RELU, "bias": np.zeros(D, "f4")})
        self.assertEqual(self.suspects("rms.npz:input=rms", sample="zero.npy")["nan"], "0")  # as at the producer

    def test_how_many_are_declared(self):
        f32 = lambda t: {k: ("F32" if k != "k" else "I64", np.array(v, order="C")) for k, v in t.items()}
        lens = {"W_enc": ENC.T, "W_dec": Q.astype("f4"), "b_enc": RELU["encoder.bias"], "b_dec": RELU["bias"]}
        for folder, name, tensors, config, want, names in (
                ("target", "ae.pt", RELU, {"trainer": {"dict_class": "AutoEncoder", "target_l0": 40}}, "40", ["l0"]),
                ("batch", "ae.pt", {**TOPK, "threshold": np.float32(1)},
                 {"trainer": {"dict_class": "BatchTopKSAE", "target_l0": 40}}, "3", []),
                ("lens", "sae_weights.safetensors", lens, {"metadata": {"l0": 2.5}}, "2.5", []),
                ("lens_l0_7/average_l0_8", "sae_weights.safetensors", lens, {}, "8", []),
                ("X-L0_11/x", "sae_weights.safetensors", lens, {"metadata": {"l0": None}}, "11", ["l0"])):
            os.makedirs(self.path(folder))
            save_safetensors(self.path(folder + "/" + name), **f32(tensors))
            with open(self.path(folder + "/" + ("config.json" if name == "ae.pt" else "cfg.json")), "w") as file:
                json.dump(config if name == "ae.pt" else {"architecture": "standard", **config}, file)
            self.assertEqual(self.suspects(folder, *names)["l0_declared"], want, folder)

    def test_what_is_no_sample(self):
        np.save(self.path("ints.npy"), np.arange(12).reshape(3, 4))
        np.save(self.path("scalar.npy"), np.float32(1))
        np.save(self.path("narrow.npy"), X[:, :40])
        np.save(self.path("flat.npy"), X[:, :0])
        save_safetensors(self.path("two.safetensors"), a=("F32", X), b=("F32", X))
        with open(self.path("text.npy"), "w") as file:
            file.write("no array of any kind")
        for sample, words in (("ints.npy", "int64"), ("scalar.npy", "0 dimensions"), ("flat.npy", "width 0"),
                              ("relu.npz", "it is a .npz"), ("nowhere.npy", "No such file"),
                              ("two.safetensors", "2 tensors; say which"), ("text.npy", "cannot read"),
                              ("two.safetensors:c", "no tensor \"c\""), ("nowhere.npy:x", "No such file")):
            got = subprocess.run([binary(), "--check", "--sample", self.path(sample), "d=" + self.path("relu.npz")],
                                 capture_output=True, text=True)
            self.assertEqual((got.returncode, got.stdout), (1, ""), sample)
            self.assertIn(words, got.stderr)
            self.assertIn(sample.split(":")[0], got.stderr)
        out = self.run_check(self.path("relu.npz"), self.path("narrow.npy"))[2]
        self.assertIn("\n  sample: none has rows of width 48\n", out)
        for words in (["--sample", "x.npy"], ["--check", "--sample"],
                      ["--sample=x.npy", "--probe", "http://127.0.0.1"]):
            got = subprocess.run([binary(), *words, "d=identity:4"], capture_output=True, text=True)
            self.assertEqual(got.returncode, 2, words)


if __name__ == "__main__":
    main()

#!/usr/bin/python3
"""weights_sha256, made here by hashlib and numpy from the same tensors: files of one dictionary agree, in
whatever container, order, dtype and under whatever names; another tensor or formula has another."""
import hashlib
import json
import os
import tempfile
import unittest
import urllib.request

import numpy as np

from support import GOLDEN, daemon, golden, main, save_safetensors

PIECE = 4 << 20


def digest(tensors, m, **reading):
    """By formats 5.2. tensors: canonical name -> array, in the canonical order."""
    F, d = tensors["W_enc"].shape
    text = "saed 1 %d %d %d\n" % (d, F, m)
    for name, a in tensors.items():
        raw = np.ascontiguousarray(a, "<f4").tobytes()
        pieces = b"".join(hashlib.sha256(raw[at:at + PIECE]).digest() for at in range(0, len(raw), PIECE))
        text += "%s %s %s\n" % (name, ",".join(map(str, np.shape(a))), hashlib.sha256(pieces).hexdigest())
    fields = dict(activation="relu", input="none", kind="sae", normalize_decoder="as_stored", output="none",
                  score="value", select="all")
    fields.update(reading)
    return hashlib.sha256((text + json.dumps(fields, separators=(",", ":"))).encode()).hexdigest()


def autoencoder(w, **more):
    bias = w["w:bias"]
    return dict(W_enc=w["w:encoder.weight"], W_dec=w["w:decoder.weight"].T, b_enc=w["w:encoder.bias"],
                b_dec=bias, centre=bias, **more)


class Digest(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)

    def path(self, name):
        return os.path.join(self.dir.name, name)

    def shown(self, *sources):
        """weights_sha256 of each, served as d0, d1, ..."""
        with daemon(*("d%d=%s" % (i, s) for i, s in enumerate(sources))) as url:
            with urllib.request.urlopen(url + "/v1/dictionaries") as answer:
                return [d["weights_sha256"] for d in json.load(answer)["dictionaries"]]

    def all_are(self, want, *sources):
        for source, got in zip(sources, self.shown(*sources)):
            self.assertEqual(got, want, source)

    def test_containers_and_orders(self):
        name = os.path.join(GOLDEN, "autoencoder_33x70_f32")
        w = golden("autoencoder_33x70_f32")[1]
        self.all_are(digest(autoencoder(w), 33), name + ".pt", name + ".safetensors", name + ".npz",
                     name + ".turned.npz")

    def test_names_orientation_and_producer(self):
        w = golden("autoencoder_33x70_f32")[1]
        enc, dec, be, bd = (w["w:" + k] for k in ("encoder.weight", "decoder.weight", "encoder.bias", "bias"))
        folder = self.path("lens")
        os.mkdir(folder)
        np.savez(self.path("any.npz"), E=enc.T, D=np.asfortranarray(dec), bias=be.astype("f8"), mean=bd[None])
        f32 = lambda a: ("F32", np.ascontiguousarray(a, "<f4"))
        save_safetensors(os.path.join(folder, "sae_weights.safetensors"), W_enc=f32(enc.T), W_dec=f32(dec.T),
                         b_enc=f32(be), b_dec=f32(bd))
        with open(os.path.join(folder, "cfg.json"), "w") as file:
            json.dump({"sae_lens_version": "6.0.0", "architecture": "standard", "apply_b_dec_to_input": True},
                      file)
        self.all_are(digest(autoencoder(w), 33), folder,
                     self.path("any.npz") + ":encoder=E@d,F:decoder=D@m,F:enc_bias=bias:dec_bias=mean:centre=mean"
                     ":activation=relu")

    def test_sixteen_bits_and_their_widening(self):
        name = os.path.join(GOLDEN, "gated_20x12_f16")
        w = golden("gated_20x12_f16")[1]
        bias = w["w:decoder_bias"]
        want = digest(dict(W_enc=w["w:encoder.weight"], W_dec=w["w:decoder.weight"].T, b_dec=bias, centre=bias,
                           gate_bias=w["w:gate_bias"], mag_bias=w["w:mag_bias"], r_mag=w["w:r_mag"]), 20,
                      activation="gated")
        np.savez(self.path("wide.npz"), **{k[2:]: a for k, a in w.items() if k.startswith("w:")})
        self.all_are(want, name + ".pt", name + ".safetensors", name + ".npz", name + ".turned.npz",
                     self.path("wide.npz"))

    def test_every_tensor_of_every_unit(self):
        jump, relu, top = (golden(n) for n in ("jump_20x12_f64", "jumprelu_20x12_f32", "topk_33x70_k8_f32"))
        w = relu[1]
        got = self.shown(*(os.path.join(GOLDEN, n) for n in
                           ("jump_20x12_f64.pt", "jumprelu_20x12_f32.pt", "topk_33x70_k8_f32.pt",
                            "jumprelu_20x12_f32.pt:threshold=0.25")))
        self.assertEqual(got[0], digest(autoencoder(jump[1], jump=jump[1]["w:jump"]), 20, activation="jump"))
        tensors = dict(W_enc=w["w:W_enc"].T, W_dec=w["w:W_dec"], b_enc=w["w:b_enc"], b_dec=w["w:b_dec"],
                       theta=w["w:threshold"])
        self.assertEqual(got[1], digest(tensors, 20, activation="threshold"))
        w = top[1]
        self.assertEqual(got[2], digest(autoencoder({**w, "w:bias": w["w:b_dec"]}), 33, select="top_k:8"))
        self.assertEqual(got[3], digest({**tensors, "theta": np.array([0.25])}, 20, activation="threshold"))

    def test_parts(self):
        """A dictionary of several pieces, and what a part of it is."""
        rng = np.random.default_rng(7)
        F, d = 1100, 1024
        enc, dec = (rng.standard_normal((F, d), np.float32) for _ in range(2))
        theta, skip = rng.standard_normal(F, np.float32), rng.standard_normal((d, d), np.float32)
        np.savez(self.path("a.npz"), E=enc, D=dec, t=theta, S=skip)
        np.savez(self.path("cut.npz"), E=enc[:4], D=dec[:4], t=theta[:4], S=skip)
        common = ":encoder=E@F,d:decoder=D@F,m:centre=none:threshold=exp:t"
        norms = np.sqrt((dec.astype("f8") ** 2).sum(1)).astype("f4")
        theta_exp = np.exp(theta.astype("f8")).astype("f4")
        got = self.shown(*(self.path(s) for s in
                           ("a.npz" + common.replace("exp:t", "t"),
                            "a.npz" + common.replace("exp:t", "t") + ":features=4",
                            "cut.npz" + common.replace("exp:t", "t"),
                            "a.npz" + common.replace("exp:t", "t") + ":parts=encoder",
                            "a.npz" + common.replace("exp:t", "t") + ":parts=encoder:score=decoder_norm",
                            "a.npz" + common.replace("exp:t", "t") + ":skip=S@d,m",
                            "a.npz" + common)))
        whole = dict(W_enc=enc, W_dec=dec, theta=theta)
        self.assertEqual(got[0], digest(whole, d, activation="threshold"))
        self.assertEqual(got[1], got[2])
        self.assertEqual(got[2], digest(dict(W_enc=enc[:4], W_dec=dec[:4], theta=theta[:4]), d,
                                        activation="threshold"))
        self.assertEqual(got[3], digest(dict(W_enc=enc, theta=theta), d, activation="threshold"))
        self.assertEqual(got[4], digest(dict(W_enc=enc, norms=norms, theta=theta), d, activation="threshold",
                                        score="decoder_norm"))
        self.assertEqual(got[5], digest({**whole, "W_skip": skip.T}, d, activation="threshold",
                                        kind="transcoder"))
        self.assertEqual(got[6], digest({**whole, "theta": theta_exp}, d, activation="threshold"))

    def test_another_one_is_another(self):
        w = golden("autoencoder_33x70_f32")[1]
        tensors = {k[2:]: a.copy() for k, a in w.items() if k.startswith("w:")}
        sources = []
        for key, a in tensors.items():
            changed = a.copy()
            changed.view("<u4").flat[-1] ^= 1
            np.savez(self.path(key + ".npz"), **{**tensors, key: changed})
            sources.append(self.path(key + ".npz"))
        np.savez(self.path("same.npz"), **tensors)
        sources += [self.path("same.npz") + s for s in ("", ":k=3", ":input=rms", ":centre=none",
                                                        ":features=69", ":parts=encoder")]
        got = self.shown(*sources)
        self.assertEqual(len(set(got)), len(got), got)

    def test_without_a_file(self):
        want = hashlib.sha256(b'saed 1 4 4 4\n{"activation":"linear","input":"none","kind":"sae",'
                              b'"normalize_decoder":"as_stored","output":"none","score":"value",'
                              b'"select":"all"}').hexdigest()
        got = self.shown("identity:4", "init:AutoEncoder:4:8", "init:AutoEncoder:4:8:seed=1",
                         "init:AutoEncoder:4:8")
        self.assertEqual(got[0], want)
        self.assertEqual(got[1], got[3])
        self.assertNotEqual(got[1], got[2])


if __name__ == "__main__":
    main()

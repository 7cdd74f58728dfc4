#!/usr/bin/python3
"""saed.Dictionary with numpy: PyTorch's answers of tests/golden, in every shape, dtype and piece."""
import glob
import os
import threading

from support import DIGITS, GOLDEN, Case, golden, main
import numpy as np
import saed

CASES = sorted(os.path.basename(p)[:-3] for p in glob.glob(GOLDEN + "/*.pt"))
RTOL, ATOL = 1e-5, 1e-5


class Golden(Case):
    SERVED = [f"{name}={GOLDEN}/{name}.pt" for name in CASES] + ["identity=identity:6"]

    def close(self, got, want):
        self.assertEqual(got.dtype, np.float32)
        np.testing.assert_allclose(got, want, rtol=RTOL, atol=ATOL * max(1.0, np.abs(
            np.nan_to_num(want, posinf=0, neginf=0)).max(initial=0)), equal_nan=True)

    def test_encode_decode_forward(self):
        self.assertGreater(len(CASES), 20)
        for name in CASES + ["identity"]:
            with self.subTest(name=name):
                self.answers(name)

    def answers(self, name):
        ae = saed.Dictionary(self.url, name)
        cls, a = load(name)
        x, f = a["x"], a["f"]
        self.assertEqual((ae.info["dict_class"], ae.activation_dim, ae.dict_size),
                         (cls, x.shape[1], f.shape[1]))
        self.close(ae.encode(x), f)
        self.close(ae.decode(a["dec_f"]), a["dec_x_hat"])
        self.close(ae(x), a["x_hat"])
        x_hat, f_fwd = ae.to("cpu").eval().forward(x, output_features=True)
        self.close(x_hat, a["x_hat"])
        self.close(f_fwd, a["f_fwd"])
        if cls == "GatedAutoEncoder":
            for got, want in zip(ae.encode(x, return_gate=True), (f, a["aux"])):
                self.close(got, want)
        if cls == "JumpAutoEncoder":
            for got, want in zip(ae.encode(x, output_pre_jump=True), (f, a["aux"])):
                self.close(got, want)
            for got, want in zip(ae(x, output_pre_jump=True), (a["x_hat"], f, a["aux"])):
                self.close(got, want)
        if cls == "AutoEncoder":
            self.ghosts(ae, a)

    def ghosts(self, ae, a):
        for mask, want in ((a["mask"], a["x_ghost"]), (a["mask2"], a["x_ghost2"])):
            x_hat, x_ghost = ae(a["x"], ghost_mask=mask)
            self.close(x_hat, a["x_hat"])
            self.close(x_ghost, want)
        x_hat, x_ghost, f = ae(a["x"], True, a["mask2"] > 0)  # by place, and as booleans
        self.close(x_ghost, a["x_ghost2"])
        self.close(f, a["f"])

    def test_identity_has_no_ghost(self):
        ae = saed.Dictionary(self.url, "identity")
        x = np.arange(12, dtype="f4").reshape(2, 6)
        np.testing.assert_array_equal(ae(x, ghost_mask=np.ones(6)), x)

    def test_scaled_features_are_not_decoded(self):
        ae = saed.Dictionary(self.url, "gated_33x70_bf16")
        x = load("gated_33x70_bf16")[1]["x"][:5]
        for shape in ({"sparse": True}, {"top_k": 4}):
            f = ae(x, output_features=True, **shape)[1]
            self.assertEqual(f.f_units, "decoder_norm")
            with self.assertRaises(saed.RequestError) as caught:
                ae.decode(f)
            self.assertEqual(caught.exception.code, "bad_option")
            self.assertEqual(ae.encode(x, **shape).f_units, "encode")


def load(name):
    return golden("identity_6" if name == "identity" else name)


class Shapes(Case):
    """On the digits: what was computed is held above, here what is made of it."""

    def setUp(self):
        self.ae = saed.Dictionary(self.url, "digits")
        self.x = np.random.default_rng(3).normal(size=(4, 5, 64)).astype("f4")
        self.f = self.ae.encode(self.x)

    def test_leading_dimensions(self):
        self.assertEqual(self.f.shape, (4, 5, 256))
        np.testing.assert_array_equal(self.ae.encode(self.x[1, 2]), self.f[1, 2])
        self.assertEqual(self.ae.decode(self.f[0, 0]).shape, (64,))
        for lead in ((0,), (3, 0, 2)):
            with self.subTest(lead=lead):
                x = np.zeros((*lead, 64), "f4")
                self.assertEqual(self.ae.encode(x).shape, (*lead, 256))
                self.assertEqual(self.ae(x, True)[1].shape, (*lead, 256))
                self.assertEqual(self.ae.encode(x, top_k=3).shape, (*lead, 256))
                self.assertEqual(self.ae.encode(x, sparse=True).dense().shape, (*lead, 256))
                self.assertEqual(self.ae.decode(self.ae.encode(x, sparse=True)).shape, (*lead, 64))

    def test_what_rows_may_be(self):
        wide = np.zeros((4, 5, 128), "f4")
        wide[..., ::2] = self.x
        whole = np.round(self.x * 3)
        for what, x, same in (
                ("float64", self.x.astype("f8"), self.x), ("big-endian", self.x.astype(">f4"), self.x),
                ("float16", self.x.astype("f2"), self.x.astype("f2").astype("f4")),
                ("strided", wide[..., ::2], self.x), ("Fortran", np.asfortranarray(self.x), self.x),
                ("turned", self.x[::-1, ::-1], self.x[::-1, ::-1].copy()),
                ("int64", whole.astype("i8"), whole), ("int8", whole.astype("i1"), whole),
                ("bool", self.x > 0, (self.x > 0).astype("f4")), ("lists", whole.tolist(), whole)):
            with self.subTest(what=what):
                np.testing.assert_array_equal(self.ae.encode(x), self.ae.encode(same))

    def test_what_rows_may_not_be(self):
        for x, error in ((np.float32(1), ValueError), (np.array(["a"]), TypeError),
                         (np.zeros((2, 64), complex), TypeError), (np.full((2, 64), 1e300), ValueError)):
            with self.subTest(x=x), self.assertRaises(error):
                self.ae.encode(x)
        with self.assertRaises(saed.RequestError) as caught:
            self.ae.encode(np.zeros((2, 3)))
        self.assertEqual(caught.exception.code, "bad_shape")
        with self.assertRaises(saed.RequestError) as caught:
            self.ae.encode(self.x, return_gate=True)
        self.assertEqual(caught.exception.code, "bad_option")
        np.testing.assert_array_equal(self.ae.encode(np.full((1, 64), np.inf)).shape, (1, 256))

    def test_dtype(self):
        self.assertEqual(self.ae.encode(self.x, dtype="f2").dtype, np.float16)
        ae = self.ae.client.dictionary("digits", dtype=np.float64)
        self.assertEqual(ae(self.x).dtype, np.float64)
        self.assertEqual(ae.encode(self.x, top_k=2).values.dtype, np.float64)
        self.assertEqual(ae(self.x, dtype=np.float32).dtype, np.float32)
        with self.assertRaises(TypeError):
            saed.Dictionary(self.ae.client, "digits", timeout=1)

    def test_top_k(self):
        top = self.ae.encode(self.x, top_k=7)
        self.assertEqual((top.indices.shape, top.indices.dtype, top.shape), ((4, 5, 7), np.int32, (4, 5, 256)))
        np.testing.assert_array_equal(top.values, -np.sort(-self.f, -1)[..., :7])
        kept = np.where(self.f >= top.values[..., -1:], self.f, 0)
        np.testing.assert_array_equal(top.dense(), kept)
        np.testing.assert_array_equal(top.sparse().dense(), kept)
        np.testing.assert_array_equal(self.ae.decode(top), self.ae.decode(kept))
        one = self.ae.encode(self.x[0, 0], top_k=7)
        np.testing.assert_array_equal(one.indices, top.indices[0, 0])
        np.testing.assert_array_equal(self.ae.decode(one), self.ae.decode(kept[0, 0]))

    def test_top_k_of_more_than_are_on(self):
        top = self.ae.encode(self.x, top_k=256)
        np.testing.assert_array_equal(top.dense(), self.f)
        self.assertEqual(top.sparse().nnz, np.count_nonzero(self.f))

    def test_sparse(self):
        f = self.ae.encode(self.x, sparse=True)
        self.assertEqual((f.shape, f.dict_size, f.nnz), ((4, 5, 256), 256, np.count_nonzero(self.f)))
        self.assertEqual((f.indptr.dtype, f.indices.dtype), (np.int64, np.int32))
        np.testing.assert_array_equal(f.dense(), self.f)
        np.testing.assert_array_equal(self.ae.decode(f), self.ae.decode(self.f))
        x_hat, g = self.ae(self.x, output_features=True, sparse=True)
        np.testing.assert_array_equal(g.dense(), self.f)
        np.testing.assert_array_equal(x_hat, self.ae(self.x))

    def test_features(self):
        ids = [200, 3, 3, 0]
        np.testing.assert_array_equal(self.ae.encode(self.x, features=ids), self.f[..., ids])
        self.assertEqual(self.ae.encode(self.x, features=[]).shape, (4, 5, 0))
        self.assertEqual(self.ae.encode(self.x, features=np.arange(256), top_k=2).shape, (4, 5, 256))
        only = self.ae.encode(self.x, features=ids, sparse=True).dense()
        np.testing.assert_array_equal(only[..., ids], self.f[..., ids])
        self.assertFalse(np.delete(only, ids, -1).any())
        with self.assertRaises(saed.RequestError):
            self.ae.encode(self.x, features=[256])
        for features in ([1.0], np.ones(256, bool)):
            with self.assertRaises(TypeError):
                self.ae.encode(self.x, features=features)

    def test_masks_of_one_number(self):
        for mask in (0.5, np.float32(0.5), np.full((4, 1, 1), 0.5), np.full((1, 256), 0.5)):
            with self.subTest(mask=np.shape(mask)):
                np.testing.assert_array_equal(self.ae(self.x, ghost_mask=mask)[1],
                                              self.ae(self.x, ghost_mask=np.full(256, 0.5))[1])


class Beside(Case):
    """What a row keeps for decode: numbers of its own scaling, and itself for a skip."""
    OPTIONS = ["--max-queue-rows", "16"]
    SERVED = [f"{kind}={GOLDEN}/autoencoder_33x70_f32.pt:input={kind}" for kind in ("rms", "layer_norm")] + [
        "none=" + GOLDEN + "/autoencoder_33x70_f32.pt", "skip=" + os.path.join(
            os.path.dirname(GOLDEN), "formats", "circuit_tracer", "skip", "layer_4.safetensors")]

    def rows(self, ae, lead):
        return np.random.default_rng(8).normal(1, 2, (*lead, ae.activation_dim)).astype("f4")

    def test_state(self):
        for name, width in (("rms", 1), ("layer_norm", 2)):
            ae = saed.Dictionary(self.url, name)
            for lead in ((), (3,), (5, 11)):
                with self.subTest(name=name, lead=lead):
                    x = self.rows(ae, lead)
                    f, state = ae.encode(x, input_state=True, dtype=np.float64)
                    self.assertEqual((f.dtype, state.dtype, state.shape), (np.float64, np.float32, (*lead, width)))
                    x_hat, same = ae(x, input_state=True)
                    np.testing.assert_array_equal(state, same)
                    for given in (f, ae.encode(x, sparse=True), ae.encode(x, top_k=70)):
                        np.testing.assert_array_equal(ae.decode(given, input_state=state), x_hat)
                    self.assertEqual([type(a) for a in ae.encode(x, top_k=2, input_state=True)],
                                     [saed.TopK, np.ndarray])

    def test_skip(self):
        ae = saed.Dictionary(self.url, "skip")
        x = self.rows(ae, (5, 11))
        np.testing.assert_array_equal(ae.decode(ae.encode(x), x=x), ae(x))
        np.testing.assert_array_equal(ae.decode(ae.encode(x, sparse=True), x=x), ae(x))

    def test_refused(self):
        rms, skip, none = (saed.Dictionary(self.url, name) for name in ("rms", "skip", "none"))
        f = np.zeros((2, 70), "f4")
        for call in (lambda: rms.decode(f), lambda: none.encode(self.rows(none, (2,)), input_state=True),
                     lambda: none.decode(f, x=self.rows(none, (2,))),
                     lambda: skip.decode(np.zeros((2, skip.dict_size), "f4"))):
            with self.assertRaises(saed.RequestError) as caught:
                call()
            self.assertEqual(caught.exception.code, "bad_option")
        with self.assertRaisesRegex(ValueError, r"input_state has the leading dimensions \(1, 2\), f \(2,\)"):
            rms.decode(f, input_state=np.ones((1, 2, 1), "f4"))


class Pieces(Case):
    """More rows than one request takes."""
    OPTIONS = ["--max-queue-rows", "64", "--max-batch-rows", "16"]
    SERVED = ["digits=" + DIGITS, "half=init:GatedAutoEncoder:32:2000"]

    def setUp(self):
        self.x = np.random.default_rng(4).normal(size=(501, 64)).astype("f4")
        self.ae = saed.Dictionary(self.url, "digits", connections=3)

    def test_joined(self):
        """Bits do not follow from the company, so that pieces and single rows agree."""
        rows = [0, 1, 250, 499, 500]
        single = [self.ae.encode(self.x[i]) for i in rows]
        f = self.ae.encode(self.x)
        np.testing.assert_array_equal(f[rows], single)
        self.assertGreater(self.metric('saed_requests_total{dictionary="digits",op="encode",code="200"}'), 20)
        np.testing.assert_array_equal(self.ae.encode(self.x, sparse=True).dense(), f)
        np.testing.assert_array_equal(self.ae.encode(self.x, top_k=256).dense(), f)
        sparse, top = self.ae.encode(self.x, sparse=True), self.ae.encode(self.x, top_k=5)
        np.testing.assert_array_equal(self.ae.decode(sparse), self.ae.decode(f))
        np.testing.assert_array_equal(self.ae.decode(top), self.ae.decode(top.dense()))
        x_hat, g = self.ae(self.x.reshape(3, 167, 64), True)
        np.testing.assert_array_equal(g.reshape(501, 256), f)
        np.testing.assert_array_equal(x_hat.reshape(501, 64), self.ae.decode(f))

    def test_masks_travel_with_their_rows(self):
        mask = (np.random.default_rng(5).random((501, 256)) < 0.5)
        whole = self.ae(self.x, ghost_mask=mask)[1]
        for i in (0, 77, 500):
            np.testing.assert_array_equal(whole[i], self.ae(self.x[i:i + 1], ghost_mask=mask[i:i + 1])[1][0])

    def test_half(self):
        ae = saed.Dictionary(self.url, "half")
        x = self.x[:, :32]
        f, gate = ae.encode(x, return_gate=True)
        np.testing.assert_array_equal(ae.encode(x, return_gate=True, sparse=True)[1].dense(), gate)
        np.testing.assert_array_equal(ae.encode(x), f)

    def test_the_first_error_ends_it(self):
        with self.assertRaises(saed.RequestError):
            self.ae.encode(self.x, features=[1000])


class Halves(Case):
    """Answers that are larger than max_rows could know."""
    OPTIONS = ["--max-response-bytes", "1M"]
    SERVED = ["gated=init:GatedAutoEncoder:32:2000"]

    def test_an_answer_too_large_comes_in_halves(self):
        ae = saed.Dictionary(self.url, "gated", connections=1)
        x = np.random.default_rng(6).normal(size=(300, 32)).astype("f4")
        whole = ae.encode(x)
        f, gate = ae.encode(x, return_gate=True)
        np.testing.assert_array_equal(f, whole)
        np.testing.assert_array_equal(ae.encode(x, sparse=True).dense(), whole)
        self.assertGreater(self.metric('saed_requests_total{dictionary="gated",op="encode",code="413"}'), 0)

    def test_one_row_too_large_is_an_error(self):
        with self.assertRaises(saed.RequestError) as caught:
            saed.Dictionary(self.url, "gated").encode(np.zeros((1, 32)), features=[0] * 300000)
        self.assertEqual((caught.exception.code, caught.exception.option),
                         ("response_too_large", "--max-response-bytes"))


class Loading(Case):
    OPTIONS = ["--max-inflight-bytes", "4M", "--max-body-bytes", "2M", "--max-response-bytes", "2M"]

    def test_overload_is_waited_for(self):
        """Eight calls at once want more memory than the daemon has for them."""
        x = np.random.default_rng(7).normal(size=(4000, 64)).astype("f4")
        want, got = saed.Dictionary(self.url, "digits").encode(x), {}

        def work(i):
            got[i] = saed.Dictionary(self.url, "digits").encode(x)
        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(len(got), 8)
        for f in got.values():
            np.testing.assert_array_equal(f, want)
        self.assertGreater(self.metric('saed_requests_total{dictionary="digits",op="encode",code="503"}'), 0)


if __name__ == "__main__":
    main()

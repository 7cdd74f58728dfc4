#!/usr/bin/python3
"""ae.W_enc, ae.W_dec and ae.vectors: rows of weights, indexed as numpy's arrays are."""
from unittest import mock

from support import GOLDEN, Case, golden, main
import numpy as np
import saed
from saed import weights

NAME = "autoencoder_33x70_f32"


class Weights(Case):
    SERVED = [f"digits={GOLDEN}/{NAME}.pt", f"gated={GOLDEN}/gated_16x48_f32.pt", "identity=identity:5",
              f"half={GOLDEN}/{NAME}.pt:parts=encoder"]

    def setUp(self):
        self.ae = saed.Dictionary(self.url, "digits")
        w = golden(NAME)[1]
        self.enc, self.dec = w["w:encoder.weight"], w["w:decoder.weight"].T
        self.w = w

    def test_indices(self):
        mask = np.arange(70) % 7 == 2
        for which in (0, 69, -1, np.int32(3), [], [5], [9, 3, 3, -70], np.array([[1, 2], [2, 1]], np.int16), slice(None),
                      slice(60, None), slice(8, 2, -3), slice(5, 5), mask, mask.tolist(), np.uint8([69]), None):
            for rows, whole in ((self.ae.W_enc, self.enc), (self.ae.W_dec, self.dec)):
                with self.subTest(which=which):
                    got = rows[which]
                    self.assertEqual(got.dtype, np.float32)
                    np.testing.assert_array_equal(got, whole[which])

    def test_columns(self):
        for which in (3, [1, 4], slice(2, 9)):
            np.testing.assert_array_equal(self.ae.W_enc.T[:, which], self.enc.T[:, which])
        np.testing.assert_array_equal(np.asarray(self.ae.W_dec.T), self.dec.T)
        self.assertEqual((self.ae.W_enc.T.shape, self.ae.W_enc.T.T.shape), ((33, 70), (70, 33)))
        for which in (3, (3, 3), (slice(1), 3)):
            with self.assertRaises(TypeError):
                self.ae.W_enc.T[which]

    def test_as_arrays(self):
        self.assertEqual((self.ae.W_enc.shape, len(self.ae.W_dec), self.ae.W_dec.ndim), ((70, 33), 70, 2))
        np.testing.assert_array_equal(np.asarray(self.ae.W_enc), self.enc)
        self.assertEqual(np.asarray(self.ae.W_enc, np.float64).dtype, np.float64)
        np.testing.assert_array_equal(np.stack(list(self.ae.W_enc)), self.enc)
        self.assertEqual(self.ae.client.dictionary("digits", dtype=np.float16).W_dec[[1]].dtype, np.float16)

    def test_what_is_no_row(self):
        before = self.metric('saed_requests_total{dictionary="digits",op="weights",code="200"}')
        for which in (70, -71, [0, 70], 1.5, [0.5], "a", (1, 2), np.zeros(69, bool)):
            with self.subTest(which=which), self.assertRaises((IndexError, TypeError)):
                self.assertEqual(self.ae.W_enc[which].shape, ())
        self.assertEqual(self.metric('saed_requests_total{dictionary="digits",op="weights",code="200"}'), before)

    def test_distinct_rows_are_sent_once(self):
        asked = []
        plain = weights.fetch_rows
        with mock.patch.object(weights, "fetch_rows",
                               lambda ae, parts, ids: asked.append(list(ids)) or plain(ae, parts, ids)):
            self.ae.W_enc[[5, 2, 5, -68]]
        self.assertEqual(asked, [[2, 5]])

    def test_several_requests(self):
        with mock.patch.object(weights, "ROW_BYTES", 4 * 33 * 8):
            before = self.metric('saed_requests_total{dictionary="digits",op="weights",code="200"}')
            np.testing.assert_array_equal(self.ae.W_enc[:], self.enc)
            self.assertEqual(self.metric('saed_requests_total{dictionary="digits",op="weights",code="200"}') - before, 9)

    def test_vectors(self):
        got = self.ae.vectors("b_dec", "b_enc", "norms", "centre")
        self.assertEqual(list(got), ["b_dec", "b_enc", "norms", "centre"])
        np.testing.assert_array_equal(got["b_dec"], self.w["w:bias"])
        np.testing.assert_array_equal(got["b_enc"], self.w["w:encoder.bias"])
        np.testing.assert_allclose(got["norms"], np.linalg.norm(self.dec, axis=1), rtol=1e-6)
        self.assertEqual(self.ae.vectors(), {})
        gated = saed.Dictionary(self.url, "gated").vectors("r", "gate_bias", "mag_bias")
        self.assertEqual([a.shape for a in gated.values()], [(48,)] * 3)
        for name in ("r", "nonsense"):
            with self.assertRaises(saed.RequestError) as caught:
                self.ae.vectors(name)
            self.assertEqual(caught.exception.code, "bad_option")

    def test_other_dictionaries(self):
        np.testing.assert_array_equal(saed.Dictionary(self.url, "identity").W_dec[[2, 0]], np.eye(5)[[2, 0]])
        half = saed.Dictionary(self.url, "half")
        np.testing.assert_array_equal(half.W_enc[3], self.enc[3])
        with self.assertRaises(saed.RequestError) as caught:
            half.W_dec[3]
        self.assertEqual(caught.exception.code, "not_loaded")


class Halves(Case):
    OPTIONS = ["--max-response-bytes", "1M"]
    SERVED = ["wide=init:AutoEncoder:64:8192"]

    def test_an_answer_too_large_comes_in_halves(self):
        ae = saed.Dictionary(self.url, "wide")
        whole = ae.W_enc[:]
        np.testing.assert_array_equal(whole[[0, 4096, 8191]], ae.W_enc[[0, 4096, 8191]])
        self.assertGreater(self.metric('saed_requests_total{dictionary="wide",op="weights",code="413"}'), 0)


if __name__ == "__main__":
    main()

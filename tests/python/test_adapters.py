#!/usr/bin/python3
"""saed.adapters: what other libraries' readers find, and what their writers wrote."""
import base64
import fcntl
import json
import os
import sys
import tempfile
import threading
import types
import zlib
from unittest import mock

from support import Case, load_safetensors, main, save_safetensors
import numpy as np
import saed
from saed.adapters.delphi import write_cache
from saed.adapters.vllm import encode_hidden_states, encode_layers, hidden_states, lens_activations


class Folder(Case):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.ae = saed.Dictionary(self.url, "digits")


def read_cache(path):
    """What delphi's TensorBuffer.load makes of a file: the first feature is in its name."""
    got, _ = load_safetensors(path)
    places = got["locations"].astype(np.int64)
    places[:, 2] += int(os.path.basename(path).split("_")[0])
    return places, got["activations"], got["tokens"]


class Delphi(Folder):
    def test_its_reader_finds_the_features(self):
        x = np.random.default_rng(1).normal(size=(6, 9, 64)).astype("f4")
        tokens = np.arange(54).reshape(6, 9)
        f = self.ae.encode(x)
        write_cache(self.folder, "layers.5", self.ae.encode(x, sparse=True), tokens, n_splits=5,
                    config={"model_name": "m", "ctx_len": 9})
        module = os.path.join(self.folder, "layers.5")
        with open(os.path.join(module, "config.json")) as file:
            self.assertEqual(json.load(file), {"model_name": "m", "ctx_len": 9})
        files = sorted((n for n in os.listdir(module) if n != "config.json"), key=lambda n: int(n.split("_")[0]))
        self.assertEqual(files, [f"{a}_{b}.safetensors" for a, b in
                                 ((0, 50), (51, 101), (102, 152), (153, 203), (204, 255))])
        for name in files:
            start, end = map(int, name.split(".")[0].split("_"))
            places, values, ids = read_cache(os.path.join(module, name))
            want = np.argwhere(np.abs(f[..., start:end + 1]) > 1e-5) + [0, 0, start]
            np.testing.assert_array_equal(places, want)
            np.testing.assert_array_equal(values, f[tuple(want.T)].astype("f2"))
            np.testing.assert_array_equal(ids, tokens)

    def test_wide_and_empty(self):
        """Features beyond 16 bits take u4; a split without any is a file all the same."""
        f = saed.Sparse(np.array([0, 2, 2]), np.array([1, 70000], "i4"), np.array([1, 2], "f4"), (1, 2, 80000))
        write_cache(self.folder, "m", f, np.zeros((1, 2)), n_splits=1)
        places, values, _ = read_cache(os.path.join(self.folder, "m", "0_79999.safetensors"))
        self.assertEqual((places.tolist(), values.tolist()), ([[0, 0, 1], [0, 0, 70000]], [1.0, 2.0]))
        write_cache(self.folder, "n", f, np.zeros((1, 2)), n_splits=4)
        places, values, _ = read_cache(os.path.join(self.folder, "n", "20000_39999.safetensors"))
        self.assertEqual((places.shape, values.shape), ((0, 3), (0,)))
        for tokens in (np.zeros((2, 1)), np.zeros(2)):
            with self.assertRaisesRegex(ValueError, "cannot write a cache"):
                write_cache(self.folder, "o", f, tokens)


class Vllm(Folder):
    def write(self, **tensors):
        path = os.path.join(self.folder, "request.safetensors")
        save_safetensors(path, **tensors)
        return path

    def test_layers(self):
        x = np.random.default_rng(2).normal(size=(7, 3, 64)).astype("f4")
        bits = (x.view("<u4") >> 16).astype("<u2").view("<i2")
        ids = np.arange(7)
        for dtype, written, same in (("F32", x, x), ("BF16", bits, (bits.view("<u2").astype("<u4") << 16).view("<f4"))):
            path = self.write(hidden_states=(dtype, written), token_ids=("I64", ids))
            first, second, third = encode_hidden_states(path, [self.ae, None, self.ae], top_k=3)
            self.assertIsNone(second)
            for i, got in ((0, first), (2, third)):
                np.testing.assert_array_equal(got.values, self.ae.encode(same[:, i], top_k=3).values)

    def test_refused(self):
        path = self.write(hidden_states=("F32", np.zeros((7, 64), "<f4")), token_ids=("I64", np.arange(7)))
        with self.assertRaisesRegex(ValueError, "3 dimensions"):
            hidden_states(path)
        path = self.write(hidden_states=("F32", np.zeros((7, 1, 64), "<f4")))
        with self.assertRaisesRegex(ValueError, "1 layers: 2 dictionaries"):
            encode_hidden_states(path, [self.ae, self.ae])

    def test_answers_of_vllm_lens(self):
        """As its serialize_tensor writes them; zlib is in the place of zstd, which the library lacks."""
        zstandard = types.ModuleType("zstandard")
        zstandard.ZstdDecompressor = lambda: types.SimpleNamespace(decompress=zlib.decompress)
        x = np.random.default_rng(3).normal(size=(2, 7, 64)).astype("f4")
        bits = (x.view("<u4") >> 16).astype("<u2").view("<i2")
        for values, dtype, same, pack in (
                (x, "torch.float32", x, {}), (x.astype("f2"), "torch.float16", x.astype("f2"), {"compression": "zstd"}),
                (bits, "torch.bfloat16", (bits.view("<u2").astype("<u4") << 16).view("<f4"), {"compression": "zstd"})):
            data = zlib.compress(values.tobytes()) if pack else values.tobytes()
            said = {"data": base64.b64encode(data).decode(), "dtype": str(values.dtype), "original_dtype": dtype,
                    "shape": list(values.shape), **pack}
            answer = json.loads(json.dumps({"choices": [], "activations": {"residual_stream": said}}))
            with mock.patch.dict(sys.modules, {"zstandard": zstandard}):
                layers = lens_activations(answer)
            none, got = encode_layers(layers, [None, self.ae], top_k=3)
            self.assertIsNone(none)
            np.testing.assert_array_equal(got.values, self.ae.encode(same[1], top_k=3).values)
        said["shape"] = [14, 64]
        with self.assertRaisesRegex(ValueError, "3 dimensions"), mock.patch.dict(sys.modules, {"zstandard": zstandard}):
            lens_activations(answer | {"activations": {"residual_stream": said}})

    def test_a_file_that_is_still_written(self):
        path = os.path.join(self.folder, "request.safetensors")
        with open(path + ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            got = []
            reader = threading.Thread(target=lambda: got.append(hidden_states(path)))
            reader.start()
            self.write(hidden_states=("F32", np.ones((2, 1, 64), "<f4")))
            self.assertEqual(got, [])
        reader.join()
        self.assertEqual(len(got[0]), 1)


if __name__ == "__main__":
    main()

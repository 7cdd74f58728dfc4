#!/usr/bin/python3
"""encode_file: every kind of file and form, within a bounded memory, killed and gone on with."""
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

from support import GOLDEN, PACKAGE, Case, daemon, load_safetensors, main, metric, save_safetensors
import numpy as np
import saed
from saed import files, wire

ROWS, SHARD, BATCH = 1000, 400, 100


def content(path):
    with open(path, "rb") as file:
        return file.read()


class Files(Case):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.ae = saed.Dictionary(self.url, "digits")
        self.x = np.random.default_rng(1).normal(size=(ROWS, 64)).astype("f4")
        np.save(self.at("x.npy"), self.x)

    def at(self, name):
        return os.path.join(self.folder.name, name)

    def encode(self, path, out="out", **options):
        return self.ae.encode_file(self.at(path), self.at(out), shard_rows=SHARD, batch_rows=BATCH,
                                   progress=False, **options)

    def test_forms(self):
        want = self.ae.encode(self.x)
        for form, options in (("dense", {}), ("few", {"features": [9, 3, 9]}), ("top", {"top_k": 5}),
                              ("top of few", {"top_k": 5, "features": [4, 4, 8, 200]}),
                              ("top of all", {"top_k": 1000}), ("csr", {"sparse": True})):
            with self.subTest(form=form):
                shards = self.encode("x.npy", form, **options)
                self.assertEqual([os.path.basename(s) for s in shards],
                                 [f"shard-0000{i}-of-00003.safetensors" for i in range(3)])
                self.assertEqual(sorted(os.listdir(self.at(form))),
                                 ["encode.json"] + [os.path.basename(s) for s in shards])
                for i, shard in enumerate(shards):
                    self.holds(load_safetensors(shard), self.ae.encode(self.x[i * SHARD:(i + 1) * SHARD], **options),
                               i * SHARD)
        np.testing.assert_array_equal(
            np.concatenate([load_safetensors(self.at(f"dense/shard-0000{i}-of-00003.safetensors"))[0]["f"]
                            for i in range(3)]), want)

    def holds(self, loaded, answer, first_row):
        got, metadata = loaded
        if isinstance(answer, saed.TopK):
            want = {"f.top_indices": answer.indices, "f.top_values": answer.values}
        elif isinstance(answer, saed.Sparse):
            want = {"f.shape": answer.shape, "f.indptr": answer.indptr, "f.indices": answer.indices,
                    "f.values": answer.values}
        else:
            want = {"f": answer}
        self.assertEqual(list(got), list(want))
        for name in want:
            np.testing.assert_array_equal(got[name], want[name])
        self.assertEqual((metadata["dictionary"], metadata["first_row"]), ("digits", str(first_row)))
        self.assertEqual(json.loads(metadata["shape"])[0], ROWS)

    def test_a_shard_is_a_body_of_decode(self):
        for form, options in (("top", {"top_k": 5}), ("csr", {"sparse": True})):
            with open(self.encode("x.npy", form, **options)[0], "rb") as file:
                got = self.ae.client.transport.call(
                    "POST", "/v1/dictionaries/digits/decode", lambda r: r.read(), body=[file.read()],
                    headers={"Content-Type": wire.SAFETENSORS, "Accept": wire.RAW})
            want = self.ae.decode(self.ae.encode(self.x[:SHARD], **options))
            np.testing.assert_array_equal(np.frombuffer(got, "<f4").reshape(SHARD, 64), want)

    def test_files(self):
        bf16 = (self.x.view("<u4") >> 16).astype("<u2").view("<i2")
        np.save(self.at("f8.npy"), self.x.astype("f8"))
        np.save(self.at("f2.npy"), self.x.astype("f2"))
        np.save(self.at("big.npy"), self.x.astype(">f4"))
        np.save(self.at("fortran.npy"), np.asfortranarray(self.x))
        np.save(self.at("deep.npy"), self.x.reshape(10, 100, 64))
        np.save(self.at("one.npy"), self.x[0])
        np.save(self.at("none.npy"), self.x[:0])
        save_safetensors(self.at("a.safetensors"), ids=("I64", np.arange(7)), x=("F32", self.x),
                         narrow=("F32", self.x[:, :3]))
        save_safetensors(self.at("b.safetensors"), odd=("I32", np.arange(3, dtype="<i4")), x=("BF16", bf16))
        save_safetensors(self.at("c.safetensors"), x=("F32", self.x), y=("F64", self.x[:3].astype("f8")))
        truncated = (bf16.view("<u2").astype("<u4") << 16).view("<f4")
        for path, x, options in (
                ("f8.npy", self.x, {}), ("f2.npy", self.x.astype("f2"), {}), ("big.npy", self.x, {}),
                ("fortran.npy", self.x, {}), ("deep.npy", self.x, {}), ("one.npy", self.x[:1], {}),
                ("none.npy", self.x[:0], {}), ("a.safetensors", self.x, {}), ("b.safetensors", truncated, {}),
                ("c.safetensors", self.x[:3], {"tensor": "y"})):
            with self.subTest(path=path):
                shards = self.encode(path, path + ".out", top_k=4, **options)
                got = np.concatenate([load_safetensors(s)[0]["f.top_values"] for s in shards])
                np.testing.assert_array_equal(got, self.ae.encode(x, top_k=4).values)

    def test_paths_of_pathlib(self):
        shards = self.ae.encode_file(pathlib.Path(self.at("x.npy")), pathlib.Path(self.at("by-path")), top_k=4)
        self.assertEqual(len(shards), 1)

    def test_refused(self):
        np.save(self.at("words.npy"), np.array(["a"]))
        np.save(self.at("narrow.npy"), self.x[:, :3])
        np.save(self.at("turned.npy"), np.asfortranarray(self.x.reshape(10, 100, 64)))
        np.savez(self.at("x.npz"), x=self.x)
        save_safetensors(self.at("two.safetensors"), x=("F32", self.x), y=("F32", self.x))
        save_safetensors(self.at("ids.safetensors"), x=("I64", np.zeros((2, 64), "<i8")))
        with open(self.at("short.npy"), "wb") as file, open(self.at("x.npy"), "rb") as whole:
            file.write(whole.read()[:-100])
        for path, options, message in (
                ("words.npy", {}, "<U1"), ("narrow.npy", {}, "width 3"), ("turned.npy", {}, "Fortran"),
                ("x.npz", {}, "wanted .npy"), ("two.safetensors", {}, "2 fit"),
                ("two.safetensors", {"tensor": "z"}, "0 fit z; it has x, y"), ("ids.safetensors", {}, "0 fit"),
                ("ids.safetensors", {"tensor": "x"}, "I64"), ("x.npy", {"tensor": "x"}, "by name"),
                ("x.npy", {"features": []}, "no column"), ("short.npy", {}, "mmap|ends")):
            with self.subTest(path=path, options=options), self.assertRaisesRegex(ValueError, message):
                self.encode(path, path + str(options), **options)

    def test_sizes_that_are_none(self):
        for sizes in ({"shard_rows": 0}, {"batch_rows": 0}):
            with self.assertRaisesRegex(ValueError, "0 rows|batch of 0"):
                self.ae.encode_file(self.at("x.npy"), self.at("out"), **sizes)

    def test_a_file_that_shrinks_under_the_run(self):
        source = files.open_source(self.at("x.npy"), None, 64)
        os.truncate(self.at("x.npy"), source.offset + 100)
        with self.assertRaisesRegex(ValueError, "156 bytes before"):
            source.read(0, 1)

    def test_another_run_is_not_gone_on_with(self):
        self.encode("x.npy", top_k=5)
        rows = self.rows()
        self.encode("x.npy", top_k=5)
        self.assertEqual(self.rows(), rows)  # nothing is sent again
        with self.assertRaisesRegex(ValueError, "begun with options"):
            self.encode("x.npy", top_k=6)
        os.utime(self.at("x.npy"), ns=(1, 1))
        with self.assertRaisesRegex(ValueError, "begun with mtime_ns"):
            self.encode("x.npy", top_k=5)

    def test_other_weights_are_not_gone_on_with(self):
        """Those of one name, with the same norms: a bias differs. The first is not loaded when it is called."""
        os.mkdir(self.at("offered"))
        with np.load(GOLDEN + "/autoencoder_33x70_f32.npz") as file:
            state = dict(file)
        np.save(self.at("y.npy"), np.ones((50, 33), "f4"))
        for change, wanted in ((0, None), (0, None), (1, "begun with weights_sha256")):
            state["encoder.bias"] = state["encoder.bias"] + np.float32(change)
            np.savez(self.at("offered/ae.npz"), **state)
            with daemon("--dictionaries", self.at("offered")) as url:
                for ae in (saed.Dictionary(url, "ae"), saed.Dictionary(url, "ae")):
                    with self.assertRaisesRegex(ValueError, wanted) if wanted else contextlib.nullcontext():
                        ae.encode_file(self.at("y.npy"), self.at("out"), top_k=4)

    def test_one_run_at_a_time(self):
        os.mkdir(self.at("out"))
        with files._begun(self.at("out"), {}), self.assertRaisesRegex(ValueError, "another run"):
            self.encode("x.npy")

    def test_progress(self):
        shown = []

        class Bar:
            def __init__(self, **options):
                shown.append(options["total"])

            def __enter__(self):
                return self

            def __exit__(self, *_):
                pass

            def update(self, rows):
                shown.append(rows)
        sys.modules["tqdm"] = type(sys)("tqdm")
        sys.modules["tqdm"].tqdm = Bar
        self.addCleanup(sys.modules.pop, "tqdm")
        self.ae.encode_file(self.at("x.npy"), self.at("out"), shard_rows=SHARD, batch_rows=BATCH)
        self.assertEqual((shown[0], sum(shown[1:])), (ROWS, ROWS))

    # ---- killed ----

    def rows(self):
        return metric(self.url, 'saed_rows_total{dictionary="digits",op="encode"}')

    def victim(self, out, place, options):
        """A run of its own process, which kills itself at `place`."""
        return subprocess.run(
            [sys.executable, __file__, "--victim", self.url, self.at("x.npy"), self.at(out), place,
             json.dumps(options)], env={**os.environ, "PYTHONPATH": PACKAGE}).returncode

    def test_killed_and_gone_on_with(self):
        for form, options in (("dense", {}), ("top", {"top_k": 5}), ("csr", {"sparse": True})):
            whole = self.encode("x.npy", form, **options)
            for place in PLACES:
                with self.subTest(form=form, place=place):
                    out = f"{form} {place}"
                    before = self.rows()
                    self.assertEqual(self.victim(out, place, options), -signal.SIGKILL)
                    self.assertFalse(all(os.path.exists(p.replace(form, out)) for p in whole))
                    again = self.encode("x.npy", out, **options)
                    self.assertLessEqual(self.rows() - before, ROWS + BATCH)
                    self.assertEqual([content(p) for p in again], [content(p) for p in whole])
                    self.assertEqual(sorted(os.listdir(self.at(out))), sorted(os.listdir(self.at(form))))

    def test_a_part_that_lost_its_end(self):
        whole = self.encode("x.npy", "whole", sparse=True)
        self.assertEqual(self.victim("out", "before a shard is whole", {"sparse": True}), -signal.SIGKILL)
        part, = (n for n in os.listdir(self.at("out")) if n.endswith(".f.indices.part"))
        os.truncate(self.at("out/" + part), 10)
        again = self.encode("x.npy", "out", sparse=True)
        self.assertEqual([content(p) for p in again], [content(p) for p in whole])

    # ---- memory ----

    def test_memory_does_not_follow_the_file(self):
        """64 MB of rows, of which the file system holds nothing; 24 MB is what the run may add."""
        with open(self.at("big.npy"), "wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "<f4", "fortran_order": False, "shape": (1 << 18, 64)})
            file.truncate(file.tell() + (1 << 18) * 64 * 4)
        code = ("import resource, saed, sys; peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
                "ae = saed.Dictionary(sys.argv[1], 'digits'); before = peak()\n"
                "ae.encode_file(sys.argv[2], sys.argv[3], top_k=8, progress=False)\n"
                "print(peak() - before)")
        grown = subprocess.run([sys.executable, "-c", code, self.url, self.at("big.npy"), self.at("out")],
                               env={**os.environ, "PYTHONPATH": PACKAGE}, check=True, capture_output=True)
        self.assertLess(int(grown.stdout), 24 << 10)
        self.assertEqual(len(os.listdir(self.at("out"))), 5)


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_append(path, values, n=[0]):
    """Half of the sixteenth write is done: in mid-shard, whatever the form."""
    n[0] += 1
    if n[0] == 16:
        with open(path, "ab") as file:
            file.write(np.ascontiguousarray(values).tobytes()[:values.nbytes // 2])
        kill()
    append(path, values)


def die_in_finish(shard, *_):
    """A shard's parts are whole and some of them copied."""
    with open(shard.path + ".tmp", "wb") as file:
        file.write(b"half")
    kill()


append = files._append
PLACES = {"in a part": ("_append", die_in_append), "before a shard is whole": ("Shard.finish", die_in_finish),
          "before its parts are gone": ("Shard.remove_parts", lambda shard: kill())}


def be_victim(url, path, out, place, options):
    name, instead = PLACES[place]
    owner = files.Shard if name.startswith("Shard.") else files
    setattr(owner, name.split(".")[-1], instead)
    saed.Dictionary(url, "digits").encode_file(path, out, shard_rows=SHARD, batch_rows=BATCH, progress=False,
                                               **json.loads(options))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--victim"]:
        be_victim(*sys.argv[2:])
    else:
        main()

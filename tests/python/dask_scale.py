#!/usr/bin/python3
"""deploy/scale/encode_many.py: two workers and two daemons, of which one goes away."""
import os
import subprocess
import sys
import tempfile

from support import DIGITS, PACKAGE, ROOT, Case, daemon, load_safetensors, main, metric
import numpy as np
import saed

ROWS = 'saed_rows_total{dictionary="digits",op="encode"}'


class Scale(Case):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.x = np.random.default_rng(1).normal(size=(6, 300, 64)).astype("f4")
        self.files = [os.path.join(self.folder, f"part{i}.npy") for i in range(6)]
        for path, x in zip(self.files, self.x):
            np.save(path, x)

    def run_it(self, out, *daemons):
        ran = subprocess.run(
            [sys.executable, os.path.join(ROOT, "deploy", "scale", "encode_many.py"), "--daemons",
             ",".join(daemons), "--name", "digits", "--out", os.path.join(self.folder, out), "--top-k", "4",
             *self.files], env={**os.environ, "PYTHONPATH": PACKAGE}, stdout=subprocess.PIPE, text=True,
            check=True)
        want = saed.Dictionary(self.url, "digits").encode(self.x, top_k=4)
        shards = ran.stdout.split()
        self.assertEqual(len(shards), 6)
        for i in range(6):
            shard, = (s for s in shards if f"{out}/part{i}/" in s)
            np.testing.assert_array_equal(load_safetensors(shard)[0]["f.top_indices"], want.indices[i])

    def test_both_daemons_work(self):
        before = self.metric(ROWS) + 1800  # what run_it compares with
        with daemon("digits=" + DIGITS) as other:
            self.run_it("both", self.url, other)
            self.assertEqual((self.metric(ROWS) - before, metric(other, ROWS)), (900, 900))

    def test_one_is_gone(self):
        with daemon("digits=" + DIGITS) as other:
            pass
        self.run_it("gone", other, self.url)

    def test_two_files_of_one_folder(self):
        ran = subprocess.run(
            [sys.executable, os.path.join(ROOT, "deploy", "scale", "encode_many.py"), "--daemons", self.url, "--name",
             "digits", "--out", self.folder, "a/acts.npy", "b/acts.npy"],
            env={**os.environ, "PYTHONPATH": PACKAGE}, stderr=subprocess.PIPE, text=True)
        self.assertEqual(ran.returncode, 2)
        self.assertIn("one folder: " + os.path.join(self.folder, "acts"), ran.stderr)


if __name__ == "__main__":
    main()

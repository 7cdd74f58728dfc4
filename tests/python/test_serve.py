#!/usr/bin/python3
"""saed.serve and AsyncDictionary."""
import asyncio
import os
import sys
import tempfile
import unittest
import unittest.mock

from support import DIGITS, Case, binary, main
import numpy as np
import saed


class Serve(unittest.TestCase):
    def test_a_block(self):
        with saed.serve({"two.b": DIGITS}, binary=binary(), one=DIGITS,
                        options=["--threads", "1", "--max-batch-rows", "17"]) as client:
            self.assertEqual([d["name"] for d in client.dictionaries()], ["two.b", "one"])
            self.assertEqual(client.server()["limits"]["max_batch_rows"], 17)
            self.assertEqual(client.dictionary("one").encode(np.ones((3, 64))).shape, (3, 256))
        self.assertFalse(client.health())

    def test_it_ends_with_an_error_of_the_block(self):
        with self.assertRaises(KeyError), saed.serve(a=DIGITS, binary=binary()) as client:
            raise KeyError
        self.assertFalse(client.health())

    def test_on_path(self):
        folder = os.path.dirname(binary())
        with unittest.mock.patch.dict(os.environ, PATH=folder + ":" + os.environ["PATH"]):
            with saed.serve(a=DIGITS) as client:
                self.assertTrue(client.ready())
        with unittest.mock.patch.dict(os.environ, PATH="/nowhere"):
            with self.assertRaisesRegex(saed.Error, "not on PATH"), saed.serve(a=DIGITS):
                pass

    def test_why_it_does_not_start(self):
        for source, options, reason in (
                ("/nowhere.pt", [], "^cannot start saed: a: cannot load /nowhere.pt: .*file or directory$"),
                (DIGITS, ["--thread"], "^cannot start saed: cannot use --thread: .* --threads$")):
            with self.subTest(reason=reason), self.assertRaisesRegex(saed.Error, reason):
                with saed.serve(a=source, binary=binary(), options=options):
                    pass
        with self.assertRaisesRegex(saed.Error, "status 0"), saed.serve(binary="/bin/true"):
            pass

    def test_one_that_does_not_stop(self):
        code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('listening on http://127.0.0.1:1', " \
               "flush=True); time.sleep(600)"
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        script = os.path.join(folder.name, "deaf")
        with open(script, "w") as file:
            file.write(f"#!{sys.executable}\n{code}\n")
        os.chmod(script, 0o700)
        with unittest.mock.patch.object(saed.daemon, "DRAIN_SECONDS", 0.1), saed.serve(binary=script):
            pass


class Offered(unittest.TestCase):
    def test_a_file_that_cannot_be_read_until_it_is_whole(self):
        with open(DIGITS, "rb") as file:
            whole = file.read()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "t.pt")
            with open(path, "wb") as file:
                file.write(whole[:1000])
            with saed.serve(binary=binary(), options=["--dictionaries", folder]) as client:
                ae = client.dictionary("t")
                self.assertIn("None", repr(ae))
                client.transport.patience = 0
                for call in (lambda: ae.encode(np.ones((1, 64))), lambda: ae.W_dec[0], lambda: ae.dict_size,
                             lambda: ae.decode(np.ones((1, 256)))):
                    with self.assertRaisesRegex(saed.RequestError, "zip archive") as caught:
                        call()
                    self.assertEqual((caught.exception.code, caught.exception.status), ("unavailable", 503))
                with open(path + ".new", "wb") as file:
                    file.write(whole)
                os.rename(path + ".new", path)
                client.transport.patience = 60
                self.assertEqual(ae.encode(np.ones((1, 64))).shape, (1, 256))


class Awaited(Case):
    def test_calls(self):
        ae = saed.Dictionary(self.url, "digits")
        x = np.random.default_rng(1).normal(size=(40, 5, 64)).astype("f4")

        async def calls():
            async with await saed.AsyncDictionary.connect(self.url, "digits", timeout=30, calls=8) as there:
                self.assertEqual((there.activation_dim, there.dict_size), (64, 256))
                f = await asyncio.gather(*(there.encode(rows) for rows in x))
                top = await there.encode(x[0], top_k=3)
                return f, top, await there.decode(f[0]), await there(x[0], output_features=True)
        f, top, x_hat, (again, g) = asyncio.run(calls())
        np.testing.assert_array_equal(f, ae.encode(x))
        np.testing.assert_array_equal(top.values, ae.encode(x[0], top_k=3).values)
        np.testing.assert_array_equal(x_hat, ae.decode(f[0]))
        np.testing.assert_array_equal(again, x_hat)
        np.testing.assert_array_equal(g, f[0])

    def test_errors_and_files(self):
        async def calls():
            there = saed.AsyncDictionary(saed.Dictionary(self.url, "digits"))
            try:
                with self.assertRaises(saed.RequestError):
                    await there.encode(np.zeros(3))
                with self.assertRaises(ValueError):
                    await there.encode_file("x.npz", "out", tensor="x")
            finally:
                there.close()
        asyncio.run(calls())


if __name__ == "__main__":
    main()

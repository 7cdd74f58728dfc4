"""What the tests of the Python client share: a daemon, a server that says what a test tells it, the golden
cases, and a main() that reports as Check programs do, so that tests/support/run.sh runs both.

The daemon is $SAED_BIN (build/saed unless it is set). Servers listen on loopback, on ports of their own.
"""
import contextlib
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import unittest
import urllib.request

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACKAGE = os.path.join(ROOT, "proto", "client", "python")
sys.path.insert(0, PACKAGE)
GOLDEN = os.path.join(ROOT, "tests", "golden", "data")
DIGITS = os.path.join(ROOT, "deploy", "demo", "digits.pt")


def binary():
    return os.path.abspath(os.environ.get("SAED_BIN", os.path.join(ROOT, "build", "saed")))


@contextlib.contextmanager
def daemon(*arguments):
    """The URL of a daemon that serves while the block runs. Its descriptors are not the children's."""
    listen = [] if "--listen" in arguments else ["--listen", "127.0.0.1:0"]
    process = subprocess.Popen([binary(), *listen, *arguments], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


class Case(unittest.TestCase):
    """Tests of one daemon, which serves SERVED with OPTIONS."""
    SERVED = ["digits=" + DIGITS]
    OPTIONS = []

    @classmethod
    def setUpClass(cls):
        cls.stack = contextlib.ExitStack()
        cls.url = cls.stack.enter_context(daemon(*cls.OPTIONS, *cls.SERVED))

    @classmethod
    def tearDownClass(cls):
        cls.stack.close()

    def metric(self, series):
        """The value of a series of /metrics, 0 where it is not there."""
        return metric(self.url, series)


def metric(url, series):
    with urllib.request.urlopen(url + "/metrics") as answer:
        found = re.search("^" + re.escape(series) + " (.*)$", answer.read().decode(), re.M)
    return float(found.group(1)) if found else 0.0


def golden(name):
    """Class name and arrays of tests/golden/data/NAME.gold (form: tests/support/golden.h)."""
    with open(os.path.join(GOLDEN, name + ".gold"), "rb") as file:
        data = file.read()
    magic, cls, _, _, n = struct.unpack_from("<8s32s3I", data)
    assert magic == b"saegold1"
    at, arrays = struct.calcsize("<8s32s3I"), {}
    for _ in range(n):
        key, ndim, *dims = struct.unpack_from("<32s5I", data, at)
        at += struct.calcsize("<32s5I")
        shape = dims[:ndim]
        arrays[key.rstrip(b"\0").decode()] = np.frombuffer(
            data, "<f4", int(np.prod(shape)), at).reshape(shape)
        at += 4 * int(np.prod(shape))
    return cls.rstrip(b"\0").decode(), arrays


def save_safetensors(path, **tensors):
    """tensors: name -> (dtype, array)."""
    from saed import wire
    with open(path, "wb") as file:
        file.write(wire.safetensors_header([(k, d, a.shape, a.nbytes) for k, (d, a) in tensors.items()]))
        for _, a in tensors.values():
            file.write(a.tobytes())


def load_safetensors(path):
    """Tensors by name, in the order of the file, and the metadata."""
    from saed import wire
    with open(path, "rb") as file:
        tensors, metadata, _ = wire.read_safetensors_header(file.read)
        got = {name: np.frombuffer(file.read(n), wire.DTYPES[dtype]).reshape(shape)
               for name, dtype, shape, n in tensors}
        assert file.read() == b""
    return got, metadata


class Scripted:
    """A server whose n-th request is answered by the n-th of `steps`, each a function of the connection
    that is called when the head has arrived; what a step returns true for keeps the connection."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.heads = []
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        while self.steps:
            conn, _ = self.listener.accept()
            self.connections += 1
            with conn:
                while self.steps and self.read_head(conn) and self.steps.pop(0)(conn):
                    pass

    def read_head(self, conn):
        head = b""
        while b"\r\n\r\n" not in head:
            more = conn.recv(65536)
            if not more:
                return False
            head += more
        head, self.rest = head.split(b"\r\n\r\n", 1)
        self.heads.append(head.decode())
        return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.thread.join()
        self.listener.close()


def reply(status, body=b"{}", headers=""):
    """A step that answers and keeps the connection unless `headers` say that it closes."""
    def step(conn):
        conn.sendall((f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{headers}\r\n").encode() + body)
        return "close" not in headers
    return step


def hang_up(_):
    return False


def main():
    """Run the tests of the calling file; the last line is as Check's."""
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    for _, reason in result.skipped:
        print("SKIP: " + reason)
    n = result.testsRun - len(result.skipped)
    print("%d%%: Checks: %d, Failures: %d, Errors: %d" % (
        100 * (n - len(result.failures) - len(result.errors)) // n if n else 0, n,
        len(result.failures), len(result.errors)))
    sys.exit(not result.wasSuccessful())

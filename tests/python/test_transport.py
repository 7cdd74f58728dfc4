#!/usr/bin/python3
"""Connections of the Python client: kept, tried again, never shared; what errors say."""
import http.client
import os
import pickle
import select
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest

from support import DIGITS, Case, Scripted, daemon, hang_up, main, reply
import numpy as np
import saed
from saed import transport

PROBLEM = b'{"status": 503, "detail": "queue full", "code": "overloaded", "option": "--max-queue-rows", ' \
          b'"limit": 5, "got": 7}'


def get(client, path="/v1"):
    return client.transport.call("GET", path, http.client.HTTPResponse.read)


class Again(unittest.TestCase):
    """What is sent again, and when."""

    def test_503_as_retry_after_says(self):
        with Scripted(reply(503, PROBLEM, "Retry-After: 1\r\n"), reply(200, b"ok")) as server:
            t0 = time.monotonic()
            self.assertEqual(get(saed.Client(server.url)), b"ok")
            self.assertGreaterEqual(time.monotonic() - t0, 1.0)
            self.assertEqual(server.connections, 1)

    def test_408_and_its_close(self):
        with Scripted(reply(408, PROBLEM, "Connection: close\r\n"), reply(200, b"ok")) as server:
            self.assertEqual(get(saed.Client(server.url)), b"ok")
            self.assertEqual(server.connections, 2)

    def test_a_lost_connection(self):
        def half(conn):
            conn.sendall(b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nhalf")
            return False
        for lost in (hang_up, half):
            with self.subTest(lost=lost.__name__), \
                    Scripted(reply(200, b"1"), lost, hang_up, reply(200, b"ok")) as server:
                client = saed.Client(server.url)
                get(client)
                self.assertEqual(get(client), b"ok")

    def test_patience_ends(self):
        with Scripted(reply(503, PROBLEM, "Retry-After: 9\r\n")) as server:
            with self.assertRaises(saed.RequestError) as caught:
                get(saed.Client(server.url, patience=1))
            self.assertEqual(caught.exception.retry_after, 9)

    def test_other_errors_are_not(self):
        with Scripted(reply(504, PROBLEM)) as server:
            with self.assertRaises(saed.RequestError):
                get(saed.Client(server.url))

    def test_nobody_there(self):
        with socket.create_server(("127.0.0.1", 0)) as s:
            url = "http://127.0.0.1:%d" % s.getsockname()[1]
        t0 = time.monotonic()
        with self.assertRaises(saed.ConnectionLost):
            get(saed.Client(url))
        self.assertLess(time.monotonic() - t0, 5)

    def test_timeout(self):
        release = threading.Event()

        def silent(_):
            release.wait()
            return False
        with Scripted(silent) as server:
            with self.assertRaises(saed.Timeout):
                get(saed.Client(server.url, timeout=0.2))
            release.set()


class Kept(unittest.TestCase):
    def test_one_connection_for_requests_in_turn(self):
        with Scripted(*[reply(200, b"ok")] * 3) as server:
            client = saed.Client(server.url)
            for _ in range(3):
                get(client)
            self.assertEqual(server.connections, 1)

    def test_closed_while_idle(self):
        with Scripted(reply(200, b"1", "X: close\r\n"), reply(200, b"2")) as server:
            client = saed.Client(server.url, patience=0)
            get(client)
            self.assertEqual(get(client), b"2")
            self.assertEqual(server.connections, 2)

    def test_a_small_body_comes_with_its_head(self):
        bodies = []

        def step(conn):
            bodies.append(server.rest)
            return reply(200, b"ok")(conn)
        with Scripted(step) as server:
            saed.Client(server.url).transport.call("POST", "/v1", http.client.HTTPResponse.read,
                                                   body=[b"ab", np.zeros(0, "<f4"), np.array([1], "<i2")])
        self.assertEqual(bodies, [b"ab\1\0"])

    def test_bodies_larger_than_the_sockets_buffer(self):
        for n in (transport.SEND_BYTES // 2, transport.SEND_BYTES, 3 * transport.SEND_BYTES + 7):
            sent = np.random.default_rng(n).integers(0, 256, n, "u1")
            left, right = socket.socketpair()
            with self.subTest(n=n), left, right:
                left.settimeout(30)
                left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                got = bytearray()

                def drain():
                    while len(got) < n:
                        got.extend(right.recv(1 << 16))
                reader = threading.Thread(target=drain)
                reader.start()
                self.assertTrue(transport._send_all(left, [memoryview(sent[:9]), memoryview(sent[9:])]))
                reader.join()
                self.assertEqual(got, sent.tobytes())

    def test_an_early_answer_to_a_large_body(self):
        with Scripted(reply(413, PROBLEM.replace(b"503", b"413"), "Connection: close\r\n")) as server:
            with self.assertRaises(saed.RequestError) as caught:
                saed.Client(server.url).transport.call(
                    "POST", "/v1", http.client.HTTPResponse.read, body=[np.zeros(1 << 24, "<f4")])
            self.assertEqual(caught.exception.status, 413)

    def test_proxies_of_the_environment_are_not_used(self):
        os.environ["http_proxy"] = os.environ["HTTP_PROXY"] = "http://127.0.0.1:1"
        self.addCleanup(os.environ.pop, "http_proxy")
        self.addCleanup(os.environ.pop, "HTTP_PROXY")
        with Scripted(reply(200, b"ok")) as server:
            self.assertEqual(get(saed.Client(server.url)), b"ok")

    def test_prefix(self):
        with Scripted(reply(200, b"ok")) as server:
            get(saed.Client(server.url + "/proxy/8673/"))
            self.assertTrue(server.heads[0].startswith("GET /proxy/8673/v1 HTTP/1.1"))

    def test_urls(self):
        for url in ("ftp://h", "h:1", "http://", "http://h/?a=b", "unix:/x"):
            with self.subTest(url=url), self.assertRaises(ValueError):
                saed.Client(url)
        with self.assertRaises(ValueError):
            saed.Client("http://h", connections=0)


class Access(unittest.TestCase):
    """Keys and Unix sockets."""

    def test_the_key_is_sent_with_every_request(self):
        with Scripted(reply(200, b"1"), reply(200, b"2")) as server:
            client = saed.Client(server.url, api_key="k-1/2+3=")
            get(client)
            get(client)
        for head in server.heads:
            self.assertIn("\r\nAuthorization: Bearer k-1/2+3=", head)

    def test_keys_that_no_header_holds(self):
        for key in ("", "a b", "a\r\nX: y", "k\u00e9"):
            with self.assertRaises(ValueError) as caught:
                saed.Client("http://h", api_key=key)
            self.assertNotIn(key or "\0", str(caught.exception))

    def test_a_daemon_with_keys_and_a_socket(self):
        with tempfile.TemporaryDirectory() as folder:
            keys, uds = os.path.join(folder, "keys"), os.path.join(folder, "s")
            with open(keys, "w") as file:
                file.write("me:k-me\n")
            with daemon("--listen", "127.0.0.1:0", "--listen", "unix:" + uds, "--api-key-file", keys,
                        "digits=" + DIGITS) as url:
                with self.assertRaises(saed.RequestError) as caught:
                    saed.Dictionary(url, "digits", api_key="k-you")
                self.assertEqual((caught.exception.status, caught.exception.code), (401, "unauthorized"))
                x = np.random.default_rng(0).standard_normal((3000, 64)).astype("f4")
                ae = saed.Dictionary(url, "digits", api_key="k-me")
                near = saed.Dictionary("http://saed", "digits", api_key="k-me", uds=uds)
                again = pickle.loads(pickle.dumps(near))
                for other in (near, again):
                    np.testing.assert_array_equal(other.encode(x), ae.encode(x))
                self.assertTrue(saed.Client(uds=uds).ready())
            with self.assertRaises(saed.ConnectionLost) as lost:
                get(saed.Client(uds=uds))
            self.assertIn(uds, str(lost.exception))


def certificate(folder):
    """A key and its own certificate for localhost, in one file."""
    path = os.path.join(folder, "tls.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                    "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                    "-keyout", path, "-out", path + ".crt"], check=True, stderr=subprocess.DEVNULL)
    with open(path, "a") as both, open(path + ".crt") as crt:
        both.write(crt.read())
    return path


class Proxy:
    """TLS on a port of its own before the daemon at `url`. After the handshake it sends tickets by itself,
    as TLS 1.3 does."""

    def __init__(self, url, pem):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pem)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "https://localhost:%d" % self.listener.getsockname()[1]
        self.to = ("127.0.0.1", int(url.rsplit(":", 1)[1]))
        self.connections = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        try:
            near = self.context.wrap_socket(conn, server_side=True)
        except OSError:
            conn.close()
            return
        far = socket.create_connection(self.to)
        near.setblocking(False)
        with near, far:
            while True:
                # What TLS has read already does not show in select.
                waits = near.pending() == 0
                ready, _, _ = select.select([near, far], [], [], None if waits else 0)
                try:
                    if near in ready or not waits:
                        data = near.recv(1 << 16)
                        if not data:
                            return
                        far.sendall(data)
                    if far in ready:
                        data = far.recv(1 << 16)
                        if not data:
                            return
                        near.setblocking(True)
                        near.sendall(data)
                        near.setblocking(False)
                except ssl.SSLWantReadError:
                    continue
                except OSError:
                    return


class Tls(Case):
    """A proxy with TLS before the daemon."""

    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory())
        self.pem = certificate(self.folder)
        self.proxy = Proxy(self.url, self.pem)
        self.addCleanup(self.proxy.listener.close)

    def test_answers_and_kept_connections(self):
        x = np.random.default_rng(0).standard_normal((9000, 64)).astype("f4")  # 2.3 MB: in pieces
        ae = saed.Dictionary(self.proxy.url, "digits", ca_file=self.pem, connections=1)
        np.testing.assert_array_equal(ae.encode(x), saed.Dictionary(self.url, "digits").encode(x))
        again = pickle.loads(pickle.dumps(ae))
        for i in range(20):
            ae.encode(x[i])
        self.assertEqual(self.proxy.connections, 1)
        np.testing.assert_array_equal(again.encode(x[:9]), ae.encode(x[:9]))

    def test_who_is_not_vouched_for(self):
        with self.assertRaises(saed.ConnectionLost) as lost:
            get(saed.Client(self.proxy.url, patience=0))
        self.assertIn("certificate", str(lost.exception))
        other = self.proxy.url.replace("localhost", "127.0.0.1")  # not the certificate's name
        with self.assertRaises(saed.ConnectionLost):
            get(saed.Client(other, patience=0, ca_file=self.pem))

    def test_what_does_not_go_together(self):
        for url, more in (("http://h", {"ca_file": self.pem}), ("https://h", {"uds": "/s"})):
            with self.assertRaises(ValueError):
                saed.Client(url, **more)


class Errors(unittest.TestCase):
    def test_what_they_say(self):
        with Scripted(reply(400, PROBLEM, "Saed-Request-Id: r1\r\n")) as server:
            with self.assertRaises(saed.RequestError) as caught:
                get(saed.Client(server.url))
        e = caught.exception
        self.assertEqual((e.code, e.detail, e.status, e.option, e.limit, e.got, e.request_id, e.retry_after),
                         ("overloaded", "queue full", 400, "--max-queue-rows", 5, 7, "r1", None))
        self.assertEqual(str(e), "queue full [400 overloaded] (saed --max-queue-rows)")
        self.assertIsInstance(e, saed.Error)

    def test_what_is_not_saeds(self):
        for text, detail in ((b"<html>bad gateway", "<html>bad gateway"), (b"", "X"), (b"[1]", "[1]")):
            with self.subTest(text=text), Scripted(reply(502, text)) as server:
                with self.assertRaises(saed.RequestError) as caught:
                    get(saed.Client(server.url))
                self.assertEqual((caught.exception.detail, caught.exception.code), (detail, ""))


class OfADaemon(Case):
    def test_what_is_served(self):
        client = saed.Client(self.url)
        self.assertEqual([d["name"] for d in client.dictionaries()], ["digits"])
        self.assertEqual(client.info("digits")["dict_size"], 256)
        self.assertIn("max_batch_rows", client.server()["limits"])
        self.assertEqual(client.server()["version"], saed.__version__)
        self.assertTrue(client.health() and client.ready())
        with self.assertRaises(saed.RequestError) as caught:
            client.info("a/b")
        self.assertEqual(caught.exception.code, "unknown_dictionary")
        self.assertTrue(caught.exception.request_id)

    def test_health_of_nobody(self):
        with socket.create_server(("127.0.0.1", 0)) as s:
            url = "http://127.0.0.1:%d" % s.getsockname()[1]
        self.assertFalse(saed.Client(url).health() or saed.Client(url).ready())

    def test_a_restart_is_waited_for(self):
        with daemon("digits=" + DIGITS) as url:
            ae = saed.Dictionary(url, "digits")
            want = ae.encode(np.ones((3, 64)))
        port = url.rsplit(":", 1)[1]
        got = []
        waiting = threading.Thread(target=lambda: got.append(ae.encode(np.ones((3, 64)))))
        waiting.start()
        with daemon("--listen", "127.0.0.1:" + port, "digits=" + DIGITS):
            waiting.join()
        np.testing.assert_array_equal(got[0], want)

    def test_threads(self):
        ae = saed.Dictionary(self.url, "digits")
        x = np.random.default_rng(1).normal(size=(8, 40, 64)).astype("f4")
        want = [ae.encode(rows) for rows in x]
        got = [None] * len(x)

        def work(i):
            for _ in range(5):
                got[i] = ae.encode(x[i])
        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(x))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        np.testing.assert_array_equal(got, want)

    def test_a_fork_has_connections_of_its_own(self):
        ae = saed.Dictionary(self.url, "digits", connections=2)
        x = np.random.default_rng(2).normal(size=(5000, 64)).astype("f4")
        want = ae.encode(x, top_k=3).values  # idle connections and threads are there
        children = []
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                ok = all(np.array_equal(ae.encode(x, top_k=3).values, want) for _ in range(3))
                os._exit(0 if ok else 1)
            children.append(pid)
        for _ in range(3):
            np.testing.assert_array_equal(ae.encode(x, top_k=3).values, want)
        self.assertEqual([os.waitpid(pid, 0)[1] for pid in children], [0, 0, 0])

    def test_a_fork_amid_requests_of_other_threads(self):
        ae = saed.Dictionary(self.url, "digits")
        x = np.ones((3000, 64), "f4")
        stop = threading.Event()

        def work():
            while not stop.is_set():
                ae.encode(x)
        threads = [threading.Thread(target=work) for _ in range(2)]
        for t in threads:
            t.start()
        try:
            for _ in range(10):
                pid = os.fork()
                if pid == 0:
                    os._exit(0 if ae.encode(x[:2]).shape == (2, 256) else 1)
                self.assertEqual(os.waitpid(pid, 0)[1], 0)
        finally:
            stop.set()
            for t in threads:
                t.join()

    def test_pickle_and_close(self):
        ae = pickle.loads(pickle.dumps(saed.Dictionary(self.url, "digits", timeout=7, connections=3)))
        self.assertEqual((ae.client.transport.timeout, ae.client.connections), (7, 3))
        x = np.ones((5000, 64), "f4")
        with ae.client:
            self.assertEqual(ae.encode(x).shape, (5000, 256))
        self.assertEqual(ae.encode(x).shape, (5000, 256))


if __name__ == "__main__":
    main()

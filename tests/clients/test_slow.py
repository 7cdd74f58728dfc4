"""Bodies that come slowly or not at all, and an answer that nobody takes, in real time (40 s; by the
clock of a test: tests/unit/server/net/test_conn.c).

test_slow.py SAED: 32 MB at 900 KB/s are served; what stalls or is slower than --min-upload-rate is
408; what is not taken for 30 s is dropped. The last line sums up.
"""
import json
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ENCODE = "POST /v1/dictionaries/i/encode HTTP/1.1\r\nHost: localhost\r\n"
JSON = "Content-Type: application/json\r\n"
RAW = "Content-Type: application/octet-stream\r\n"
WIDTH = 2048


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=90)


def read_answer(s):
    """Up to the end of the connection: status and body."""
    data = b""
    while piece := s.recv(1 << 16):
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    return (int(head.split(b" ")[1]) if head else 0), body


def check_timeout(begin, answer, rate):
    status, body = answer
    problem = json.loads(body)
    seconds = time.monotonic() - begin
    assert status == 408 and problem["code"] == "upload_timeout", (status, body)
    assert problem["option"] == "--min-upload-rate" and problem["limit"] == 100 << 10, problem
    assert rate[0] <= problem["got"] <= rate[1], problem
    assert 29 < seconds < 40, seconds


def stalls(port, head, first):
    s = connect(port)
    begin = time.monotonic()
    s.sendall((head + first).encode())
    check_timeout(begin, read_answer(s), (0, 0))


def trickles(port, rate):
    s = connect(port)
    begin = time.monotonic()
    s.sendall((ENCODE + JSON + "Content-Length: 30000000\r\n\r\n").encode())
    s.settimeout(0.2)
    data = b""
    while time.monotonic() < begin + 60:
        try:
            s.sendall(bytes(rate // 5))
            piece = s.recv(1 << 16)
            data += piece
            if not piece:
                break
        except socket.timeout:
            pass
    head, _, body = data.partition(b"\r\n\r\n")
    check_timeout(begin, (int(head.split(b" ")[1]), body), (rate // 2, rate * 2))


def is_served(port, size, rate):
    s = connect(port)
    s.sendall((ENCODE + RAW + "Connection: close\r\nContent-Length: %d\r\n\r\n" % size).encode())
    begin = time.monotonic()
    for at in range(0, size, rate // 10):
        time.sleep(max(0, begin + at / rate - time.monotonic()))
        s.sendall(bytes(min(rate // 10, size - at)))
    status, body = read_answer(s)
    assert status == 200 and len(body) == size, (status, body[:300])
    assert time.monotonic() - begin > 30


def metrics(port):
    text = urllib.request.urlopen("http://127.0.0.1:%d/metrics" % port).read().decode()
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


def is_dropped(port, log):
    size = 64 << 20  # more than the sockets take
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    s.connect(("127.0.0.1", port))
    s.sendall((ENCODE + RAW + "Saed-Request-Id: untaken\r\nContent-Length: %d\r\n\r\n" % size).encode())
    s.sendall(bytes(size))
    begin = time.monotonic()
    while metrics(port)["saed_dropped_answers_total"] != "1":
        assert time.monotonic() < begin + 60
        time.sleep(0.5)
    assert time.monotonic() > begin + 29
    log.seek(0)
    lines = [line for line in log.read().splitlines() if " answer_dropped " in line]
    assert len(lines) == 1 and "request=untaken status=200 bytes=%d" % size in lines[0], lines


def main(program):
    log = tempfile.TemporaryFile("w+")
    daemon = subprocess.Popen([program, "--listen", "127.0.0.1:0", "i=identity:%d" % WIDTH],
                              stdout=subprocess.PIPE, stderr=log)
    port = int(re.search(rb":(\d+)\n", daemon.stdout.readline()).group(1))
    cases = {
        "a body that never begins": (stalls, port, ENCODE + JSON + "Content-Length: 900\r\n\r\n", ""),
        "a body that stalls": (stalls, port, ENCODE + JSON + "Content-Length: 900\r\n\r\n", '{"x":'),
        "a chunked body that stalls": (
            stalls, port, ENCODE + JSON + "Transfer-Encoding: chunked\r\n\r\n", '5\r\n{"x":\r\n'),
        "a body that nobody wants": (
            stalls, port, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n", "1"),
        "50 KB/s": (trickles, port, 50000),
        "900 KB/s": (is_served, port, 32 << 20, 900000),
        "an answer that nobody takes": (is_dropped, port, log),
    }
    results = {}

    def run(name, check, *args):
        try:
            check(*args)
            results[name] = None
        except Exception as e:  # any is this case's failure
            results[name] = repr(e)

    threads = [threading.Thread(target=run, args=(name, *case)) for name, case in cases.items()]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    counted = metrics(port)
    if counted['saed_requests_total{dictionary="i",op="encode",code="408"}'] != "4":
        results["counted"] = "408 is not counted four times"
    if counted["saed_inflight_bytes"] != "0":
        results["bytes"] = counted["saed_inflight_bytes"] + " bytes are still in flight"
    log.seek(0)
    if log.read().count(" upload_timeout ") != 5:
        results["logged"] = "408 is not logged five times"
    daemon.terminate()
    daemon.wait()
    for name, error in results.items():
        print("%s: %s" % (name, error or "ok"))
    failed = sum(error is not None for error in results.values())
    print("%d passed, %d failed" % (len(results) - failed, failed))
    return 1 if failed else 0


sys.exit(main(*sys.argv[1:]))

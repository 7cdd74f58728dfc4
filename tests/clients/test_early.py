"""Answers that come before a body was sent, as clients of other people see them.

test_early.py SAED BUILD: urllib, http.client, fetch and http of node, net/http of Go, and urllib
with nginx in front, each 404, 405, 413, 415 and 503, with Content-Length and chunked: to bodies of
4 MB 50 times, of 40 MB 5 times and of 300 MB once, which makes 500, 50 and 10 of a client. Every one
must arrive. The last line sums up.
"""
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).parent
ENCODE = "/v1/dictionaries/i/encode"
JSON, RAW = "application/json", "application/octet-stream"
CASES = [
    ("404", "POST", "/v1/dictionaries/none/encode", JSON),
    ("405", "PUT", ENCODE, JSON),
    ("413", "POST", ENCODE, JSON),
    ("415", "POST", ENCODE, "text/plain"),
    ("503", "POST", ENCODE, RAW),
]
SIZES = [(4, 50), (40, 5), (300, 1)]
BODY = 320 << 20  # the largest, and the one that holds its room
ROOM = BODY + (3 << 20)  # what is left is enough for 1 MB of JSON, not for 4 MB of rows
NGINX = """
daemon off;
pid %(dir)s/nginx.pid;
error_log stderr crit;
events {}
http {
    access_log off;
    client_max_body_size 0;
    client_body_temp_path %(dir)s/body;
    proxy_temp_path %(dir)s/proxy;
    fastcgi_temp_path %(dir)s/fastcgi;
    uwsgi_temp_path %(dir)s/uwsgi;
    scgi_temp_path %(dir)s/scgi;
    proxy_http_version 1.1;
    server { listen 127.0.0.1:%(buffered)d; location / { proxy_pass http://127.0.0.1:%(saed)d; } }
    server {
        listen 127.0.0.1:%(streamed)d;
        location / { proxy_pass http://127.0.0.1:%(saed)d; proxy_request_buffering off; }
    }
}
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def shared_memory():
    """nginx writes each body to a file before it sends it on: where there is room, not to a disk."""
    try:
        return "/dev/shm" if shutil.disk_usage("/dev/shm").free > 2 << 30 else None
    except OSError:
        return None


def start_saed(program):
    daemon = subprocess.Popen(
        [program, "--listen", "127.0.0.1:0", "--max-json-bytes", "1M", "--max-body-bytes", str(BODY),
         "--max-inflight-bytes", str(ROOM), "--min-upload-rate", "5", "i=identity:4"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return daemon, int(re.search(rb":(\d+)\n", daemon.stdout.readline()).group(1))


def wait_for(port):
    for _ in range(100):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    sys.exit("nobody listens on port %d" % port)


def hold_room(port, over):
    """Most of a body, and then a little of it now and then: no room is left for another."""
    s = socket.create_connection(("127.0.0.1", port))
    s.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
              % (ENCODE.encode(), RAW.encode(), BODY))
    s.sendall(bytes(BODY - (1 << 20)))

    def trickle():
        while not over.wait(0.5):
            s.sendall(bytes(10))

    threading.Thread(target=trickle, daemon=True).start()


def main(program, build):
    go = os.path.join(build, "clients-go")
    subprocess.run(["go", "build", "-o", go, HERE / "client.go"], check=True,
                   env={**os.environ, "GOCACHE": os.path.abspath(os.path.join(build, "go-cache")), "GO111MODULE": "off"})
    daemon, port = start_saed(program)
    base = "http://127.0.0.1:%d"
    ports = {"dir": tempfile.mkdtemp(prefix="saed-nginx-", dir=shared_memory()), "saed": port, "buffered": free_port(), "streamed": free_port()}
    os.chmod(ports["dir"], 0o711)  # for nginx's workers, which are somebody else
    conf = pathlib.Path(ports["dir"], "nginx.conf")
    conf.write_text(NGINX % ports)
    nginx = subprocess.Popen(["nginx", "-e", "stderr", "-p", ports["dir"], "-c", conf], stderr=subprocess.DEVNULL)
    over = threading.Event()
    python, node = [sys.executable, str(HERE / "client.py")], ["node", str(HERE / "client.mjs")]
    clients = [
        ("urllib", python, "urllib", port),
        ("http.client", python, "http.client", port),
        ("node fetch", node, "fetch", port),
        ("node http", node, "http", port),
        ("go", [go], "net/http", port),
        ("urllib, nginx", python, "urllib", ports["buffered"]),
        ("urllib, nginx unbuffered", python, "urllib", ports["streamed"]),
    ]
    passed = failed = 0
    try:
        wait_for(ports["buffered"])
        hold_room(port, over)
        for name, command, library, at in clients:
            for megabytes, times in SIZES:
                begin = time.monotonic()
                for status, method, path, kind in CASES:
                    for form in ("length", "chunked"):
                        out = subprocess.run(
                            command + [library, base % at, status, method, path, kind, str(megabytes), form, str(times)],
                            stdout=subprocess.PIPE, text=True).stdout
                        if out.split(" ")[0] == str(times):
                            passed += 1
                        else:
                            failed += 1
                            print("%s: %s to %d MB, %s: %s of %d" % (name, status, megabytes, form, out.strip(), times))
                print("%s: %d MB, %.1f s" % (name, megabytes, time.monotonic() - begin), flush=True)
    finally:
        over.set()
        nginx.terminate()
        nginx.wait()
        daemon.terminate()
        daemon.wait()
        shutil.rmtree(ports["dir"])
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


sys.exit(main(*sys.argv[1:]))

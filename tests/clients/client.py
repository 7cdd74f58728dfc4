"""urllib and http.client against answers that come before a body was sent.

client.py URLLIB|HTTP BASE STATUS METHOD PATH TYPE MEGABYTES FORM TIMES: send a body of so many
megabytes, FORM `length` or `chunked`, so many times, a connection for each; print how often STATUS
was the answer, and what else was.
"""
import collections
import http.client
import sys
import urllib.error
import urllib.parse
import urllib.request

PIECE = bytes(1 << 16)


def body(megabytes, form):
    if form == "length":
        return bytes(megabytes << 20)
    return (PIECE for _ in range(megabytes << 4))


def by_urllib(base, method, path, kind, data):
    request = urllib.request.Request(base + path, data=data, method=method, headers={"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()


def by_http_client(base, method, path, kind, data):
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(base).netloc, timeout=60)
    try:
        connection.request(method, path, body=data, headers={"Content-Type": kind}, encode_chunked=not isinstance(data, bytes))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def main(library, base, status, method, path, kind, megabytes, form, times):
    ask = {"urllib": by_urllib, "http.client": by_http_client}[library]
    got = collections.Counter()
    for _ in range(int(times)):
        try:
            code, text = ask(base, method, path, kind, body(int(megabytes), form))
            got[str(code) if text.startswith(b"{") else "%d without a problem" % code] += 1
        except OSError as e:
            got[repr(e)] += 1
        except http.client.HTTPException as e:
            got[repr(e)] += 1
    print(got[status], dict(got))


main(*sys.argv[1:])

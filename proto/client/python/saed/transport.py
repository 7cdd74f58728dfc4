"""Kept-alive HTTP/1.1 connections to one saed, over TCP, a Unix socket, or TLS to a proxy before it.

A request has a connection of its own while it lasts and gives it back when its answer was read whole, so
that any number of threads may call. Every request is safe to send again: nothing on the server changes.
So 503 is tried again when `Retry-After` says, 408 and a lost connection after a pause that grows, all of
them for `patience` seconds. After a fork the child starts without connections. Proxies of the environment
(`http_proxy`) are not used.
"""
from __future__ import annotations

import http.client
import json
import os
import select
import socket
import ssl
import threading
import time
import urllib.parse
import weakref
from typing import Any, Callable, List, Mapping, Optional, Sequence, Tuple, TypeVar

from .errors import ConnectionLost, Error, RequestError, Timeout

T = TypeVar("T")
Read = Callable[[http.client.HTTPResponse], T]

# A body goes out in pieces of so many bytes; between two of them an early answer is looked for.
SEND_BYTES = 1 << 20
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0


class Transport:
    """Connections to `url` (http[s]://HOST[:PORT][/PREFIX]).

    timeout: seconds without any progress on the socket; patience: seconds for which a request that the
    daemon could not serve is sent again (0: once only). api_key: sent with every request. uds: the path of
    a Unix socket that is connected to in the place of `url`'s host. ca_file: certificates that may vouch for an
    https host in the place of the system's.
    """

    def __init__(self, url: str, timeout: float = 60.0, patience: float = 60.0,
                 api_key: Optional[str] = None, uds: Optional[str] = None,
                 ca_file: Optional[str] = None) -> None:
        parts = urllib.parse.urlsplit(url)
        is_tls = parts.scheme == "https"
        if not (is_tls or parts.scheme == "http") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"cannot call {url!r}: wanted http[s]://HOST[:PORT][/PREFIX]")
        if uds is not None and is_tls:
            raise ValueError(f"cannot call {url!r} by a Unix socket: there is no TLS on it")
        if ca_file is not None and not is_tls:
            raise ValueError(f"cannot use a ca_file for {url!r}: it is not https")
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.patience = patience
        if api_key is not None and (not api_key or any(c <= " " or c > "~" for c in api_key)):
            raise ValueError("cannot send this api_key: wanted visible ASCII characters")
        self.api_key = api_key
        self.uds = uds
        self.ca_file = ca_file
        self._tls = ssl.create_default_context(cafile=ca_file) if is_tls else None
        self._address = (parts.hostname, parts.port or (443 if is_tls else 80))
        self._prefix = parts.path.rstrip("/")
        self._answered = False
        self._start()
        survive_fork(self)

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._idle: List[_Connection] = []
        self._open: weakref.WeakSet[_Connection] = weakref.WeakSet()

    def after_fork(self) -> None:
        """In a child: the parent's connections are the parent's; only our copies are closed."""
        for conn in list(self._open):
            if conn.sock is not None:
                os.close(conn.sock.detach())
        self._start()

    def close(self) -> None:
        """Close the connections that no request has; later requests open new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
        for conn in idle:
            conn.close()

    # ---- connections ----

    def _take(self) -> Tuple[_Connection, bool]:
        """A connection, and whether it has served before."""
        while True:
            with self._lock:
                conn = self._idle.pop() if self._idle else None
            if conn is None:
                conn = _Connection(*self._address, timeout=self.timeout)
                conn.uds, conn.tls = self.uds, self._tls
                with self._lock:
                    self._open.add(conn)
                return conn, False
            if conn.sock is not None and _is_silent(conn.sock):
                return conn, True
            conn.close()  # the daemon has closed it while it was idle

    def _give_back(self, conn: _Connection) -> None:
        with self._lock:
            self._idle.append(conn)

    # ---- requests ----

    def call(self, method: str, path: str, read: Read[T], *, headers: Mapping[str, str] = {},
             body: Sequence[Any] = (), patience: Optional[float] = None) -> T:
        """Send a request and hand its answer, when it is 200, to `read`, which reads it whole.

        body: buffers (bytes or arrays, C-contiguous) that are sent one behind the other, as they lie.
        """
        end = time.monotonic() + (self.patience if patience is None else patience)
        pause = FIRST_PAUSE
        while True:
            wait: Optional[float] = None
            try:
                return self._once(method, path, read, headers, body)
            except RequestError as e:
                if e.status not in (408, 503):
                    raise
                error: Error = e
                wait = e.retry_after
            except _Stale:
                continue  # each ends one kept connection, so that a new one comes soon
            except ConnectionLost as e:
                error = e
                # A daemon that never answered is more likely absent than restarting.
                if not self._answered:
                    raise
            if wait is None:
                wait = pause
                pause = min(2 * pause, LONGEST_PAUSE)
            if time.monotonic() + wait > end:
                raise error
            time.sleep(wait)

    def _once(self, method: str, path: str, read: Read[T], headers: Mapping[str, str],
              body: Sequence[Any]) -> T:
        conn, used = self._take()
        response = None
        sent = False
        try:
            sent = self._send(conn, method, path, headers, body)
            response = conn.getresponse()
            self._answered = True
            if response.status != 200:
                raise _problem(response)
            return read(response)
        except socket.timeout:
            raise Timeout(f"no byte to or from {self.url} for {self.timeout:g} s") from None
        except (OSError, http.client.HTTPException) as e:
            what = f"lost the connection to {self.uds or self.url}: {e or type(e).__name__}"
            # A kept connection may end between two requests; a new one is then tried at once.
            raise (_Stale if used and response is None else ConnectionLost)(what) from e
        finally:
            if sent and response is not None and response.isclosed() and not response.will_close:
                self._give_back(conn)
            else:
                conn.close()

    def _send(self, conn: _Connection, method: str, path: str,
              headers: Mapping[str, str], body: Sequence[Any]) -> bool:
        """False: an answer, or the connection's end, came before the whole body was sent."""
        views = [memoryview(b).cast("B") for b in body if memoryview(b).nbytes]
        conn.putrequest(method, self._prefix + path, skip_accept_encoding=True)
        for name, value in headers.items():
            conn.putheader(name, value)
        if self.api_key is not None:
            conn.putheader("Authorization", "Bearer " + self.api_key)
        if method == "POST":
            conn.putheader("Content-Length", str(sum(len(v) for v in views)))
        conn.endheaders()
        try:
            return _send_all(conn.sock, [memoryview(conn.take_head()), *views])
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            return False  # the answer that explains it may still be there to be read


class _Connection(http.client.HTTPConnection):
    """Keeps a request's head back, so that it leaves in one packet with a small body."""
    head = b""
    uds: Optional[str] = None
    tls: Optional[ssl.SSLContext] = None

    def connect(self) -> None:
        if self.uds is None:
            super().connect()
            if self.tls is not None:
                self.sock = self.tls.wrap_socket(self.sock, server_hostname=self.host)
            return
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self.uds)
        except BaseException:
            sock.close()
            raise
        self.sock = sock

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        self.head += data

    def take_head(self) -> bytes:
        head, self.head = self.head, b""
        return head


def _send_all(sock: socket.socket, views: List[memoryview]) -> bool:
    """False: the other side had something to say before all was sent."""
    total = sum(len(v) for v in views)
    is_tls = isinstance(sock, ssl.SSLSocket)  # what is readable there may be a ticket, and no answer
    if total <= SEND_BYTES:
        n = 0 if is_tls else sock.sendmsg(views)
        views = [memoryview(b"".join(views)[n:])] if n < total else []
    for view in views:
        for at in range(0, len(view), SEND_BYTES):
            if at and not is_tls and _readable(sock):
                return False
            sock.sendall(view[at:at + SEND_BYTES])
    return True


class _Stale(ConnectionLost):
    """A connection that had served before was closed before it answered this request."""


def _readable(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _is_silent(sock: socket.socket) -> bool:
    """Of an idle connection: the other side has neither ended it nor said anything."""
    if not isinstance(sock, ssl.SSLSocket):
        return not _readable(sock)
    timeout = sock.gettimeout()
    try:
        sock.settimeout(0)
        sock.recv(1)
        return False
    except ssl.SSLWantReadError:
        return True
    except OSError:
        return False
    finally:
        sock.settimeout(timeout)


def _problem(response: http.client.HTTPResponse) -> RequestError:
    text = response.read()
    try:
        said = json.loads(text)
        if not isinstance(said, dict):
            raise ValueError
    except ValueError:  # not saed's: the HTTP library's, or a proxy's
        said = {"detail": text[:200].decode("latin-1").strip() or response.reason}
    after = response.headers.get("Retry-After", "")
    return RequestError(
        said.get("detail", ""), code=said.get("code", ""), status=response.status,
        option=said.get("option"), limit=said.get("limit"), got=said.get("got"),
        request_id=response.headers.get("Saed-Request-Id"),
        retry_after=float(after) if after.isdigit() else None)


_survivors: weakref.WeakSet[Any] = weakref.WeakSet()


def survive_fork(owner: Any) -> None:
    """In a child, `owner.after_fork()` is called before anything else runs: locks that another thread of
    the parent held, and threads, are not there any more."""
    _survivors.add(owner)


def _after_fork() -> None:
    for owner in list(_survivors):
        owner.after_fork()


os.register_at_fork(after_in_child=_after_fork)

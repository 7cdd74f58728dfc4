"""A daemon: what it serves, how it does, and several requests to it at once."""
from __future__ import annotations

import http.client
import json
import threading
import urllib.parse
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence, Tuple, TypeVar

from .errors import Error
from .transport import Transport, survive_fork

if TYPE_CHECKING:
    from .dictionary import Dictionary

T = TypeVar("T")


class Client:
    """The daemon at `url`, `http://HOST:PORT`, or `https://HOST` of a proxy before it. Any number of threads
    may share one.

    timeout: seconds without any byte to or from the daemon after which a call gives up.
    patience: seconds for which 503, 408 and lost connections are tried again.
    connections: requests in flight when one call needs several.
    api_key: one of the daemon's keys (`--api-key-file`). uds: the path of its Unix socket
    (`--listen unix:PATH`), which is called in the place of `url`'s host.
    ca_file: certificates (PEM) that may vouch for an https host; without it those of the system.

    A client can be pickled (what arrives has connections of its own) and used after a fork.
    """

    def __init__(self, url: str = "http://127.0.0.1:8673", *, timeout: float = 60.0,
                 patience: float = 60.0, connections: int = 2, api_key: Optional[str] = None,
                 uds: Optional[str] = None, ca_file: Optional[str] = None) -> None:
        if connections < 1:
            raise ValueError(f"cannot call with {connections} connections: wanted at least 1")
        self.transport = Transport(url, timeout, patience, api_key, uds, ca_file)
        self.connections = connections
        self.after_fork()
        survive_fork(self)

    def after_fork(self) -> None:
        """Start without threads, as a child of a fork does."""
        self._workers: Optional[ThreadPoolExecutor] = None
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return self.transport.url

    def __getstate__(self) -> Dict[str, Any]:
        return {"url": self.url, "timeout": self.transport.timeout, "patience": self.transport.patience,
                "connections": self.connections, "api_key": self.transport.api_key, "uds": self.transport.uds,
                "ca_file": self.transport.ca_file}

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"saed.Client({self.url!r})"

    def close(self) -> None:
        """Close idle connections and end idle threads; a later call makes new ones."""
        with self._lock:
            workers, self._workers = self._workers, None
        if workers is not None:
            workers.shutdown()
        self.transport.close()

    # ---- what is served ----

    def server(self) -> Dict[str, Any]:
        """`GET /v1`: version, engine, kernel, limits."""
        return self.get("/v1")

    def dictionaries(self) -> List[Dict[str, Any]]:
        """`GET /v1/dictionaries`: name, dict_class, activation_dim, dict_size, ... of each."""
        served: List[Dict[str, Any]] = self.get("/v1/dictionaries")["dictionaries"]
        return served

    def info(self, name: str) -> Dict[str, Any]:
        """`GET /v1/dictionaries/NAME`."""
        return self.get("/v1/dictionaries/" + urllib.parse.quote(name, safe=""))

    def dictionary(self, name: str, **options: Any) -> Dictionary:
        """The dictionary `name`, over this client's connections."""
        from .dictionary import Dictionary
        return Dictionary(self, name, **options)

    def health(self) -> bool:
        """Whether the daemon answers (`/healthz`), without waiting for it."""
        return self._is_ok("/healthz")

    def ready(self) -> bool:
        """Whether it has loaded everything and is not draining (`/readyz`), without waiting for it."""
        return self._is_ok("/readyz")

    def get(self, path: str) -> Dict[str, Any]:
        """The JSON that GET answers there."""
        answer: Dict[str, Any] = self.transport.call("GET", path, _read_json)
        return answer

    def _is_ok(self, path: str) -> bool:
        try:
            self.transport.call("GET", path, http.client.HTTPResponse.read, patience=0)
            return True
        except Error:
            return False

    # ---- several requests at once ----

    def submit(self, work: Callable[..., T], *args: Any) -> Future[T]:
        """Run `work` beside at most `connections - 1` others."""
        with self._lock:
            if self._workers is None:
                self._workers = ThreadPoolExecutor(self.connections, "saed")
            return self._workers.submit(work, *args)

    def each(self, work: Callable[..., T], arguments: Sequence[Tuple[Any, ...]]) -> List[T]:
        """`work` of each tuple of arguments, in order; the first failure ends what has not begun."""
        if len(arguments) == 1:
            return [work(*arguments[0])]
        futures = [self.submit(work, *args) for args in arguments]
        try:
            return [f.result() for f in futures]
        finally:
            for f in futures:
                f.cancel()


def _read_json(response: http.client.HTTPResponse) -> Any:
    return json.loads(response.read())

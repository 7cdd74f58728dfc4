"""What saed's client raises."""
from __future__ import annotations

from typing import Optional


class Error(Exception):
    """Base of all errors that this package raises by itself."""


class RequestError(Error):
    """saed answered with a problem document (`application/problem+json`).

    code: which error, as `bad_shape` (the table is proto/errors.def); detail: what was wrong, where and
    with which value; status: the HTTP status; option, limit, got: the command-line option that moves the
    limit that was passed, the limit and what passed it, where one was; request_id: the request's name in
    the daemon's log; retry_after: seconds, where the answer said so.
    """

    def __init__(self, detail: str, *, code: str = "", status: int = 0, option: Optional[str] = None,
                 limit: Optional[int] = None, got: Optional[int] = None,
                 request_id: Optional[str] = None, retry_after: Optional[float] = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.status = status
        self.option = option
        self.limit = limit
        self.got = got
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        said = f"{self.detail} [{self.status} {self.code}]"
        return f"{said} (saed {self.option})" if self.option else said


class ConnectionLost(Error, ConnectionError):
    """No connection, or it ended before the answer did, for as long as it was tried again."""


class Timeout(Error, TimeoutError):
    """The daemon took no byte and sent none for `timeout` seconds."""

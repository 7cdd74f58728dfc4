"""A daemon of one's own, for as long as a block of code runs."""
from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from typing import IO, Iterator, Mapping, Optional, Sequence, Union

from .client import Client
from .errors import Error

Source = Union[str, "os.PathLike[str]"]
DRAIN_SECONDS = 30


@contextlib.contextmanager
def serve(dictionaries: Optional[Mapping[str, Source]] = None, *, binary: Optional[Source] = None,
          options: Sequence[str] = (), **sources: Source) -> Iterator[Client]:
    """Serve `NAME=SOURCE` pairs on a free port of loopback and give a `Client` of the daemon:

        with saed.serve(layer12="ae.pt") as client:
            f = client.dictionary("layer12").encode(x)

    dictionaries: those whose names are no Python identifiers. binary: the daemon, `saed` on PATH unless
    given. options: of its command line, as `["--threads", "2"]`. Loading is over when the block begins;
    saed is stopped when it ends. Error: it could not start, with the reason that it gave.
    """
    path = os.fspath(binary) if binary is not None else shutil.which("saed")
    if path is None:
        raise Error("cannot start saed: it is not on PATH (binary= names one)")
    named = [f"{name}={os.fspath(source)}" for name, source in {**(dictionaries or {}), **sources}.items()]
    with tempfile.TemporaryFile("w+") as log:
        # A session of its own: Ctrl-C in a terminal is for Python, whose block then ends.
        process = subprocess.Popen([path, "--listen", "127.0.0.1:0", *options, *named], text=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                                   start_new_session=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                raise Error(f"cannot start saed: {_reason(process, log)}")
            with Client(line.split()[-1]) as client:
                yield client
        finally:
            _stop(process)


def _reason(process: subprocess.Popen[str], log: IO[str]) -> str:
    status = process.wait()
    log.seek(0)
    text = log.read()
    said = [line[len("saed: "):] for line in text.splitlines() if line.startswith("saed: ")]
    return "\n".join(said) or text.strip()[-2000:] or f"it ended with status {status}"


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(DRAIN_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()

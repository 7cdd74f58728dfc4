"""A served dictionary whose calls are awaited."""
from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, List, Optional

from .arrays import is_tensor, requires_grad
from .dictionary import Dictionary, Path


class AsyncDictionary:
    """`dictionary` for asyncio: `await ae.encode(x)`, `await ae.decode(f)`, `await ae(x)`, with the arguments
    and answers of `Dictionary`. Up to `calls` are in flight, each on a thread. A call that is cancelled is
    not waited for; what it has sent is answered all the same.
    """

    def __init__(self, dictionary: Dictionary, *, calls: int = 16) -> None:
        self.dictionary = dictionary
        self._threads = ThreadPoolExecutor(calls, "saed-async")

    @classmethod
    async def connect(cls, *args: Any, calls: int = 16, **options: Any) -> AsyncDictionary:
        """`Dictionary(*args, **options)`, which asks the daemon, without blocking the loop."""
        loop = asyncio.get_running_loop()
        return cls(await loop.run_in_executor(None, functools.partial(Dictionary, *args, **options)), calls=calls)

    @property
    def activation_dim(self) -> int:
        """Width of a row."""
        return self.dictionary.activation_dim

    @property
    def dict_size(self) -> int:
        """Number of features."""
        return self.dictionary.dict_size

    async def encode(self, x: Any, *args: Any, **options: Any) -> Any:
        """As `Dictionary.encode`."""
        return await self._run(self.dictionary.encode, x, *args, **options)

    async def decode(self, f: Any, **options: Any) -> Any:
        """As `Dictionary.decode`."""
        return await self._run(self.dictionary.decode, f, **options)

    async def __call__(self, x: Any, *args: Any, **options: Any) -> Any:
        """As the call of `Dictionary`: forward."""
        return await self._run(self.dictionary, x, *args, **options)

    async def forward(self, x: Any, *args: Any, **options: Any) -> Any:
        """As the call."""
        return await self(x, *args, **options)

    async def labels(self, features: Any = None) -> List[Optional[str]]:
        """As `Dictionary.labels`."""
        found: List[Optional[str]] = await self._run(self.dictionary.labels, features)
        return found

    async def encode_file(self, path: Path, out: Path, **options: Any) -> List[str]:
        """As `Dictionary.encode_file`."""
        paths: List[str] = await self._run(self.dictionary.encode_file, path, out, **options)
        return paths

    async def _run(self, call: Callable[..., Any], first: Any, *args: Any, **options: Any) -> Any:
        work = functools.partial(call, _as_here(first), *args,
                                 **{name: _as_here(value) for name, value in options.items()})
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def __aenter__(self) -> AsyncDictionary:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.close)

    def close(self) -> None:
        """Wait for calls in flight; end threads and idle connections."""
        self._threads.shutdown()
        self.dictionary.client.close()


def _as_here(x: Any) -> Any:
    """torch's grad mode is a thread's own: what the caller's says is asked here."""
    return x if not is_tensor(x) or requires_grad(x) else x.detach()

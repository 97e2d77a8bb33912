"""What every sink does with the bytes it is given: count them, look at the first ones, hold a few."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import ParamSpec, TypeVar

from bide.providers.base import FileTooLarge, NotMedia
from bide.storage.sniff import HEAD_BYTES, content_type

BLOCK = 1024 * 1024
"""Bytes a sink holds in memory before it hands them on."""
_SMALL = 4096

P = ParamSpec("P")
T = TypeVar("T")


class Intake:
    """The bytes of one file on their way: `size` in all, `held` of them not yet taken."""

    __slots__ = ("_bytes_max", "_head", "_pieces", "_type", "held", "size")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._head = b""
        self._type: str | None = None
        self._pieces: list[bytes | bytearray] = []
        self.size = 0
        self.held = 0

    def add(self, data: bytes) -> None:
        """Raises `FileTooLarge` when these bytes are too many."""
        if self.size + len(data) > self._bytes_max:
            raise FileTooLarge(f"The file is larger than {self._bytes_max} bytes.")
        self.size += len(data)
        self.held += len(data)
        if len(self._head) < HEAD_BYTES:
            self._head += data[: HEAD_BYTES - len(self._head)]
            self._type = content_type(self._head)
        if len(data) >= _SMALL:
            self._pieces.append(data)
        elif self._pieces and isinstance(self._pieces[-1], bytearray):
            self._pieces[-1] += data  # a dripping upstream must not cost an object per byte
        else:
            self._pieces.append(bytearray(data))

    def take(self) -> list[bytes | bytearray]:
        pieces, self._pieces, self.held = self._pieces, [], 0
        return pieces

    @property
    def is_refused(self) -> bool:
        """True once it is certain that `content_type` will raise: such bytes need not be written anywhere."""
        return self._type is None and len(self._head) == HEAD_BYTES

    def content_type(self) -> str:
        """Raises `NotMedia`."""
        if self._type is None:
            raise NotMedia("The bytes are not a picture, video or sound of a known type.")
        return self._type


class Hops:
    """Runs the steps of one sink in threads, one after the other.

    A step cannot be stopped once it runs. So when its caller is cancelled it goes on, and `settled` waits for
    it: `abort` must not clean up under a step that is still writing.
    """

    __slots__ = ("_busy",)

    def __init__(self) -> None:
        self._busy: asyncio.Future[None] | None = None

    async def run(self, pool: Executor, step: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        loop = asyncio.get_running_loop()
        await self.wait(loop.run_in_executor(pool, lambda: step(*args, **kwargs)))

    async def wait(self, step: "asyncio.Future[None]") -> None:
        self._busy = step
        await asyncio.shield(step)

    async def settled(self) -> None:
        if self._busy is not None and not self._busy.done():
            await asyncio.wait([self._busy])
        if self._busy is not None and self._busy.done() and not self._busy.cancelled():
            self._busy.exception()  # nobody waits for it any more: its step was given up

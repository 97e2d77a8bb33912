"""Drawing off the event loop, and the pictures that were drawn before."""

import asyncio
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

from bide.providers import drawing
from bide.providers.drawing import Picture

KEPT_BYTES_MAX = 16 * 1024 * 1024

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_painters = ThreadPoolExecutor(max_workers=max(1, (os.cpu_count() or 1) - 1), thread_name_prefix="bide-sandbox")


class Kept:
    """Encoded pictures by what they were drawn from, bounded in bytes; the longest unused go first."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max, self._bytes = bytes_max, 0
        self._pictures: OrderedDict[Picture, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, picture: Picture) -> bytes | None:
        with self._lock:
            found = self._pictures.get(picture)
            if found is not None:
                self._pictures.move_to_end(picture)
            return found

    def put(self, picture: Picture, data: bytes) -> None:
        """Keeps a picture, unless it would take more than a quarter of the room."""
        weight = _weight(picture, data)
        with self._lock:
            if weight > self._bytes_max // 4 or picture in self._pictures:
                return
            self._pictures[picture] = data
            self._bytes += weight
            while self._bytes > self._bytes_max:
                self._bytes -= _weight(*self._pictures.popitem(last=False))


def _weight(picture: Picture, data: bytes) -> int:
    """Bytes in memory: the file, the prompt at its widest, and about what the rest of an entry takes."""
    return len(data) + 4 * len(picture.prompt) + 500


_kept = Kept(KEPT_BYTES_MAX)


async def paint(work: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Runs `work` in one of a few threads: one fewer than there are cores, so that the event loop keeps one."""
    return await asyncio.get_running_loop().run_in_executor(_painters, work, *arguments)


async def generated(picture: Picture) -> bytes:
    """The encoded picture of a generation. One that is kept costs no thread."""
    data = _kept.get(picture)
    return data if data is not None else await paint(_drawn, picture)


def _drawn(picture: Picture) -> bytes:
    data = _kept.get(picture)  # many may have asked for the same while it was drawn for the first of them
    if data is None:
        data = drawing.finished(picture)
        _kept.put(picture, data)
    return data

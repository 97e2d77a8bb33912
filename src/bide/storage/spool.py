"""Bytes that live only until one inline answer was sent: in memory, or in a temporary file when large.

Nothing here is durable and nothing has to be: the files have no name in the file system (or lose it when
they are closed), so a killed process leaves nothing behind.
"""

import asyncio
import tempfile
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, cast

from bide.clock import Clock
from bide.providers.base import Stored
from bide.storage.intake import BLOCK, Hops, Intake
from bide.storage.sniff import extension

_THREADS = 4
_CHUNK = 192 * 1024


class Spool:
    """Files by name `spool/<token>.<extension>`, for one process, until they are dropped.

    A file of up to `memory_max` bytes stays in memory while all of them together hold at most
    `memory_total_max`; beyond either it goes to a temporary file below `directory`.
    """

    def __init__(
        self,
        directory: Path,
        clock: Clock | None = None,
        *,
        memory_max: int = BLOCK,
        memory_total_max: int = 128 * BLOCK,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._clock = clock or Clock()
        self._memory_max = memory_max
        self._memory_total_max = memory_total_max
        self.held = 0
        self._entries: dict[str, bytes | _File] = {}
        self._pool = ThreadPoolExecutor(_THREADS, "bide-spool")

    def sink(self, bytes_max: int) -> "SpoolSink":
        return SpoolSink(self, bytes_max)

    def chunks(self, name: str, size: int = _CHUNK) -> AsyncGenerator[bytes, None]:
        """The bytes of a file, in chunks of `size` rounded down to a multiple of 3 (only the last is shorter).

        So each chunk is whole base64 quanta. May be called more than once. `KeyError` for an unknown name.
        """
        entry = self._entries[name]
        return self._read(entry, max(3, size - size % 3))

    def source(self, name: str) -> "bytes | BinaryIO":
        """The bytes of a file, or the open temporary file: to look at before anybody streams it."""
        entry = self._entries[name]
        return entry if isinstance(entry, bytes) else entry.file

    def drop(self, name: str) -> None:
        """Forgets a file; an unknown name is no error. Readers that are still at it end with `ValueError`
        (temporary file) or go on (memory)."""
        entry = self._entries.pop(name, None)
        if isinstance(entry, bytes):
            self.held -= len(entry)
        elif entry is not None:
            self._pool.submit(entry.close)

    async def close(self) -> None:
        for name in list(self._entries):
            self.drop(name)
        await asyncio.to_thread(self._pool.shutdown)

    async def _read(self, entry: "bytes | _File", size: int) -> AsyncGenerator[bytes, None]:
        if isinstance(entry, bytes):
            if len(entry) <= size:
                yield entry
                return
            for at in range(0, len(entry), size):
                yield entry[at : at + size]
            return
        loop = asyncio.get_running_loop()
        for at in range(0, entry.size, size):
            yield await loop.run_in_executor(self._pool, entry.read, at, size)


class _File:
    """A temporary file without a name. Its calls run in threads; a lock keeps seek and read together."""

    __slots__ = ("_lock", "file", "size")

    def __init__(self, directory: Path) -> None:
        self.file = cast(BinaryIO, tempfile.TemporaryFile(dir=directory, buffering=128 * 1024))  # noqa: SIM115
        self._lock = threading.Lock()
        self.size = 0

    def append(self, pieces: list[bytes | bytearray]) -> None:
        with self._lock:
            self.file.writelines(pieces)
            self.size += sum(map(len, pieces))

    def read(self, at: int, size: int) -> bytes:
        with self._lock:
            self.file.seek(at)
            return self.file.read(size)

    def close(self) -> None:
        with self._lock:
            self.file.close()


class SpoolSink:
    """See `bide.providers.base.Sink`."""

    def __init__(self, spool: Spool, bytes_max: int) -> None:
        self._spool = spool
        self._intake = Intake(bytes_max)
        self._hops = Hops()
        self._file: _File | None = None
        self._counted = 0

    async def write(self, data: bytes) -> None:
        self._intake.add(data)
        if self._file is None:
            spool = self._spool
            spool.held += len(data)
            self._counted += len(data)
            if self._intake.size > spool._memory_max or spool.held > spool._memory_total_max:
                await self._flush()
        elif self._intake.held >= BLOCK:
            await self._flush()

    async def close(self) -> Stored:
        kind = self._intake.content_type()
        spool = self._spool
        name = f"spool/{spool._clock.token()}.{extension(kind)}"
        if self._file is None:
            pieces = self._intake.take()
            spool._entries[name] = bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)
            self._counted = 0  # counted on until the file is dropped
        else:
            await self._flush()
            spool._entries[name], self._file = self._file, None
        return Stored(name, self._intake.size, kind)

    async def abort(self) -> None:
        await self._hops.settled()
        self._intake.take()
        self._uncount()
        if self._file is not None:
            file, self._file = self._file, None
            self._spool._pool.submit(file.close)

    async def _flush(self) -> None:
        pieces = self._intake.take()
        self._uncount()
        if pieces and not self._intake.is_refused:
            await self._hops.run(self._spool._pool, self._append, pieces)

    def _append(self, pieces: list[bytes | bytearray]) -> None:
        if self._file is None:
            self._file = _File(self._spool._directory)
        self._file.append(pieces)

    def _uncount(self) -> None:
        self._spool.held -= self._counted
        self._counted = 0

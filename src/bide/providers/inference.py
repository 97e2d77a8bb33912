"""A process beside a worker that computes for it: started when it is needed, one request at a time.

The event loop stays free while it computes, so leases are kept and callbacks heard. It ends with its worker, and when
it dies by itself, whoever waits for it is told (`Ended`). Its frames are described in `diffusers_process`.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from bide.providers.diffusers_process import HEAD, Frame, packed

START = "import sys; from bide.providers.diffusers_process import main; main(float(sys.argv[1]))"
STOP_S = 30.0
"""Seconds a process has to stop a request that nobody wants any more. Then it is killed."""

QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1", "TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error",
    "TQDM_DISABLE": "1", "PYTHONUNBUFFERED": "1",
}  # fmt: skip
"""Nothing is told to others, and no prompt is printed."""

Told = Callable[[dict[str, Any], bytes], Awaitable[None]]


class Ended(Exception):
    """The process is gone. The message says how it ended; `begun`: after it had begun with the request."""

    def __init__(self, message: str, *, begun: bool) -> None:
        super().__init__(message)
        self.begun = begun


@dataclass(slots=True)
class _Running:
    """A process, and what it said that nobody has read yet; None at the end."""

    process: asyncio.subprocess.Process
    load: Mapping[str, Any]
    said: "asyncio.Queue[Frame | None]"
    reading: "asyncio.Task[None]"


class Inference:
    """One process that has one model."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._running: _Running | None = None
        self._number = 0
        self._left: tuple[int, float] | None = None
        """A request that was told to stop, and when that must have come to an end (loop time)."""

    @property
    def pid(self) -> int | None:
        return self._running.process.pid if self._running is not None else None

    async def ask(
        self, load: Mapping[str, Any], make: Mapping[str, Any], files: Sequence[bytes], told: Told, *, idle_s: float
    ) -> dict[str, Any]:
        """The last frame of a request; all that come before are `told`. Raises `Ended`.

        A process that has another model (`load`) is ended first. Whoever stops waiting stops the request.
        """
        sizes = [len(one) for one in files]
        wanted = {"load": load, "make": make, "sizes": sizes}
        async with self._lock:
            running = await self._with(load, idle_s)
            try:
                return await self._asked(running, wanted, files, told)
            except Ended as ended:
                if ended.begun:
                    raise
            # It had ended, or was just ending for want of work: nothing was begun, and a new one is asked.
            return await self._asked(await self._with(load, idle_s), wanted, files, told)

    async def _asked(
        self, running: _Running, wanted: Mapping[str, Any], files: Sequence[bytes], told: Told
    ) -> dict[str, Any]:
        self._number += 1
        number, begun = self._number, False
        try:
            await _send(running, {"ask": number, **wanted}, b"".join(files))
            while (frame := await running.said.get()) is not None:
                fields, blob = frame
                if fields["number"] == number:
                    begun = True
                    if "done" in fields or "failed" in fields:
                        return fields
                    await told(fields, blob)
        except BaseException:
            self._stop(running, number)
            raise
        await self.close()
        raise Ended(_how(running.process.returncode), begun=begun)

    async def close(self) -> None:
        """Ends the process, in the middle of whatever it does."""
        running, self._running, self._left = self._running, None, None
        if running is None:
            return
        with contextlib.suppress(ProcessLookupError):
            running.process.kill()
        await running.process.wait()
        await running.reading  # its pipe has ended

    # -- the process

    async def _with(self, load: Mapping[str, Any], idle_s: float) -> _Running:
        """The process that has a model, free to be asked."""
        running = self._running
        if running is not None:
            if running.load == load and not running.reading.done() and await self._is_free(running):
                return running
            await self.close()
        self._running = await _started(load, idle_s)
        return self._running

    async def _is_free(self, running: _Running) -> bool:
        """Whether a request that was told to stop has ended."""
        if self._left is None:
            return True
        number, until = self._left
        try:
            async with asyncio.timeout_at(until):
                while (frame := await running.said.get()) is not None:
                    if frame[0]["number"] == number and ("done" in frame[0] or "failed" in frame[0]):
                        self._left = None
                        return True
        except TimeoutError:
            pass
        return False

    def _stop(self, running: _Running, number: int) -> None:
        self._left = number, asyncio.get_running_loop().time() + STOP_S
        stdin = running.process.stdin
        assert stdin is not None
        stdin.write(packed({"stop": number}))


async def _started(load: Mapping[str, Any], idle_s: float) -> _Running:
    """Our own settings, with their keys, are not for the libraries that are loaded there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BIDE_")} | QUIET
    if not load.get("download"):
        environment["HF_HUB_OFFLINE"] = "1"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", START, str(idle_s), env=environment,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said: asyncio.Queue[Frame | None] = asyncio.Queue()
    assert process.stdout is not None
    return _Running(process, load, said, asyncio.create_task(_read(process.stdout, said)))


async def _read(pipe: asyncio.StreamReader, said: "asyncio.Queue[Frame | None]") -> None:
    """In a task of its own: whoever stops waiting must not leave half a frame behind."""
    try:
        while True:
            text, blob = HEAD.unpack(await pipe.readexactly(HEAD.size))
            fields = msgspec.json.decode(await pipe.readexactly(text))
            said.put_nowait((fields, await pipe.readexactly(blob)))
    except (asyncio.IncompleteReadError, ConnectionError):
        said.put_nowait(None)


async def _send(running: _Running, fields: Mapping[str, Any], blob: bytes) -> None:
    stdin = running.process.stdin
    assert stdin is not None
    stdin.write(packed(fields, blob))
    with contextlib.suppress(ConnectionError):  # it is gone: the end of what it says tells so
        await stdin.drain()


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        return f"the process was killed by signal {-code}"
    return f"the process ended with code {code}"

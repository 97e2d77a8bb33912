"""A load generator that costs little: prepared requests over kept connections, one answer at a time on each.

Bounded in requests and in time; loopback only. Runs in a process of its own so that it does not share the
interpreter with what it measures.
"""

import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import uvloop


def request(path: str, body: object, token: str, more: str = "") -> bytes:
    """The bytes of one POST."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n{more}\r\n"
    )
    return head.encode() + content


@dataclass
class Result:
    """What a load saw. Latencies in milliseconds."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    bad: int = 0

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def at(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("nan")

    @property
    def p50(self) -> float:
        return statistics.median(self.latencies) if self.latencies else float("nan")


class _Connection(asyncio.Protocol):
    """Sends the next request as soon as the answer to the last is complete."""

    def __init__(self, load: "_Load") -> None:
        self._load = load
        self._head = b""
        self._left = -1
        self._began = 0.0
        self._ok = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def _next(self) -> None:
        wire = self._load.next()
        if wire is None:
            self._transport.close()
            return
        self._began = time.perf_counter()
        self._transport.write(wire)

    def data_received(self, data: bytes) -> None:
        if self._left < 0:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._head[:end].lower()
            self._ok = head.startswith(b"http/1.1 200")
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0])
            self._left = length - (len(self._head) - end - 4)
            self._head = b""
        else:
            self._left -= len(data)
        if self._left == 0:
            self._left = -1
            self._load.done(time.perf_counter() - self._began, self._ok)
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost()


class _Load:
    def __init__(self, wires: Sequence[bytes], count: int, seconds: float) -> None:
        self._wires, self._left, self._until = wires, count, time.perf_counter() + seconds
        self._number = 0
        self.latencies: list[float] = []
        self.bad = 0
        self.open = 0
        self.over = asyncio.Event()

    def next(self) -> bytes | None:
        if self._left <= 0 or time.perf_counter() > self._until:
            return None
        self._left -= 1
        self._number += 1
        return self._wires[self._number % len(self._wires)]

    def done(self, seconds: float, ok: bool) -> None:
        self.latencies.append(seconds * 1000)
        self.bad += not ok

    def lost(self) -> None:
        self.open -= 1
        if not self.open:
            self.over.set()


async def _run(port: int, wires: Sequence[bytes], connections: int, count: int, seconds: float) -> Result:
    loop = asyncio.get_running_loop()
    load = _Load(wires, count, seconds)
    load.open = connections
    began = time.perf_counter()
    for _ in range(connections):
        await loop.create_connection(lambda: _Connection(load), "127.0.0.1", port)
    await asyncio.wait_for(load.over.wait(), seconds + 60)
    return Result(time.perf_counter() - began, load.latencies, load.bad)


def _in_process(send: Callable[[Result], None], *arguments: object) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        send(runner.run(_run(*arguments)))  # type: ignore[arg-type]


def run(
    port: int, wires: Sequence[bytes], *, connections: int, count: int, seconds: float = 20, processes: int = 1
) -> Result:
    """Sends at most `count` requests for at most `seconds` over `connections` connections."""
    context = multiprocessing.get_context("spawn")
    pipes, workers = [], []
    for _ in range(processes):
        here, there = context.Pipe(duplex=False)
        arguments = (there.send, port, wires, connections // processes, count // processes, seconds)
        worker = context.Process(target=_in_process, args=arguments)
        worker.start()
        pipes.append(here)
        workers.append(worker)
    results = [pipe.recv() for pipe in pipes]
    for worker in workers:
        worker.join()
    return Result(
        max(one.seconds for one in results), [value for one in results for value in one.latencies],
        sum(one.bad for one in results),
    )  # fmt: skip

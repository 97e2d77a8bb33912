"""Calls that arrive evenly, whatever happened to those before: many open at once, each on a connection of its own."""

import asyncio
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import uvloop


@dataclass
class Seen:
    """What was seen. Latencies in milliseconds."""

    latencies: list[float] = field(default_factory=list)
    bad: int = 0
    most_open: int = 0
    memory_mib: float = 0.0

    def at(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("nan")


async def _one(port: int, wire: bytes, seen: Seen, now_open: list[int]) -> None:
    now_open[0] += 1
    seen.most_open = max(seen.most_open, now_open[0])
    began = time.perf_counter()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(wire)
        head = await reader.readuntil(b"\r\n\r\n")
        seen.latencies.append((time.perf_counter() - began) * 1000)
        seen.bad += not head.startswith(b"HTTP/1.1 200")
        writer.close()
    except (OSError, asyncio.IncompleteReadError):
        seen.bad += 1
    finally:
        now_open[0] -= 1


async def _run(port: int, wire: bytes, count: int, per_second: float) -> Seen:
    seen, now_open = Seen(), [0]
    began = time.perf_counter()
    calls = []
    for number in range(count):
        wait = began + number / per_second - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        calls.append(asyncio.create_task(_one(port, wire, seen, now_open)))
    await asyncio.gather(*calls)
    return seen


def _in_process(send: Callable[[Seen], None], *arguments: Any) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        send(runner.run(_run(*arguments)))


def run(port: int, wire: bytes, *, count: int, per_second: float, memory: Callable[[], float]) -> Seen:
    """Sends `count` calls at a steady rate from a process of its own, and watches the server's memory meanwhile."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    worker = context.Process(target=_in_process, args=(there.send, port, wire, count, per_second))
    worker.start()
    most = 0.0
    while not here.poll(0.2):
        most = max(most, memory())
    seen: Seen = here.recv()
    worker.join()
    seen.memory_mib = most
    return seen

"""What a tenant notices of another one's flood: the latencies of a modest one, alone and beside it.

The modest tenant (B) asks evenly, whatever happened to its earlier requests. The other (A) sends many times what its
limits allow, once evenly and once as fast as the answers come; nearly all of it is refused. A stops and goes on
every second, so what else the machine does meanwhile touches both sides alike. The process that floods is as nice as
can be: it stands for another machine, and what it takes of this one is not what is measured.
"""

import asyncio
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uvloop

from bench.load import request
from bench.row import Row
from bench.servers import bide
from tests.system.tenants import Tenants

GENERATIONS, TASKS = "/openai/images/generations", "/openai/tasks"
PICTURE = {"prompt": "a boat", "model": "dall-e-2", "size": "256x256", "output_format": "jpeg", "async": True}
POLLS_S, SUBMITS_S = 100, 20
"""What B asks for in a second. It has no limits, so that a machine that stalls does not get it refused."""
LIMIT_S = 60
FLOOD_S = 20 * LIMIT_S
"""What A sends in a second, evenly."""
GREED = 16
"""Connections of an A that sends the next request as soon as the last was refused."""
WINDOW_S, WINDOWS = 1.0, 6
"""A floods in every second window."""
SETTLE_S = 0.1
"""After a change nothing is counted for so long."""
START_S = 1.0
P50_GOAL = 1.5

Sent = list[tuple[float, float, bool]]
"""When each request was sent (seconds of the monotonic clock, which processes share), how many milliseconds its
answer took, and whether it was 200."""


def measure(work: Path) -> list[Row]:
    directory = work / "isolation"
    limits = {"*": {"submits_per_s": LIMIT_S, "polls_per_s": LIMIT_S, "concurrent": 0}}
    rows = []
    with bide("serve", directory) as server:
        tenants = Tenants(directory)
        a, b = tenants.add(limits=limits), tenants.add()
        polls, submits = request(TASKS, {"id": "none"}, b.token), request(GENERATIONS, PICTURE, b.token)
        modest = [(polls, POLLS_S), (submits, SUBMITS_S)]
        for what, path, body in (("submits", GENERATIONS, PICTURE), ("polls", TASKS, {"id": "none"})):
            wire = request(path, body, a.token)
            for how, flood in (
                (f"{FLOOD_S // LIMIT_S} times the limit", (_even, server.port, [(wire, FLOOD_S)], True)),
                (f"{GREED} connections, no pause", (_greedy, server.port, wire)),
            ):
                rows += _rows(f"{what}, {how}", (_even, server.port, modest, False), flood)
    return rows


def _rows(what: str, modest: tuple[Any, ...], flood: tuple[Any, ...]) -> list[Row]:
    began = time.monotonic() + START_S
    with ThreadPoolExecutor(2) as both:
        flooding = both.submit(_apart, 19, began, *flood)
        sent = _apart(0, began, *modest)
        refused = sum(not ok for _, _, ok in flooding.result())
    assert all(ok for _, _, ok in sent), "the modest tenant was refused"
    sides: tuple[list[float], list[float]] = ([], [])
    for at, took, _ in sent:
        window, into_s = divmod(at - began, WINDOW_S)
        if into_s > SETTLE_S:
            sides[int(window) % 2].append(took)
    rows = []
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        alone, beside = (sorted(side)[int(len(side) * share)] for side in sides)
        ratio = beside / alone
        asked = name == "p50"
        goal = f"ratio ≤ {P50_GOAL}" if asked else "(shown)"
        rows.append(Row(f"{name} beside a flood: {what}", beside, "ms", goal, ratio <= P50_GOAL or not asked,
                        f"alone {alone:.2f} ms, {refused:,} refused", ratio))  # fmt: skip
    return rows


# -- requests, sent by a process of their own

Free = list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]


def _apart(nice: int, began: float, sends: Callable[..., Any], *arguments: Any) -> Sent:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    worker = context.Process(target=_in_process, args=(there.send, nice, sends, began, *arguments))
    worker.start()
    sent: Sent = here.recv()
    worker.join()
    return sent


def _in_process(send: Callable[[Sent], None], nice: int, sends: Callable[..., Any], *arguments: Any) -> None:
    os.nice(nice)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        send(runner.run(sends(*arguments)))


async def _even(began: float, port: int, wires: list[tuple[bytes, float]], floods: bool) -> Sent:
    """Each of the requests so many times a second; a flood only in every second window."""
    sent: Sent = []
    await asyncio.gather(*(_lane(began, port, wire, per_s, floods, sent) for wire, per_s in wires))
    return sent


async def _lane(began: float, port: int, wire: bytes, per_s: float, floods: bool, sent: Sent) -> None:
    """A request at every due time, on a connection that is free; on a new one when none is."""
    free: Free = []
    calls = []

    async def one() -> None:
        ends = free.pop() if free else await asyncio.open_connection("127.0.0.1", port)
        await _ask(*ends, wire, sent)
        free.append(ends)

    for number in range(int(per_s * WINDOW_S * WINDOWS)):
        due_s = number / per_s
        if floods and int(due_s / WINDOW_S) % 2 == 0:
            continue
        await asyncio.sleep(max(began + due_s - time.monotonic(), 0))
        calls.append(asyncio.create_task(one()))
    await asyncio.gather(*calls)
    for _, writer in free:
        writer.close()


async def _greedy(began: float, port: int, wire: bytes) -> Sent:
    """The next request as soon as the last was answered, in every second window."""
    sent: Sent = []

    async def one() -> None:
        ends = await asyncio.open_connection("127.0.0.1", port)
        for window in range(1, WINDOWS, 2):
            await asyncio.sleep(max(began + window * WINDOW_S - time.monotonic(), 0))
            while time.monotonic() < began + (window + 1) * WINDOW_S:
                await _ask(*ends, wire, sent)
        ends[1].close()

    await asyncio.gather(*(one() for _ in range(GREED)))
    return sent


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wire: bytes, sent: Sent) -> None:
    at = time.monotonic()
    writer.write(wire)
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
    sent.append((at, (time.monotonic() - at) * 1000, head.startswith(b"HTTP/1.1 200")))

"""The figures of the benchmark: each measured beside a yardstick in the same run, so that it holds on a busy machine.

A figure is a function that answers rows; `bench.__main__` prints them and writes them as JSON.
"""

import asyncio
import itertools
import json
import statistics
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import following, growth, open_loop
from bench import isolation as tenants
from bench.load import request, run
from bench.row import Row
from bench.servers import TOKEN, Process, bide, module, post
from tests.system.tenants import Tenants

GENERATIONS, TASKS = "/openai/images/generations", "/openai/tasks"
SMALL = {"prompt": "a boat", "model": "dall-e-2", "size": "256x256", "output_format": "jpeg"}
REPEATS = 3
NewDatabase = Callable[[], str]


def poll(work: Path, new_database: NewDatabase) -> list[Row]:
    """A finished task asked for again and again, against a bare ASGI app that answers the same bytes."""
    with bide("serve", work / "poll") as server:
        token = _tenant(work / "poll")
        ids = [post(server.port, GENERATIONS, {**SMALL, "async": True}, token)["task_id"] for _ in range(200)]
        document = _finished(server, ids[-1], token)
        (work / "document.json").write_bytes(document)
        wires = [request(TASKS, {"id": one}, token) for one in ids]
        with module("yardstick", "poll", work / "document.json") as bare:
            both = [
                (run(server.port, wires, connections=64, count=40_000, seconds=4).per_second,
                 run(bare.port, wires, connections=64, count=40_000, seconds=4).per_second)
                for _ in range(REPEATS)
            ]  # fmt: skip
    ours, theirs = (statistics.median(side) for side in zip(*both, strict=True))
    ratio = statistics.median(one / other for one, other in both)
    return [
        Row("poll of a finished task, one process", ours, "/s", "ratio ≥ 0.6", ratio >= 0.6,
            f"bare ASGI {theirs:,.0f}/s", ratio),
        Row("poll of a finished task, absolute", ours, "/s", "≥ 8,000", ours >= 8_000),
    ]  # fmt: skip


def _tenant(directory: Path, database_url: str = "") -> str:
    """The token of a tenant whose limits are counted, and high."""
    limits = {"*": {"submits_per_s": 1_000_000, "polls_per_s": 1_000_000, "concurrent": 0}}
    return Tenants(directory, database_url).add(credits=1_000_000_000, limits=limits).token


def _finished(server: Process, task_id: str, token: str) -> bytes:
    for _ in range(600):
        document = post(server.port, TASKS, {"id": task_id}, token)
        if document.get("finished_at"):
            return json.dumps(document).encode()
        time.sleep(0.05)
    raise TimeoutError(task_id)


def submit(work: Path, new_database: NewDatabase) -> list[Row]:
    """Submit in callback mode against a bare ASGI app with one durable insert per request."""
    rows = []
    for name, more in (("SQLite", {}), ("PostgreSQL", {"database_url": new_database()})):
        counter = itertools.count()
        with bide("api", work / f"submit-{name}", **more) as server:
            token = _tenant(work / f"submit-{name}", more.get("database_url", ""))
            wires = [request(GENERATIONS, {**SMALL, "callback_url": "http://127.0.0.1:9/x"}, token)]
            both = []
            for _ in range(REPEATS):
                ours = run(server.port, wires, connections=64, count=20_000, seconds=4)
                with module("yardstick", "submit", work / f"bare-{name}-{next(counter)}.db") as bare:
                    theirs = run(bare.port, wires, connections=64, count=20_000, seconds=4)
                both.append((ours.per_second, theirs.per_second))
                assert not ours.bad, f"{ours.bad} submits failed"
        ours_s, theirs_s = (statistics.median(side) for side in zip(*both, strict=True))
        ratio = statistics.median(one / other for one, other in both)
        rows.append(Row(f"submit in callback mode, {name}, one process", ours_s, "/s", "≥ 4,000", ours_s >= 4_000,
                        f"bare ASGI + SQLite group commit {theirs_s:,.0f}/s", ratio))  # fmt: skip
    return rows


def throughput(work: Path, new_database: NewDatabase) -> list[Row]:
    """Tasks from submit to settled: the time from the first submit until the last task has ended."""
    count = 6_000
    wires = [request(GENERATIONS, {**SMALL, "async": True}, TOKEN)]
    rows = []
    setups: list[tuple[str, list[tuple[str, tuple[str, ...]]], dict[str, Any]]] = [
        ("SQLite, serve", [("serve", ())], {}),
        ("PostgreSQL, serve with 3 processes", [("serve", ("--processes", "3"))], {"database_url": new_database()}),
    ]
    for name, roles, more in setups:
        (role, arguments), *_ = roles
        with bide(role, work / f"throughput-{role}-{len(arguments)}", *arguments, **more) as server:
            began = time.perf_counter()
            sent = run(server.port, wires, connections=64, count=count, seconds=60)
            while post(server.port, TASKS, {"action": "retrieve_batch", "limit": 1})["count"] < count or _open(
                server
            ):
                time.sleep(0.05)
            seconds = time.perf_counter() - began
        assert not sent.bad
        rows.append(Row(f"tasks finished, submit to settled, {name}", count / seconds, "/s", "≥ 1,500",
                        count / seconds >= 1_500))  # fmt: skip
    return rows


def _open(server: Process) -> int:
    """Unfinished tasks, from the metrics page."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(int(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("bide_open_tasks{"))


def inline(work: Path, new_database: NewDatabase) -> list[Row]:
    """A call that waits, through `openai_images` to a fixed upstream that answers at once."""
    with module("upstream", 0, 200) as upstream, bide("serve", work / "inline", upstream=upstream.port) as server:
        direct = [request("/v1/images/generations", SMALL, TOKEN)]
        through = [request(GENERATIONS, SMALL, TOKEN)]
        added, rates = [], []
        for _ in range(REPEATS):
            theirs = run(upstream.port, direct, connections=1, count=1_000, seconds=4)
            ours = run(server.port, through, connections=1, count=1_000, seconds=4)
            added.append(ours.p50 - theirs.p50)
            many = run(server.port, through, connections=32, count=5_000, seconds=6)
            assert not ours.bad
            assert not many.bad
            rates.append(many.per_second)
    p50, rate = statistics.median(added), statistics.median(rates)
    return [
        Row("inline call, added p50 at one connection", p50, "ms", "≤ 2", p50 <= 2, f"direct {theirs.p50:.2f} ms"),
        Row("inline calls at 32 connections, one process", rate, "/s", "≥ 1,000", rate >= 1_000),
    ]


def base64(work: Path, new_database: NewDatabase) -> list[Row]:
    """A 2 MiB base64 answer passed through: what the upstream sends, against what the caller gets."""
    body = {**SMALL, "response_format": "b64_json"}
    wires, rows = [request(GENERATIONS, body, TOKEN)], []
    with module("upstream", 0, 2 * 1024 * 1024) as upstream:
        direct = [request("/v1/images/generations", body, TOKEN)]
        for processes in (1, 2):
            with bide(
                "serve", work / f"base64-{processes}", "--processes", str(processes), upstream=upstream.port
            ) as server:
                before = server.memory_mib()
                theirs = run(upstream.port, direct, connections=8, count=2_000, seconds=4)
                ours = [run(server.port, wires, connections=8, count=2_000, seconds=5) for _ in range(REPEATS)]
                grown = server.memory_mib() - before
            assert not any(one.bad for one in ours)
            rate = statistics.median(one.per_second for one in ours)
            rows += [
                Row(f"2 MiB base64 passed through, 8 connections, {processes} process(es)", rate, "/s", "≥ 250",
                    rate >= 250, f"upstream direct {theirs.per_second:,.0f}/s", rate / theirs.per_second),
                Row("memory grown by it", grown, "MiB", "≤ 8 connections × 8 MiB", grown <= 64),
            ]  # fmt: skip
    return rows


def in_flight(work: Path, new_database: NewDatabase) -> list[Row]:
    """5,000 waiting calls on an upstream that takes 5 s, arriving evenly; what the gateway adds."""
    with module("upstream", 5, 200) as upstream, bide("serve", work / "flight", upstream=upstream.port) as server:
        wire = request(GENERATIONS, SMALL, TOKEN)
        seen = open_loop.run(server.port, wire, count=9_000, per_second=1_000, memory=server.memory_mib)
    added = seen.at(0.99) - 5_000
    return [
        Row("calls in flight at once, one process", seen.most_open, "calls", "≥ 4,900", seen.most_open >= 4_900),
        Row("memory with them", seen.memory_mib, "MiB", "< 250", seen.memory_mib < 250),
        Row("added p99", added, "ms", "< 100", added < 100 and not seen.bad, f"{seen.bad} failed"),
    ]


def rest(work: Path, new_database: NewDatabase) -> list[Row]:
    """Start and idle memory."""
    times, memory = [], 0.0
    for number in range(REPEATS):
        began = time.perf_counter()
        with bide("serve", work / f"rest-{number}") as server:
            times.append(time.perf_counter() - began)
            time.sleep(1)
            memory = server.memory_mib()
    start = statistics.median(times)
    return [
        Row("start until ready", start, "s", "< 1.5", start < 1.5),
        Row("memory when idle", memory, "MiB", "< 80", memory < 80),
    ]


def rows_grow(work: Path, new_database: NewDatabase) -> list[Row]:
    """Claim, retrieve and batch with 1,000 and with 1,000,000 finished tasks in the table."""
    return asyncio.run(growth.measure(work, [new_database(), new_database()]))


def isolation(work: Path, new_database: NewDatabase) -> list[Row]:
    """A modest tenant beside one that floods far above its limits."""
    return tenants.measure(work)


def open_works(work: Path, new_database: NewDatabase) -> list[Row]:
    """10,000 works open at an upstream, followed by one worker."""
    rows = following.measure(work / "open-sqlite", "", "SQLite")
    return rows + following.measure(work / "open-postgres", new_database(), "PostgreSQL")


FIGURES: dict[str, Callable[[Path, NewDatabase], list[Row]]] = {
    "rest": rest, "poll": poll, "submit": submit, "throughput": throughput, "inline": inline, "base64": base64,
    "in_flight": in_flight, "isolation": isolation, "open_works": open_works, "rows": rows_grow,
}  # fmt: skip

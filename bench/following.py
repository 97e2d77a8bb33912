"""Many works that are open at an upstream at once, followed by one worker: how late their ends are discovered.

A poll that comes exactly when it is planned finds an end after at most the interval of its polls, which grows with
the age of the work and may be a tenth longer by chance. The goal leaves half an interval for being late.
"""

import json
import statistics
import time
import urllib.request
from pathlib import Path
from typing import Any

from bench.load import request, run
from bench.row import Row
from bench.servers import TOKEN, bide, module

COUNT = 10_000
SHORTEST_S, LONGEST_S = 45.0, 75.0
"""How long the works take: all of them are open for a while, then they end evenly."""
INTERVAL_S = 15.0
"""Between two polls of a work as old as these (the cap of the dialect)."""
SECONDS_MAX = 240


def measure(work: Path, database_url: str, name: str) -> list[Row]:
    with module("relay") as upstream:
        _channel(work, upstream.port)
        with (
            bide("api", work, database_url=database_url, config=work / "bide.toml") as front,
            bide("worker", work, database_url=database_url, config=work / "bide.toml") as worker,
        ):
            wires = [
                request("/flux/images", {"prompt": f"{_takes_s(number):.2f}", "async": True}, TOKEN)
                for number in range(1_000)
            ]
            sent = run(front.port, wires, connections=32, count=COUNT, seconds=60)
            assert not sent.bad
            began, cpu_s, most_open, memory = time.monotonic(), worker.cpu_s(), 0, 0.0
            while (seen := _lags(upstream.port))["open"] or len(seen["seen"]) < COUNT:
                assert time.monotonic() - began < SECONDS_MAX, f"{seen['open']} works are open still"
                most_open, memory = max(most_open, seen["open"]), max(memory, worker.memory_mib())
                time.sleep(1)
            busy = (worker.cpu_s() - cpu_s) / (time.monotonic() - began)
    late = sorted(lag for lag, _ in seen["seen"])
    intervals = statistics.median(interval for _, interval in seen["seen"])
    p99 = late[int(len(late) * 0.99)]
    about = f"p50 {statistics.median(late):.1f} s, polls {intervals:.1f} s apart, {busy:.0%} of a core"
    return [
        Row(f"upstream works open at once, one worker, {name}", most_open, "works", "≥ 9,000", most_open >= 9_000,
            f"{memory:.0f} MiB"),
        Row(f"their end discovered, p99, {name}", p99, "s", "≤ 1.5 × interval", p99 <= 1.5 * INTERVAL_S,
            about, p99 / INTERVAL_S),
    ]  # fmt: skip


def _takes_s(number: int) -> float:
    return SHORTEST_S + (LONGEST_S - SHORTEST_S) * number / 1_000


def _channel(directory: Path, port: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "bide.toml").write_text(
        f'[[channels]]\nname = "local"\nprovider = "ace_relay"\nbase_url = "http://127.0.0.1:{port}"\nkey = "k"\n'
    )


def _lags(port: int) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/lags", timeout=30) as answer:
        return json.loads(answer.read())

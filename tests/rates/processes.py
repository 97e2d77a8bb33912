"""Processes that share a rate, started together and always ended; and what their answers must add up to."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def python(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process of this Python, once it has said its first line."""
    process = subprocess.Popen([sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        process.first_line = process.stdout.readline().strip()  # type: ignore[attr-defined]
        yield process
    finally:
        process.kill()
        process.communicate()


def hammer(directories: list[Path], url: str, per_s: float, seconds: float) -> list[dict[str, Any]]:
    """What one process per directory was given, all asking for the same key at the same time."""
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(python("-m", "tests.rates.hammer", str(directory), url, str(per_s), str(seconds)))
            for directory in directories
        ]
        for process in started:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        return [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]


def bounds(answers: list[dict[str, Any]], per_s: float, burst: int) -> tuple[float, float, float]:
    """The least that was due, what was admitted, and the most that could be."""
    around = max(one["last"] for one in answers) - min(one["first"] for one in answers)
    within = min(one["last"] for one in answers) - max(one["first"] for one in answers)
    return burst + per_s * within, sum(one["admitted"] for one in answers), burst + per_s * around

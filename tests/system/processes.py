"""Real processes of the program, from outside: started on a free port, killed or stopped, and always ended.

    with running("serve", directory) as serve:
        serve.client().post("/openai/images/generations", {"prompt": "a boat"})
        serve.kill()

Everything a process writes goes to a file of its own, so it never blocks on a full pipe.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from tests.system.client import Client

TOKEN = "0123456789abcdef0123456789abcdef"
START_S = 120.0
"""Seconds a start may take here, on a machine that does other things too."""

T = TypeVar("T")


def until(look: Callable[[], T | None], seconds_max: float, what: str = "") -> T:
    """What `look` answers as soon as it is true; fails when it is not within `seconds_max`."""
    end = time.monotonic() + seconds_max
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"waited {seconds_max:g} s for {what or 'a condition'} in vain"
        time.sleep(0.02)


def environment(directory: Path, **settings: object) -> dict[str, str]:
    """The environment of a process whose files are below `directory`; settings without the prefix `BIDE_`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BIDE_")}
    values: dict[str, object] = {
        "data_dir": directory / "data", "bootstrap_token": TOKEN, "log_format": "json", "sandbox_delay_s": 0,
        "callback_allow_private": "127.0.0.0/8,::1/128", **settings,
    }  # fmt: skip
    return inherited | {f"BIDE_{name.upper()}": str(value) for name, value in values.items() if value is not None}


class Process:
    """One started program. `url` is known once it listens."""

    def __init__(self, role: str, directory: Path, arguments: tuple[str, ...], settings: dict[str, object]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.role = role
        self.log = directory / f"{role}-{time.time_ns()}.log"
        command = [sys.executable, "-m", "bide", role, *arguments]
        if role != "worker" and "--port" not in arguments:
            command += ["--port", "0"]
        with self.log.open("wb") as out:
            self._process = subprocess.Popen(
                command, cwd=directory, env=environment(directory, **settings), stdin=subprocess.DEVNULL,
                stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.pid = self._process.pid
        self.url = ""

    def output(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def events(self, event: str) -> list[dict[str, object]]:
        """The log lines of an event."""
        found = []
        for line in self.output().splitlines():
            if line.startswith("{") and line.endswith("}"):
                entry = json.loads(line)
                if entry.get("event") == event:
                    found.append(entry)
        return found

    def wait_ready(self) -> "Process":
        """Returns when it works, or listens and answers `/readyz`. Fails with its output if it ended instead."""
        wanted = "worker is ready" if self.role == "worker" else "listening"
        entry = until(lambda: self._first(wanted), START_S, wanted)
        assert entry is not None
        if self.role != "worker":
            self.url = f"http://127.0.0.1:{entry['port']}"
            until(self._answers_ready, START_S, "/readyz")
        return self

    def _first(self, event: str) -> dict[str, object] | None:
        found = self.events(event)
        assert found or self._process.poll() is None, f"{self.role} ended with {self.code}:\n{self.output()}"
        return found[0] if found else None

    def _answers_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def client(self, token: str | None = TOKEN, *, checked: bool = False) -> Client:
        """A client of this server; `checked` holds every answer against `/openapi.json`."""
        return Client(self.url, token, checked=checked)

    @property
    def code(self) -> int | None:
        """How it ended, or None while it runs."""
        return self._process.poll()

    def children(self) -> list[int]:
        """Processes it started that are alive (Linux)."""
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in listed.split() if is_alive(int(pid))]

    def memory_mib(self, name: str = "VmHWM") -> float:
        """The most memory it ever had resident, in MiB (Linux)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        match = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
        assert match is not None
        return int(match[1]) / 1024

    def kill(self) -> None:
        """kill -9, and nothing before it."""
        self._process.kill()
        self._process.wait(10)

    def terminate(self) -> None:
        """SIGTERM; `wait` answers the exit code."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds_max: float = 30.0) -> int:
        return self._process.wait(seconds_max)

    def end(self) -> None:
        """Whatever is left of it goes: the process and what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(10)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be asked for its exit code does not (Linux)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextlib.contextmanager
def started(role: str, directory: Path, *arguments: str, **settings: object) -> Iterator[Process]:
    """A process that was started and may not be ready yet, or never."""
    process = Process(role, directory, arguments, settings)
    try:
        yield process
    finally:
        process.end()


@contextlib.contextmanager
def running(role: str, directory: Path, *arguments: str, **settings: object) -> Iterator[Process]:
    """A process that is ready: settings are given without their prefix, `request_read_s=2`; None unsets one."""
    with started(role, directory, *arguments, **settings) as process:
        yield process.wait_ready()


def channel(directory: Path, base_url: str, **fields: object) -> Path:
    """Writes a `bide.toml` with one OpenAI-compatible channel into `directory`; processes there read it."""
    directory.mkdir(parents=True, exist_ok=True)
    values = {"name": "upstream", "provider": "openai_images", "base_url": base_url, "key": "sk-test", **fields}
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    path = directory / "bide.toml"
    path.write_text("[[channels]]\n" + "\n".join(lines) + "\n", "utf-8")
    return path

"""What the benchmark measures, as real processes on loopback: bide itself, bare yardsticks, a fixed upstream."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TOKEN = "benchmark-token-0123456789"
ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


class Process:
    """A child process and the port it listens on."""

    def __init__(self, arguments: list[str], port: int, environment: dict[str, str] | None = None) -> None:
        self.port = port
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BIDE_")}
        clean.pop("PYTHONDONTWRITEBYTECODE", None)
        self._child = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=ROOT, env=clean | (environment or {}),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def wait_for(self, path: str, seconds: float = 30) -> float:
        """Seconds until a GET of the path is answered with 200."""
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            with (
                contextlib.suppress(OSError, urllib.error.URLError),
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer,
            ):
                if answer.status == 200:
                    return time.perf_counter() - began
            if self._child.poll() is not None:
                raise RuntimeError(f"the process ended with {self._child.returncode}")
            time.sleep(0.005)
        raise TimeoutError(path)

    def pids(self) -> list[int]:
        """The process and its children."""
        found = [self._child.pid]
        children = Path(f"/proc/{self._child.pid}/task/{self._child.pid}/children")
        if children.exists():
            found += [int(pid) for pid in children.read_text().split()]
        return found

    def memory_mib(self) -> float:
        """Resident memory of all its processes."""
        total = 0
        for pid in self.pids():
            status = Path(f"/proc/{pid}/status").read_text()
            total += next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        return total / 1024

    def cpu_s(self) -> float:
        """User and system time of all its processes."""
        ticks = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.wait(10)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()


@contextlib.contextmanager
def bide(role: str, directory: Path, *more: str, upstream: int | None = None, **settings: Any) -> Iterator[Process]:
    """A process of the gateway with its keys, its durable writes and everything else switched on."""
    directory.mkdir(parents=True, exist_ok=True)
    environment = {
        "BIDE_DATA_DIR": str(directory / "data"), "BIDE_BOOTSTRAP_TOKEN": TOKEN, "BIDE_SANDBOX_DELAY_S": "0",
        "BIDE_CALLBACK_ALLOW_PRIVATE": "127.0.0.0/8", "BIDE_LOG_LEVEL": "warning",
    } | {f"BIDE_{name.upper()}": str(value) for name, value in settings.items()}  # fmt: skip
    if upstream is not None:
        config = directory / "bide.toml"
        config.write_text(
            f'[[channels]]\nname = "local"\nprovider = "openai_images"\nbase_url = "http://127.0.0.1:{upstream}/v1"\n'
        )
        environment["BIDE_CONFIG"] = str(config)
    port = free_port() if role != "worker" else 0
    listen = ["--port", str(port)] if port else []
    process = Process(["bide", role, *listen, *more], port, environment)
    try:
        if port:
            process.wait_for("/readyz")
        yield process
    finally:
        process.end()


@contextlib.contextmanager
def module(name: str, *arguments: object) -> Iterator[Process]:
    """A yardstick or an upstream: `python -m bench.NAME PORT …`."""
    port = free_port()
    process = Process([f"bench.{name}", str(port), *map(str, arguments)], port)
    try:
        process.wait_for("/")
        yield process
    finally:
        process.end()


def post(port: int, path: str, body: object, token: str = TOKEN) -> Any:
    wire = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(),
        {"authorization": f"Bearer {token}", "content-type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(wire, timeout=60) as answer:
        return json.loads(answer.read())

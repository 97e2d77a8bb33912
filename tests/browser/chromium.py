"""A real Chromium without a window, spoken to over two pipes in its own protocol (CDP): one JSON document after
another, each ended by a zero byte. No port is opened, and nothing but the loopback is reached.

    with browser() as chromium:
        page = chromium.page()
        page.open("http://127.0.0.1:8080/docs")
        page.evaluate("document.title")
"""

import contextlib
import fcntl
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

LIMIT_S = 60.0
"""Seconds that anything may take here, on a machine that does other things too."""
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
    "--autoplay-policy=no-user-gesture-required", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1280,900", "about:blank",
)  # fmt: skip
_START = """import os, sys
_, reads, writes, *command = sys.argv
os.dup2(int(reads), 3)
os.dup2(int(writes), 4)
os.execv(command[0], command)
"""


def program() -> str | None:
    """Where a Chromium is, if there is one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Chromium:
    """A running browser. `events` are all it has said by itself, each as (session, method, parameters)."""

    def __init__(self, directory: Path) -> None:
        path = program()
        assert path is not None
        reads, self._out = os.pipe()
        self._in, writes = os.pipe()
        theirs = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 10) for one in (reads, writes)]
        profile = f"--user-data-dir={directory}/profile"
        command = [sys.executable, "-c", _START, *map(str, theirs), path, *FLAGS, profile]
        with (directory / "chromium.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=theirs, start_new_session=True,
                env=os.environ | {"TMPDIR": str(directory), "HOME": str(directory), "LC_ALL": "C.UTF-8"},
            )  # fmt: skip
        for one in (reads, writes, *theirs):
            os.close(one)
        self._log, self._rest, self._asked = directory / "chromium.log", bytearray(), 0
        self._answers: dict[int, Any] = {}
        self.events: list[tuple[str, str, Any]] = []

    def ask(self, method: str, parameters: Mapping[str, Any] | None = None, session: str = "") -> Any:
        """The answer to one command; fails with what Chromium says against it."""
        self._asked += 1
        said = {"id": self._asked, "method": method, "params": parameters or {}}
        data = json.dumps(said | ({"sessionId": session} if session else {})).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        end = time.monotonic() + LIMIT_S
        while self._asked not in self._answers:
            self._listen(end, method)
        answer = self._answers.pop(self._asked)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def heard(self, session: str, method: str) -> list[Any]:
        """The parameters of all events of one kind so far."""
        return [parameters for by, name, parameters in self.events if (by, name) == (session, method)]

    def wait(self, session: str, method: str) -> None:
        """Until an event of that kind has been heard."""
        end = time.monotonic() + LIMIT_S
        while not self.heard(session, method):
            self._listen(end, method)

    def page(self) -> "Page":
        """A new empty one."""
        return Page(self)

    def _listen(self, end: float, what: str) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(self._in, selectors.EVENT_READ)
            assert ready.select(max(0.0, end - time.monotonic())), f"{LIMIT_S:g} s without an answer to {what}"
        data = os.read(self._in, 1 << 20)
        assert data, f"Chromium has ended:\n{self._log.read_text('utf-8', 'replace')[-2000:]}"
        self._rest += data
        *whole, self._rest = self._rest.split(b"\0")
        for one in map(json.loads, whole):
            if "id" in one:
                self._answers[one["id"]] = one
            else:
                self.events.append((one.get("sessionId", ""), one["method"], one["params"]))

    def end(self) -> None:
        """It is asked to go; whatever is left of it goes anyway."""
        with contextlib.suppress(AssertionError, OSError):
            self.ask("Browser.close")
            self.process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        os.close(self._out)
        os.close(self._in)


class Page:
    """One tab."""

    def __init__(self, chromium: Chromium) -> None:
        target = chromium.ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = chromium.ask("Target.attachToTarget", {"targetId": target, "flatten": True})
        self._chromium, self._session = chromium, str(attached["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> Any:
        return self._chromium.ask(method, parameters, self._session)

    def open(self, url: str) -> None:
        """Goes there; returns when it has loaded."""
        self._chromium.events = [one for one in self._chromium.events if one[0] != self._session]
        answer = self.ask("Page.navigate", url=url)
        assert "errorText" not in answer, f"{url}: {answer['errorText']}"
        if "loaderId" in answer:  # else only the part behind # is another
            self._chromium.wait(self._session, "Page.loadEventFired")

    def evaluate(self, script: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        answer = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def requests(self) -> list[str]:
        """The addresses asked since it was opened."""
        return [one["request"]["url"] for one in self._chromium.heard(self._session, "Network.requestWillBeSent")]

    def complaints(self) -> list[str]:
        """Errors and warnings in its console, and errors of its scripts, since it was opened."""
        logged = [one["entry"] for one in self._chromium.heard(self._session, "Log.entryAdded")]
        thrown = self._chromium.heard(self._session, "Runtime.exceptionThrown")
        said = self._chromium.heard(self._session, "Runtime.consoleAPICalled")
        return [
            *(f"{one['level']}: {one['text']} {one.get('url', '')}" for one in logged if one["level"] != "verbose"),
            *(json.dumps(one) for one in thrown),
            *(json.dumps(one["args"]) for one in said if one["type"] in ("error", "warning", "assert")),
        ]


@contextlib.contextmanager
def browser() -> Iterator[Chromium]:
    """A browser whose files are gone when it is."""
    with tempfile.TemporaryDirectory(prefix="bide-chromium-", ignore_cleanup_errors=True) as directory:
        chromium = Chromium(Path(directory))
        try:
            yield chromium
        finally:
            chromium.end()

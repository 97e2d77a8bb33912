"""`bide demo`: one picture from its submission to its callback, on a gateway that is thrown away after.

The gateway is a real `bide serve` with its own directory and its own port; the receiver of the callback is a
small server in this process. Everything goes over HTTP, as it would for any caller.
"""

import contextlib
import io
import json
import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
from PIL import Image

from bide.cli.shared import CommandError, one_sentence, plain

LIMIT_S = 60.0
"""Seconds after which the demonstration gives up."""

DELAY_S = 2
"""Seconds the sandbox works on the picture: time to see polls that find it unfinished."""

POLL_S = 0.4
END_S = 10.0
"""Seconds the gateway has to end by itself."""

CALLBACK_BYTES_MAX = 1024 * 1024
PROMPT = "a lighthouse at dusk"


@click.command()
@click.option(
    "--keep", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), default=Path(),
    help="Where to write the picture; made if it is not there. Without it: the current directory.",
)  # fmt: skip
@one_sentence
def demo(keep: Path) -> None:
    """Shows one picture from its submission to its callback.

    Starts a gateway in a temporary directory and a receiver of callbacks, both on free ports of the loopback,
    and ends both. No key and no network are needed: the picture comes from the sandbox.
    """
    try:
        keep.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"--keep: {error.strerror}: {keep}") from None
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ended_by_sigterm())
        line = stack.enter_context(_Line())
        receiver = stack.enter_context(_receiving())
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bide-demo-")))
        gateway = stack.enter_context(_serving(directory))
        _show(line, gateway, receiver, keep)
    click.echo("The gateway has ended and its data is gone; 'bide serve' starts one that stays.")


def _show(line: "_Line", gateway: "_Gateway", receiver: "_Receiver", keep: Path) -> None:
    started = time.monotonic()
    line.progress("starting a gateway")
    gateway.wait_ready()
    line.done(f"gateway   {gateway.url} answers after {time.monotonic() - started:.1f} s")
    line.done(f"receiver  {receiver.url}")
    submitted = time.monotonic()
    accepted = gateway.post("/openai/images/generations", {"prompt": PROMPT, "callback_url": receiver.url})
    task_id = str(accepted["task_id"])
    line.done(f"submit    POST /openai/images/generations: task {task_id}")
    response = _poll(line, gateway, task_id, submitted)
    line.progress("waiting for the callback")
    callback = receiver.wait(task_id, gateway.left_s)
    line.done(
        f"callback  webhook-id {plain(callback.webhook_id)}, {callback.at - submitted:.1f} s after the submission,"
        f" success {json.dumps(callback.body.get('success'))}"
    )
    url = str(response["data"][0]["url"])
    path, about = _save(gateway.get(url), keep, task_id)
    line.done(f"picture   {path} ({about})")


def _poll(line: "_Line", gateway: "_Gateway", task_id: str, submitted: float) -> dict[str, Any]:
    """Asks for the task until it has ended, and answers its response."""
    polls = 0
    while True:
        document = gateway.post("/openai/tasks", {"action": "retrieve", "id": task_id})
        polls += 1
        elapsed = time.monotonic() - submitted
        if "finished_at" in document:
            break
        line.progress(f"poll {polls}    {elapsed:.1f} s: no result yet")
        gateway.pause(POLL_S)
    response: dict[str, Any] = document["response"]
    if not response.get("success"):
        raise CommandError(f"the task failed: {response.get('error', {}).get('message')}")
    line.done(f"poll {polls}    {elapsed:.1f} s: finished, it took {document['duration']:.3f} s")
    return response


def _save(data: bytes, keep: Path, task_id: str) -> tuple[Path, str]:
    """Writes the picture to a file of its own, and answers where and what it is."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            kind, (width, height) = str(picture.format), picture.size
    except (OSError, SyntaxError, ValueError) as error:
        raise CommandError(f"what came is no picture: {error}") from None
    path = (keep / f"bide-demo-{task_id[-12:]}.{kind.lower()}").resolve()
    try:
        path.write_bytes(data)
    except OSError as error:
        raise CommandError(f"the picture cannot be written: {error.strerror}: {path}") from None
    return path, f"{width}x{height} {kind}, {len(data):,} bytes"


# -- what is seen


class _Line:
    """Lines of the demonstration. On a terminal, one of progress is replaced by the next."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._dirty = False

    def progress(self, text: str) -> None:
        if self._live:
            click.echo(f"\r\x1b[K{text}", nl=False)
            self._dirty = True
        else:
            click.echo(text)

    def done(self, text: str) -> None:
        self._clear()
        click.echo(text)

    def _clear(self) -> None:
        if self._dirty:
            click.echo("\r\x1b[K", nl=False)
            self._dirty = False

    def __enter__(self) -> "_Line":
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()


# -- the receiver


@dataclass(frozen=True, slots=True)
class _Callback:
    at: float
    """Monotonic seconds."""
    webhook_id: str
    body: dict[str, Any]


class _Receiver(ThreadingHTTPServer):
    """Takes callbacks at one path that nobody can guess."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.path = f"/callback/{secrets.token_hex(16)}"
        self.url = f"http://127.0.0.1:{self.server_address[1]}{self.path}"
        self.arrived: queue.SimpleQueue[_Callback] = queue.SimpleQueue()

    def wait(self, task_id: str, seconds_max: float) -> _Callback:
        """The callback of a task."""
        try:
            callback = self.arrived.get(timeout=seconds_max)
        except queue.Empty:
            raise CommandError(f"no callback came within {LIMIT_S:g} s") from None
        if callback.body.get("task_id") != task_id:
            raise CommandError("the callback that came is of another task")
        return callback


class _Handler(BaseHTTPRequestHandler):
    server: _Receiver
    timeout = 10

    def do_POST(self) -> None:
        size = self.headers.get("content-length", "")
        if self.path != self.server.path or not size.isdigit() or int(size) > CALLBACK_BYTES_MAX:
            self.send_error(404)
            return
        try:
            body = json.loads(self.rfile.read(int(size)))
        except ValueError:
            body = None
        if not isinstance(body, dict):
            self.send_error(400)
            return
        self.send_response(204)
        self.end_headers()
        callback = _Callback(time.monotonic(), self.headers.get("webhook-id", ""), body)
        self.server.arrived.put(callback)

    def log_message(self, format: str, *args: Any) -> None:
        """What came is shown by the demonstration itself."""


@contextlib.contextmanager
def _receiving() -> Iterator[_Receiver]:
    with _Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.shutdown()
            thread.join()


# -- the gateway


class _Gateway:
    """A running gateway and a client of it. Raises `CommandError` once the time of the demonstration is up."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str, token: str, log: Path) -> None:
        self.url = url
        self._process, self._token, self._log = process, token, log
        self._end = time.monotonic() + LIMIT_S
        # Proxies of the environment are not asked: all of this is on the loopback.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    @property
    def left_s(self) -> float:
        """Seconds that are left."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise CommandError(f"the demonstration did not end within {LIMIT_S:g} s")
        return left

    def pause(self, seconds: float) -> None:
        time.sleep(min(seconds, self.left_s))

    def wait_ready(self) -> None:
        """Its socket is open from the beginning, so a request simply waits until somebody answers."""
        while True:
            self._check_alive()
            with contextlib.suppress(OSError, HTTPException):
                self._opener.open(f"{self.url}/readyz", timeout=self.left_s).close()
                return
            self.pause(0.05)

    def _check_alive(self) -> None:
        if self._process.poll() is not None:
            lines = self._log.read_text("utf-8", "replace").strip().splitlines()
            said = f": {lines[-1].removeprefix('bide: ')}" if lines else ""
            raise CommandError(f"the gateway ended with code {self._process.returncode}{said}")

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.url}{path}", json.dumps(body).encode(),
            {"authorization": f"Bearer {self._token}", "content-type": "application/json"},
        )  # fmt: skip
        answer: dict[str, Any] = json.loads(self._open(request))
        return answer

    def get(self, url: str) -> bytes:
        return self._open(urllib.request.Request(url))

    def _open(self, request: urllib.request.Request) -> bytes:
        try:
            with self._opener.open(request, timeout=self.left_s) as answer:
                data: bytes = answer.read()
                return data
        except urllib.error.HTTPError as error:
            with error:
                raise CommandError(f"the gateway answered {error.code}: {_message(error.read())}") from None
        except (OSError, HTTPException) as error:
            self._check_alive()
            raise CommandError(f"the gateway did not answer: {error}") from None


def _message(body: bytes) -> str:
    """What an error answer says."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")


@contextlib.contextmanager
def _serving(directory: Path) -> Iterator[_Gateway]:
    """`bide serve` in a directory, with a socket that we opened: so its port is known, and free."""
    token, log = secrets.token_hex(16), directory / "log"
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener, log.open("wb") as out:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-m", "bide", "serve"], cwd=directory, env=_environment(token, listener),
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, pass_fds=(listener.fileno(),),
        )  # fmt: skip
    try:
        yield _Gateway(process, url, token, log)
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment(token: str, listener: socket.socket) -> dict[str, str]:
    """Ours without any setting of the user's gateway."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BIDE_")}
    return kept | {
        "BIDE_CHILD": f"0:{listener.fileno()}:{os.getpid()}",
        "BIDE_DATA_DIR": "data",
        "BIDE_BOOTSTRAP_TOKEN": token,
        "BIDE_CALLBACK_ALLOW_PRIVATE": "127.0.0.0/8",
        "BIDE_SANDBOX_DELAY_S": str(DELAY_S),
        "BIDE_STOP_GRACE_S": "1",
    }


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """A demonstration that is told to end leaves nothing behind."""

    def end(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

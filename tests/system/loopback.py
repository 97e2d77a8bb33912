"""Real servers on the loopback for the gateway to talk to: a receiver of callbacks, an upstream, pictures.

Each runs in threads of this process and records all that came, in the order it came.
"""

import base64
import contextlib
import io
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image


def picture(width: int = 64, height: int = 64, kind: str = "PNG", *, alpha: bool = False) -> bytes:
    """A picture of one colour; with `alpha`, its left half is transparent."""
    image = Image.new("RGBA" if alpha else "RGB", (width, height), "#3366cc")
    if alpha:
        image.paste((0, 0, 0, 0), (0, 0, width // 2, height))
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


@dataclass(frozen=True)
class Received:
    """One POST as it came: when (Unix seconds), where, and with what."""

    at: float
    path: str
    headers: dict[str, str]
    json: Any


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in the middle is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def read(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def answer(self, status: int, body: bytes = b"", content_type: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextlib.contextmanager
def _serving(handler: type[_Handler]) -> Iterator[str]:
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(10)


class Receiver:
    """Takes every callback; `url` is where."""

    def __init__(self, url: str, received: list[Received]) -> None:
        self.url, self._received = url, received

    def all(self) -> list[Received]:
        return list(self._received)

    def of(self, task_id: str) -> list[Received]:
        return self.by_task().get(task_id, [])

    def by_task(self) -> dict[str, list[Received]]:
        """What came for each task, in order."""
        found: dict[str, list[Received]] = {}
        for one in self.all():
            found.setdefault(one.json["task_id"], []).append(one)
        return found


@contextlib.contextmanager
def receiver(*, holds_first: bool = False) -> Iterator[Receiver]:
    """A receiver that answers 204 to everything, but its first answer only at the end if it `holds_first`."""
    received: list[Received] = []
    ended = threading.Event()

    class Handler(_Handler):
        def do_POST(self) -> None:
            body = self.read()
            headers = {name.lower(): value for name, value in self.headers.items()}
            received.append(Received(time.time(), self.path, headers, json.loads(body)))
            if holds_first and len(received) == 1:
                ended.wait(60)
            self.answer(204)

    with _serving(Handler) as url:
        try:
            yield Receiver(url, received)
        finally:
            ended.set()


class Upstream:
    """An OpenAI-compatible server that counts: `asked` has how often each prompt came.

    Words in the prompt steer it: `[hold]` answers only after `release` was set.
    """

    def __init__(self, delay_s: tuple[float, float]) -> None:
        self.asked: Counter[str] = Counter()
        self.release = threading.Event()
        self._delay_s, self._chance, self._lock = delay_s, random.Random(11), threading.Lock()
        self._body = json.dumps(
            {"created": 1764000000, "data": [{"b64_json": base64.b64encode(picture()).decode()}]}
        ).encode()
        self.url = ""

    def handle(self, body: bytes) -> bytes:
        prompt = json.loads(body)["prompt"]
        with self._lock:
            self.asked[prompt] += 1
            delay_s = self._chance.uniform(*self._delay_s)
        if "[hold]" in prompt:
            self.release.wait(30)
        else:
            time.sleep(delay_s)
        return self._body


@contextlib.contextmanager
def upstream(delay_s: tuple[float, float] = (0.0, 0.0)) -> Iterator[Upstream]:
    """Answers each call after a time between the two bounds of `delay_s`."""
    found = Upstream(delay_s)

    class Handler(_Handler):
        def do_POST(self) -> None:
            self.answer(200, found.handle(self.read()))

    with _serving(Handler) as url:
        found.url = f"{url}/v1"
        try:
            yield found
        finally:
            found.release.set()


@contextlib.contextmanager
def pictures(**files: bytes) -> Iterator[str]:
    """Serves each file at `/<name>`, whatever its type, as bytes; the address without a slash."""

    class Handler(_Handler):
        def do_GET(self) -> None:
            data = files.get(self.path.strip("/"))
            if data is None:
                self.answer(404)
            else:
                self.answer(200, data, "application/octet-stream")

    with _serving(Handler) as url:
        yield url

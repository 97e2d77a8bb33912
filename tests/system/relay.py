"""A relay of this gateway's own wire (`ace_relay`) on the loopback, good or chaotic. It counts what it is paid for.

    POST /flux/images   takes a submission, by the `trace_id` it is marked with
    POST /flux/tasks    `{"action": "retrieve", "id" | "trace_id": …}`
    GET  /p/{id}.png    the picture

`Manners` says what goes wrong with what came; those of `good` are none.
"""

import contextlib
import json
import random
import socket
import struct
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.error import HTTPError

from tests.system.loopback import _Handler, _serving, picture

NONSENSE = (b"", b"null", b"[]", b"<html>busy</html>", b'{"task_id": null}', b'{"id": 7, "response": "', b"\xff\xfe")


@dataclass
class Job:
    """What was accepted for one mark."""

    id: str
    key: str
    callback_url: str
    done_at: float
    polls: int = 0
    fetched: int = 0
    seen: bool = False
    """Somebody was told that it is done."""


@dataclass
class Manners:
    """How requests are treated: each function answers one of the words below it, or None for a good answer."""

    submission: Callable[[str], str | None] = lambda mark: None
    """`refused`, `busy`, `cut` (not taken), `late` (taken after a while, whoever waits), `lost` (taken, then cut),
    `garbled` (taken, nonsense), `slow` (taken)."""
    look: Callable[[Job], str | None] = lambda job: None
    """`cut`, `garbled`, `busy`, `forgotten` (404), `empty`, `renamed`, `slow`."""
    search: Callable[[str, int], str | None] = lambda mark, times: None
    """As `look`, of the so-manieth search for a mark."""
    fetch: Callable[[Job], str | None] = lambda job: None
    """`cut`, `busy`, `garbled`."""
    works_s: Callable[[], float] = lambda: 0.0


@dataclass
class Relay:
    """What came. Everything is guarded by `lock`."""

    manners: Manners
    url: str = ""
    by_mark: dict[str, list[Job]] = field(default_factory=dict)
    by_id: dict[str, Job] = field(default_factory=dict)
    searches: Counter[str] = field(default_factory=Counter)
    most_open: Counter[str] = field(default_factory=Counter)
    """By the key of the channel: the most works that were accepted and not yet seen to be done."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def accept(self, mark: str, key: str, callback_url: str) -> Job:
        with self.lock:
            made = Job(f"w{len(self.by_id)}", key, callback_url, time.monotonic() + self.manners.works_s())
            self.by_id[made.id] = made
            self.by_mark.setdefault(mark, []).append(made)
            now_open = sum(one.key == key and not one.seen for one in self.by_id.values())
            self.most_open[key] = max(self.most_open[key], now_open)
            return made

    def document(self, job: Job) -> dict[str, Any]:
        """The task as a relay keeps it."""
        found: dict[str, Any] = {"id": job.id, "type": "images", "created_at": 1}
        if time.monotonic() >= job.done_at:
            job.seen = True
            data = [{"image_url": f"{self.url}/p/{job.id}.png"}]
            found |= {"finished_at": time.time(), "response": {"success": True, "task_id": job.id, "data": data}}
        return found


@contextlib.contextmanager
def relay(manners: Manners | None = None) -> Iterator[Relay]:
    """Serves until the end."""
    found, png = Relay(manners or Manners()), picture()

    class Handler(_Handler):
        def do_POST(self) -> None:
            body = json.loads(self.read())
            if self.path == "/flux/tasks":
                self._looked(body)
            else:
                self._submitted(body)

        def do_GET(self) -> None:
            job = found.by_id[self.path.removeprefix("/p/").removesuffix(".png")]
            job.fetched += 1
            if not self._badly(found.manners.fetch(job)):
                self.answer(200, png, "image/png")

        def _submitted(self, body: dict[str, Any]) -> None:
            mark, key = body["trace_id"], self.headers["authorization"].removeprefix("Bearer ")
            manner = found.manners.submission(mark)
            if manner in ("refused", "busy", "cut"):
                self._badly(manner)
                return
            if manner == "late":
                time.sleep(0.7)
            job = found.accept(mark, key, body.get("callback_url", ""))
            if manner == "lost":
                self._cut()
            elif not self._badly(manner):
                self._json({"task_id": job.id, "trace_id": mark})

        def _looked(self, body: dict[str, Any]) -> None:
            if "trace_id" in body:
                mark = body["trace_id"]
                found.searches[mark] += 1
                manner = found.manners.search(mark, found.searches[mark])
                jobs = found.by_mark.get(mark, [])
                job = jobs[-1] if jobs else None
            else:
                job = found.by_id.get(body["id"])
                if job is not None:
                    job.polls += 1
                manner = None if job is None else found.manners.look(job)
            if self._badly(manner):
                return
            document = {} if job is None or manner == "empty" else found.document(job)
            if manner == "renamed" and document:
                document |= {"id": "another", "task_id": "a third"}
            self._json(document)

        def _json(self, document: dict[str, Any]) -> None:
            self.answer(200, json.dumps(document).encode())

        def _badly(self, manner: str | None) -> bool:
            """Whether that was the answer."""
            if manner == "slow":
                time.sleep(0.7)
            elif manner == "cut":
                self._cut()
            elif manner == "busy":
                self.answer(429, b'{"error": {"code": "too_many_requests", "message": "Too many requests"}}')
            elif manner == "refused":
                self.answer(500, b'{"error": {"code": "api_error", "message": "No machine is free"}}')
            elif manner == "forgotten":
                self.answer(404, b'{"error": {"code": "not_found", "message": "No such task"}}')
            elif manner == "garbled":
                self.answer(200, random.choice(NONSENSE))
            return manner not in (None, "slow", "late", "empty", "renamed")

        def _cut(self) -> None:
            """The connection is reset, without an answer."""
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()

    with _serving(Handler) as url:
        found.url = url
        yield found


def call_back(url: str, body: bytes = b"{}", method: str = "POST") -> int:
    """The status of what an upstream posts; 0 when nobody was there."""
    wire = urllib.request.Request(url, body if method == "POST" else None, method=method)
    try:
        with urllib.request.urlopen(wire, timeout=10) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code
    except OSError:
        return 0

"""The process that computes: its `main` is started, and ended, by `inference`.

It reads requests from its standard input and writes what comes of them to what was its standard output; what
libraries print goes to standard error. Both ways a frame is two lengths of four bytes, JSON of the first, bytes of
the second.

    → {"ask": 1, "load": {…}, "make": {…}, "sizes": [n, …]}, the files one after the other   → {"stop": 1}
    ← {"number": 1, "step": 3, "of": 20}    ← {"number": 1, "picture": {"width": …}}, the picture
    ← {"number": 1, "done": {…}} or {"number": 1, "failed": "refused", "message": "…"}: the last of a request

One request at a time. It ends when its input ends, in the middle of whatever it does: so it never outlives the
worker that started it, however that died. It ends too when nobody has asked for `idle_s` seconds (0: never).
"""

import importlib
import json
import os
import queue
import struct
import threading
import traceback
from collections.abc import Mapping
from typing import Any, BinaryIO

HEAD = struct.Struct(">II")
PIPELINES = "bide.providers.diffusers_pipelines"
"""Loaded when it is needed: it takes seconds and hundreds of megabytes, and may not be installed."""
MESSAGE_MAX = 2000
NICE = 5
"""Where the model computes on all cores, the worker beside it must still come to keep its leases."""

REFUSED, FORBIDDEN, SETUP, BROKEN, STOPPED = "refused", "forbidden", "setup", "broken", "stopped"
"""Whose fault it is: the request's, what it shows, that of the channel's options, nobody's; and a request of ours."""


class Problem(Exception):
    """Why there will be no picture: one of the words above, and a sentence."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def packed(fields: Mapping[str, Any], blob: bytes = b"") -> bytes:
    """A frame."""
    text = json.dumps(fields).encode()
    return HEAD.pack(len(text), len(blob)) + text + blob


Frame = tuple[dict[str, Any], bytes]


class _Talk:
    """The two pipes, and what was read ahead."""

    def __init__(self, asks: BinaryIO, answers: BinaryIO) -> None:
        self._asks, self._answers = asks, answers
        self._asked: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._stopped = 0

    def listen(self) -> None:
        """In a thread: so a request to stop, or the end of the worker, is heard while the model computes."""
        try:
            while len(head := self._asks.read(HEAD.size)) == HEAD.size:
                text, blob = HEAD.unpack(head)
                fields = json.loads(self._asks.read(text))
                if "stop" in fields:
                    self._stopped = max(self._stopped, fields["stop"])
                else:
                    self._asked.put((fields, self._asks.read(blob)))
        finally:
            os._exit(0)

    def next(self, idle_s: float) -> Frame | None:
        """The next request; None: nobody asked for too long."""
        try:
            return self._asked.get(timeout=idle_s or None)
        except queue.Empty:
            return None

    def stopped(self, number: int) -> bool:
        return number <= self._stopped

    def tell(self, fields: Mapping[str, Any], blob: bytes = b"") -> None:
        self._answers.write(packed(fields, blob))


class _Kept:
    """The one model that is loaded."""

    def __init__(self) -> None:
        self._pipelines: Any = None

    def of(self, load: Mapping[str, Any]) -> Any:
        """The pipelines of the channel's options. Raises `Problem`."""
        if self._pipelines is None:
            try:
                self._pipelines = importlib.import_module(PIPELINES).Pipelines(load)
            except Problem:
                raise
            except ImportError as error:
                raise Problem(SETUP, f"bide[diffusers] is not installed here: {error}") from None
            except Exception as error:  # a library's own, for a model that is not there or not what it should be
                traceback.print_exc()
                raise Problem(SETUP, f"The model cannot be loaded: {error!r}") from None
        return self._pipelines


def _answer(talk: _Talk, kept: _Kept, fields: Mapping[str, Any], blob: bytes) -> None:
    """Does one request and says what came of it."""
    number, files, at = fields["ask"], list[bytes](), 0
    for size in fields["sizes"]:
        files.append(blob[at : at + size])
        at += size

    def step(done: int, of: int) -> None:
        if talk.stopped(number):
            raise Problem(STOPPED, "It was told to stop.")
        talk.tell({"number": number, "step": done, "of": of})

    try:
        step(0, 1)
        pipelines = kept.of(fields["load"])
        for about, data in pipelines.make(fields["make"], files, step):
            talk.tell({"number": number, "picture": about}, data)
        talk.tell({"number": number, "done": {}})
    except Problem as problem:
        talk.tell({"number": number, "failed": problem.kind, "message": str(problem)[:MESSAGE_MAX]})
    except Exception as error:  # a library's own; whatever it is, somebody waits for an answer
        traceback.print_exc()
        talk.tell({"number": number, "failed": BROKEN, "message": repr(error)[:MESSAGE_MAX]})


def main(idle_s: float) -> None:
    """Answers requests until there are no more."""
    if hasattr(os, "nice"):
        os.nice(NICE)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    talk, kept = _Talk(os.fdopen(0, "rb"), answers), _Kept()
    threading.Thread(target=talk.listen, daemon=True).start()
    while (asked := talk.next(idle_s)) is not None:
        _answer(talk, kept, *asked)
    os._exit(0)

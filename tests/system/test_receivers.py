"""Receivers that hang, drip, reset or never stop talking delay nobody else's callbacks."""

import contextlib
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.loopback import receiver
from tests.system.processes import running, until

EACH = 60
HEALTHY = 40


def hang(connection: socket.socket, over: threading.Event) -> None:
    over.wait(30)


def drip(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
    while not over.wait(0.1):
        connection.sendall(b"y")


def never_stop(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 500 Sorry\r\ntransfer-encoding: chunked\r\n\r\n")
    while not over.is_set():
        connection.sendall(b"10000\r\n" + b"z" * 65536 + b"\r\n")


def inform_for_ever(connection: socket.socket, over: threading.Event) -> None:
    while not over.wait(0.01):
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")


def reset(connection: socket.socket, over: threading.Event) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Hostile:
    """One receiver: `open` is how many connections it has right now, `seen` how many there were."""

    def __init__(self, behave: Callable[[socket.socket, threading.Event], None]) -> None:
        self.open = self.seen = 0
        self._behave, self._over, self._lock = behave, threading.Event(), threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self.open, self.seen = self.open + 1, self.seen + 1
        with connection, contextlib.suppress(OSError):
            connection.settimeout(30)
            connection.recv(65536)
            self._behave(connection, self._over)
        with self._lock:
            self.open -= 1

    def close(self) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@pytest.fixture
def hostile() -> Iterator[list[Hostile]]:
    found = [Hostile(behave) for behave in (hang, drip, never_stop, inform_for_ever, reset)]
    try:
        yield found
    finally:
        for one in found:
            one.close()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_healthy_receivers_are_served_while_hundreds_of_others_hang(tmp_path: Path, hostile: list[Hostile]) -> None:
    """The hostile ones come first; with the default time limit of 15 s they hang until the test is over."""
    with running("serve", tmp_path) as serve, receiver() as received:
        client = serve.client()
        for _ in range(EACH):
            for one in hostile:
                answer = client.post("/openai/images/generations", {"prompt": "a boat", "callback_url": one.url})
                assert answer.status == 200
        until(lambda: all(one.seen for one in hostile), 20, "every hostile receiver to be asked")
        until(lambda: sum(one.open for one in hostile) > 10, 20, "many to hang")
        memory = serve.memory_mib("VmRSS")

        body = {"prompt": "a tree", "callback_url": received.url}
        ids = [client.post("/openai/images/generations", body).json["task_id"] for _ in range(HEALTHY)]
        until(lambda: set(received.by_task()) == set(ids), 12, "the healthy callbacks")

        assert sum(one.open for one in hostile) > 10  # they still do
        assert serve.memory_mib("VmRSS") - memory < 50

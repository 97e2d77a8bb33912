"""Stored results over HTTP, the same from a directory and from a bucket, by a real server."""

import asyncio
import http.client
import logging
import os
import socket
import threading
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from moto.server import ThreadedMotoServer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bide.api.files import answer, file
from bide.errors import GatewayError
from bide.settings import Settings
from bide.storage import Storage, open_storage

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
LARGE = b"\x89PNG\r\n\x1a\n" + os.urandom(3_000_000)
HUGE = b"\x89PNG\r\n\x1a\n" + bytes(40_000_000)
SIZE = len(PNG)
TOKEN = "0123456789abcdef" * 2
STALL_S = 0.3


@dataclass(frozen=True)
class Served:
    """A running server and the names of what its store holds."""

    port: int
    names: dict[str, str]

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, headers={key.replace("_", "-"): value for key, value in headers.items()})
        with connection.getresponse() as got:
            found = got.status, {key.lower(): value for key, value in got.getheaders()}, got.read()
        connection.close()
        return found

    def get(self, name: str = "small", method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        return self.ask(f"/files/{self.names[name]}", method, **headers)


@pytest.fixture(scope="module")
def object_server() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/results", method="PUT")).close()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module", params=["local", "s3"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = Settings(data_dir=str(tmp_path_factory.mktemp("data")))
    if request.param == "s3":
        settings = Settings(
            data_dir=settings.data_dir, storage_url="s3://results/files",
            s3_endpoint=request.getfixturevalue("object_server"), s3_access_key_id="k", s3_secret_access_key="s",
        )  # fmt: skip
    ready = SimpleNamespace(event=threading.Event(), port=0, names={}, server=None)
    thread = threading.Thread(target=lambda: asyncio.run(serve(settings, ready)))
    thread.start()
    assert ready.event.wait(20)
    yield Served(ready.port, ready.names)
    ready.server.should_exit = True
    thread.join()


async def serve(settings: Settings, ready: Any) -> None:
    storage = open_storage(settings)

    async def put(content: bytes, *, private: bool = False) -> str:
        sink = storage.sink(len(content), private=private)
        await sink.write(content)
        return (await sink.close()).name

    ready.names = {
        "small": await put(PNG), "large": await put(LARGE), "private": await put(PNG, private=True),
        "huge": await put(HUGE), "gone": await put(PNG),
    }  # fmt: skip
    await storage.delete([ready.names["gone"]])
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        ready.port = listener.getsockname()[1]
        config = uvicorn.Config(app_of(storage), ws="none", lifespan="off", log_level="critical")
        ready.server = uvicorn.Server(config)
        ready.event.set()
        await ready.server.serve(sockets=[listener])
    await storage.close()


def app_of(storage: Storage) -> Starlette:
    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, GatewayError)
        return JSONResponse({"error": {"code": error.code, "message": str(error)}}, error.status)

    async def impatient(request: Request) -> Response:
        opened = await storage.open(request.path_params["name"])
        assert opened is not None
        return answer(opened, request.method, request.headers, stall_s=STALL_S)

    app = Starlette(
        routes=[
            Route("/files/{name:path}", file, methods=["GET", "HEAD"]),
            Route("/impatient/{name:path}", impatient, methods=["GET"]),
        ],
        exception_handlers={GatewayError: refused},
    )
    app.state.gateway = SimpleNamespace(storage=storage)
    return app


@pytest.mark.parametrize(("name", "content"), [("small", PNG), ("large", LARGE)])
def test_a_file_is_served_with_its_type_and_all_its_guards(served: Served, name: str, content: bytes) -> None:
    status, headers, body = served.get(name)
    assert (status, body) == (200, content)
    filename = served.names[name].partition("/")[2]
    assert headers["last-modified"].endswith(" GMT")
    assert {key: value for key, value in headers.items() if key not in ("date", "server", "last-modified")} == {
        "content-type": "image/png",
        "content-length": str(len(content)),
        "accept-ranges": "bytes",
        "etag": f'"{filename[:32]}"',
        "cache-control": "public, max-age=31536000, immutable",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
        "cross-origin-resource-policy": "cross-origin",
        "content-disposition": f'inline; filename="{filename}"',
    }


@pytest.mark.parametrize("name", ["small", "large"])
def test_head_answers_the_same_headers_and_no_body(served: Served, name: str) -> None:
    status, headers, body = served.get(name, "HEAD")
    assert (status, body) == (200, b"")
    wanted = served.get(name)[1]
    assert {**headers, "date": ""} == {**wanted, "date": ""}
    assert served.get(name, "HEAD", range="bytes=0-1")[0] == 200  # RFC 9110: a range is for GET


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1), ("bytes=0-9", 0, 10), ("bytes=5-", 5, SIZE), (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        ("bytes=0-", 0, SIZE), ("bytes=-1", SIZE - 1, SIZE), ("bytes=-10", SIZE - 10, SIZE),
        ("bytes=-99999", 0, SIZE), ("bytes=10-99999", 10, SIZE), ("Bytes = 1-2", 1, 3), ("bytes=1-2 ", 1, 3),
    ],
)  # fmt: skip
def test_one_range_is_answered_with_206(served: Served, asked: str, start: int, end: int) -> None:
    status, headers, body = served.get(range=asked)
    assert (status, body) == (206, PNG[start:end])
    assert headers["content-range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert headers["content-length"] == str(end - start)
    assert headers["content-type"] == "image/png"


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 5}", "bytes=-0", "bytes=999999999999-"])
def test_a_range_outside_the_file_is_416(served: Served, asked: str) -> None:
    status, headers, body = served.get(range=asked)
    assert (status, body) == (416, b"")
    assert headers["content-range"] == f"bytes */{SIZE}"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-1,5-6", "bytes=5-2", "bytes=-", "bytes=", "bytes=a-b", "items=0-5", "0-5", "bytes=--5",
        "bytes=" + "9" * 5000 + "-",
    ],
)  # fmt: skip
def test_several_or_strange_ranges_get_the_whole_file(served: Served, asked: str) -> None:
    status, headers, body = served.get(range=asked)
    assert (status, body) == (200, PNG)
    assert "content-range" not in headers


def test_ranges_of_a_large_file_add_up(served: Served) -> None:
    cuts = [0, 1, 262_143, 262_145, 2_500_000, len(LARGE)]
    parts = [served.get("large", range=f"bytes={a}-{b - 1}") for a, b in pairwise(cuts)]
    assert {status for status, _, _ in parts} == {206}
    assert b"".join(body for _, _, body in parts) == LARGE


def test_a_copy_that_is_known_is_answered_with_304(served: Served) -> None:
    etag, modified = (served.get()[1][key] for key in ("etag", "last-modified"))
    for asked in ({"if_none_match": etag}, {"if_none_match": f'"other", W/{etag}'}, {"if_none_match": "*"},
                  {"if_modified_since": modified}, {"if_none_match": etag, "range": "bytes=0-1"}):  # fmt: skip
        for method in ("GET", "HEAD"):
            status, headers, body = served.get("small", method, **asked)
            assert (status, body, headers["etag"], headers["last-modified"]) == (304, b"", etag, modified)
            assert "content-length" not in headers
    for asked in ({"if_none_match": '"other"'}, {"if_modified_since": formatdate(0, usegmt=True)},
                  {"if_none_match": '"other"', "if_modified_since": modified}, {"if_modified_since": "no date"},
                  {"if_modified_since": "Mon, 99 Xxx 99999 99:99:99 GMT"}):  # fmt: skip
        assert served.get(**asked)[0] == 200


def test_a_range_of_a_copy_that_is_not_this_one_gets_the_whole_file(served: Served) -> None:
    etag, modified = (served.get()[1][key] for key in ("etag", "last-modified"))
    for known, status in [(etag, 206), (modified, 206), ('"other"', 200), (f"W/{etag}", 200), ("no date", 200)]:
        assert served.get(range="bytes=0-1", if_range=known)[0] == status


@pytest.mark.parametrize(
    "path",
    [
        "", ".", "..", "../bide.db", "%2e%2e/bide.db", "..%2fbide.db", "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/etc/passwd", "//etc/passwd", f"2026-11-22/{TOKEN}.png",
        f"2026-11-22/{TOKEN}.png%00", f"2026-11-22/%00{TOKEN}.png",
        f"2026-11-22/{TOKEN}.html", f"2026-11-22/..%5c{TOKEN}.png", f"tmp/{TOKEN}", "%ff%fe", "a" * 5000,
        f"2026-11-22/{TOKEN}.png/", f"2026-11-22/{TOKEN}.png%0a",
    ],
)  # fmt: skip
def test_what_is_not_there_or_not_a_name_is_not_found(served: Served, path: str) -> None:
    for method in ("GET", "HEAD"):
        assert served.ask(f"/files/{path}", method)[0] == 404
    assert b'"not_found"' in served.ask(f"/files/{path}", range="bytes=0-1", if_none_match="*")[2]


def test_a_private_or_deleted_file_is_never_served(served: Served) -> None:
    private = served.names["private"]
    for path in (private, private.replace("private/", "private%2f"), f"./{private}", f"x/../{private}",
                 private.removeprefix("private/"), served.names["gone"]):  # fmt: skip
        assert served.ask(f"/files/{path}")[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_a_file_can_only_be_read(served: Served, method: str) -> None:
    assert served.get("small", method)[0] == 405


def test_a_reader_that_takes_nothing_is_cut_off(served: Served) -> None:
    """It gets what was on its way, then the end of the connection; a reader that takes its time gets all."""
    with socket.create_connection(("127.0.0.1", served.port)) as stalled:
        stalled.sendall(f"GET /impatient/{served.names['huge']} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        stalled.settimeout(20)
        threading.Event().wait(STALL_S * 6)
        got = 0
        while data := stalled.recv(1_000_000):
            got += len(data)
    assert 0 < got < len(HUGE)
    status, _, body = served.ask(f"/impatient/{served.names['large']}")
    assert (status, body) == (200, LARGE)


def test_many_readers_who_leave_in_the_middle_hurt_nobody(served: Served) -> None:
    for _ in range(8):
        with socket.create_connection(("127.0.0.1", served.port)) as leaving:
            leaving.sendall(f"GET /files/{served.names['huge']} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert leaving.recv(1000)
    assert served.get("large")[2] == LARGE


def run_answer(opened: Any) -> list[dict[str, Any]]:
    """What the server would be told, by a bare ASGI call."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(called(opened, receive, send))
    return sent


async def called(opened: Any, receive: Callable[[], Coroutine[Any, Any, Any]], send: Any) -> None:
    await answer(opened, "GET", {})({"type": "http", "method": "GET"}, receive, send)


def test_a_store_that_fails_before_the_first_byte_is_an_error_and_later_a_cut(tmp_path: Path) -> None:
    async def stored() -> Any:
        storage = open_storage(Settings(data_dir=str(tmp_path)))
        sink = storage.sink(len(LARGE))
        await sink.write(LARGE)
        opened = await storage.open((await sink.close()).name)
        await storage.close()
        return opened

    opened = asyncio.run(stored())

    async def broken(start: int, end: int) -> Any:
        if start == 0 and end < len(LARGE) + 5:
            yield LARGE[:1000]
        raise OSError("gone")

    sent = run_answer(replace(opened, chunks=broken))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[-1]["more_body"] is True
    with pytest.raises(OSError, match="gone"):
        run_answer(replace(opened, size=len(LARGE) + 5, chunks=broken))

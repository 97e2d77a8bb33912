"""What a connection may make the server keep, and when it is closed: a real server on loopback."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import uvicorn

from bide.api.answers import Receive, Scope, Send, send_json
from bide.api.server import HEAD_BYTES_MAX, PIPELINE_MAX, Protocol, close_overdue

SECONDS_MAX = 20.0
PLAIN = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass
class Served:
    """A server whose application reads the whole body, waits for `go`, and answers its size."""

    port: int = 0
    connections: set[Protocol] = field(default_factory=set)
    began: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.began += 1
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        await self.go.wait()
        await send_json(send, 200, b'{"size":%d}' % size, "a-trace")


@contextlib.asynccontextmanager
async def serving(read_s: float, keep_alive_s: float) -> AsyncIterator[Served]:
    served = Served()
    served.go.set()
    listener = socket.create_server(("127.0.0.1", 0))
    served.port = listener.getsockname()[1]
    config = uvicorn.Config(
        served, http=Protocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
        timeout_keep_alive=keep_alive_s, timeout_graceful_shutdown=1,  # type: ignore[arg-type]
    )  # fmt: skip
    server = uvicorn.Server(config)
    served.connections = server.server_state.connections  # type: ignore[assignment]
    looking = asyncio.create_task(close_overdue(server.server_state.connections, read_s))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        yield served
    finally:
        served.go.set()
        server.should_exit = True
        await running
        looking.cancel()


def run(
    test: Callable[[Served, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    read_s: float = 60.0, keep_alive_s: float = 60.0,
) -> None:  # fmt: skip
    """A server and one connection to it. What is waited for for too long fails."""

    async def inside() -> None:
        async with asyncio.timeout(SECONDS_MAX), serving(read_s, keep_alive_s) as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            try:
                await test(served, reader, writer)
            finally:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

    asyncio.run(inside())


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of one answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What comes until the server closes."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(65536):
            found += part
    return found


async def flood(writer: asyncio.StreamWriter, part: bytes, times: int) -> None:
    with contextlib.suppress(ConnectionError):
        for _ in range(times):
            writer.write(part)
            await writer.drain()


async def refused(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, opening: bytes, part: bytes) -> None:
    """Sends 16 MiB after the opening; the server closes long before the end of them."""
    writer.write(opening)
    flooding = asyncio.create_task(flood(writer, part * (65536 // len(part)), 256))
    found = await rest(reader)
    await flooding
    if found:  # else the connection was reset before the answer was read
        head, _, body = found.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 413 ")
        assert json.loads(body)["error"]["code"] == "request_too_large"


def test_trailers_are_not_kept() -> None:
    async def test(served: Served, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + b"3\r\nabc\r\n0\r\nx-one: 1\r\nx-two: 2\r\n\r\n")
        assert await answer(reader) == (200, b'{"size":3}')
        (connection,) = served.connections
        assert [name for name, _ in connection.headers] == [b"host", b"transfer-encoding"]

    run(test)


def test_more_trailers_than_a_head_may_have_are_refused() -> None:
    run(lambda _, reader, writer: refused(reader, writer, CHUNKED + b"3\r\nabc\r\n0\r\n", b"x: y\r\n"))


def test_one_endless_trailer_is_refused() -> None:
    run(lambda _, reader, writer: refused(reader, writer, CHUNKED + b"3\r\nabc\r\n0\r\nx: ", b"y"))


def test_an_endless_chunk_extension_is_refused() -> None:
    run(lambda _, reader, writer: refused(reader, writer, CHUNKED + b"3;", b"y"))


def test_an_endless_head_is_refused() -> None:
    run(lambda _, reader, writer: refused(reader, writer, b"GET / HTTP/1.1\r\n", b"x: y\r\n"))


def test_endless_empty_lines_after_a_request_are_refused() -> None:
    run(lambda _, reader, writer: refused_after_answer(reader, writer))


async def refused_after_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(PLAIN)
    assert (await answer(reader))[0] == 200
    await refused(reader, writer, b"", b"\r\n")


def test_a_body_in_small_pieces_is_taken() -> None:
    async def test(served: Served, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        await flood(writer, b"1\r\nx\r\n" * 10_000, 20)  # far more around the body than in it
        writer.write(b"0\r\n\r\n")
        assert await answer(reader) == (200, b'{"size":200000}')

    run(test)


def test_a_large_body_and_the_next_head_in_one_piece_are_two_requests() -> None:
    async def test(served: Served, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = b"x" * (4 * HEAD_BYTES_MAX)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body) + PLAIN[:20])
        assert await answer(reader) == (200, b'{"size":%d}' % len(body))
        writer.write(PLAIN[20:])
        assert await answer(reader) == (200, b'{"size":0}')

    run(test)


def test_nothing_is_parsed_after_a_refusal() -> None:
    async def test(served: Served, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"nonsense\r\n\r\n" + PLAIN * 3)
        assert (await rest(reader)).count(b"HTTP/1.1 ") == 1
        assert served.began == 0

    run(test)


def test_more_requests_ahead_than_may_wait_close_the_connection() -> None:
    async def test(served: Served, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.go.clear()
        writer.write(PLAIN * 5_000)
        assert await rest(reader) == b""
        assert served.began == 1

    run(test)


def test_as_many_requests_ahead_as_may_wait_are_all_answered_in_order() -> None:
    async def test(served: Served, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sizes = range(PIPELINE_MAX + 1)
        head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: "
        writer.write(b"".join(head + b"%d\r\n\r\n%s" % (size, b"x" * size) for size in sizes))
        assert [await answer(reader) for _ in sizes] == [(200, b'{"size":%d}' % n) for n in sizes]

    run(test)


def test_an_empty_line_after_a_request_does_not_keep_a_connection_for_ever() -> None:
    async def test(served: Served, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(PLAIN)
        assert (await answer(reader))[0] == 200
        writer.write(b"\r\n")
        assert await rest(reader) == b""

    run(test, read_s=0.2, keep_alive_s=0.3)


def test_an_answer_that_takes_longer_than_the_idle_time_is_waited_for() -> None:
    async def test(served: Served, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.go.clear()
        writer.write(PLAIN)
        await asyncio.sleep(0.3)  # several times the idle time, and several looks
        served.go.set()
        assert await answer(reader) == (200, b'{"size":0}')

    run(test, read_s=0.1, keep_alive_s=0.05)


def test_a_request_for_another_protocol_is_answered_and_the_connection_closed() -> None:
    async def test(served: Served, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upgrade = b"connection: upgrade\r\nupgrade: websocket\r\n\r\n"
        writer.write(PLAIN.replace(b"\r\n\r\n", b"\r\n" + upgrade) + b"\r\n")
        found = await rest(reader)
        assert found.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in found

    run(test)

"""One POST of a callback against real receivers on loopback: well-behaved, broken and hostile ones."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest

from bide.callbacks.schedule import next_attempt
from bide.callbacks.send import ERROR_CLASSES, Sent, post, retry_after
from bide.outbound.client import Outbound
from bide.settings import Settings

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OPEN = "127.0.0.0/8"
BODY = b'{"success":true,"task_id":"0192"}'


@contextlib.asynccontextmanager
async def receiver(handler: Handler) -> AsyncIterator[str]:
    """A raw server on loopback whose handler is called once per connection. Yields its URL."""
    under_way: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        under_way.add(task := asyncio.current_task())
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await handler(reader, writer)
        except asyncio.CancelledError:
            pass  # the end of the test
        finally:
            under_way.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1024)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?x=%2F"
    finally:
        server.close()
        for task in list(under_way):
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    return head[0], headers, await reader.readexactly(int(headers.get("content-length", "0")))


def answers(text: str) -> Handler:
    """A receiver that reads the request, writes `text` and closes."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(text.encode("latin-1"))
        await writer.drain()

    return handler


async def for_ever(writer: asyncio.StreamWriter, data: bytes, pause_s: float = 0.005) -> None:
    while True:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(pause_s)


def run(scenario: Callable[[Outbound], Coroutine[Any, Any, None]], allow: str = OPEN, **options: Any) -> None:
    async def inside() -> None:
        outbound = Outbound(Settings(callback_allow_private=allow), **options)
        try:
            await scenario(outbound)
        finally:
            await outbound.close()

    asyncio.run(inside())


async def send(outbound: Outbound, url: str, timeout_s: float = 60.0, connect_s: float = 60.0) -> Sent:
    return await post(
        outbound.callbacks, url, BODY, {"content-type": "application/json", "webhook-id": "0192"},
        timeout_s=timeout_s, connect_s=connect_s, ranges=outbound.ranges,
    )  # fmt: skip


def sent_to(handler: Handler, timeout_s: float = 60.0) -> Sent:
    """What becomes of one callback to this receiver."""
    outcome: list[Sent] = []

    async def scenario(outbound: Outbound) -> None:
        async with receiver(handler) as url:
            outcome.append(await send(outbound, url, timeout_s))

    run(scenario)
    assert outcome[0].error in ERROR_CLASSES
    assert outcome[0].latency_ms >= 0
    return outcome[0]


def test_the_receiver_gets_the_body_and_the_headers_as_they_are() -> None:
    got: list[tuple[str, dict[str, str], bytes]] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await read_request(reader))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    sent = sent_to(handler)
    assert (sent.status, sent.error, sent.retry_after_s) == (204, "", None)
    line, headers, body = got[0]
    assert line == "POST /hook?x=%2F HTTP/1.1"
    assert body == BODY
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"] == "0192"
    assert headers["user-agent"].startswith("bide/")
    assert "cookie" not in headers
    assert "authorization" not in headers


def test_the_connection_is_used_again_after_a_whole_answer() -> None:
    connections = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        while True:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nok")

    async def scenario(outbound: Outbound) -> None:
        async with receiver(handler) as url:
            for _ in range(3):
                assert (await send(outbound, url)).error == ""

    run(scenario)
    assert len(connections) == 1


@pytest.mark.parametrize(
    ("answer", "status", "error"),
    [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, ""),
        ("HTTP/1.1 202 Accepted\r\n\r\nqueued", 202, ""),
        ("HTTP/1.0 299 Fine\r\n\r\n", 299, ""),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\n\r\nHTTP/1.1 201 OK\r\n\r\n", 201, ""),
        ("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nnot", 200, ""),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, "status"),
        ("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", 410, "status"),
        ("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", 500, "status"),
        ("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 101, "status"),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", 304, "redirect"),
        ("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", 302, "redirect"),
        ("", None, "reset"),
        ("HTTP/1.1 200 OK\r\nContent-Le", None, "reset"),
        ("SSH-2.0-OpenSSH_9.2\r\n", None, "protocol"),
        ("\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", None, "protocol"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a chunk\r\n", None, "protocol"),
        ("HTTP/1.1 two OK\r\n\r\n", None, "protocol"),
        ("HTTP/1.1 200 OK\r\nX: " + "a" * 20_000 + "\r\n\r\n", None, "too_large"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_every_answer_has_its_class(answer: str, status: int | None, error: str) -> None:
    sent = sent_to(answers(answer))
    assert (sent.status, sent.error) == (status, error)


def test_a_redirect_is_a_failure_and_never_followed() -> None:
    asked = []

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await read_request(reader))

    async def scenario(outbound: Outbound) -> None:
        async with receiver(other) as elsewhere:
            for status in (301, 302, 303, 307, 308):
                moved = f"HTTP/1.1 {status} Moved\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n"
                async with receiver(answers(moved)) as url:
                    sent = await send(outbound, url)
                assert (sent.status, sent.error) == (status, "redirect")

    run(scenario)
    assert asked == []


# -- receivers that do not end


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def never_reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.pause_reading()
    await asyncio.Event().wait()


async def endless_informational(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await for_ever(writer, b"HTTP/1.1 102 Processing\r\n\r\n")


async def dripping_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    await for_ever(writer, b"a")


@pytest.mark.parametrize("handler", [silent, never_reads, endless_informational, dripping_head])
def test_without_an_answer_the_exchange_ends_at_its_bound(handler: Handler) -> None:
    sent = sent_to(handler, timeout_s=0.15)
    assert (sent.status, sent.error) == (None, "timeout")


async def dripping_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    await for_ever(writer, b"a")


async def short_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort")


@pytest.mark.parametrize("handler", [dripping_body, short_body])
def test_a_success_stays_one_whatever_the_rest_of_the_answer_is(handler: Handler) -> None:
    sent = sent_to(handler, timeout_s=0.15)
    assert (sent.status, sent.error) == (200, "")


@pytest.mark.parametrize("status", ["200 OK", "500 Oops"])
def test_a_body_that_drips_is_left_long_before_the_bound_of_the_exchange(status: str) -> None:
    """The receiver sees the connection end while the exchange might still take an hour."""
    left = asyncio.Event()

    async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 1000000\r\n\r\n".encode())
        try:
            await for_ever(writer, b"a")
        except OSError:
            left.set()

    async def scenario(outbound: Outbound) -> None:
        async with receiver(drips) as url:
            async with asyncio.timeout(30):
                sent = await send(outbound, url, timeout_s=3_600)
                assert sent.status == int(status[:3])
                await left.wait()

    run(scenario)


def test_of_an_endless_answer_little_is_read() -> None:
    written = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await read_request(reader)
        writer.write(b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"a" * 65536 + b"\r\n")
            written += 65536
            await writer.drain()

    sent = sent_to(endless)
    assert (sent.status, sent.error) == (500, "status")
    assert written < 32 * 1024 * 1024  # what fits into the buffers of the system on both sides


def test_many_hanging_receivers_do_not_keep_a_healthy_one_waiting() -> None:
    async def scenario(outbound: Outbound) -> None:
        async with receiver(silent) as dead, receiver(answers("HTTP/1.1 204 N\r\n\r\n")) as healthy:
            hanging = [asyncio.create_task(send(outbound, dead)) for _ in range(300)]
            assert (await send(outbound, healthy)).status == 204
            assert not any(task.done() for task in hanging)
            for task in hanging:
                task.cancel()
            ended = await asyncio.gather(*hanging, return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ended)

    run(scenario)


# -- no connection


def test_a_connection_that_is_reset_is_classed_so() -> None:
    async def resetting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        writer.transport.abort()

    assert sent_to(resetting).error == "reset"


def test_a_closed_port_is_classed_as_connect() -> None:
    async def scenario(outbound: Outbound) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            sent = await send(outbound, f"http://127.0.0.1:{unused.getsockname()[1]}/")
        assert (sent.status, sent.error) == (None, "connect")

    run(scenario)


def test_a_host_that_does_not_take_the_connection_is_classed_as_connect() -> None:
    async def scenario(outbound: Outbound) -> None:
        with socket.socket() as full, contextlib.ExitStack() as waiting:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for _ in range(4):  # fill the queue of connections that nobody accepts
                queued = waiting.enter_context(socket.socket())
                queued.setblocking(False)
                queued.connect_ex(full.getsockname())
            sent = await send(outbound, f"http://127.0.0.1:{full.getsockname()[1]}/", connect_s=0.1)
        assert (sent.status, sent.error) == (None, "connect")

    run(scenario)


def test_a_receiver_that_speaks_no_tls_is_classed_as_tls() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)  # all of it: unread bytes would turn the end into a reset
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def scenario(outbound: Outbound) -> None:
        async with receiver(plain) as url:
            sent = await send(outbound, url.replace("http:", "https:"))
        assert (sent.status, sent.error) == (None, "tls")

    run(scenario)


def test_a_name_without_an_address_is_classed_as_dns() -> None:
    def unknown(host: str) -> tuple[str, ...]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def scenario(outbound: Outbound) -> None:
        assert (await send(outbound, "http://gone.example.com/")).error == "dns"

    run(scenario, lookup=unknown)


# -- the address is judged for each attempt


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/", "http://2130706433:1/", "http://[::ffff:127.0.0.1]:1/", "http://localhost:1/",
        "http://169.254.169.254/", "http://user:secret@example.com/", "ftp://example.com/", "http://", "\ud800",
        "http://example.com/\r\nX: y",
    ],
)  # fmt: skip
def test_a_forbidden_address_is_refused_before_anything_is_dialled(url: str) -> None:
    async def scenario(outbound: Outbound) -> None:
        sent = await send(outbound, url)
        assert (sent.status, sent.error) == (None, "address")

    run(scenario, allow="", lookup=_never_asked)


def test_a_name_that_leads_to_a_private_address_is_refused() -> None:
    async def scenario(outbound: Outbound) -> None:
        assert (await send(outbound, "http://rebound.example.com/")).error == "address"

    run(scenario, allow="", lookup=lambda host: ("127.0.0.1",))


def test_a_session_that_was_closed_is_an_error_and_not_an_exception() -> None:
    async def scenario(outbound: Outbound) -> None:
        await outbound.close()
        assert (await send(outbound, "http://127.0.0.1:1/")).status is None

    run(scenario)


def _never_asked(host: str) -> tuple[str, ...]:
    raise AssertionError(host)


# -- Retry-After

NOW_S = 1_700_000_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None), ("", None), ("soon", None), ("-5", None), ("1.5", None), ("1e3", None), ("٣", None),
        ("0", 0.0), ("120", 120.0), (" 7 ", 7.0), ("86401", 86_400.0), ("9" * 6000, 86_400.0),
        (format_datetime(datetime.fromtimestamp(NOW_S + 90, UTC), usegmt=True), 90.0),
        (format_datetime(datetime.fromtimestamp(NOW_S - 90, UTC), usegmt=True), 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400.0), ("Sunday, 06-Nov-94 08:49:37 GMT", 0.0),
        ("Sun Nov  6 08:49:37 1994", 0.0), ("Wed, 99 Xyz 2023", None), ("\ud800", None),
    ],
    ids=lambda value: str(value)[:30].encode("ascii", "replace").decode(),
)  # fmt: skip
def test_retry_after_is_read_in_both_forms(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, NOW_S) == seconds


def test_a_receiver_can_put_off_the_next_attempt() -> None:
    body = json.dumps({"error": "busy"})
    answer = f"HTTP/1.1 503 Busy\r\nRetry-After: 77\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    sent = sent_to(answers(answer))
    assert (sent.status, sent.error, sent.retry_after_s) == (503, "status", 77.0)
    assert next_attempt((0.0, 5.0), 1, sent, 0.5) == 77.0

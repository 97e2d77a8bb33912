"""Copying the file behind a URL, from real servers on loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from bide.outbound.client import Outbound
from bide.outbound.fetch import FetchError, fetch
from bide.settings import Settings

Handler = Callable[[str, asyncio.StreamWriter], Awaitable[None]]
PICTURE = bytes(range(256)) * 1000


class TooLarge(Exception):
    """The sink's own bound, like the one of a real sink."""


class Sink:
    """Keeps what it is given and how it ended."""

    def __init__(self, error: Exception | None = None) -> None:
        self.data, self.ended, self.error = b"", [], error

    async def write(self, data: bytes) -> None:
        if self.error:
            raise self.error
        self.data += data

    async def close(self) -> int:
        self.ended.append("closed")
        return len(self.data)

    async def abort(self) -> None:
        self.ended.append("aborted")


@contextlib.asynccontextmanager
async def server(handler: Handler, address: str = "127.0.0.1") -> AsyncIterator[str]:
    """A raw server whose handler is given each request's path. Yields its URL without a path."""
    under_way: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        under_way.add(task := asyncio.current_task())
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                head = await reader.readuntil(b"\r\n\r\n")
                await handler(head.split(b" ")[1].decode(), writer)
                await writer.drain()
        except asyncio.CancelledError:
            pass  # the end of the test
        finally:
            under_way.discard(task)
            writer.close()

    listening = await asyncio.start_server(connected, address, 0)
    try:
        yield f"http://{address}:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        for task in list(under_way):
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


def fetched(
    handler: Handler, sink: Sink, path: str = "/", *, bytes_max: int = 1_000_000, timeout_s: float = 60.0,
    allow: str = "127.0.0.1", **options: Any,
) -> int:  # fmt: skip
    """What `fetch` answers for a path of this server."""

    async def inside() -> int:
        outbound = Outbound(Settings(callback_allow_private=allow), **options)
        try:
            async with server(handler) as url:
                return await fetch(
                    outbound.fetches, path if "://" in path else url + path, sink,
                    ranges=outbound.ranges, bytes_max=bytes_max, timeout_s=timeout_s,
                )  # fmt: skip
        finally:
            await outbound.close()

    return asyncio.run(inside())


def answers(head: str, body: bytes = b"") -> Handler:
    async def handler(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {head}\r\n\r\n".encode("latin-1") + body)

    return handler


async def never(path: str, writer: asyncio.StreamWriter) -> None:
    raise AssertionError("nothing may be asked here")


def refusal(handler: Handler, path: str = "/", sink: Sink | None = None, **options: Any) -> FetchError:
    """The error of a copy that must fail; the sink was aborted exactly once."""
    sink = sink or Sink()
    with pytest.raises(FetchError) as caught:
        fetched(handler, sink, path, **options)
    assert sink.ended == ["aborted"]
    assert "127.0.0." not in str(caught.value)
    return caught.value


def test_a_file_arrives_whole_whether_its_length_is_told_or_not() -> None:
    for head in (f"200 OK\r\nContent-Length: {len(PICTURE)}", "200 OK"):
        sink = Sink()
        assert fetched(answers(head, PICTURE), sink, "/a.png?s=%2F") == len(PICTURE)
        assert sink.data == PICTURE
        assert sink.ended == ["closed"]


def test_a_file_of_exactly_the_bound_is_taken() -> None:
    assert fetched(answers("200 OK", PICTURE), Sink(), bytes_max=len(PICTURE)) == len(PICTURE)


def test_a_file_that_says_it_is_too_large_is_not_read() -> None:
    sink = Sink()
    error = refusal(answers("200 OK\r\nContent-Length: 1001", b"a" * 1001), sink=sink, bytes_max=1000)
    assert (str(error), error.retryable) == ("The file behind the URL is larger than 1,000 bytes.", False)
    assert sink.data == b""


def test_a_file_without_an_end_is_cut_off_at_the_bound() -> None:
    async def endless(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"a" * 65536)
            await writer.drain()

    sink = Sink()
    error = refusal(endless, sink=sink, bytes_max=100_000)
    assert not error.retryable
    assert len(sink.data) <= 100_000


@pytest.mark.parametrize(
    ("status", "retryable"), [(201, False), (204, False), (304, False), (403, False), (404, False), (408, True),
                              (429, True), (500, True), (503, True)],
)  # fmt: skip
def test_only_200_is_taken(status: int, retryable: bool) -> None:
    error = refusal(answers(f"{status} X\r\nContent-Length: 0"))
    assert (str(error), error.retryable) == (f"The URL answered with status {status}.", retryable)


def test_redirects_are_followed_three_times() -> None:
    async def chain(path: str, writer: asyncio.StreamWriter) -> None:
        number = int(path.strip("/"))
        if number:
            location = f"./{number - 1}" if number % 2 else f"/{number - 1}#fragment"
            writer.write(f"HTTP/1.1 30{number} Moved\r\nLocation: {location}\r\n\r\nignored".encode())
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    assert fetched(chain, Sink(), "/3") == 2


def test_a_fourth_redirect_is_an_error() -> None:
    error = refusal(answers("302 Found\r\nLocation: /again\r\nContent-Length: 0"))
    assert (str(error), error.retryable) == ("The URL redirects more than 3 times.", False)


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2:1/", "//127.0.0.2:1/", "http://169.254.169.254/latest/", "http://[::1]:1/", "file:///etc/passwd",
        "http://2130706434:1/", "ftp://example.com/", "http://user:pass@example.com/", "http://[64:ff9b::a9fe:a9fe]/",
        "http:///x", "http://[oops/", "/a b", "/\xff\xfe", "http://example.com/" + "a" * 9000,
    ],
    ids=lambda value: value[:30].encode("ascii", "replace").decode(),
)  # fmt: skip
def test_where_a_redirect_leads_is_judged_again(location: str) -> None:
    error = refusal(answers(f"302 Found\r\nLocation: {location}\r\nContent-Length: 0"), lookup=_never_asked)
    assert not error.retryable


def test_a_redirect_without_a_place_is_not_a_file() -> None:
    assert str(refusal(answers("302 Found\r\nContent-Length: 0"))) == "The URL answered with status 302."


@pytest.mark.parametrize("url", ["http://127.0.0.2:1/a.png", "http://0x7f.2:1/", "http://10.0.0.1/", "nonsense://x"])
def test_a_forbidden_url_is_not_dialled(url: str) -> None:
    assert not refusal(never, url, lookup=_never_asked).retryable


def test_a_name_that_leads_to_a_private_address_is_refused() -> None:
    error = refusal(never, "http://rebound.example.com/", lookup=lambda host: ("127.0.0.2",))
    assert (str(error), error.retryable) == ("The URL leads to an address that is not public.", False)


def test_a_name_without_an_address_may_have_one_later() -> None:
    assert refusal(never, "http://gone.example.com/", lookup=lambda host: ()).retryable


def test_a_compressed_answer_is_refused_as_it_could_grow_without_bound() -> None:
    assert not refusal(answers("200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2", b"\x1f\x8b")).retryable


@pytest.mark.parametrize("head", ["200 OK\r\nContent-Length: 9", "200 OK\r\nTransfer-Encoding: chunked"])
def test_a_file_that_breaks_off_is_not_kept(head: str) -> None:
    assert refusal(answers(head, b"5\r\nab")).retryable


def test_a_server_that_hangs_up_or_talks_nonsense_is_explained() -> None:
    async def hang_up(path: str, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async def nonsense(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n\r\n")

    assert refusal(hang_up).retryable
    assert str(refusal(nonsense)) == "The URL's host did not answer in proper HTTP."


@pytest.mark.parametrize("start", ["", "HTTP/1.1 200 OK\r\nX: ", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"])
def test_the_whole_exchange_is_bounded(start: str) -> None:
    async def dripping(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(start.encode())
        while start:
            await asyncio.sleep(0.01)
            writer.write(b"a" if not start.endswith("\r\n\r\n") else b"")
        await asyncio.Event().wait()

    error = refusal(dripping, timeout_s=0.15)
    assert (str(error), error.retryable) == ("The URL did not answer in time.", True)


# -- a channel's own host


def _asked_of(location: str | None, allow: str) -> tuple[list[tuple[str, bool]], FetchError | None]:
    """Copies `/first` from a channel's host, which redirects to `location` (`{other}` is another server there);
    what was asked for, each with whether the channel's key came with it, and the error if there was one."""
    asked: list[tuple[str, bool]] = []

    async def inside() -> FetchError | None:
        outbound = Outbound(Settings(callback_allow_private=allow))

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ")[1]
            asked.append((path, "sk-secret" in head))
            assert "Accept-Encoding: identity" in head
            moved = f"302 Found\r\nLocation: {location.format(other=urls[1])}" if location else "200 OK"
            head = moved if path == "/first" else "200 OK"
            writer.write(f"HTTP/1.1 {head}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".encode())
            writer.close()

        servers = [await asyncio.start_server(connected, "127.0.0.1", 0) for _ in range(2)]
        urls = [f"http://127.0.0.1:{one.sockets[0].getsockname()[1]}" for one in servers]
        channel = outbound.channel_session(f"{urls[0]}/v1", "sk-secret", 60.0)
        try:
            await fetch(
                outbound.fetches, f"{urls[0]}/first", Sink(), vouched=channel,
                ranges=outbound.ranges, bytes_max=9, timeout_s=60.0,
            )  # fmt: skip
        except FetchError as error:
            return error
        finally:
            for one in servers:
                one.close()
            await outbound.close()
        return None

    return asked, asyncio.run(inside())


def test_a_channels_own_host_is_asked_with_its_key_even_on_a_private_address() -> None:
    assert _asked_of(None, "") == ([("/first", True)], None)
    assert _asked_of("/second", "") == ([("/first", True), ("/second", True)], None)


def test_a_redirect_away_from_a_channels_host_is_judged() -> None:
    asked, error = _asked_of("{other}/second", "")
    assert asked == [("/first", True)]
    assert error is not None
    assert not error.retryable


def test_a_redirect_away_from_a_channels_host_leaves_the_key_behind() -> None:
    assert _asked_of("{other}/second", "127.0.0.1") == ([("/first", True), ("/second", False)], None)


def test_what_the_sink_raises_passes_through_and_the_sink_is_aborted() -> None:
    sink = Sink(TooLarge("full"))
    with pytest.raises(TooLarge):
        fetched(answers("200 OK", PICTURE), sink)
    assert sink.ended == ["aborted"]


def test_a_copy_that_is_cancelled_aborts_its_sink() -> None:
    async def inside() -> list[str]:
        outbound, sink, asked = Outbound(Settings(callback_allow_private="true")), Sink(), asyncio.Event()

        async def silent(path: str, writer: asyncio.StreamWriter) -> None:
            asked.set()
            await asyncio.Event().wait()

        async with server(silent) as url:
            task = asyncio.create_task(
                fetch(outbound.fetches, url, sink, ranges=outbound.ranges, bytes_max=9, timeout_s=60.0)
            )
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await outbound.close()
        return sink.ended

    assert asyncio.run(inside()) == ["aborted"]


def _never_asked(host: str) -> tuple[str, ...]:
    raise AssertionError(host)

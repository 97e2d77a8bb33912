"""The session of a channel: its own proxy, its own time to connect, and closed when the channel goes."""

import asyncio

import pytest
from aiohttp import web

from bide.catalog.load import load as load_catalog
from bide.channels.load import build
from bide.channels.probe import Saw, probe
from bide.clock import Clock
from bide.outbound.client import Outbound
from bide.settings import ChannelSettings, Settings


def test_a_channels_calls_go_through_its_proxy_and_nobody_elses_do() -> None:
    seen: list[tuple[str, str]] = []

    async def proxy(request: web.BaseRequest) -> web.Response:
        seen.append((request.raw_path, request.headers.get("Proxy-Authorization", "")))
        return web.Response(text="by the proxy")

    async def test() -> None:
        server = web.ServerRunner(web.Server(proxy))
        await server.setup()
        site = web.TCPSite(server, "127.0.0.1", 0)
        await site.start()
        port = server.addresses[0][1]
        outbound = Outbound(Settings())
        base = "http://upstream.invalid/v1"
        one = ChannelSettings(name="main", provider="openai_images", base_url=base,
                              proxy=f"http://me:pass@127.0.0.1:{port}")  # fmt: skip
        channel = build(Settings(), one, outbound)
        async with channel.http.get("images") as answer:
            assert await answer.text() == "by the proxy"
        plain = ChannelSettings(name="other", provider="openai_images", base_url=f"http://127.0.0.1:{port}")
        other = build(Settings(), plain, outbound)
        async with other.http.get("direct") as answer:
            assert answer.status == 200
        await outbound.close()
        await server.cleanup()
        assert [path for path, _ in seen] == ["http://upstream.invalid/v1/images", "/direct"]
        assert seen[0][1].startswith("Basic ")

    asyncio.run(test())


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nnonsense"]
)
def test_what_a_proxy_does_wrong_is_told_without_its_password(answer: bytes) -> None:
    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def test() -> Saw:
        server = await asyncio.start_server(proxy, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        outbound, settings = Outbound(Settings()), Settings()
        one = ChannelSettings(name="main", provider="openai_images", base_url="https://upstream.invalid/v1",
                              key="sk-of-the-upstream", proxy=f"http://me:pass-word@127.0.0.1:{port}")  # fmt: skip
        try:
            return await probe(build(settings, one, outbound), load_catalog(), settings, Clock())
        finally:
            await outbound.close()
            server.close()

    saw = asyncio.run(test())
    assert not saw.works
    assert saw.detail
    for secret in ("pass-word", "bWU6cGFzcy13b3Jk", "sk-of-the-upstream"):
        assert secret not in str(saw)


def test_seconds_to_connect_are_the_channels_and_a_released_session_is_closed() -> None:
    async def test() -> None:
        outbound = Outbound(Settings())
        one = ChannelSettings(name="main", provider="openai_images", base_url="https://a.test", connect_s=1.5)
        channel = build(Settings(), one, outbound)
        assert (channel.http.timeout.sock_connect, channel.http.timeout.total) == (1.5, 300.0)
        await outbound.release(channel.http)
        assert channel.http.closed
        await outbound.close()

    asyncio.run(test())

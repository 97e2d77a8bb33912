"""Rates that machines share through a real server, and what remains of them when it goes away."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from bide.clock import Clock
from bide.rates import Rate, Rates, open_rates, rate
from bide.settings import Settings, SettingsError
from tests.rates.processes import bounds, hammer
from tests.rates.servers import RedisServer, binary

KEY = "s/1/openai/default"
HOURLY = rate(1 / 3_600)
BACK_S = 30.0
T = TypeVar("T")

with_server = pytest.mark.skipif(binary() is None, reason="there is no redis-server for this system")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


def on_nodes(directory: Path, url: str, use: Callable[[Rates, Rates], Awaitable[T]]) -> T:
    """What `use` answers about two nodes, each with a data directory of its own."""

    async def run() -> T:
        nodes = [
            await open_rates(
                Settings(data_dir=str(directory / name), rates_url=url, nodes=2, rates_timeout_s=30), Clock()
            )
            for name in ("one", "other")
        ]
        try:
            return await use(*nodes)
        finally:
            for node in nodes:
                await node.close()

    return asyncio.run(run())


@with_server
def test_two_nodes_share_a_rate_and_the_wait_is_true(server: RedisServer, tmp_path: Path) -> None:
    async def use(one: Rates, other: Rates) -> None:
        few = Rate(5.0, 3)
        assert [await node.take("few", few) for node in (one, other, one)] == [0.0, 0.0, 0.0]
        wait = await other.take("few", few)
        assert 0 < wait <= 0.2
        await asyncio.sleep(wait)
        assert await one.take("few", few) == 0.0
        assert await one.take("free", rate(0)) == 0.0

    on_nodes(tmp_path, server.url, use)


@with_server
def test_what_is_asked_at_once_is_counted_one_by_one(server: RedisServer, tmp_path: Path) -> None:
    async def use(one: Rates, other: Rates) -> None:
        many = Rate(1 / 3_600, 700)
        waits = await asyncio.gather(*(node.take("many", many) for node in (one, other) for _ in range(1_000)))
        assert waits.count(0.0) == 700
        assert all(0 <= wait <= 3_600 for wait in waits)

    on_nodes(tmp_path, server.url, use)


@with_server
def test_processes_of_two_nodes_are_given_what_is_due_and_no_more(server: RedisServer, tmp_path: Path) -> None:
    per_s = 20.0  # few, so that a busy machine asks for far more than that, too
    directories = [tmp_path / "one", tmp_path / "one", tmp_path / "other", tmp_path / "other"]
    due, admitted, most = bounds(hammer(directories, server.url, per_s, 1.5), per_s, int(per_s))
    assert due * 0.9 <= admitted <= most + 1  # the server's clock is another one


@with_server
def test_a_server_that_forgot_the_script_is_told_it_again(server: RedisServer, tmp_path: Path) -> None:
    async def use(one: Rates, other: Rates) -> None:
        assert await one.take("script", HOURLY) == 0.0
        async with Redis.from_url(server.url) as client:
            await client.script_flush()
        assert await other.take("script", HOURLY) > 1_000

    on_nodes(tmp_path, server.url, use)


@with_server
@pytest.mark.parametrize("garbage", ["", "boat", "nan", "-1", "1e300"])
def test_garbage_in_place_of_a_time_binds_nobody(server: RedisServer, tmp_path: Path, garbage: str) -> None:
    async def use(one: Rates, other: Rates) -> None:
        async with Redis.from_url(server.url) as client:
            await client.set(f"bide:rate:garbage {garbage}", garbage)
            assert await one.take(f"garbage {garbage}", HOURLY) == 0.0
            assert await other.take(f"garbage {garbage}", HOURLY) > 1_000
            assert 0 < await client.ttl(f"bide:rate:garbage {garbage}") <= 3_600

    on_nodes(tmp_path, server.url, use)


@with_server
def test_a_server_that_answers_errors_is_done_without(server: RedisServer, tmp_path: Path) -> None:
    async def use(one: Rates, _: Rates) -> None:
        async with Redis.from_url(server.url) as client:
            await client.lpush("bide:rate:list", "not a time")
        assert await one.take("list", HOURLY) == 0.0
        assert await one.take("list", HOURLY) > 1_000

    with capture_logs() as lines:
        on_nodes(tmp_path, server.url, use)
    assert [line["log_level"] for line in lines] == ["warning"]


@with_server
def test_a_server_may_go_away_and_come_back(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)

    async def use(one: Rates, other: Rates) -> None:
        assert await one.take("before", HOURLY) == 0.0
        server.stop()
        pairs = Rate(1 / 3_600, 4)
        waits = await asyncio.gather(*(node.take("away", pairs) for node in (one, other) for _ in range(10)))
        assert waits.count(0.0) == 2 * 2, "each node gives its half"
        server.start()
        async with asyncio.timeout(BACK_S):
            number = 0
            while True:  # shared again: what one node took, the other one refuses
                await asyncio.sleep(0.05)
                number += 1
                if await one.take(f"back {number}", HOURLY) == 0.0 and await other.take(f"back {number}", HOURLY) > 0:
                    break

    try:
        with capture_logs() as lines:
            on_nodes(tmp_path, server.url, use)
    finally:
        server.stop()
    assert [line["log_level"] for line in lines].count("warning") == 2, "each node says so once"
    assert {line["event"] for line in lines if line["log_level"] == "info"} == {"rates are shared again"}


def test_a_server_that_never_answers_fails_nobody(tmp_path: Path) -> None:
    async def run(port: int) -> None:
        rates = await open_rates(Settings(data_dir=str(tmp_path), rates_url=f"redis://127.0.0.1:{port}"), Clock())
        waits = await asyncio.gather(*(rates.take(KEY, HOURLY) for _ in range(50)))
        assert waits.count(0.0) == 1
        await asyncio.sleep(1.0)
        late = asyncio.create_task(rates.take(KEY, HOURLY))  # asks the server again
        await asyncio.sleep(0)
        await rates.close()
        assert await late > 0

    with socket.create_server(("127.0.0.1", 0)) as silent, capture_logs():
        asyncio.run(run(silent.getsockname()[1]))


def test_no_server_at_the_start_is_no_error(tmp_path: Path) -> None:
    async def use(one: Rates, _: Rates) -> float:
        return await one.take(KEY, HOURLY)

    with capture_logs() as lines:
        assert on_nodes(tmp_path, "redis://127.0.0.1:1/0", use) == 0.0
    assert {line["log_level"] for line in lines} == {"warning"}


@pytest.mark.parametrize("url", ["http://127.0.0.1", "redis:", "127.0.0.1:6379", "redis://127.0.0.1:port/0"])
def test_an_address_that_cannot_be_one_stops_the_start(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsError, match="BIDE_RATES_URL"):
        asyncio.run(open_rates(Settings(data_dir=str(tmp_path), rates_url=url), Clock()))

"""A result that was paid for is not given up because its file cannot be fetched at once."""

import asyncio
from typing import Any

import pytest

from bide.flow import copying
from bide.providers.base import Asset, Call, Outcome, Pending, Succeeded
from bide.settings import Settings
from tests.books import run
from tests.world import PNG, Scripted, World, opened, serving


class Store:
    """A file server on loopback: statuses are given in order, then the picture; `asked` has path and headers."""

    def __init__(self, *statuses: str) -> None:
        self.statuses = list(statuses)
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        self.asked.append((head[0].split()[1], headers))
        status = self.statuses.pop(0) if self.statuses else "200 OK"
        body = PNG if status == "200 OK" else b"<html>not now</html>"
        status = "200 OK" if status == "page" else status
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        await writer.drain()


def at(address: str, name: str, **more: Any) -> Any:
    async def answer(_call: Call) -> Outcome:
        return Succeeded((Asset(url=f"{address}/{name}", **more),))

    return answer


async def polled(world: World, upstream: Scripted, seconds: list[float]) -> str:
    world.gateway.channels.set([upstream.channel(world.gateway)])
    task_id = await world.submit()
    await world.work()
    for one in seconds:
        world.clock.pass_s(one)
        await world.work()
    return task_id


@pytest.mark.parametrize("status", ["404 Not Found", "403 Forbidden", "page"])
def test_an_upstream_with_an_id_for_its_work_is_asked_for_a_fresh_address(on_both: Settings, status: str) -> None:
    store = Store(status)

    async def test(world: World) -> None:
        async with serving(store.handle) as address:
            upstream = Scripted(Pending("up-7", 5.0), poll=[at(address, "old.png"), at(address, "new.png")])
            task_id = await polled(world, upstream, [5.0])
            row = await world.queued(task_id)
            assert row is not None
            assert (row.lease_id, row.upstream_id, world.files()) == (None, "up-7", [])
            assert row.due_at - world.clock.now == 5_000
            world.clock.pass_s(5)
            await world.work()
        assert [path for path, _ in store.asked] == ["/old.png", "/new.png"]
        assert (await world.response(task_id))["success"] is True
        assert len(world.files()) == 1
        assert upstream.submitted == [task_id]

    run(on_both, test)


def test_a_result_that_stays_away_fails_the_task_after_half_an_hour_with_growing_pauses(on_sqlite: Settings) -> None:
    store = Store(*["404 Not Found"] * 200)

    async def test(world: World) -> None:
        async with serving(store.handle) as address:
            upstream = Scripted(Pending("up-7", 5.0), poll=[at(address, "p.png")] * 200)
            world.gateway.channels.set([upstream.channel(world.gateway)])
            task_id = await world.submit()
            await write_deadline(world, task_id, 7_200)
            await world.work()
            world.clock.pass_s(5)
            began, pauses = world.clock.now, []
            await world.work()
            while (row := await world.queued(task_id)) is not None:
                pauses.append((row.due_at - world.clock.now) / 1000)
                world.clock.now = row.due_at
                await world.work()
        assert await world.error(task_id) == "api_error"
        assert pauses == sorted(pauses)
        assert (pauses[0], pauses[-1]) == (5.0, 120.0)
        assert 1_600 < (world.clock.now - began) / 1000 <= copying.RETRY_FOR_S
        assert upstream.submitted == [task_id]

    run(on_sqlite, test)


async def write_deadline(world: World, task_id: str, seconds: float) -> None:
    """As if the operation could take longer than the sandbox's."""

    async def change(tx: Any, items: list[int]) -> list[None]:
        for one in items:
            await tx.run("UPDATE queue SET deadline_at = $2 WHERE task_id = $1", task_id, one)
        return [None] * len(items)

    await world.gateway.db.write(change, world.clock.now + int(seconds * 1000))


def test_a_result_that_is_no_file_of_ours_to_fetch_fails_at_once(on_sqlite: Settings) -> None:
    """An address that is not public stays so."""

    async def test() -> None:
        async with serving(Store().handle) as address, opened(on_sqlite, callback_allow_private="") as world:
            upstream = Scripted(Pending("up-7", 5.0), poll=[at(address, "p.png")])
            task_id = await polled(world, upstream, [5.0])
            assert await world.error(task_id) == "api_error"

    asyncio.run(test())


def test_what_an_address_wants_to_be_asked_with_goes_to_the_channels_own_host_only(on_sqlite: Settings) -> None:
    own, other = Store(), Store()

    async def test(world: World) -> None:
        wants = {"x-goog-api-key": "a-secret", "Authorization": ""}
        async with serving(own.handle) as mine, serving(other.handle) as strange:
            for address in (mine, strange):
                upstream = Scripted(Pending("up-7", 5.0), base_url=f"{mine}/v1",
                                    poll=[at(address, "p.png", headers=wants)])  # fmt: skip
                task_id = await polled(world, upstream, [5.0])
                assert (await world.response(task_id))["success"] is True
        ((_, to_own),), ((_, to_other),) = own.asked, other.asked
        assert to_own["x-goog-api-key"] == "a-secret"
        assert "authorization" not in to_own
        assert "x-goog-api-key" not in to_other
        assert "authorization" not in to_other

    run(on_sqlite, test)

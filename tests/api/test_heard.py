"""`/cb/{token}`: an upstream calls back, and all that follows is a look at its work."""

import asyncio
from typing import Any

from bide.api.routes import Api
from bide.flow import heard
from bide.providers.base import Pending
from bide.settings import Settings
from tests.books import run
from tests.world import Scripted, StillClock, World, until

BASE = "https://gateway.test/below"


class CallsBack(Scripted):
    CALLS_BACK = True


async def asked(world: World, path: str, method: str = "POST", body: bytes = b"") -> int:
    """The status of one request to the interface."""
    api, sent = Api(world.gateway), list[dict[str, Any]]()
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else await asyncio.Event().wait()  # type: ignore[return-value]

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(b"content-length", str(len(body)).encode())], "scheme": "http", "state": {}, "root_path": "",
        "http_version": "1.1", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
    }  # fmt: skip
    await api(scope, receive, send)
    return int(sent[0]["status"])


def path_of(upstream: Scripted) -> str:
    return upstream.calls[-1].callback_url.removeprefix(BASE)


def test_a_call_of_the_upstream_makes_the_next_poll_due_and_nothing_of_it_is_read(on_both: Settings) -> None:
    upstream = CallsBack(Pending("up-7", 600.0))

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        path = path_of(upstream)
        assert path.startswith("/cb/")
        assert len(path) == len("/cb/") + 32
        world.clock.pass_s(3)
        assert await asked(world, path, body=b'{"status": "failed", "id": "another"') == 200
        assert await asked(world, path, "GET") == 200  # a duplicate
        row = await world.queued(task_id)
        assert row is not None
        assert row.due_at == world.clock.now
        await world.work()
        assert (await world.response(task_id))["success"] is True
        assert upstream.polls == ["up-7"]
        assert await asked(world, path) == 404

    run(on_both, test, upstream, public_url=BASE)


def test_a_token_that_stands_for_nothing_changes_nothing(on_both: Settings) -> None:
    upstream = CallsBack(Pending("up-7", 600.0))

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        row = await world.queued(task_id)
        for token in ("0" * 32, "", "x" * 5_000, "\x00", "ü"):
            assert await asked(world, f"/cb/{token}") == 404
        assert await world.queued(task_id) == row

    run(on_both, test, upstream, public_url=BASE)


def test_the_token_is_kept_as_a_hash_alone_and_is_another_for_each_attempt(on_both: Settings) -> None:
    upstream = CallsBack(Pending("up-7", 5.0), Pending("up-8", 5.0))

    async def test(world: World) -> None:
        await world.submit()
        await world.submit()
        await world.work()
        rows = await world.gateway.db.rows("SELECT callback_token FROM queue")
        tokens = [call.callback_url.rpartition("/")[2] for call in upstream.calls]
        assert len(set(tokens)) == 2
        assert {row[0] for row in rows} == {heard.hashed(token) for token in tokens}

    run(on_both, test, upstream, public_url=BASE)


def test_a_body_of_any_size_is_answered_and_not_kept(on_sqlite: Settings) -> None:
    upstream = CallsBack(Pending("up-7", 600.0))

    async def test(world: World) -> None:
        await world.submit()
        await world.work()
        assert await asked(world, path_of(upstream), body=b"x" * (2 << 20)) == 200

    run(on_sqlite, test, upstream, public_url=BASE)


def test_nobody_is_given_an_address_where_there_is_none_or_who_does_not_use_it(on_sqlite: Settings) -> None:
    uses, does_not = CallsBack(Pending("up-7", 5.0)), Scripted(Pending("up-7", 5.0))

    async def test(world: World) -> None:
        await world.submit()
        await world.work()

    run(on_sqlite, test, uses)
    run(on_sqlite, test, does_not, public_url=BASE)
    assert (uses.calls[0].callback_url, does_not.calls[0].callback_url) == ("", "")


def test_an_address_of_its_own_for_upstreams_wins_over_the_public_one(on_sqlite: Settings) -> None:
    upstream = CallsBack(Pending("up-7", 5.0))

    async def test(world: World) -> None:
        await world.submit()
        await world.work()

    run(on_sqlite, test, upstream, public_url=BASE, upstream_callback_url="https://inside.test/")
    assert upstream.calls[0].callback_url.startswith("https://inside.test/cb/")


def test_a_caller_that_waits_has_its_result_as_soon_as_the_upstream_calls_back(on_sqlite: Settings) -> None:
    upstream = CallsBack(Pending("up-7", 600.0))

    async def test(world: World) -> None:
        working = asyncio.create_task(world.wait_for(await world.accept(waits=True)))
        await until(lambda: _waits(world))
        assert await asked(world, path_of(upstream)) == 200
        async with asyncio.timeout(10):
            ending = await working
        assert ending is not None
        assert ending.response["success"] is True

    run(on_sqlite, test, upstream, public_url=BASE, clock=Endless())


class Endless(StillClock):
    """Whoever sleeps is never woken by the time."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


async def _waits(world: World) -> bool:
    return bool(world.gateway.heard._waiting)

"""A request that names an earlier result: whose it is, what it is, and that its channel alone is asked."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bide.channels.load import Channels
from bide.db import write_one
from bide.errors import BadRequest, NotImplementedHere
from bide.flow import erase, submit
from bide.flow.submit import Submission
from bide.providers.base import Call, Failed, Item, Outcome, Pending, Succeeded
from bide.settings import Settings
from tests.services.bodies import everything
from tests.world import CALLER, Scripted, World, opened, picture

OTHER = replace(CALLER, user_id="user-2", application_id="application-2", credential_id="credential-2")


async def film(call: Call) -> Outcome:
    """A result that can be followed up."""
    asset = replace(await picture(call), role="video")
    return Succeeded(items=(Item((asset,), {"seconds": 8}, {"upstream": "up-1"}),), units=8)


class Films(Scripted):
    CAPABILITIES = frozenset({"video.generate", "video.upsample", "video.edit"})


async def ask(world: World, path: str, *, caller: Any = CALLER, waits: bool = False, **body: Any) -> str:
    operation = world.gateway.catalog.operation("veo", path)
    await world.seed(caller)
    accepted = await submit.submit(world.gateway, Submission(
        caller=caller, operation=operation, values=operation.check(body), request=msgspec.json.encode(body),
        uploads=None, trace_id="a-trace", base_url="http://gateway.test", waits=waits,
    ))  # fmt: skip
    if waits:
        await world.wait_for(accepted)
    else:
        await world.work()
    return accepted.task_id


async def source(world: World) -> str:
    response = await world.ended(await ask(world, "videos", prompt="a boat"))
    return str(response["data"][0]["id"])


def run(settings: Settings, test: Any, *upstreams: Scripted, **more: Any) -> None:
    async def inside() -> None:
        async with opened(settings, *upstreams, **more) as world:
            await test(world)

    asyncio.run(inside())


@pytest.mark.parametrize("waits", [False, True])
def test_a_follow_up_goes_to_the_channel_that_made_its_source_with_all_it_knew(
    on_both: Settings, waits: bool
) -> None:
    first, second = Films(film), Films(name="second", weight=1000.0)

    async def test(world: World) -> None:
        made = await source(only(world, first))
        for _ in range(3):
            await ask(world, "upsample", video_id=made, action="4k", waits=waits)
        assert (len(first.calls), len(second.calls)) == (4, 0)
        found = first.calls[-1].source("video_id")
        assert found is not None
        assert (found.id, found.operation, found.kind, found.about) == (made, "videos", "video", {"upstream": "up-1"})
        (file,) = found.files
        assert (file.field, file.content_type) == ("video", "image/png")
        assert len(b"".join([chunk async for chunk in file.chunks()])) == file.size

    run(on_both, test, first, second)


def only(world: World, upstream: Scripted) -> World:
    """The same gateway, as if this were its only channel."""
    channels = Channels([upstream.channel(world.gateway)], world.clock)
    return replace(world, gateway=replace(world.gateway, channels=channels))


def test_no_other_channel_is_asked_when_it_fails_and_the_error_says_why(on_both: Settings) -> None:
    first = Films(film, Failed("too_many_requests", "Busy.", scope="channel"))
    second = Films(name="second")

    async def test(world: World) -> None:
        made = await source(only(world, first))
        response = await world.ended(await ask(world, "upsample", video_id=made, action="4k"))
        assert response["error"] == {
            "code": "too_many_requests", "message": "Busy. Only the channel that made the source can do this.",
        }  # fmt: skip
        assert second.calls == []

    run(on_both, test, first, second)


def test_nor_is_anybody_asked_again_when_it_fails_while_it_is_polled(on_both: Settings) -> None:
    """The worker that polls has not looked the source up: it knows from the request that there is one."""
    first = Films(film, Pending("up-2", 5.0), poll=[Failed("too_many_requests", "Busy.", scope="channel")])
    second = Films(name="second")

    async def test(world: World) -> None:
        made = await source(only(world, first))
        task_id = await ask(world, "upsample", video_id=made, action="4k")
        world.clock.pass_s(6)
        await world.work()
        assert (await world.ended(task_id))["error"] == {
            "code": "too_many_requests", "message": "Busy. Only the channel that made the source can do this.",
        }  # fmt: skip
        assert (len(first.calls), first.polls, second.calls) == (2, ["up-2"], [])

    run(on_both, test, first, second)


def test_a_channel_that_is_gone_is_said_before_anything_is_written(on_sqlite: Settings) -> None:
    first, second = Films(film), Films(name="second")

    async def test(world: World) -> None:
        made = await source(only(world, first))
        with pytest.raises(NotImplementedHere, match="The channel that made the source does not offer"):
            await ask(only(world, second), "upsample", video_id=made, action="4k")

    run(on_sqlite, test, first, second)


def test_unknown_and_foreign_items_get_the_same_words_and_other_operations_their_own(
    on_both: Settings, tmp_path: Path
) -> None:
    async def refused(world: World, path: str, caller: Any = CALLER, **body: Any) -> str:
        with pytest.raises(BadRequest) as wrong:
            await ask(world, path, caller=caller, **body)
        return str(wrong.value)

    async def test(world: World) -> None:
        made = await source(world)
        foreign = await refused(world, "upsample", OTHER, video_id=made, action="4k")
        assert foreign == await refused(world, "upsample", video_id="nobody's", action="4k")
        assert foreign == "`video_id`: there is no video with this id."
        await write_one(world.gateway.db, lambda tx: tx.run("UPDATE items SET operation = 'extend'"))
        assert await refused(world, "reshoot", video_id=made, motion_type="UP") == (
            "`video_id` names something made by `veo/extend`; it must be made by `veo/videos` or `veo/reshoot` or"
            " `veo/objects`."
        )
        await write_one(world.gateway.db, lambda tx: tx.run("UPDATE items SET kind = 'song'"))
        assert await refused(world, "upsample", video_id=made, action="4k") == (
            "`video_id` names something of the kind song; it must be of the kind video."
        )

    run(on_both, test, Films(film), catalog_dir=str(everything(tmp_path)))


def test_items_go_with_an_erased_user_and_stay_with_everybody_else(on_both: Settings) -> None:
    async def test(world: World) -> None:
        await source(world)
        await ask(world, "videos", caller=OTHER, prompt="a boat")
        await erase.erase_user(world.gateway, CALLER.user_id)
        assert [row[0] for row in await world.gateway.db.rows("SELECT user_id FROM items")] == ["user-2"]

    run(on_both, test, Films(film, film))


def test_what_failed_leaves_nothing_to_follow_up(on_sqlite: Settings) -> None:
    async def test(world: World) -> None:
        await ask(world, "videos", prompt="a boat")
        assert await world.gateway.db.rows("SELECT id FROM items") == []

    run(on_sqlite, test, Films(Failed("forbidden", "No.")))


def test_a_file_without_an_item_is_one_by_itself(on_sqlite: Settings) -> None:
    """An upstream that answers with files alone needs to know nothing of items."""

    async def plain(call: Call) -> Outcome:
        return Succeeded((replace(await picture(call, revised_prompt="a small boat"), role="video"),))

    async def test(world: World) -> None:
        response = await world.ended(await ask(world, "videos", prompt="a boat"))
        assert response["data"][0]["video_url"].startswith("http://gateway.test/files/")
        assert len(await world.gateway.db.rows("SELECT id FROM items")) == 1

    run(on_sqlite, test, Films(plain))


def test_an_upstream_without_any_result_has_failed(on_sqlite: Settings) -> None:
    async def test(world: World) -> None:
        response = await world.ended(await ask(world, "videos", prompt="a boat"))
        assert response["error"]["code"] == "api_error"

    run(on_sqlite, test, Films(Succeeded()))

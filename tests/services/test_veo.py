"""Veo: films from texts and pictures, and larger, longer or changed ones of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bide.settings import Settings
from tests.services.bodies import everything
from tests.services.world import Shop, serve
from tests.system.loopback import picture, pictures

VIDEOS, UPSAMPLE, EXTEND, RESHOOT, OBJECTS = (
    f"/veo/{path}" for path in ("videos", "upsample", "extend", "reshoot", "objects")
)
GONE = "`video_id`: there is no video with this id."


@pytest.fixture(scope="module")
def images() -> Iterator[str]:
    with pictures(one=picture(640, 360), two=picture(360, 360)) as address:
        yield address


async def film(shop: Shop, response: dict[str, Any]) -> tuple[int, int, float]:
    found = await shop.film(response["data"][0]["video_url"])
    return found.width, found.height, found.seconds


async def one(shop: Shop, **body: Any) -> str:
    """The id of a new film."""
    response = await shop.made(VIDEOS, **{"prompt": "a paper boat", **body})
    return str(response["data"][0]["id"])


def test_it_answers_at_once_and_the_film_has_the_shape_that_was_asked_for(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        answer = await shop.ask(VIDEOS, prompt="a paper boat", aspect_ratio="9:16", trace_id="order-7731")
        assert set(answer.json) == {"success", "task_id", "trace_id"}
        await shop.work()
        task = await shop.retrieve(VIDEOS, answer.json["task_id"])
        response = task["response"]
        assert list(response) == ["success", "task_id", "trace_id", "data"]
        (item,) = response["data"]
        assert list(item) == ["id", "video_url", "created_at", "complete_at", "state"]
        assert (item["state"], item["created_at"]) == ("succeeded", "2025-11-24 16:00:00")
        assert task["data"] == {"id": task["id"], "state": "succeeded", "finished_at": task["finished_at"]}
        assert await film(shop, response) == (720, 1280, 8.0)

    serve(on_both, test)


def test_a_caller_waits_if_it_or_the_operator_says_so(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        waited = await shop.ask(VIDEOS, prompt="a boat", **{"async": False})
        assert waited.json["data"][0]["state"] == "succeeded"
        assert (await shop.retrieve(VIDEOS, waited.json["task_id"]))["response"] == waited.json

    async def inline(shop: Shop) -> None:
        assert "data" in (await shop.ask(VIDEOS, prompt="a boat")).json
        assert "data" not in (await shop.ask(VIDEOS, prompt="a boat", **{"async": True})).json

    serve(on_sqlite, test)
    serve(on_sqlite, inline, inline_services=("veo",))


@pytest.mark.parametrize(("action", "size"), [("1080p", (1920, 1080)), ("4k", (3840, 2160))])
def test_an_upsampled_film_is_larger_and_keeps_its_id(
    on_both: Settings, action: str, size: tuple[int, int]
) -> None:
    async def test(shop: Shop) -> None:
        source = await one(shop)
        large = await shop.made(UPSAMPLE, video_id=source, action=action)
        assert large["data"][0]["id"] == source
        assert await film(shop, large) == (*size, 8.0)

    serve(on_both, test)


def test_a_gif_is_a_gif_that_moves(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        made = await shop.made(VIDEOS, prompt="a boat", resolution="gif")
        small = await shop.made(UPSAMPLE, video_id=await one(shop), action="gif")
        for response in (made, small):
            assert list(response["data"][0]) == ["id", "video_url", "created_at", "complete_at", "state"]
            found = await shop.picture(response["data"][0]["video_url"])
            assert (found.format, getattr(found, "n_frames", 1) > 10) == ("GIF", True)

    serve(on_sqlite, test)


def test_the_old_way_to_a_larger_film_works_too(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        source = await one(shop)
        before = await shop.charged()
        large = await shop.made(VIDEOS, action="get1080p", video_id=source, model="veo31-fast")
        assert large["data"][0]["id"] == source
        assert await film(shop, large) == (1920, 1080, 8.0)
        assert await shop.charged() - before == pytest.approx(0.16)
        assert await film(shop, await shop.made(UPSAMPLE, video_id=source, action="4k")) == (3840, 2160, 8.0)

    serve(on_sqlite, test)


@pytest.mark.parametrize("action", ["image2video", "ingredients2video", "generate"])
def test_pictures_are_shown_in_the_film_and_in_what_follows_it(on_both: Settings, images: str, action: str) -> None:
    async def test(shop: Shop) -> None:
        urls = [f"{images}/one", f"{images}/two"]
        made = await shop.made(VIDEOS, action=action, image_urls=urls, prompt="a boat")
        assert await film(shop, made) == (1280, 720, 8.0)
        (about,) = [row[0] for row in await shop.world.gateway.db.rows("SELECT files FROM items")]
        assert bytes(about).count(b'"still"') == 2
        assert await film(shop, await shop.made(UPSAMPLE, video_id=made["data"][0]["id"], action="1080p"))

    serve(on_both, test)


@pytest.mark.parametrize(("body", "says"), [
    ({}, "`prompt` is missing; with `action` \"text2video\" it is needed"),
    ({"action": "generate"}, "`prompt` is missing"),
    ({"action": "image2video", "prompt": "x"}, "`image_urls` is missing; with `action` \"image2video\" it is needed"),
    ({"action": "ingredients2video"}, "`image_urls` is missing"),
    ({"prompt": "x", "model": "veo31-fast-ingredients"}, "`image_urls` is missing; with `model`"),
    ({"action": "get1080p"}, "`video_id` is missing; with `action` \"get1080p\" it is needed"),
    ({"prompt": "x", "model": "veo2-fast"}, "retired"),
    ({"prompt": "x", "resolution": "4k"}, "`resolution` is \"4k\""),
    ({"prompt": "x", "aspect_ratio": "1:1"}, "`aspect_ratio` is \"1:1\"; it must be \"16:9\" or \"9:16\""),
    ({"action": "image2video", "image_urls": ["https://a.example/1"] * 3}, "`image_urls` is a list of 3; with"),
    ({"action": "image2video", "image_urls": ["http://10.0.0.1/x"]}, "`image_urls`: "),
    ({"action": "get1080p", "video_id": "nobody's"}, "`video_id`: there is no video with this id."),
])  # fmt: skip
def test_what_cannot_be_made_is_refused(on_sqlite: Settings, body: dict[str, Any], says: str) -> None:
    async def test(shop: Shop) -> None:
        assert says in await shop.refused(VIDEOS, **body)

    serve(on_sqlite, test)


def test_ingredients_have_a_model_of_their_own(on_sqlite: Settings, images: str) -> None:
    async def test(shop: Shop) -> None:
        await shop.made(VIDEOS, action="ingredients2video", model="veo31", image_urls=f"{images}/one")
        assert await shop.charged() == pytest.approx(1.68)

    serve(on_sqlite, test)


@pytest.mark.parametrize(("path", "body", "price"), [
    (UPSAMPLE, {"action": "1080p"}, 0.16), (UPSAMPLE, {"action": "4k"}, 0.5), (UPSAMPLE, {"action": "gif"}, 0.13),
    (EXTEND, {"model": "veo31-fast"}, 1.68), (EXTEND, {"model": "veo31"}, 12),
    (RESHOOT, {"motion_type": "FORWARD"}, 1.2), (OBJECTS, {"action": "insert", "prompt": "a gull"}, 1.5),
])  # fmt: skip
def test_published_prices_are_charged(
    on_sqlite: Settings, tmp_path: Path, path: str, body: dict[str, Any], price: float
) -> None:
    async def test(shop: Shop) -> None:
        source = await one(shop)
        before = await shop.charged()
        await shop.made(path, video_id=source, **body)
        assert await shop.charged() - before == pytest.approx(price)

    serve(on_sqlite, test, catalog_dir=str(everything(tmp_path)))


def test_what_newer_clients_left_out_is_off_until_it_is_switched_on(on_sqlite: Settings, tmp_path: Path) -> None:
    async def off(shop: Shop) -> None:
        for path in (EXTEND, RESHOOT, OBJECTS):
            answer = await shop.mine.request("POST", path, {"video_id": "x"}, base="")
            assert (answer.status, answer.code) == (404, "no_api")

    async def on(shop: Shop) -> None:
        source = await one(shop)
        longer = await shop.made(EXTEND, video_id=source, model="veo31", resolution="1080p")
        assert await film(shop, longer) == (1920, 1080, 15.0)
        again = await shop.made(EXTEND, video_id=longer["data"][0]["id"], model="veo31")
        assert await film(shop, again) == (1920, 1080, 22.0)
        moved = await shop.made(RESHOOT, video_id=source, motion_type="UP")
        assert moved["data"][0]["id"] != source
        assert await film(shop, moved) == (1280, 720, 8.0)
        says = await shop.refused(OBJECTS, video_id=longer["data"][0]["id"], action="insert", prompt="a gull")
        assert "made by `veo/extend`; it must be made by `veo/videos` or" in says
        assert "`image_mask` is missing" in await shop.refused(OBJECTS, video_id=source, action="remove")

    serve(on_sqlite, off)
    serve(on_sqlite, on, catalog_dir=str(everything(tmp_path)))


def test_a_follow_up_fails_as_the_words_of_its_source_say(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        source = await one(shop, prompt="a boat [next:fail:forbidden]")
        task = await shop.task(UPSAMPLE, video_id=source, action="4k")
        assert task["response"]["error"]["code"] == "forbidden"
        assert task["data"] == {"id": task["id"], "state": "failed", "finished_at": task["finished_at"]}

    serve(on_sqlite, test)


def test_a_film_that_takes_its_time_is_polled_and_then_there(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        task_id = (await shop.ask(VIDEOS, prompt="a boat [delay:30]")).json["task_id"]
        await shop.world.work()
        assert (await shop.retrieve(VIDEOS, task_id))["response"] == {}
        shop.world.clock.pass_s(31)
        await shop.work()
        assert (await shop.retrieve(VIDEOS, task_id))["response"]["success"] is True

    serve(on_both, test)


def test_what_a_deleted_task_made_cannot_be_followed_up(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        made = await shop.made(VIDEOS, prompt="a boat")
        source = made["data"][0]["id"]
        waiting = (await shop.ask(UPSAMPLE, video_id=source, action="4k")).json["task_id"]
        deleted = await shop.ask("/veo/tasks", action="delete", id=made["task_id"])
        assert deleted.json == {"id": made["task_id"], "deleted": True}
        assert await shop.world.gateway.db.rows("SELECT id FROM items") == []
        assert await shop.refused(UPSAMPLE, video_id=source, action="4k") == GONE
        await shop.work()
        response = (await shop.retrieve(VIDEOS, waiting))["response"]
        assert response["error"] == {"code": "bad_request", "message": GONE}
        assert shop.world.files() == []

    serve(on_both, test)


def test_a_picture_that_is_not_there_fails_the_task(on_sqlite: Settings, images: str) -> None:
    async def test(shop: Shop) -> None:
        task = await shop.task(VIDEOS, action="image2video", image_urls=[f"{images}/none"])
        assert task["response"]["error"]["code"] == "bad_request"
        assert task["response"]["error"]["message"].startswith("`image_urls`: ")

    serve(on_sqlite, test)

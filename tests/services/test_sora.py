"""Sora: two versions with their own lengths and sizes, priced by the second."""

from collections.abc import Iterator
from typing import Any

import pytest

from bide.settings import Settings
from tests.services.world import Shop, serve
from tests.system.loopback import picture, pictures

VIDEOS = "/sora/videos"
CHARACTER = "https://example.com/dancer.mp4"


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    with pictures(one=picture(640, 360)) as address:
        yield f"{address}/one"


@pytest.mark.parametrize(("body", "made", "price"), [
    ({}, (1280, 720, 15), 6.0),
    ({"orientation": "portrait", "seconds": 10}, (720, 1280, 10), 4.0),
    ({"model": "sora-2-pro", "duration": 25, "size": "large"}, (1920, 1080, 25), 50.0),
    ({"model": "sora-2-pro", "duration": 10}, (1280, 720, 10), 12.0),
    ({"version": "2.0"}, (720, 1280, 4), 1.6),
    ({"version": "2.0", "duration": 12, "size": "1280x720", "orientation": "portrait"}, (1280, 720, 12), 4.8),
    ({"version": "2.0", "size": "1792x1024", "model": "sora-2-pro", "action": "generate"}, (1792, 1024, 4), 8.0),
], ids=str)  # fmt: skip
def test_a_film_has_the_length_and_size_of_its_version_and_is_paid_by_the_second(
    on_both: Settings, body: dict[str, Any], made: tuple[int, int, int], price: float
) -> None:
    async def test(shop: Shop) -> None:
        task = await shop.task(VIDEOS, prompt="a paper boat", **body)
        (item,) = task["response"]["data"]
        assert list(item) == ["id", "video_url", "state"]
        film = await shop.film(item["video_url"])
        assert (film.width, film.height, film.seconds) == made
        assert await shop.charged() == pytest.approx(price)
        assert task["data"]["state"] == "succeeded"

    serve(on_both, test)


@pytest.mark.parametrize(("body", "says"), [
    ({"duration": 4}, "`duration` is 4; with `version` \"1.0\" it must be 10, 15 or 25"),
    ({"duration": 25}, "`duration` is 25; with `version` \"1.0\" and `model` \"sora-2\" it must be 10 or 15"),
    ({"seconds": 11}, "`seconds` is 11; it must be 4, 8, 10, 12, 15 or 25"),
    ({"version": "2.0", "duration": 15}, "`duration` is 15; with `version` \"2.0\" it must be 4, 8 or 12"),
    ({"size": "large"}, "`size` is \"large\"; with `version` \"1.0\" and `model` \"sora-2\" it must be \"small\""),
    ({"size": "720x1280"}, "`size` is \"720x1280\"; with `version` \"1.0\" it must be \"small\" or \"large\""),
    ({"version": "2.0", "size": "small"}, "`size` is \"small\"; with `version` \"2.0\" it must be"),
    ({"version": "3.0"}, "`version` is \"3.0\"; it must be \"1.0\" or \"2.0\""),
    ({"character_url": CHARACTER}, "`character_start` is missing; with `character_url`"),
    ({"character_url": CHARACTER, "character_start": 1}, "`character_end` is missing; with `character_url`"),
    ({"character_url": CHARACTER, "character_start": 1, "character_end": 1}, "1 to 3 seconds after"),
    ({"character_url": CHARACTER, "character_start": 1, "character_end": 5}, "1 to 3 seconds after"),
    ({"character_url": "http://10.0.0.1/x", "character_start": 1, "character_end": 2}, "`character_url`: "),
    ({"input_reference": "http://10.0.0.1/x"}, "`image_urls`: "),
    ({"prompt": None}, "`prompt` is null; it must be"),
], ids=str)  # fmt: skip
def test_what_cannot_be_made_is_refused(on_sqlite: Settings, body: dict[str, Any], says: str) -> None:
    async def test(shop: Shop) -> None:
        assert says in await shop.refused(VIDEOS, **{"prompt": "a boat", **body})

    serve(on_sqlite, test)


@pytest.mark.parametrize("seconds", [1, 2, 3])
def test_a_figure_of_one_to_three_seconds_is_taken(on_sqlite: Settings, seconds: int) -> None:
    """Its film is for the upstream: the gateway does not fetch it."""

    async def test(shop: Shop) -> None:
        about = {"character_url": "http://127.0.0.1:9/x", "character_start": 0, "character_end": seconds}
        assert (await shop.made(VIDEOS, prompt="a dance", **about))["data"]

    serve(on_sqlite, test)


@pytest.mark.parametrize("name", ["image_urls", "input_reference"])
def test_a_picture_to_start_from_has_two_spellings(on_sqlite: Settings, image: str, name: str) -> None:
    async def test(shop: Shop) -> None:
        task = await shop.task(VIDEOS, prompt="a boat", version="2.0", **{name: image})
        assert task["request"][name] == image
        rows = await shop.world.gateway.db.rows("SELECT files FROM items")
        assert b'"still"' in bytes(rows[0][0])

    serve(on_sqlite, test)


def test_what_a_moderator_refuses_fails_uncharged(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        task = await shop.task(VIDEOS, prompt="somebody famous [moderation]")
        assert task["response"]["error"]["code"] == "forbidden"
        assert await shop.charged() == 0

    serve(on_both, test)


def test_ndjson_is_answered_as_json(on_sqlite: Settings) -> None:
    """The header is published for this service, its lines are not."""

    async def test(shop: Shop) -> None:
        answer = await shop.ask(VIDEOS, prompt="a boat", **{"async": False})
        assert answer.headers["content-type"] == "application/json"
        assert answer.json["data"]

    serve(on_sqlite, test)

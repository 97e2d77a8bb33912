"""Midjourney: grids, what is made of them, edits, films, and words about pictures."""

import asyncio
import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image, ImageChops

from bide.api.answers import Message
from bide.settings import Settings
from tests.contract import check_answer
from tests.services.world import Shop, serve
from tests.system.loopback import pictures
from tests.world import receiving

IMAGINE, EDITS, VIDEOS, DESCRIBE, SHORTEN, TRANSLATE, SEED = (
    f"/midjourney/{path}" for path in ("imagine", "edits", "videos", "describe", "shorten", "translate", "seed")
)
GRID = ["upscale1", "upscale2", "upscale3", "upscale4", "reroll", "variation1", "variation2", "variation3",
        "variation4"]  # fmt: skip
SINGLE = [
    "upscale_2x", "upscale_4x", "upscale_subtle", "upscale_creative", "redo_upscale_2x", "redo_upscale_4x",
    "redo_upscale_subtle", "redo_upscale_creative", "variation_subtle", "variation_strong", "zoom_out_2x",
    "zoom_out_1_5x", "square", "pan_left", "pan_right", "pan_up", "pan_down", "variation_region",
]  # fmt: skip
FIELDS = ["success", "task_id", "trace_id", "image_id", "progress", "image_url", "image_width", "image_height",
          "raw_image_url", "raw_image_width", "raw_image_height", "actions"]  # fmt: skip


@pytest.fixture(scope="module")
def images() -> Iterator[str]:
    right = Image.new("L", (64, 64), 0)
    right.paste(255, (32, 0, 64, 64))
    with pictures(one=_png(drawn(640, 360)), tall=_png(drawn(360, 640)), right=_png(right)) as address:
        yield address


URL = "https://example.com/one"


def drawn(wide: int, tall: int) -> Image.Image:
    """A picture that looks different everywhere."""
    across = Image.linear_gradient("L").rotate(90).resize((wide, tall))
    return Image.merge("RGB", (across, Image.linear_gradient("L").resize((wide, tall)), across.rotate(180)))


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


async def made(shop: Shop, path: str = IMAGINE, **body: Any) -> dict[str, Any]:
    """What a caller gets who waits."""
    answer = await shop.ask(path, **body)
    assert answer.status == 200, answer
    found = answer.json
    assert isinstance(found, dict)
    return found


async def raw(shop: Shop, answer: dict[str, Any]) -> Image.Image:
    """The original, which is as large as it says, and so is its thumbnail, half as large."""
    original = (await shop.picture(answer["raw_image_url"])).convert("RGB")
    small = await shop.picture(answer["image_url"])
    assert original.size == (answer["raw_image_width"], answer["raw_image_height"])
    assert small.size == (answer["image_width"], answer["image_height"])
    assert small.width * 2 in (original.width, original.width + 1)
    return original


def distance(one: Image.Image, other: Image.Image) -> float:
    """How far two pictures are apart, from 0 to 255, both seen small and without the strip of words at the bottom."""
    small = [image.crop((0, 0, image.width, image.height * 3 // 4)).resize((48, 36), Image.Resampling.BOX)
             for image in (one, other)]  # fmt: skip
    points = ImageChops.difference(*small).convert("L").tobytes()
    return sum(points) / len(points)


def quarter(image: Image.Image, number: int) -> Image.Image:
    """The picture `number` (from 1) of a grid."""
    wide, tall = image.width // 2, image.height // 2
    left, top = (number - 1) % 2 * wide, (number - 1) // 2 * tall
    return image.crop((left, top, left + wide, top + tall))


# -- imagine


def test_a_grid_is_answered_to_the_caller_who_waits_and_can_be_looked_up(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        answer = await made(shop, prompt="a lighthouse at dusk", trace_id="order-7731")
        assert list(answer) == FIELDS
        assert (answer["trace_id"], answer["progress"], answer["actions"]) == ("order-7731", 100, GRID)
        assert answer["image_id"].isdigit()
        whole = await raw(shop, answer)
        assert whole.size == (1024, 1024)
        assert min(distance(quarter(whole, 1), quarter(whole, other)) for other in (2, 3, 4)) > 4
        task = await shop.retrieve(IMAGINE, answer["task_id"])
        assert (task["type"], task["response"], task["success"]) == ("imagine", answer, True)
        assert task["image_url"] == answer["image_url"]

    serve(on_both, test)


def test_a_prompt_says_the_shape_and_the_seed(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        wide = await made(shop, prompt="a boat --ar 4:1 --seed 77")
        assert (wide["raw_image_width"], wide["raw_image_height"]) == (2048, 512)
        await raw(shop, wide)
        assert await made(shop, SEED, image_id=wide["image_id"]) == {"seed": "77"}
        same = await made(shop, prompt="a boat --ar 4:1 --seed 77")
        assert (await raw(shop, same)).tobytes() == (await raw(shop, wide)).tobytes()
        large = await made(shop, prompt="a boat", hd=True, version="8")
        assert (await raw(shop, large)).size == (2048, 2048)

    serve(on_sqlite, test)


def test_an_upscale_shows_that_picture_and_is_larger(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        grid = await made(shop, prompt="a lighthouse")
        whole = await raw(shop, grid)
        for number in (1, 2, 3, 4):
            answer = await made(shop, action=f"upscale{number}", image_id=grid["image_id"])
            assert list(answer) == FIELDS
            assert (answer["actions"], answer["image_width"], answer["raw_image_width"]) == (SINGLE, 512, 1024)
            single = await raw(shop, answer)
            for other in (1, 2, 3, 4):
                assert (distance(single, quarter(whole, other)) < 3) == (other == number)

    serve(on_both, test)


def test_the_other_actions_of_a_grid_make_another_grid(on_both: Settings) -> None:
    async def one(shop: Shop, grid: dict[str, Any], action: str) -> None:
        more = {"prompt": "--seed 7", "split_images": True}  # else the seed follows from the id, which is always new
        answer = await made(shop, action=action, image_id=grid["image_id"], **more)
        assert answer["actions"] == GRID
        whole, before = await raw(shop, answer), await raw(shop, grid)
        assert distance(whole, before) > 2
        parts = [await shop.picture(url) for url in answer["sub_image_urls"]]
        assert [part.size for part in parts] == [(512, 512)] * 4
        for number, part in enumerate(parts, 1):
            assert distance(part.convert("RGB"), quarter(whole, number)) < 2
        if action != "reroll":
            number = int(action[-1])
            apart = [distance(quarter(whole, 1), quarter(before, other)) for other in (1, 2, 3, 4)]
            assert apart.index(min(apart)) == number - 1

    async def test(shop: Shop) -> None:
        grid = await made(shop, prompt="a lighthouse")
        for action in ("reroll", "variation1", "variation2", "variation3", "variation4"):
            await one(shop, grid, action)

    serve(on_both, test)


SIZES = [
    ("upscale_2x", (2048, 2048), SINGLE), ("upscale_4x", (4096, 4096), SINGLE),
    ("upscale_subtle", (2048, 2048), SINGLE), ("upscale_creative", (2048, 2048), SINGLE),
    ("redo_upscale_2x", (2048, 2048), SINGLE), ("redo_upscale_4x", (4096, 4096), SINGLE),
    ("redo_upscale_subtle", (2048, 2048), SINGLE), ("redo_upscale_creative", (2048, 2048), SINGLE),
    ("variation_subtle", (1024, 1024), GRID), ("variation_strong", (1024, 1024), GRID),
    ("zoom_out_2x", (1024, 1024), SINGLE), ("zoom_out_1_5x", (1024, 1024), SINGLE), ("square", (1024, 1024), SINGLE),
    ("pan_left", (1536, 1024), SINGLE), ("pan_right", (1536, 1024), SINGLE), ("pan_up", (1024, 1536), SINGLE),
    ("pan_down", (1024, 1536), SINGLE),
]  # fmt: skip


def test_every_action_of_a_single_picture(on_sqlite: Settings) -> None:
    assert {*SINGLE, *GRID, "generate"} == {*(one for one, _, _ in SIZES), "variation_region", *GRID, "generate"}

    async def one(
        shop: Shop, single: dict[str, Any], action: str, size: tuple[int, int], actions: list[str]
    ) -> None:
        answer = await made(shop, action=action, image_id=single["image_id"])
        before, after = await raw(shop, single), await raw(shop, answer)
        assert (after.size, answer["actions"]) == (size, actions)
        where = {"pan_left": (512, 0, 1536, 1024), "pan_right": (0, 0, 1024, 1024), "pan_up": (0, 512, 1024, 1536),
                 "pan_down": (0, 0, 1024, 1024), "zoom_out_2x": (256, 256, 768, 768)}.get(action)  # fmt: skip
        kept = after.crop(where) if where else after if "upscale" in action or action == "square" else None
        if kept is not None:  # what was there is still there
            assert distance(kept.crop((0, 0, kept.width, kept.height // 2)),
                            before.crop((0, 0, 1024, 512))) < (8 if "creative" in action else 5)  # fmt: skip

    async def test(shop: Shop) -> None:
        grid = await made(shop, prompt="a lighthouse")
        single = await made(shop, action="upscale2", image_id=grid["image_id"])
        for action, size, actions in SIZES:
            await one(shop, single, action, size, actions)

    serve(on_sqlite, test)


def test_a_wide_picture_can_be_made_square(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        grid = await made(shop, prompt="a lighthouse --ar 16:9")
        single = await made(shop, action="upscale1", image_id=grid["image_id"])
        answer = await made(shop, action="square", image_id=single["image_id"])
        assert (await raw(shop, answer)).size == (single["raw_image_width"],) * 2

    serve(on_sqlite, test)


@pytest.mark.parametrize("by_address", [False, True])
def test_a_region_changes_where_the_mask_is_white_and_nowhere_else(
    on_both: Settings, images: str, by_address: bool
) -> None:
    async def test(shop: Shop) -> None:
        grid = await made(shop, prompt="a lighthouse")
        single = await made(shop, action="upscale2", image_id=grid["image_id"])
        mask = Image.new("L", (64, 64), 0)
        mask.paste(255, (32, 0, 64, 64))
        given = f"{images}/right" if by_address else base64.b64encode(_png(mask)).decode()
        answer = await made(shop, action="variation_region", image_id=single["image_id"], mask=given)
        before, after = await raw(shop, single), await raw(shop, answer)
        for number in (1, 2, 3, 4):
            part = quarter(after, number).resize((1024, 1024))
            left, right = (0, 0, 480, 1024), (544, 0, 1024, 1024)
            assert distance(part.crop(left), before.crop(left)) < 3
            assert distance(part.crop(right), before.crop(right)) > 3
        with_head = await made(shop, action="variation_region", image_id=single["image_id"],
                               mask=f"data:image/png;base64,{base64.b64encode(_png(mask)).decode()}")  # fmt: skip
        assert with_head["actions"] == GRID

    serve(on_both, test)


def test_what_cannot_be_made_is_refused(on_sqlite: Settings) -> None:
    refusals: list[tuple[dict[str, Any], str]] = [
        ({}, "`prompt` is missing; with `action` \"generate\" it is needed"),
        ({"action": "upscale1"}, "`image_id` is missing; with `action` \"upscale1\" it is needed"),
        ({"action": "pan_left"}, "`image_id` is missing"),
        ({"action": "upscale5", "image_id": "1"}, "`action` is \"upscale5\"; it must be \"generate\", \"upscale1\""),
        ({"action": "upscale1", "image_id": "1300000000000000001"}, "`image_id`: there is no image with this id."),
        ({"action": "variation_region", "image_id": "1"}, "`mask` is missing; with `action` \"variation_region\""),
        ({"prompt": "x", "mask": "?"}, "`mask` is \"?\"; it must be "),
        ({"prompt": "x", "version": "8.1", "mode": "turbo"}, "`mode` is \"turbo\""),
        ({"prompt": "x", "version": "8.1", "quality": "2"}, "`quality` is not taken by version 8.1"),
        ({"prompt": "x", "version": "7", "hd": True}, "`hd` is true"),
        ({"prompt": "x", "version": "4"}, "`version` is \"4\"; it must be \"5.2\""),
        ({"prompt": "x", "timeout": 0}, "`timeout` is 0; it must be a number from 1 to 1800"),
        ({"prompt": "a boat --nosuch 3"}, "Unrecognized argument: --nosuch"),
        ({"prompt": "a boat --ar 9"}, "--ar is '9'; it must be two whole numbers"),
        ({"prompt": " ".join(f"https://a.example/{n}.png" for n in range(6))}, "`prompt` begins with 6 addresses"),
    ]  # fmt: skip

    async def test(shop: Shop) -> None:
        for body, says in refusals:
            assert says in await shop.refused(IMAGINE, **body)

    serve(on_sqlite, test)


def test_an_action_that_the_source_does_not_have_is_refused_before_anything_is_made(
    on_both: Settings, images: str
) -> None:
    async def test(shop: Shop) -> None:
        grid = await made(shop, prompt="a lighthouse")
        says = await shop.refused(IMAGINE, action="zoom_out_2x", image_id=grid["image_id"], **{"async": True})
        assert says == (
            "`action` is \"zoom_out_2x\"; with this `image_id` it must be \"upscale1\", \"upscale2\", \"upscale3\", "
            "\"upscale4\", \"reroll\", \"variation1\", \"variation2\", \"variation3\" or \"variation4\"."
        )  # fmt: skip
        single = await made(shop, action="upscale2", image_id=grid["image_id"])
        assert "`action` is \"upscale1\"" in await shop.refused(
            IMAGINE, action="upscale1", image_id=single["image_id"]
        )  # fmt: skip
        edited = await made(shop, EDITS, image_url=f"{images}/one", prompt="add a gull")
        assert await shop.refused(IMAGINE, action="upscale1", image_id=edited["image_id"]) == (
            "`action` is \"upscale1\"; nothing of the kind can follow this `image_id`."
        )  # fmt: skip
        foreign = await shop.ask(IMAGINE, shop.theirs, action="upscale1", image_id=grid["image_id"])
        assert (foreign.status, foreign.message) == (400, "`image_id`: there is no image with this id.")
        films = await made(shop, VIDEOS, image_url=f"{images}/one", resolution="480p")
        assert "of the kind video; it must be of the kind image" in await shop.refused(
            IMAGINE, action="upscale1", image_id=films["video_id"]
        )  # fmt: skip
        count = (await shop.ask("/midjourney/tasks", action="retrieve_batch", limit=50)).json["count"]
        assert count == 4

    serve(on_both, test)


def test_a_mask_that_is_no_picture_fails_the_task(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        grid = await made(shop, prompt="a lighthouse")
        single = await made(shop, action="upscale2", image_id=grid["image_id"])
        for mask in ("AAAA", base64.b64encode(b"no picture at all").decode()):
            says = await shop.refused(IMAGINE, action="variation_region", image_id=single["image_id"], mask=mask)
            assert says == "`mask` is neither an address nor a picture in base64."

    serve(on_both, test)


def test_a_result_that_takes_longer_than_its_timeout_is_given_up(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        answer = await shop.ask(IMAGINE, prompt="a boat [delay:9]", timeout=5)
        assert (answer.status, answer.code) == (504, "timeout")
        assert (await shop.ask(IMAGINE, prompt="a boat [delay:9]", timeout=20)).status == 200
        assert await shop.charged() == pytest.approx(0.26)

    serve(on_both, test)


def test_a_callback_has_what_the_caller_would_have_got(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        async with receiving() as receiver:
            good = (await shop.ask(IMAGINE, prompt="a boat", split_images=True, callback_url=receiver.url)).json
            bad = (await shop.ask(IMAGINE, prompt="a boat --nosuch", callback_url=receiver.url)).json
            assert set(good) == set(bad) == {"success", "task_id", "trace_id"}
            await shop.work()
            assert await shop.world.deliver() == 2
            posted = {one.body["task_id"]: one.body for one in receiver.got}
        assert list(posted[good["task_id"]]) == [*FIELDS, "sub_image_urls"]
        assert posted[bad["task_id"]] == {
            "success": False, "task_id": bad["task_id"], "trace_id": bad["trace_id"],
            "error": {"code": "bad_request", "message": "Unrecognized argument: --nosuch"},
        }  # fmt: skip
        task = await shop.retrieve(IMAGINE, bad["task_id"])
        assert (task["success"], task["error"]["code"]) == (False, "bad_request")

    serve(on_both, test)


def test_prices(on_sqlite: Settings) -> None:
    prices: list[tuple[str, dict[str, Any], float]] = [
        (IMAGINE, {"prompt": "x"}, 0.26), (IMAGINE, {"prompt": "x", "mode": "relax"}, 0.16),
        (IMAGINE, {"prompt": "x", "mode": "turbo"}, 0.52),
        (IMAGINE, {"prompt": "x", "version": "8", "hd": True}, 0.9),
        (IMAGINE, {"prompt": "x", "hd": True}, 0.9),
        (IMAGINE, {"prompt": "x", "version": "7", "moodboard": True}, 0.26), (SHORTEN, {"prompt": "x"}, 0.01),
        (TRANSLATE, {"content": "猫"}, 0.01), (DESCRIBE, {"image_url": URL}, 0.05), (EDITS, {"image_url": URL}, 0.26),
        (EDITS, {"image_url": URL, "mode": "turbo"}, 0.52), (VIDEOS, {"image_url": URL}, 2.1),
        (VIDEOS, {"image_url": URL, "resolution": "480p"}, 1.05), (VIDEOS, {"image_url": URL, "mode": "turbo"}, 4.2),
    ]  # fmt: skip

    async def test(shop: Shop) -> None:
        for path, body, price in prices:
            assert (await made(shop, path, **body, dry_run=True))["price"]["amount"] == price

    serve(on_sqlite, test)


def test_an_upscale_costs_less_and_a_seed_nothing(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        grid = await made(shop, prompt="x")
        single = await made(shop, action="upscale3", image_id=grid["image_id"])
        await made(shop, SEED, image_id=grid["image_id"])
        assert await shop.charged() == pytest.approx(0.31)
        for action in SINGLE:
            about = {"action": action, "image_id": single["image_id"], "mask": "https://example.com/m.png"}
            price = (await made(shop, **about, dry_run=True))["price"]["amount"]
            assert (action, price) == (action, 0.05 if "upscale" in action else 0.26)

    serve(on_sqlite, test)


def test_the_published_limits_are_those_of_the_service(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        for operation in shop.world.gateway.catalog.services["midjourney"].operations.values():
            assert (operation.limits.submits_per_s, operation.limits.concurrent) == (1, 5)

    serve(on_sqlite, test)


# -- edits


@pytest.mark.parametrize("masked", [False, True])
def test_an_edit_is_a_grid_of_the_picture_changed(on_both: Settings, images: str, masked: bool) -> None:
    async def test(shop: Shop) -> None:
        more = {"mask": f"{images}/right"} if masked else {}
        answer = await made(shop, EDITS, image_url=f"{images}/one", prompt="at night", split_images=True, **more)
        assert list(answer) == [*FIELDS, "sub_image_urls"]
        assert answer["actions"] == []
        whole = await raw(shop, answer)
        assert abs(whole.width / whole.height - 16 / 9) < 0.02
        source = drawn(640, 360)
        for url in answer["sub_image_urls"]:
            part = (await shop.picture(url)).convert("RGB").resize((640, 360))
            left, right = (0, 0, 300, 360), (340, 0, 640, 360)
            assert distance(part.crop(right), source.crop(right)) > 3
            assert (distance(part.crop(left), source.crop(left)) < 3) == masked
        assert (await made(shop, SEED, image_id=answer["image_id"]))["seed"].isdigit()
        assert (await shop.retrieve(EDITS, answer["task_id"]))["type"] == "edits"

    serve(on_both, test)


# -- films


def test_four_films_of_a_picture_and_longer_ones_of_one_of_them(on_both: Settings, images: str) -> None:
    async def test(shop: Shop) -> None:
        answer = await made(shop, VIDEOS, image_url=f"{images}/one", prompt="waves", resolution="480p")
        assert list(answer) == [*FIELDS[:3], "video_id", "video_urls", "image_url", "image_width", "image_height",
                                "progress"]  # fmt: skip
        assert (answer["progress"], answer["video_id"].isdigit()) == (100, True)
        poster = await shop.picture(answer["image_url"])
        assert poster.size == (answer["image_width"], answer["image_height"]) == (854, 480)
        films = [await shop.film(url) for url in answer["video_urls"]]
        assert [(one.width, one.height, one.seconds) for one in films] == [(854, 480, 5.0)] * 4
        assert len({await shop.file(url) for url in answer["video_urls"]}) == 4
        task = await shop.retrieve(VIDEOS, answer["task_id"])
        assert (task["success"], task["video_urls"]) == (True, answer["video_urls"])
        longer = await made(shop, VIDEOS, action="extend", video_id=answer["video_id"], video_index=2.0)
        films = [await shop.film(url) for url in longer["video_urls"]]
        assert [(one.width, one.height, one.seconds) for one in films] == [(1280, 720, 9.0)] * 4
        again = await made(shop, VIDEOS, action="extend", video_id=longer["video_id"], end_image_url=f"{images}/tall",
                           resolution="480p")  # fmt: skip
        assert (await shop.film(again["video_urls"][0])).seconds == 13.0

    serve(on_both, test)


def test_a_film_has_the_shape_of_its_picture_and_ends_as_it_was_asked_to(on_sqlite: Settings, images: str) -> None:
    async def test(shop: Shop) -> None:
        more = {"image_url": f"{images}/tall", "resolution": "480p"}
        end = {"end_image_url": f"{images}/one"}
        for body in ({"loop": True}, end, {**end, "loop": True}):
            film = await shop.film((await made(shop, VIDEOS, **more, **body))["video_urls"][3])
            assert (film.width, film.height, film.seconds) == (480, 854, 5.0)

    serve(on_sqlite, test)


def test_films_that_cannot_be_made_are_refused(on_sqlite: Settings) -> None:
    refusals: list[tuple[dict[str, Any], str]] = [
        ({}, "`image_url` is missing; with `action` \"generate\" it is needed"),
        ({"action": "extend"}, "`video_id` is missing; with `action` \"extend\" it is needed"),
        ({"action": "extend", "video_id": "1"}, "`video_id`: there is no video with this id."),
        ({"action": "extend", "video_id": "1", "video_index": 4}, "`video_index` is 4; it must be 0, 1, 2 or 3"),
        ({"image_url": "https://a.example/x", "resolution": "4k"}, "`resolution` is \"4k\"; it must be \"480p\" or"),
        ({"image_url": "https://a.example/x", "mode": "relax"}, "`mode` is \"relax\"; it must be \"fast\" or"),
        ({"image_url": "http://10.0.0.1/x"}, "`image_url`: "),
    ]  # fmt: skip

    async def test(shop: Shop) -> None:
        for body, says in refusals:
            assert says in await shop.refused(VIDEOS, **body)

    serve(on_sqlite, test)


def test_a_film_does_not_get_longer_for_ever(on_sqlite: Settings, images: str) -> None:
    async def test(shop: Shop) -> None:
        answer = await made(shop, VIDEOS, image_url=f"{images}/one", resolution="480p")
        for _ in range(4):
            answer = await made(shop, VIDEOS, action="extend", video_id=answer["video_id"], resolution="480p")
        assert (await shop.film(answer["video_urls"][0])).seconds == 21.0
        says = await shop.refused(VIDEOS, action="extend", video_id=answer["video_id"])
        assert says == "the film would be longer than 21 seconds"

    serve(on_sqlite, test)


# -- words


def test_words_are_answered_bare(on_both: Settings, images: str) -> None:
    async def test(shop: Shop) -> None:
        described = await made(shop, DESCRIBE, image_url=f"{images}/tall")
        assert list(described) == ["descriptions"]
        assert len(set(described["descriptions"])) == 4
        assert all("--ar 360:640" in one for one in described["descriptions"])
        prompt = "please draw a very old lighthouse above a stormy sea at dusk with gulls"
        shortened = await made(shop, SHORTEN, prompt=prompt)
        assert list(shortened) == ["prompts"]
        assert 1 < len(shortened["prompts"]) <= 5
        assert all(len(one) < len(prompt) for one in shortened["prompts"])
        assert await made(shop, TRANSLATE, content="一只可爱的猫在海边，cyberpunk") == {
            "content": "a cute cat in seaside, cyberpunk"
        }
        grid = await made(shop, prompt="a boat")
        seed = await made(shop, SEED, image_id=grid["image_id"])
        assert list(seed) == ["seed"]
        assert seed["seed"].isdigit()
        again = await made(shop, prompt=f"a boat --seed {seed['seed']}")
        assert (await raw(shop, again)).tobytes() == (await raw(shop, grid)).tobytes()

    serve(on_both, test)


def test_what_is_only_words_leaves_no_task_but_a_description(on_both: Settings, images: str) -> None:
    async def test(shop: Shop) -> None:
        await made(shop, SHORTEN, prompt="a boat")
        await made(shop, TRANSLATE, content="猫")
        await made(shop, DESCRIBE, image_url=f"{images}/one")
        listed = (await shop.ask("/midjourney/tasks", action="retrieve_batch")).json
        assert [(one["type"], list(one["response"])) for one in listed["items"]] == [
            ("describe", ["success", "task_id", "trace_id", "descriptions"])
        ]
        assert listed["items"][0]["success"] is True
        failed = await shop.task(DESCRIBE, image_url=f"{images}/not-there")
        assert (failed["success"], failed["error"]["code"]) == (False, "bad_request")

    serve(on_both, test)


def test_words_about_nothing_are_refused(on_sqlite: Settings) -> None:
    refusals: list[tuple[str, dict[str, Any], str]] = [
        (DESCRIBE, {}, "`image_url` is missing"), (SHORTEN, {}, "`prompt` is missing"),
        (TRANSLATE, {"content": ""}, "`content` is \"\"; it must be a text"), (SEED, {}, "`image_id` is missing"),
        (SEED, {"image_id": "77"}, "`image_id`: there is no image with this id."),
        (EDITS, {}, "`image_url` is missing"),
        (DESCRIBE, {"image_url": "http://10.0.0.1/x"}, "`image_url`: "),
    ]  # fmt: skip

    async def test(shop: Shop) -> None:
        for path, body, says in refusals:
            assert says in await shop.refused(path, **body)

    serve(on_sqlite, test)


def test_a_batch_is_filtered_by_type(on_both: Settings, images: str) -> None:
    async def test(shop: Shop) -> None:
        url = f"{images}/one"
        made_by = {
            "imagine": await made(shop, prompt="a boat"), "edits": await made(shop, EDITS, image_url=url),
            "videos": await made(shop, VIDEOS, image_url=url, resolution="480p"),
        }  # fmt: skip
        for kind, answer in made_by.items():
            listed = (await shop.ask("/midjourney/tasks", action="retrieve_batch", type=kind)).json
            assert ([one["id"] for one in listed["items"]], listed["count"]) == ([answer["task_id"]], 1)
        assert (await shop.ask("/midjourney/tasks", action="retrieve_batch")).json["count"] == 3

    serve(on_both, test)


# -- line by line


async def streamed(shop: Shop, path: str, **body: Any) -> tuple[int, str, list[dict[str, Any]], list[bytes]]:
    """Status, content type, lines, and the pieces in which they came."""
    pieces: list[bytes] = []
    starts: list[Message] = []
    asked = [json.dumps(body).encode()]

    async def receive() -> Message:
        if not asked:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": asked.pop()}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            starts.append(message)
        else:
            pieces.append(message.get("body", b""))

    headers = [(b"content-type", b"application/json"), (b"accept", b"application/x-ndjson"),
               (b"host", b"gateway.test"), (b"authorization", f"Bearer {shop.mine.token}".encode())]  # fmt: skip
    await shop.mine.app({
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": headers, "scheme": "http", "http_version": "1.1", "server": ("gateway.test", 80),
        "client": ("127.0.0.1", 1), "root_path": "", "state": {},
    }, receive, send)  # fmt: skip
    (start,) = starts
    named = {name.decode(): value.decode() for name, value in start["headers"]}
    whole = b"".join(pieces)
    check_answer(shop.document, "POST", path, start["status"], named, whole)
    lines = [json.loads(line) for line in whole.splitlines()]
    return start["status"], named["content-type"], lines, [one for one in pieces if one]


def test_a_caller_is_told_line_by_line_how_far_it_is(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        status, kind, lines, pieces = await streamed(shop, IMAGINE, prompt="a boat [delay:0.04]", trace_id="mine")
        assert (status, kind) == (200, "application/x-ndjson")
        assert len(pieces) == len(lines) == 5
        assert [one["progress"] for one in lines] == [0, 25, 50, 75, 100]
        for one in lines[:-1]:
            assert (one["success"], one["trace_id"], one["actions"]) == (True, "mine", [])
            assert "image_id" not in one
            assert "raw_image_url" not in one
        assert list(lines[-1]) == FIELDS
        assert lines[-1]["actions"] == GRID
        assert {one["task_id"] for one in lines} == {lines[-1]["task_id"]}
        task = await shop.retrieve(IMAGINE, lines[-1]["task_id"])
        assert task["response"] == lines[-1]
        temporary = [one["image_url"] for one in lines[1:-1]]
        assert len({*temporary, lines[-1]["image_url"]}) == 4
        for url in temporary:  # gone with the end of the work
            assert await shop.world.gateway.storage.open(url.partition("/files/")[2]) is None
        await raw(shop, lines[-1])

    serve(on_both, test)


def test_edits_and_films_are_told_of_line_by_line_too(on_sqlite: Settings, images: str) -> None:
    async def test(shop: Shop) -> None:
        for path in (EDITS, VIDEOS):
            _, _, lines, _ = await streamed(shop, path, image_url=f"{images}/one")
            assert [one["progress"] for one in lines] == [0, 25, 50, 75, 100]
        status, kind, lines, _ = await streamed(shop, DESCRIBE, image_url=f"{images}/one")
        assert (status, kind, list(lines[0])) == (200, "application/json", ["descriptions"])

    serve(on_sqlite, test)


def test_a_failure_after_the_first_line_is_the_last_line(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        status, _, lines, _ = await streamed(shop, IMAGINE, prompt="a boat [moderation]")
        assert (status, [one.get("progress") for one in lines]) == (200, [0, 25, 50, 75, None])
        assert list(lines[-1]) == ["success", "task_id", "trace_id", "error"]
        assert (lines[-1]["success"], lines[-1]["error"]["code"]) == (False, "forbidden")
        assert lines[-1] == (await shop.retrieve(IMAGINE, lines[-1]["task_id"]))["response"]
        assert await shop.charged() == 0

    serve(on_both, test)


def test_a_failure_before_the_first_line_has_its_status(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        for body in ({"prompt": 7}, {"prompt": "a boat --nosuch"}):
            status, kind, lines, _ = await streamed(shop, IMAGINE, **body)
            assert (status, kind, lines[0]["error"]["code"]) == (400, "application/json", "bad_request")
        assert (await streamed(shop, IMAGINE, prompt="[rate]", timeout=1))[0] in (429, 504)

    serve(on_sqlite, test)


def test_async_wins_over_lines_and_answers_a_single_one(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        status, kind, lines, _ = await streamed(shop, IMAGINE, prompt="a boat", **{"async": True})
        assert (status, kind, len(lines)) == (200, "application/x-ndjson", 1)
        assert set(lines[0]) == {"success", "task_id", "trace_id"}
        await shop.work()
        assert (await shop.retrieve(IMAGINE, lines[0]["task_id"]))["response"]["progress"] == 100

    serve(on_both, test)


def test_with_a_callback_every_line_is_posted_too_and_the_last_is_owed(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        async with receiving() as receiver:
            _, _, lines, _ = await streamed(shop, IMAGINE, prompt="a boat", callback_url=receiver.url)
            assert [one.body for one in receiver.got] == lines[:-1]
            assert await shop.world.deliver() == 1
            assert [one.body for one in receiver.got] == lines
            ids = [one.headers["webhook-id"] for one in receiver.got]
        assert len(set(ids)) == 5

    serve(on_both, test)


def test_a_receiver_that_does_not_take_a_line_is_told_of_the_result_alone(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        async with receiving("500 Broken") as receiver:
            _, _, lines, _ = await streamed(shop, IMAGINE, prompt="a boat", callback_url=receiver.url)
            assert [one["progress"] for one in lines] == [0, 25, 50, 75, 100]
            assert await shop.world.deliver() == 1
            assert [one.body["progress"] for one in receiver.got] == [0, 100]

    serve(on_both, test)


def test_pictures_that_a_prompt_begins_with_show_in_the_grid_and_in_what_follows(on_sqlite: Settings) -> None:
    """Two prompts that differ in a picture alone; the seed says that the words make the same landscape."""

    def red(image: Image.Image) -> float:
        return float(image.convert("RGB").resize((1, 1)).getpixel((0, 0))[0])  # type: ignore[index]

    async def test(shop: Shop) -> None:
        with pictures(red=_of("#ff0000"), blue=_of("#0000ff")) as address:
            grids = [await made(shop, prompt=f"{address}/{one} a boat --seed 7") for one in ("red", "blue")]
            shown = [red(await raw(shop, one)) for one in grids]
            assert shown[0] > shown[1] + 50
            singles = [await made(shop, action="upscale2", image_id=one["image_id"]) for one in grids]
            shown = [red(await raw(shop, one)) for one in singles]
            assert shown[0] > shown[1] + 50

    serve(on_sqlite, test)


def _of(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(out, "PNG")
    return out.getvalue()

"""What the services that are data alone make: films, pictures, recordings and songs as they were asked for."""

import base64
import io
import wave
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bide.settings import Settings
from tests.services.world import Shop, serve
from tests.system.loopback import picture, pictures

PAGE = "https://example.com/one"


def test_pictures_have_the_number_and_the_shape_that_were_asked_for(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        response = await shop.made("/flux/images", prompt="a boat", size="768x512", count=2)
        assert [set(one) for one in response["data"]] == [{"image_url", "prompt", "seed"}] * 2
        first, second = [await shop.picture(one["image_url"]) for one in response["data"]]
        assert first.size == second.size == (768, 512)
        assert first.tobytes() != second.tobytes()
        assert await shop.charged() == pytest.approx(0.52)
        response = await shop.made("/nano-banana/images", prompt="a boat", aspect_ratio="16:9", resolution="2K")
        assert (await shop.picture(response["data"][0]["image_url"])).size == (2048, 1152)
        response = await shop.made("/seedream/images", prompt="a boat", model="doubao-seedream-4-0-250828", size="1K")
        assert response["data"][0]["size"] == "1024x1024"
        response = await shop.made("/qrart/generate", type="link", prompt="a boat", content=PAGE, seed=7)
        assert (response["image_width"], response["image_height"], response["seed"]) == (1024, 1024, 7)

    serve(on_sqlite, test)


def test_of_several_pictures_only_those_that_succeeded_are_charged(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        response = await shop.made("/nano-banana/images", prompt="a boat [partial:1]", count=3)
        assert len(response["data"]) == 1
        assert await shop.charged() == pytest.approx(0.14)

    serve(on_sqlite, test)


def test_an_edit_needs_a_picture(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        for path, name in (("/flux/images", "image_url"), ("/nano-banana/images", "image_urls")):
            sentence = await shop.refused(path, prompt="red sails", action="edit")
            assert sentence == f'`{name}` is missing; with `action` "edit" it is needed'

    serve(on_sqlite, test)


FILMS: list[tuple[str, dict[str, Any], tuple[int, int, float]]] = [
    ("/kling/videos", {"prompt": "a boat", "aspect_ratio": "1:1", "duration": 10}, (720, 720, 10.0)),
    ("/luma/videos", {"prompt": "a boat", "aspect_ratio": "9:16"}, (720, 1280, 8.0)),
    ("/wan/videos", {"prompt": "a boat", "size": "960*540", "duration": 5}, (960, 540, 5.0)),
    ("/happyhorse/videos", {"prompt": "boats", "resolution": "720P", "ratio": "4:3", "duration": 3}, (960, 720, 3.0)),
    ("/grok/videos", {"prompt": "a boat", "aspect_ratio": "2:3"}, (480, 720, 6.0)),
    ("/maestro/videos", {"prompt": "a boat", "duration": 12}, (720, 1280, 12.0)),
    ("/seedance/videos", {"model": "a", "content": [{"type": "text", "text": "a boat"}], "resolution": "480p",
                          "ratio": "1:1", "frames": 48}, (480, 480, 2.0)),
]  # fmt: skip


def test_films_have_the_size_and_the_length_that_were_asked_for(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        for path, body, expected in FILMS:
            film = await shop.film(_address(await shop.made(path, **body), "video_url"))
            assert (film.width, film.height, film.seconds) == expected, path

    serve(on_sqlite, test)


def _address(value: Any, name: str) -> str:
    """The first value of that name, however deep."""
    if isinstance(value, dict):
        if isinstance(value.get(name), str):
            return str(value[name])
        value = list(value.values())
    found = [_address(one, name) for one in value if isinstance(one, dict | list)] if isinstance(value, list) else []
    return next((one for one in found if one), "")


def test_each_service_has_its_own_word_for_success(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        kling = await shop.made("/kling/videos", prompt="a boat")
        assert list(kling) == ["success", "task_id", "trace_id", "video_id", "video_url", "duration", "state"]
        assert (kling["state"], kling["duration"]) == ("succeed", 5)
        luma = await shop.made("/luma/videos", prompt="a boat")
        assert (luma["state"], luma["video_width"], luma["thumbnail_width"]) == ("completed", 1280, 640)
        content = [{"type": "text", "text": "a boat"}]
        (seedance,) = (await shop.made("/seedance/videos", model="a-model", content=content))["data"]
        assert (seedance["status"], seedance["model"], seedance["duration"]) == ("succeeded", "a-model", 5)

    serve(on_sqlite, test)


def test_words_that_steer_the_sandbox_are_found_in_nested_parts(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        content = [{"type": "text", "text": "a boat [moderation]"}]
        task = await shop.task("/seedance/videos", model="a-model", content=content)
        assert task["response"]["error"]["code"] == "forbidden"

    serve(on_sqlite, test)


TEXT = {"type": "text", "text": "a boat"}
DEEP: list[tuple[str, Callable[[str], dict[str, Any]]]] = [
    ("/seedance/videos", lambda url: {
        "model": "a", "resolution": "480p", "content": [TEXT, {"type": "image_url", "image_url": {"url": url}}]}),
    ("/minimax/videos", lambda url: {
        "model": "a", "resolution": "768P", "duration": 4,
        "content": [{"type": "image_url", "image_url": {"url": url}}, TEXT]}),
    ("/kling/videos", lambda url: {"model": "kling-v3-omni", "prompt": "a boat", "image_list": [{"image_url": url}]}),
]  # fmt: skip


def test_a_film_shows_the_pictures_that_are_deep_inside_its_request(on_sqlite: Settings) -> None:
    """The same picture at another address makes the same film, and another picture another."""
    one, other = picture(640, 360), picture(640, 360, alpha=True)

    async def test(shop: Shop) -> None:
        with pictures(one=one, same=one, other=other) as address:
            for path, body in DEEP:
                films = []
                for name in ("one", "same", "other"):
                    response = await shop.made(path, **body(f"{address}/{name}"))
                    films.append(await shop.file(_address(response, "video_url")))
                assert films[0] == films[1] != films[2], path

    serve(on_sqlite, test)


def test_a_picture_may_be_in_the_request_itself_in_base64(on_sqlite: Settings) -> None:
    data = base64.b64encode(picture(640, 360)).decode()

    async def test(shop: Shop) -> None:
        with pictures(one=picture(640, 360)) as address:
            for path, body in DEEP[:2]:
                films = [_address(await shop.made(path, **body(url)), "video_url")
                         for url in (f"{address}/one", f"data:image/png;base64,{data}")]  # fmt: skip
                assert await shop.file(films[0]) == await shop.file(films[1])
                task = await shop.task(path, **body("data:image/png;base64,AAAA"))
                assert ".image_url.url` is neither an address nor a" in task["response"]["error"]["message"]
            assert "`image_list[0].image_url` is" in await shop.refused(*DEEP[2][:1], **DEEP[2][1]("data:image/png"))

    serve(on_sqlite, test)


def test_a_task_of_minimax_says_its_status_and_its_batch_the_total(on_sqlite: Settings) -> None:
    body = {**DEEP[1][1]("https://example.com/x"), "content": [TEXT]}

    async def test(shop: Shop) -> None:
        accepted = (await shop.ask("/minimax/videos", **{**body, "async": True})).json
        task = await shop.retrieve("/minimax/videos", accepted["task_id"])
        assert task["task"] == {"id": task["id"], "status": "running"}
        await shop.work()
        task = await shop.retrieve("/minimax/videos", accepted["task_id"])
        assert task["task"] == task["response"]["task"]
        assert (task["task"]["id"], task["task"]["status"]) == (task["id"], "succeeded")
        film = await shop.film(task["task"]["content"]["video_url"])
        assert (film.height, film.seconds) == (768, 4.0)
        content = [{"type": "text", "text": "a boat [fail:forbidden]"}]
        failed = (await shop.task("/minimax/videos", **{**body, "content": content}))
        assert failed["task"] == {"id": failed["id"], "status": "failed", "error": failed["response"]["error"]}
        batch = (await shop.ask("/minimax/tasks", action="retrieve_batch")).json
        assert (batch["total"], batch["count"], len(batch["items"])) == (2, 2, 2)
        assert {one["task"]["status"] for one in batch["items"]} == {"succeeded", "failed"}

    serve(on_sqlite, test)


def test_portraits_are_made_of_the_pictures(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        with pictures(one=picture(300, 400)) as address:
            response = await shop.made("/headshots/generate", image_urls=f"{address}/one", count=2)
            assert [(await shop.picture(one["image_url"])).size for one in response["data"]] == [(300, 400)] * 2
            assert await shop.charged() == pytest.approx(0.84)

    serve(on_sqlite, test)


def test_an_extended_film_is_longer_and_keeps_its_shape(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        for path in ("/kling/videos", "/luma/videos"):
            first = await shop.made(path, prompt="a boat", aspect_ratio="9:16")
            longer = await shop.made(path, action="extend", video_id=first["video_id"], prompt="it lands")
            before, after = [await shop.film(one["video_url"]) for one in (first, longer)]
            assert (after.width, after.height) == (before.width, before.height)
            assert after.seconds > before.seconds

    serve(on_sqlite, test)


def test_a_clip_is_named_by_its_task(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        first = await shop.made("/maestro/videos", prompt="a boat", duration=5)
        assert first["data"]["id"] == first["task_id"]
        again = await shop.made("/maestro/videos", prompt="at night", action="remix", ref_task_id=first["task_id"])
        before, after = [await shop.film(one["data"]["video_url"]) for one in (first, again)]
        assert (before.seconds, before.width) == (after.seconds, after.width)
        accepted = await shop.ask("/maestro/videos", prompt="a boat")
        assert set(accepted.json) == {"success", "task_id", "trace_id"}

    serve(on_sqlite, test)


def test_a_text_is_read_as_long_as_it_is(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        lengths = []
        for text in ("good morning", "good morning to all of you down at the pond"):
            response = await shop.made("/fish/tts", text=text, format="wav")
            with wave.open(io.BytesIO(await shop.file(response["audio_url"]))) as recording:
                lengths.append(recording.getnframes() / recording.getframerate())
        assert 0.5 < lengths[0] < lengths[1] < 10

    serve(on_sqlite, test)


def test_a_model_that_comes_as_a_header_is_as_good_as_one_in_the_body(on_sqlite: Settings) -> None:
    """Its makers take it as a header. What the body says wins; only operations that name a header look for one."""

    async def test(shop: Shop) -> None:
        by_header = replace(shop.mine, headers=((b"model", b"s2-pro"),))
        for body, model in (({}, "s2-pro"), ({"model": ""}, "s2-pro"), ({"model": "s1"}, "s1")):
            wanted = {"text": "Good morning.", "async": True, **body}
            task_id = (await shop.ask("/fish/tts", by_header, **wanted)).json["task_id"]
            assert (await shop.retrieve("/fish/tts", task_id))["request"] == {**wanted, "model": model}
        asked = {"prompt": "a boat", "async": True}
        task_id = (await shop.ask("/flux/images", by_header, **asked)).json["task_id"]
        assert (await shop.retrieve("/flux/images", task_id))["request"] == asked
        wrong = replace(shop.mine, headers=((b"model", b"x" * 129),))
        answer = await shop.ask("/fish/tts", wrong, text="Good morning.")
        assert (answer.status, answer.message[:10]) == (400, "`model` is")
        described = shop.document["paths"]["/fish/tts"]["post"]["parameters"]
        (named,) = [one for one in described if one["name"] == "model"]
        assert named["in"] == "header"

    serve(on_sqlite, test)


def test_a_copied_voice_can_be_used_by_whom_it_belongs_to(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        voice = (await shop.made("/digital-human/voices", audio_url=f"{PAGE}.mp3"))["voice_id"]
        body = {"video_url": f"{PAGE}.mp4", "text": "good morning", "voice_id": voice}
        film = await shop.made("/digital-human/videos", **body)
        assert (film["state"], film["engine"]) == ("succeeded", "latentsync")
        assert (film["width"], film["height"]) == (1280, 720)
        foreign = await shop.ask("/digital-human/videos", shop.theirs, **body)
        assert foreign.message == "`voice_id`: there is no voice with this id."

    serve(on_sqlite, test)


def test_every_action_of_producer_makes_songs_that_sound_different(on_sqlite: Settings) -> None:
    more: dict[str, dict[str, Any]] = {
        "extend": {"continue_at": 5}, "replace_section": {"replace_section_start": 2, "replace_section_end": 6},
    }

    async def test(shop: Shop) -> None:
        song = (await shop.made("/producer/audios", prompt="a harbour at night"))["data"][0]
        assert (song["video_url"], song["seed"].isdigit()) == ("", True)
        sounds = {await shop.file(song["audio_url"])}
        actions = ("cover", "extend", "variation", "swap_vocals", "swap_instrumentals", "replace_section", "stems")
        for action in actions:
            body = {"action": action, "audio_id": song["id"], "prompt": action, **more.get(action, {})}
            made = (await shop.made("/producer/audios", **body))["data"][0]
            assert (made["state"], made["progress"]) == ("succeeded", 100)
            sounds.add(await shop.file(made["audio_url"]))
        assert len(sounds) == 1 + len(actions)

    serve(on_sqlite, test)

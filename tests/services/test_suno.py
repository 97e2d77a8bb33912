"""Suno: songs, what is made of songs, words for songs, and singers. Every file is decoded."""

import io
import json
import wave
from array import array
from collections.abc import Iterator
from typing import Any

import pytest

from bide.catalog.load import Limits, load
from bide.errors import BadRequest
from bide.providers.media.sound import wav
from bide.settings import Settings
from tests.api.admin.world import Answer, Client
from tests.contract import check_answer
from tests.services.world import Shop, serve
from tests.system.loopback import picture, pictures
from tests.world import receiving

AUDIOS = "/suno/audios"
SECONDS = 6
ID = "0190c0a0-0000-7000-8000-000000000001"
OPERATIONS = load().services["suno"].operations
SONG = {
    "id", "title", "lyric", "style", "model", "state", "prompt", "duration", "created_at", "audio_url", "image_url",
    "image_large_url", "video_url",
}  # fmt: skip


def recording(seconds: int) -> bytes:
    """A real WAV file, of which no two stretches are alike."""
    values = array("h", [(at * at // 7) % 2_000 - 1_000 for at in range(8_000 * seconds)])
    return wav(values.tobytes(), rate=8_000)


@pytest.fixture(scope="module")
def sounds() -> Iterator[str]:
    with pictures(long=recording(12), short=recording(3), picture=picture()) as address:
        yield address


async def songs(shop: Shop, **body: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await shop.made(AUDIOS, **body))["data"]
    return found


async def a_song(shop: Shop, **more: Any) -> dict[str, Any]:
    return (await songs(shop, prompt="a song about a harbour at night", duration=SECONDS, **more))[0]


async def an_upload(shop: Shop, sounds: str) -> dict[str, Any]:
    found: dict[str, Any] = (await shop.made("/suno/upload", audio_url=f"{sounds}/long"))["data"]
    return found


async def samples(shop: Shop, song: dict[str, Any], rate: int = 22_050) -> "array[int]":
    """What is heard, at the rate and for the time that are promised."""
    with wave.open(io.BytesIO(await shop.file(song["audio_url"]))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (rate, 1, 2)
        assert abs(file.getnframes() / rate - song["duration"]) < 0.02
        heard = array("h", file.readframes(file.getnframes()))
    assert max(heard) > 500
    return heard


# -- songs


def test_a_caller_that_waits_gets_two_songs_that_play(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        answer = await shop.ask(AUDIOS, prompt="a song about a harbour", duration=SECONDS, trace_id="order-7731")
        assert answer.status == 200, answer
        assert list(answer.json) == ["success", "task_id", "trace_id", "data"]
        one, other = answer.json["data"]
        assert set(one) == SONG
        assert (one["model"], one["state"], one["prompt"]) == ("chirp-v4", "succeeded", "a song about a harbour")
        assert (one["duration"], one["video_url"]) == (SECONDS, "")
        assert one["created_at"] == "2025-11-24T16:00:00.125Z"
        assert "[Chorus]" in one["lyric"]
        assert "harbour" in one["lyric"].lower()
        assert one["lyric"] == other["lyric"]
        assert one["id"] != other["id"]
        assert await samples(shop, one) != await samples(shop, other)
        assert (await shop.picture(one["image_large_url"])).size == (720, 720)
        assert (await shop.picture(one["image_url"])).size == (360, 360)
        assert await shop.charged() == 0.84
        task = await shop.retrieve(AUDIOS, answer.json["task_id"])
        assert (task["type"], task["response"]) == ("audios", answer.json)
        assert (task["data"]["id"], task["data"]["state"]) == (task["id"], "succeeded")

    serve(on_both, test)


def test_the_same_request_makes_the_same_songs(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        one, other = await a_song(shop), await a_song(shop)
        assert await samples(shop, one) == await samples(shop, other)

    serve(on_sqlite, test)


def test_words_title_and_style_are_those_that_were_asked_for(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        asked = {"custom": True, "title": "Tide", "style": "folk, loud, slow", "duration": SECONDS}
        (one, _) = await songs(shop, lyric="[Verse]\nLow tide", negative_tags="Loud", **asked)
        assert (one["title"], one["lyric"], one["style"]) == ("Tide", "[Verse]\nLow tide", "folk, slow")
        (high, _) = await songs(shop, lyric="[Verse]\nLow tide", style_negative="Loud", vocal_gender="f", **asked)
        (low, _) = await songs(shop, lyric="[Verse]\nLow tide", style_negative="Loud", vocal_gender="m", **asked)
        assert high["style"] == "folk, slow"
        assert await samples(shop, high) != await samples(shop, low)
        (written, _) = await songs(shop, lyric_prompt="a lighthouse", **asked)
        assert "lighthouse" in written["lyric"].lower()
        (from_an_object, _) = await songs(shop, lyric_prompt={"about": "a lighthouse", "lines": 4}, **asked)
        assert "lighthouse" in from_an_object["lyric"].lower()
        (mute, _) = await songs(shop, instrumental=True, **asked)
        assert mute["lyric"] == "[Instrumental]"
        assert "no voice" in (await failed(shop, "/suno/vox", audio_id=mute["id"]))
        assert (await shop.made("/suno/timing", audio_id=mute["id"]))["data"]["aligned_words"] == []

    serve(on_sqlite, test)


async def failed(shop: Shop, path: str, **body: Any) -> str:
    """The sentence with which a task ends that its channel refuses."""
    response = (await shop.task(path, **body))["response"]
    assert (response["success"], response["error"]["code"]) == (False, "bad_request"), response
    message: str = response["error"]["message"]
    return message


# -- every action

def test_every_action_makes_its_songs_for_its_price(on_both: Settings, sounds: str) -> None:
    async def test(shop: Shop) -> None:
        one, other = await songs(shop, prompt="a harbour", duration=SECONDS)
        mine, of_one = (await an_upload(shop, sounds))["audio_id"], {"audio_id": one["id"]}
        persona = (await shop.made("/suno/persona", **of_one, name="Ann"))["data"]["persona_id"]
        sings = {**of_one, "persona_id": persona}
        goes_on = {"continue_at": 3, "style": "folk"}
        actions: dict[str, tuple[dict[str, Any], int, float]] = {
            "generate": ({"prompt": "a hill"}, 2, 0.84),
            "extend": ({**of_one, **goes_on}, 2, 0.52),
            "upload_extend": ({"audio_id": mine, **goes_on}, 2, 0.52),
            "upload_cover": ({"audio_id": mine, "style": "jazz"}, 2, 1.05),
            "concat": (of_one, 1, 0.1),
            "cover": ({**of_one, "style": "jazz"}, 2, 1.05),
            "artist_consistency": (sings, 2, 0.84),
            "artist_consistency_vox": (sings, 2, 0.84),
            "stems": (of_one, 2, 0.21),
            "all_stems": (of_one, 12, 0.21),
            "replace_section": ({**of_one, "lyric": "la", "prompt": "rain", "replace_section_start": 2,
                                 "replace_section_end": 4}, 1, 0.84),
            "underpainting": ({"audio_id": mine, "underpainting_end": 5}, 2, 0.84),
            "overpainting": ({"audio_id": mine, "overpainting_end": 5}, 2, 0.84),
            "remaster": ({**of_one, "variation_category": "high"}, 2, 0.84),
            "mashup": ({"mashup_audio_ids": [one["id"], other["id"]]}, 2, 0.84),
            "samples": ({"audio_id": mine, "samples_start": 1, "samples_end": 5}, 2, 0.84),
            "inspo": ({"audio_urls": [f"{sounds}/long"]}, 2, 0.84),
        }  # fmt: skip
        assert set(actions) == set(OPERATIONS["audios"].fields["action"].enum or ())
        for action, (body, count, price) in actions.items():
            before = await shop.charged()
            made = await songs(shop, action=action, duration=SECONDS, **body)
            assert len(made) == count, action
            assert len({json.dumps(song["audio_url"]) for song in made}) == count
            files = [await shop.file(song["audio_url"]) for song in made]
            assert len(set(files)) == count, f"{action}: two of its songs are the same"
            assert all(seconds(file) > 1 for file in files)
            assert await shop.charged() == pytest.approx(before + price), action

    serve(on_both, test)


def seconds(file: bytes) -> float:
    with wave.open(io.BytesIO(file)) as opened:
        return opened.getnframes() / opened.getframerate()


def test_an_extension_is_longer_and_begins_as_its_source_does(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        old = await a_song(shop)
        body = {"action": "extend", "audio_id": old["id"], "continue_at": 4.5, "lyric": "[Outro]\nGone"}
        (new, _) = await songs(shop, **body, duration=10)
        assert new["duration"] == 14.5
        at = round(22_050 * 4.5)
        assert (await samples(shop, new))[:at] == (await samples(shop, old))[:at]
        assert new["lyric"] == old["lyric"] + "\n\n[Outro]\nGone"
        assert new["concat_history"] == [{"id": old["id"], "continue_at": 4.5}]
        (whole,) = await songs(shop, action="concat", audio_id=new["id"])
        assert [one["id"] for one in whole["concat_history"]] == [old["id"], new["id"]]
        assert await samples(shop, whole) == await samples(shop, new)
        body["continue_at"] = 7
        assert await failed(shop, AUDIOS, **body) == "`continue_at` is 7, and the song has 6.00 seconds"

    serve(on_both, test)


def test_stems_are_different_files_that_add_up_to_the_song(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        song = await a_song(shop)
        whole = await samples(shop, song)
        steady = len(whole) - 2 * 22_050  # the end fades out, where each track is rounded by itself
        for action in ("stems", "all_stems"):
            made = await songs(shop, action=action, audio_id=song["id"])
            tracks = [array("h", (await _pcm(shop, one))) for one in made]
            assert [sum(at) for at in zip(*(track[:steady] for track in tracks), strict=True)] == list(whole[:steady])
        (voice, rest) = await songs(shop, action="stems", audio_id=song["id"])
        assert (voice["title"], rest["title"]) == (f"{song['title']} (Vocals)", f"{song['title']} (Instrumental)")
        assert "cannot be taken apart" in await failed(shop, AUDIOS, action="stems", audio_id=rest["id"])

    serve(on_sqlite, test)


async def _pcm(shop: Shop, song: dict[str, Any]) -> bytes:
    with wave.open(io.BytesIO(await shop.file(song["audio_url"]))) as file:
        return file.readframes(file.getnframes())


def test_a_replaced_section_changes_nothing_before_and_after(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        old = await a_song(shop)
        (new,) = await songs(shop, action="replace_section", audio_id=old["id"], lyric="la", prompt="rain",
                             replace_section_start=2, replace_section_end=4)  # fmt: skip
        before, after = await samples(shop, old), await samples(shop, new)
        assert len(before) == len(after)
        assert before[: 2 * 22_050] == after[: 2 * 22_050]
        assert before[4 * 22_050 :] == after[4 * 22_050 :]
        assert before[2 * 22_050 : 4 * 22_050] != after[2 * 22_050 : 4 * 22_050]

    serve(on_sqlite, test)


def test_a_remaster_has_more_samples_and_a_mashup_begins_with_each_of_the_two(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        one, other = await songs(shop, prompt="a harbour", duration=SECONDS)
        (fine, _) = await songs(shop, action="remaster", audio_id=one["id"], model="chirp-v5")
        await samples(shop, fine, rate=44_100)
        mashups = await songs(shop, action="mashup", mashup_audio_ids=[one["id"], other["id"]])
        for song, mixed in zip((one, other), mashups, strict=True):
            half = SECONDS * 22_050 // 2
            assert (await samples(shop, mixed))[:half] == (await samples(shop, song))[:half]

    serve(on_sqlite, test)


def test_some_songs_are_enough_for_success(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        assert len(await songs(shop, prompt="a harbour [partial:1]", duration=SECONDS)) == 1
        assert await shop.charged() == 0.84

    serve(on_sqlite, test)


# -- other forms


def test_a_song_has_notes_times_a_voice_and_a_film(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        song = await a_song(shop)
        of_it = {"audio_id": song["id"]}
        (notes,) = (await shop.made("/suno/midi", **of_it))["data"]
        assert notes["state"] == "complete"
        assert {"Vocals", "Drums", "Bass"} <= {one["name"] for one in notes["instruments"]}
        assert set(notes["instruments"][0]["notes"][0]) == {"pitch", "start", "end", "velocity"}
        counted = sum(len(one["notes"]) for one in notes["instruments"])
        assert notes_of(await shop.file(notes["file_url"])) == counted
        timing = (await shop.made("/suno/timing", **of_it))["data"]
        sung = [one["word"].split("]")[-1].strip() for one in timing["aligned_words"]]
        assert sung[:3] == first_words(song["lyric"])
        starts = [one["start_s"] for one in timing["aligned_words"]]
        assert starts == sorted(starts)
        assert timing["aligned_words"][-1]["end_s"] <= song["duration"]
        assert len(timing["waveform_data"]) == 200
        assert 0 < max(timing["waveform_data"]) <= 1
        assert timing["is_streamed"] is False
        film = await shop.film((await shop.made("/suno/mp4", **of_it))["data"]["video_url"])
        assert (film.width, film.height, film.seconds, film.sound) == (720, 720, SECONDS, True)
        (file,) = (await shop.made("/suno/wav", **of_it))["data"]
        with wave.open(io.BytesIO(await shop.file(file["file_url"]))) as opened:
            assert (opened.getframerate(), opened.getnframes()) == (44_100, SECONDS * 44_100)
        vox = (await shop.made("/suno/vox", **of_it, vocal_start=1, vocal_end=3.5))["data"]
        assert (vox["source_clip_id"], vox["status"]) == (song["id"], "complete")
        assert (vox["vocal_start_s"], vox["vocal_end_s"]) == (1, 3.5)
        await samples(shop, {"audio_url": vox["vocal_audio_url"], "duration": 2.5})
        persona = await shop.made("/suno/persona", **of_it, name="Ann", vox_audio_id=vox["id"])
        assert set(persona["data"]) == {"persona_id"}

    serve(on_both, test)


def notes_of(midi: bytes) -> int:
    """How many tones begin in a MIDI file of type 1."""
    assert midi[:4] == b"MThd"
    assert int.from_bytes(midi[8:10]) == 1
    tracks, at, found = int.from_bytes(midi[10:12]), 14, 0
    for _ in range(tracks):
        assert midi[at : at + 4] == b"MTrk"
        end = at + 8 + int.from_bytes(midi[at + 4 : at + 8])
        at += 8
        while at < end:
            at = behind_length(midi, at)
            status = midi[at]
            if status == 0xFF:
                length = midi[at + 2]
                at += 3 + length
                assert length < 128
            else:
                found += status >> 4 == 9
                at += 2 if status >> 4 == 0xC else 3
        assert at == end
    assert at == len(midi)
    return found


def behind_length(midi: bytes, at: int) -> int:
    while midi[at] & 0x80:
        at += 1
    return at + 1


def first_words(lyric: str) -> list[str]:
    return [word for line in lyric.splitlines() if not line.startswith("[") for word in line.split()][:3]


# -- words


def test_lyrics_come_in_two_variants_with_the_times_they_took(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        answer = (await shop.ask("/suno/lyrics", prompt="a song about winter")).json
        assert {"started_at", "finished_at", "elapsed"} < set(answer)
        assert answer["elapsed"] == answer["finished_at"] - answer["started_at"]
        one, other = answer["data"]
        assert set(one) == {"text", "title", "tags", "status"}
        assert one["text"] != other["text"]
        assert "winter" in one["text"].lower()
        assert one["status"] == "complete"
        mixed = (await shop.made("/suno/mashup-lyrics", lyrics_a="[Verse]\nOne", lyrics_b="[Verse]\nTwo"))["data"]
        assert mixed["text"] == "[Verse]\nOne\n\n[Verse]\nTwo"
        style = (await shop.made("/suno/style", prompt="slow folk"))["data"]
        assert list(style) == ["upsampled_tags"]
        assert style["upsampled_tags"].startswith("slow folk, ")

    serve(on_both, test)


# -- sounds of one's own


def test_an_uploaded_sound_is_kept_as_it_was_and_can_be_followed_up(on_both: Settings, sounds: str) -> None:
    async def test(shop: Shop) -> None:
        mine = await an_upload(shop, sounds)
        assert mine["duration"] == 12
        assert await shop.file(mine["audio_url"]) == recording(12)
        of_mine = {"audio_id": mine["audio_id"], "style": "folk"}
        (longer, _) = await songs(shop, action="upload_extend", continue_at=12, **of_mine)
        assert longer["duration"] > 12
        (other, _) = await songs(shop, prompt="a hill", duration=SECONDS)
        for action in ("underpainting", "overpainting", "samples"):
            message = await failed(shop, AUDIOS, action=action, audio_id=other["id"], **{f"{action}_end": 3})
            assert message == f"`audio_id` names something that was not uploaded; {action} takes an uploaded sound"
            message = await failed(shop, AUDIOS, action=action, audio_id=mine["audio_id"], **{f"{action}_end": 13})
            assert message == f"`{action}_end` is 13, and the song has 12.00 seconds"

    serve(on_both, test)


def test_what_is_no_sound_or_at_no_public_address_is_refused(on_sqlite: Settings, sounds: str) -> None:
    async def test(shop: Shop) -> None:
        for path in ("/suno/upload", "/suno/voices"):
            assert await failed(shop, path, audio_url=f"{sounds}/picture") == (
                "`audio_url`: what the URL answers is not a sound."
            )
            assert "`audio_url`: " in await failed(shop, path, audio_url=f"{sounds}/nothing")
            assert "not a public address" in await shop.refused(path, audio_url="http://10.0.0.1/sound.mp3")
        assert "at least 10 are needed" in await failed(shop, "/suno/voices", audio_url=f"{sounds}/short")
        assert "not a public address" in await shop.refused(AUDIOS, action="inspo", audio_urls=["http://10.0.0.1/sound.mp3"])
        assert await shop.charged() == 0

    serve(on_sqlite, test)


def test_a_sound_that_is_too_large_is_refused(on_sqlite: Settings, sounds: str) -> None:
    async def test(shop: Shop) -> None:
        assert "100,000 bytes" in await failed(shop, "/suno/upload", audio_url=f"{sounds}/long")

    serve(on_sqlite, test, upload_file_bytes_max=100_000)


# -- singers

PERSONA = "/suno/persona"


async def listed(shop: Shop, client: Client | None = None, path: str = PERSONA, **query: Any) -> Any:
    answer = await requested(shop, client or shop.mine, "GET", path, **query)
    assert answer.status == 200, answer
    return answer.json


async def requested(shop: Shop, client: Client, method: str, path: str, **query: Any) -> Answer:
    answer = await client.request(method, path, query=query, base="")
    check_answer(shop.document, method, path, answer.status, answer.headers, answer.body)
    return answer


def test_personas_are_listed_and_forgotten_by_their_user_alone(on_both: Settings, sounds: str) -> None:
    async def test(shop: Shop) -> None:
        song = await a_song(shop)
        assert await listed(shop) == {"count": 0, "items": []}
        ids = []
        for name in ("Ann", "Ben"):
            made = await shop.made(PERSONA, audio_id=song["id"], name=name, description="warm")
            ids.append(made["data"]["persona_id"])
            shop.world.clock.pass_s(1)
        voice = (await shop.made("/suno/voices", audio_url=f"{sounds}/long", name="Cy"))["data"]
        assert (voice["name"], voice["is_public"]) == ("Cy", False)
        found = await listed(shop, path="/v1/suno/persona", user_id="user-1")
        assert found["count"] == 3
        assert [one["name"] for one in found["items"]] == ["Cy", "Ben", "Ann"]
        assert [one["source_type"] for one in found["items"]] == ["voice", "persona", "persona"]
        last = found["items"][2]
        assert (last["persona_id"], last["description"], last["user_id"]) == (ids[0], "warm", "user-1")
        assert 1_764_000_000 <= last["created_at"] < 1_764_000_060
        page = await listed(shop, limit=1, offset=1)
        assert (page["count"], [one["name"] for one in page["items"]]) == (3, ["Ben"])
        nothing = {"count": 0, "items": []}
        assert (await listed(shop, shop.theirs), await listed(shop, user_id="user-2")) == (nothing, nothing)
        theirs = await requested(shop, shop.theirs, "DELETE", PERSONA, persona_id=ids[0])
        assert (theirs.status, theirs.json) == (200, {"success": False})
        answer = await requested(shop, shop.mine, "DELETE", PERSONA, persona_id=ids[0], user_id="user-1")
        assert (answer.status, answer.json) == (200, {"success": True})
        assert (await requested(shop, shop.mine, "DELETE", PERSONA, persona_id=ids[0])).json == {"success": False}
        assert (await listed(shop))["count"] == 2
        sings = {"action": "artist_consistency", "audio_id": song["id"], "duration": SECONDS}
        assert "`persona_id`: there is no persona" in await shop.refused(AUDIOS, **sings, persona_id=ids[0])
        assert len(await songs(shop, **sings, persona_id=ids[1])) == 2
        assert len(await songs(shop, **sings, persona_id=voice["persona_id"])) == 2

    serve(on_both, test)


def test_lists_refuse_what_they_do_not_understand(on_sqlite: Settings) -> None:
    async def test(shop: Shop) -> None:
        for query in ({"limit": 0}, {"limit": 101}, {"limit": "x"}, {"offset": -1}):
            assert (await requested(shop, shop.mine, "GET", PERSONA, **query)).code == "bad_request"
        assert "`persona_id` is missing" in (await requested(shop, shop.mine, "DELETE", PERSONA)).message
        assert (await requested(shop, Client(shop.mine.app, ""), "GET", PERSONA)).code == "no_token"
        for method, path in (("PUT", PERSONA), ("GET", AUDIOS)):
            refused = await shop.mine.request(method, path, base="")
            taken = "GET, DELETE and POST" if path == PERSONA else "POST"
            assert (refused.status, refused.message) == (405, f"This path takes {taken} requests.")

    serve(on_sqlite, test)


# -- callbacks


def test_a_callback_has_the_answer_and_failures_of_the_source_reach_the_follow_up(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        song = await a_song(shop)
        async with receiving() as receiver:
            accepted = (await shop.ask("/suno/wav", audio_id=song["id"], callback_url=receiver.url)).json
            await shop.work()
            await shop.world.deliver()
            (posted,) = receiver.got
        assert posted.body == (await shop.retrieve(AUDIOS, accepted["task_id"]))["response"]
        steered = (await songs(shop, prompt="a hill [next:fail:forbidden]", duration=SECONDS))[0]
        answer = await shop.ask("/suno/mp4", audio_id=steered["id"])
        assert (answer.status, answer.code) == (403, "forbidden")

    serve(on_both, test)


# -- what is refused at once

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("audios", {}, '`prompt` is missing; with `action` "generate" and `custom` false it is needed'),
    ("audios", {"prompt": {"text": "x"}}, "`prompt` is an object; it must be a text"),
    ("audios", {"prompt": "x" * 501}, "`prompt` is"),
    ("audios", {"custom": True}, '`lyric` or `lyric_prompt` is missing; with `action` "generate" and `custom`'),
    ("audios", {"prompt": "x", "action": "sing"}, '`action` is "sing"; it must be "generate", '),
    ("audios", {"custom": True, "lyric": "x" * 3001}, "`lyric` is"),
    ("audios", {"custom": True, "lyric": "x" * 5001, "model": "chirp-v5"}, "`lyric` is"),
    ("audios", {"prompt": "x", "title": "x" * 81, "model": "chirp-v3-5"}, "`title` is"),
    ("audios", {"prompt": "x", "title": "x" * 101, "model": "chirp-v6"}, "`title` is"),
    ("audios", {"prompt": "x", "style": "x" * 201}, "`style` is"),
    ("audios", {"prompt": "x", "style": "x" * 1001, "model": "chirp-v4-5"}, "`style` is"),
    ("audios", {"prompt": "x", "vocal_gender": "x"}, '`vocal_gender` is "x"; it must be "m" or "f"'),
    ("audios", {"prompt": "x", "weirdness": 1.1}, "`weirdness` is 1.1; it must be a number from 0 to 1"),
    ("audios", {"prompt": "x", "style_influence": -0.1}, "`style_influence` is -0.1; it must be"),
    ("audios", {"prompt": "x", "audio_weight": 2}, "`audio_weight` is 2; it must be"),
    ("audios", {"prompt": "x", "variation_category": "wild"}, "`variation_category` is"),
    ("audios", {"action": "inspo"}, '`audio_urls` is missing; with `action` "inspo" it is needed'),
    ("audios", {"action": "inspo", "audio_urls": ["http://example.com/a"] * 5}, "`audio_urls` is a list of 5;"),
    ("audios", {"action": "mashup"}, "`mashup_audio_ids` is missing"),
    ("audios", {"action": "mashup", "mashup_audio_ids": [ID]}, "`mashup_audio_ids` is a list of 1; it must be"),
    ("audios", {"action": "extend", "audio_id": ID}, "`continue_at` is missing"),
    ("audios", {"action": "extend", "audio_id": ID, "continue_at": 3}, "`lyric` or `style` or `lyric_prompt` or"),
    ("audios", {"action": "artist_consistency", "audio_id": ID}, "`persona_id` is missing"),
    ("audios", {"action": "replace_section", "audio_id": ID}, "`lyric` is missing"),
    ("audios", {"action": "replace_section", "audio_id": ID, "lyric": "x", "prompt": "x", "replace_section_start": 4,
                "replace_section_end": 4}, "`replace_section_end` is not after `replace_section_start`;"),
    ("audios", {"action": "underpainting", "audio_id": ID}, "`underpainting_end` is missing"),
    ("audios", {"action": "overpainting", "audio_id": ID, "overpainting_end": 0}, "`overpainting_end` is not after"),
    ("audios", {"action": "samples", "audio_id": ID, "samples_start": 5, "samples_end": 4}, "`samples_end` is not"),
    ("lyrics", {}, "`prompt` is missing"),
    ("mashup-lyrics", {"lyrics_a": "x"}, "`lyrics_b` is missing"),
    ("style", {}, "`prompt` is missing"),
    ("upload", {"audio_url": "a.mp3"}, '`audio_url` is "a.mp3"; it must be an http:// or https:// URL'),
    ("voices", {}, "`audio_url` is missing"),
    ("persona", {"audio_id": ID}, "`name` is missing"),
    ("vox", {"audio_id": ID, "vocal_start": 4, "vocal_end": 3}, "`vocal_end` is not after `vocal_start`;"),
]  # fmt: skip
REFUSED += [
    (path, {"name": "Ann"}, "`audio_id` is missing; it must be the id of a song")
    for path in ("vox", "wav", "midi", "mp4", "timing", "persona")
]
REFUSED += [
    ("audios", {"action": action}, f'`audio_id` is missing; with `action` "{action}" it is needed')
    for action in OPERATIONS["audios"].fields["action"].enum or ()
    if action not in ("generate", "mashup", "inspo")
]


@pytest.mark.parametrize(("path", "body", "sentence"), REFUSED)
def test_what_cannot_be_done_is_refused_in_one_sentence(path: str, body: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRequest) as refused:
        OPERATIONS[path].check(body)
    assert str(refused.value).startswith(sentence), refused.value


@pytest.mark.parametrize("body", [
    {"prompt": "x" * 500}, {"custom": True, "lyric": "x" * 3000, "title": "x" * 80, "style": "x" * 200},
    {"custom": True, "lyric": "x" * 5000, "title": "x" * 100, "style": "x" * 1000, "model": "chirp-v4-5"},
    {"custom": True, "instrumental": True, "style": "folk"}, {"prompt": "x", "model": "a model of next month"},
    {"action": "cover", "audio_id": ID}, {"action": "inspo", "audio_urls": "http://example.com/a"},
])  # fmt: skip
def test_what_is_published_as_allowed_is_taken(body: dict[str, Any]) -> None:
    OPERATIONS["audios"].check(body)


def test_the_published_limits_hold() -> None:
    for operation in OPERATIONS.values():
        assert operation.limits == Limits(submits_per_s=1, concurrent=5)
        assert operation.entry.inline
        assert {"callback_url", "async"} <= set(operation.fields)

"""The sandbox as a provider: what it answers, when, and how words in the prompt steer it."""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest
from PIL import Image

from bide.errors import ERRORS
from bide.providers import sandbox, sandbox_images, sandbox_steps
from bide.providers.base import Failed, FileTooLarge, Input, Outcome, Pending, Provider, Succeeded, Unknown
from bide.providers.sandbox import poll, submit
from bide.providers.sandbox_steps import read_steps

from .sandbox_calls import Store, Watcher, call, given, picture, run


def submitted(*args: Any, **more: Any) -> tuple[Outcome, Store]:
    store = Store()
    return run(submit(call(*args, store=store, **more))), store


def refused(*args: Any, **more: Any) -> str:
    """The message of a refusal, which comes at once however long the sandbox takes, and writes no file."""
    outcome, store = submitted(*args, **{"delay_s": 60.0, **more})
    assert isinstance(outcome, Failed), outcome
    assert (outcome.code, outcome.scope, outcome.retryable) == ("bad_request", "task", False)
    assert "closed" not in store.ends
    return outcome.message


def test_the_module_is_a_provider() -> None:
    provider: Provider = sandbox
    assert {"image.edit", "image.generate", "video.generate", "video.upsample"} <= provider.CAPABILITIES
    assert provider.TAKES_OUR_ID
    assert sandbox.POLLS_WITH_INPUTS


# -- pictures


def test_a_generation_answers_with_the_pictures_and_what_belongs_to_them() -> None:
    outcome, store = submitted("a lighthouse at dusk", n=3, output_format="webp", quality="low")
    assert isinstance(outcome, Succeeded)
    images = store.pictures(outcome)
    assert [(image.size, image.format) for image in images] == [((64, 64), "WEBP")] * 3
    assert len(set(store.files(outcome))) == 3
    assert store.ends == ["closed"] * 3
    assert outcome.units == 3
    for asset in outcome.assets:
        assert (asset.about["revised_prompt"], asset.about["size"]) == ("a lighthouse at dusk", "64x64")
    response = dict(outcome.response)
    assert isinstance(response.pop("created"), int)
    assert response == {
        "size": "64x64", "quality": "low", "background": "opaque", "output_format": "webp",
        "usage": {
            "input_tokens": 5, "output_tokens": 3, "total_tokens": 8,
            "input_tokens_details": {"text_tokens": 5, "image_tokens": 0},
        },
    }  # fmt: skip


@pytest.mark.parametrize("request_", [{"size": "auto"}, {"size": None}, {"size": ""}])
def test_without_a_size_it_is_1024_by_1024(request_: dict[str, Any]) -> None:
    outcome, store = submitted(**request_)
    assert store.pictures(outcome)[0].size == (1024, 1024)


def test_null_fields_are_as_if_they_were_absent() -> None:
    nothing = dict.fromkeys(("n", "quality", "background", "output_format", "output_compression"))
    outcome, store = submitted(**nothing)
    plain, other = submitted()
    assert store.files(outcome) == other.files(plain)


def test_every_quality_of_the_wire_is_drawn() -> None:
    for quality in ("auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"):
        outcome, _ = submitted(quality=quality)
        assert isinstance(outcome, Succeeded), quality


def test_a_transparent_background_is_said_and_drawn() -> None:
    outcome, store = submitted(background="transparent", output_format="png")
    assert isinstance(outcome, Succeeded)
    assert outcome.response["background"] == "transparent"
    assert store.pictures(outcome)[0].mode == "RGBA"


def test_the_same_request_gives_the_same_bytes_at_every_time_and_number() -> None:
    one, first = submitted("the same", n=2)
    later, second = submitted("the same", n=3)
    assert first.files(one) == second.files(later)[:2]


def test_many_equal_requests_at_once_all_get_the_picture() -> None:
    async def work() -> None:
        store = Store()
        outcomes = await asyncio.gather(*[submit(call("together", store=store)) for _ in range(200)])
        assert len({store.files(outcome)[0] for outcome in outcomes}) == 1

    run(work())


def test_a_picture_that_is_kept_is_answered_without_leaving_the_event_loop() -> None:
    async def work() -> None:
        await submit(call("kept"))
        asking = submit(call("kept"))
        with pytest.raises(StopIteration) as done:  # it never waits, so one step is all of it
            asking.send(None)
        assert isinstance(done.value.value, Succeeded)

    run(work())


# -- edits


def test_an_edit_starts_from_its_input_and_keeps_its_size() -> None:
    outcome, store = submitted("paint it", inputs=(given("image", picture((90, 60))),), size="auto", n=2)
    images = [image.convert("RGB") for image in store.pictures(outcome)]
    assert [image.size for image in images] == [(90, 60)] * 2
    for image in images:
        same = {colour: count for count, colour in image.getcolors(10_000) or ()}
        assert same[(40, 120, 200)] > 0.2 * 90 * 60
    assert isinstance(outcome, Succeeded)
    assert outcome.response["usage"]["input_tokens_details"]["image_tokens"] > 0


def test_outside_the_mask_an_edit_leaves_every_pixel() -> None:
    mask = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 32, 64))
    out = io.BytesIO()
    mask.save(out, "PNG")
    outcome, store = submitted(inputs=(given("image", picture()), given("mask", out.getvalue())))
    image = store.pictures(outcome)[0]
    assert image.crop((32, 0, 64, 64)).getcolors() == [(32 * 64, (40, 120, 200))]
    assert len(image.crop((0, 0, 32, 64)).getcolors(10_000) or ()) > 20


def test_further_pictures_of_an_edit_are_seen() -> None:
    green = picture(colour=(0, 255, 0))
    outcome, store = submitted(inputs=(given("image", picture()), given("image", green)))
    assert any(colour == (0, 255, 0) for _, colour in store.pictures(outcome)[0].getcolors(10_000) or ())


def test_an_edit_that_takes_time_is_drawn_from_its_input_when_polled() -> None:
    edit = call(inputs=(given("image", picture((90, 60))),), size="auto", delay_s=5.0, store=(store := Store()))

    async def work() -> tuple[Outcome, Outcome]:
        return await submit(edit), await poll(edit, "sandbox-1")

    pending, outcome = run(work())
    assert isinstance(pending, Pending)
    assert store.pictures(outcome)[0].size == (90, 60)


def test_more_edits_at_once_than_have_a_slot_all_come() -> None:
    async def work() -> None:
        edits = [submit(call(inputs=(given("image", picture()),))) for _ in range(3 * sandbox_images.EDITS_AT_ONCE)]
        assert all(isinstance(outcome, Succeeded) for outcome in await asyncio.gather(*edits))

    for _ in range(2):  # the slots belong to an event loop, not to the process
        run(work())


# -- what cannot be done


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        ({"size": "1024"}, "size"), ({"size": "0x5"}, "size"), ({"size": "-1x5"}, "size"), ({"size": 5}, "size"),
        ({"size": "64x64\n"}, "size"), ({"size": "²x64"}, "size"), ({"size": "99999x99999"}, "large"),
        ({"size": "16384x16"}, "large"), ({"n": 0}, "n must"), ({"n": 11}, "n must"), ({"n": "2"}, "n must"),
        ({"n": True}, "n must"), ({"quality": "best"}, "quality"), ({"background": "blue"}, "background"),
        ({"output_format": "gif"}, "output_format"), ({"output_compression": 101}, "output_compression"),
        ({"background": "transparent", "output_format": "jpeg"}, "transparent"), ({"prompt": 5}, "prompt"),
        ({"capability": "image.edit"}, "image"), ({"quality": ["low"]}, "quality"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_done_is_refused_at_once(request_: dict[str, Any], word: str) -> None:
    assert word in refused(**request_)


@pytest.mark.parametrize(
    ("inputs", "word"),
    [
        ((given("image", b"no picture"),), "readable"),
        ((given("image", picture()[:60]),), "damaged"),
        ((given("image", picture()), given("mask", picture((9, 9), "RGBA"))), "same size"),
        ((given("image", picture()), given("mask", picture())), "alpha"),
        ((given("image", picture()), given("image", b"x")), "image 2"),
        ((given("mask", picture()),), "image is missing"),
        ((given("image", picture()),) * 17, "at most 16"),
        ((given("image", picture()), *((given("mask", picture()),) * 2)), "one mask"),
    ],
)
def test_inputs_that_cannot_be_used_are_refused(inputs: tuple[Input, ...], word: str) -> None:
    assert word in refused(inputs=inputs, delay_s=0.0)


def test_an_input_that_is_larger_than_it_may_be_is_not_read_to_its_end() -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1024 * 1024
            yield bytes(1024 * 1024)

    assert "larger" in refused(inputs=(Input("image", "a", "image/png", 9, endless),), delay_s=0.0)
    assert read <= sandbox_steps.INPUT_BYTES_MAX + 1024 * 1024


def test_a_file_the_storage_refuses_is_given_up() -> None:
    store = Store(bytes_max=100)
    with pytest.raises(FileTooLarge):
        run(submit(call(store=store)))
    assert store.ends == ["aborted"]


# -- time


def test_what_takes_time_is_pending_and_drawn_when_polled() -> None:
    store = Store()
    slow = call(store=store, delay_s=2.5)
    outcome = run(submit(slow))
    assert outcome == Pending(f"sandbox-{slow.task_id}", 2.5)
    assert store.sinks == []
    assert store.pictures(run(poll(slow, outcome.upstream_id)))[0].size == (64, 64)


@pytest.mark.parametrize(
    ("prompt", "delay_s"),
    [
        ("[delay:20] a boat", 20.0), ("a [delay:0.5]", 0.5), ("[delay:0]", 0.0), ("[delay:99999]", 3600.0),
        ("[delay:5][delay:7]", 7.0), ("[delay:-3]", 1.0), ("[delay:soon]", 1.0), ("[delay:1e9]", 1.0),
        ("[delay:nan]", 1.0), ("[delay:٣]", 1.0), ("[delay:" + "9" * 64 + "]", 3600.0), ("a boat", 1.0),
    ],
)  # fmt: skip
def test_the_prompt_can_set_the_delay(prompt: str, delay_s: float) -> None:
    assert read_steps(prompt, 1.0).delay_s == delay_s


# -- steering


@pytest.mark.parametrize("code", [*sorted(ERRORS), "something_new"])
def test_the_prompt_can_ask_for_any_error(code: str) -> None:
    outcome, store = submitted(f"a boat [fail:{code}]")
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.scope, outcome.retryable) == (code, "task", False)
    assert outcome.message
    assert store.sinks == []


@pytest.mark.parametrize(
    ("word", "code"), [("[fail:used_up]", "used_up"), ("[moderation]", "forbidden"), ("[partial:0]", "api_error")]
)
def test_with_a_delay_a_failure_comes_after_it(word: str, code: str) -> None:
    slow = call(word, delay_s=1.0)
    assert isinstance(run(submit(slow)), Pending)
    outcome = run(poll(slow, "sandbox-1"))
    assert isinstance(outcome, Failed)
    assert outcome.code == code


def test_a_rate_limit_refuses_at_once() -> None:
    outcome, _ = submitted("[rate]", delay_s=60.0)
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.scope) == ("too_many_requests", "task")


def test_an_unknown_outcome_comes_at_once() -> None:
    outcome, _ = submitted("[unknown]", delay_s=60.0)
    assert isinstance(outcome, Unknown)


@pytest.mark.parametrize("polled", [False, True])
def test_a_crash_comes_in_the_middle_of_the_first_picture(polled: bool) -> None:
    store = Store()
    breaking = call("[crash]", store=store, n=2)
    with pytest.raises(RuntimeError, match="asked to crash"):
        run(poll(breaking, "sandbox-1") if polled else submit(breaking))
    assert store.ends == ["aborted"]
    assert len(store.sinks[0].data) > 0


@pytest.mark.parametrize(
    ("word", "n", "count"), [("[partial:2]", 4, 2), ("[partial:9]", 3, 3), ("[partial:1]", 1, 1)]
)
def test_only_some_of_the_pictures_succeed(word: str, n: int, count: int) -> None:
    outcome, store = submitted(word, n=n)
    assert isinstance(outcome, Succeeded)
    assert (outcome.units, len(store.pictures(outcome))) == (count, count)


@pytest.mark.parametrize(
    "prompt", ["[fail]", "[fail:]", "[FAIL:timeout]", "[fail:a b]", "[partial:x]", "fail:timeout", "[["]
)
def test_words_that_are_none_of_the_table_are_only_drawn(prompt: str) -> None:
    outcome, store = submitted(prompt)
    assert store.pictures(outcome)[0].info["prompt"] == prompt


# -- somebody watches


def test_a_watched_call_shows_unfinished_pictures_before_the_finished_one() -> None:
    watcher, store = Watcher(), Store()
    outcome = run(submit(call(watcher=watcher, store=store, partial_images=3, delay_s=0.02, output_format="jpeg")))
    shown = [Image.open(io.BytesIO(partial.data)) for partial in watcher.shown]
    assert [partial.index for partial in watcher.shown] == [0, 1, 2]
    assert [(image.size, image.format) for image in shown] == [((64, 64), "JPEG")] * 3
    assert store.files(outcome)[0] not in [partial.data for partial in watcher.shown]
    assert store.ends == ["closed"]


def test_a_watched_edit_shows_its_input() -> None:
    watcher = Watcher()
    inputs = (given("image", picture((90, 60))),)
    outcome = run(submit(call(watcher=watcher, inputs=inputs, size="auto", partial_images=1)))
    assert isinstance(outcome, Succeeded)
    assert Image.open(io.BytesIO(watcher.shown[0].data)).size == (90, 60)
    bad = run(submit(call(watcher=watcher, inputs=(given("image", b"x"),), partial_images=1)))
    assert isinstance(bad, Failed)


def test_nothing_is_shown_where_no_unfinished_pictures_were_asked_or_none_will_come() -> None:
    watcher = Watcher()
    assert isinstance(run(submit(call(watcher=watcher, delay_s=1.0))), Pending)
    assert isinstance(run(submit(call("[moderation]", watcher=watcher, partial_images=2))), Failed)
    assert isinstance(run(submit(call("[fail:timeout]", watcher=watcher, partial_images=2, delay_s=1.0))), Pending)
    assert watcher.shown == []

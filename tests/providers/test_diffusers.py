"""The provider `diffusers` with its real process, and a stand-in for the library in it."""

import asyncio
import contextlib
import io
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bide.providers import diffusers, inference
from bide.providers.base import Asset, Failed, Outcome, Succeeded
from tests.system.processes import is_alive

from .diffusers_calls import Asking, given, without_the_library


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    without_the_library(monkeypatch)
    folder = tmp_path / "model"
    folder.mkdir()
    return folder


def run(model: Path, test: Callable[[Asking], Awaitable[None]], **options: Any) -> None:
    """Runs a test, and ends the process that it started."""

    async def inside() -> None:
        asking = Asking(model, **options)
        try:
            await test(asking)
        finally:
            pid = diffusers.inference().pid
            await diffusers.close()
            assert pid is None or not is_alive(pid)
        assert "open" not in asking.store.states

    asyncio.run(inside())


def pictures(asking: Asking, outcome: Outcome) -> list[Image.Image]:
    assert isinstance(outcome, Succeeded), outcome
    assert outcome.units == len(outcome.assets)
    return [picture(asking, one) for one in outcome.assets]


def picture(asking: Asking, asset: Asset) -> Image.Image:
    return Image.open(io.BytesIO(asking.store.of(asset.stored)))


def failed(outcome: Outcome) -> Failed:
    assert isinstance(outcome, Failed), outcome
    return outcome


def png(colour: Any, mode: str = "RGB", size: tuple[int, int] = (32, 48)) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, "PNG")
    return file.getvalue()


def test_pictures_are_made_stored_and_described(model: Path) -> None:
    async def test(asking: Asking) -> None:
        outcome = await asking.submit(n=2, size="128x64", seed=7, output_format="jpeg")
        made = pictures(asking, outcome)
        assert [(one.size, one.format) for one in made] == [((128, 64), "JPEG")] * 2
        assert isinstance(outcome, Succeeded)
        assert [one.about for one in outcome.assets] == [
            {"width": 128, "height": 64, "size": "128x64", "seed": seed} for seed in (7, 8)]  # fmt: skip
        assert outcome.response["size"] == "128x64"
        assert outcome.response["output_format"] == "jpeg"

    run(model, test)


def test_the_model_is_loaded_once_and_offline(model: Path) -> None:
    async def test(asking: Asking) -> None:
        for _ in range(3):
            pictures(asking, await asking.submit())
        assert [one.split()[1:] for one in asking.loads] == [["float16", "1"]]
        assert int(asking.loads[0].split()[0]) == diffusers.inference().pid

    run(model, test, dtype="float16")


def test_other_options_are_another_model_and_the_former_process_ends(model: Path, tmp_path: Path) -> None:
    async def test(asking: Asking) -> None:
        pictures(asking, await asking.submit())
        former = diffusers.inference().pid
        assert former
        pictures(asking, await asking.submit(options={"dtype": "bfloat16"}))
        assert not is_alive(former)
        assert [one.split()[1] for one in asking.loads] == ["float32", "bfloat16"]

    run(model, test)


def test_the_same_task_makes_the_same_picture_and_another_makes_another(model: Path) -> None:
    async def test(asking: Asking) -> None:
        colours = [pictures(asking, await asking.submit(task_id=task))[0].getpixel((0, 0)) for task in "aab"]
        assert colours[0] == colours[1] != colours[2]

    run(model, test)


def test_progress_is_told_step_by_step_over_all_pictures(model: Path) -> None:
    async def test(asking: Asking) -> None:
        pictures(asking, await asking.submit(n=2))
        assert asking.reports == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]

    run(model, test, steps=5)


@pytest.mark.parametrize(("asked", "size"), [
    ({}, (64, 64)), ({"size": "auto"}, (64, 64)), ({"size": "100x60"}, (96, 56)),
    ({"aspect_ratio": "16:9"}, (1360, 768)), ({"size": "1:1"}, (1024, 1024)),
    ({"aspect_ratio": "0:9"}, (64, 64)), ({"size": "3x3"}, (8, 8)),
])  # fmt: skip
def test_a_size_is_what_the_model_can_make_of_it(model: Path, asked: dict[str, str], size: tuple[int, int]) -> None:
    async def test(asking: Asking) -> None:
        assert pictures(asking, await asking.submit(**asked))[0].size == size

    run(model, test)


@pytest.mark.parametrize(("wrong", "word"), [
    ({"n": 0}, "n must"), ({"n": 11}, "n must"), ({"n": True}, "n must"), ({"output_format": "gif"}, "output_format"),
    ({"size": "9000x16"}, "size"), ({"background": "transparent"}, "background"),
    ({"capability": "image.edit"}, "image is missing"),
    ({"inputs": (given("image", b"a"), given("image", b"b"))}, "one picture"),
    ({"inputs": (given("mask", b"a"),)}, "image is missing"),
    ({"inputs": (given("image", b"no picture"),)}, "image is not a readable"),
    ({"inputs": (given("image", png("red")), given("mask", b"\x89PNG\r\n\x1a\nno"))}, "mask is not a readable"),
    ({"prompt": "[unsafe]"}, "safety checker"),
])  # fmt: skip
def test_what_cannot_be_made_is_refused_in_a_sentence(model: Path, wrong: dict[str, Any], word: str) -> None:
    async def test(asking: Asking) -> None:
        refusal = failed(await asking.submit(**wrong))
        assert (refusal.code, refusal.scope) == ("forbidden" if "checker" in word else "bad_request", "task")
        assert word in refusal.message
        assert "closed" not in asking.store.states

    run(model, test)


def test_only_what_the_mask_shows_is_changed(model: Path) -> None:
    """Where it is transparent, as OpenAI's clients send it, or else where it is white."""

    async def test(asking: Asking) -> None:
        clear = Image.new("RGBA", (32, 48), (9, 9, 9, 255))
        clear.paste((9, 9, 9, 0), (0, 0, 16, 48))
        white = Image.new("RGB", (32, 48), "black")
        white.paste("white", (0, 0, 16, 48))
        for mask in (clear, white):
            file = io.BytesIO()
            mask.save(file, "PNG")
            inputs = (given("mask", file.getvalue()), given("image", png("red")))
            (made,) = pictures(asking, await asking.submit(capability="image.edit", inputs=inputs, seed=1))
            assert made.size == (32, 48)
            assert made.getpixel((20, 20)) == (255, 0, 0) != made.getpixel((4, 4))

    run(model, test)


def test_what_libraries_print_is_not_taken_for_an_answer(model: Path) -> None:
    async def test(asking: Asking) -> None:
        pictures(asking, await asking.submit(prompt="[print]"))

    run(model, test)


def test_a_model_that_fails_fails_the_channel_and_the_process_lives(model: Path) -> None:
    async def test(asking: Asking) -> None:
        broken = failed(await asking.submit(prompt="[raise]"))
        assert (broken.code, broken.scope, broken.retryable) == ("api_error", "channel", False)
        assert "out of ideas" in broken.detail
        assert "out of ideas" not in broken.message
        pictures(asking, await asking.submit())
        assert len(asking.loads) == 1

    run(model, test)


def test_a_process_that_is_killed_is_a_failure_and_the_next_request_starts_another(model: Path) -> None:
    async def test(asking: Asking) -> None:
        died = failed(await asking.submit(prompt="[die]"))
        assert (died.scope, died.retryable, died.detail) == ("channel", True, "the process was killed by signal 9")
        pictures(asking, await asking.submit())
        former = diffusers.inference().pid
        assert former
        os.kill(former, signal.SIGKILL)  # while nobody asks
        await gone(former)
        pictures(asking, await asking.submit())
        assert len(asking.loads) == 3

    run(model, test)


async def gone(pid: int | None) -> None:
    assert pid
    while is_alive(pid):  # noqa: ASYNC110 (it is another process)
        await asyncio.sleep(0.01)


async def begun(asking: Asking, name: str, **call: Any) -> "asyncio.Task[Outcome]":
    """A request that is under way."""
    task = asyncio.create_task(asking.submit(**call))
    while not (asking.model / name).exists():  # noqa: ASYNC110 (another process writes it)
        await asyncio.sleep(0.01)
    return task


async def given_up(task: "asyncio.Task[Outcome]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


def test_a_request_nobody_waits_for_is_stopped_and_the_model_stays(model: Path) -> None:
    async def test(asking: Asking) -> None:
        await given_up(await begun(asking, "waits", prompt="[wait]"))
        pictures(asking, await asking.submit())
        assert len(asking.loads) == 1

    run(model, test)


def test_a_process_that_does_not_stop_is_killed(model: Path) -> None:
    async def test(asking: Asking) -> None:
        await given_up(await begun(asking, "deaf", prompt="[deaf]"))
        deaf = diffusers.inference()
        assert deaf._left is not None
        deaf._left = deaf._left[0], deaf._left[1] - inference.STOP_S  # its time is over
        pictures(asking, await asking.submit())
        assert len(asking.loads) == 2

    run(model, test)


def test_the_event_loop_is_free_while_the_model_computes(model: Path) -> None:
    async def test(asking: Asking) -> None:
        deaf = await begun(asking, "deaf", prompt="[deaf]")
        waits = asyncio.create_task(asking.submit())
        for _ in range(100):
            await asyncio.sleep(0)
        assert not deaf.done()
        assert not waits.done()  # one at a time
        await given_up(waits)
        await given_up(deaf)

    run(model, test)


def test_a_channel_that_is_set_up_wrongly_rests_and_says_why(model: Path, tmp_path: Path) -> None:
    code = tmp_path / "code"
    (code / "unet").mkdir(parents=True)
    (code / "unet" / "my.py").write_text("raise SystemExit")

    async def test(asking: Asking) -> None:
        for options, word in (
            ({"model": ""}, "`model` is missing"), ({"model": "/nowhere/at/all"}, "no folder"),
            ({"model": "somebody/unknown"}, "local_files_only=True"), ({"model": str(code)}, "is not run"),
            ({"pipeline": "os"}, "no 'os'"), ({"dtype": "int8"}, "dtype"),
        ):  # fmt: skip
            wrong = failed(await asking.submit(options=options))
            assert (wrong.code, wrong.scope, wrong.cool_s > 0) == ("api_error", "channel", True)
            assert word in wrong.detail
            assert "/" not in wrong.message

    run(model, test)


def test_without_the_library_the_channel_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)

    async def test(asking: Asking) -> None:
        wrong = failed(await asking.submit())
        assert "bide[diffusers] is not installed" in wrong.detail

    run(tmp_path, test)


def test_an_idle_process_frees_its_memory(model: Path) -> None:
    async def test(asking: Asking) -> None:
        pictures(asking, await asking.submit())
        await gone(diffusers.inference().pid)
        pictures(asking, await asking.submit())
        assert len(asking.loads) == 2

    run(model, test, idle_s=0.1)


def test_secrets_of_the_gateway_are_not_given_to_the_process(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIDE_SECRET_KEY", "a secret")

    async def test(asking: Asking) -> None:
        pictures(asking, await asking.submit())
        environment = environ(diffusers.inference().pid)
        assert b"PYTHONPATH=" in environment
        assert b"BIDE_" not in environment

    if not Path("/proc/self/environ").exists():
        pytest.skip("there is no /proc here to look at another process")
    run(model, test)


def environ(pid: int | None) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()

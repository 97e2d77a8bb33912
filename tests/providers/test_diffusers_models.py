"""The provider `diffusers` with the library itself, and a genuine tiny model that the test makes."""

import asyncio
import io
import subprocess
import sys
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from bide.providers import diffusers
from bide.providers.base import Failed, Outcome, Succeeded

from .diffusers_calls import Asking, given

pytestmark = pytest.mark.skipif(
    not (find_spec("torch") and find_spec("diffusers") and find_spec("transformers")),
    reason="torch and diffusers are not installed here: they are too large for the development lock",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "model"
    script = Path(__file__).with_name("tiny_model.py")
    subprocess.run([sys.executable, str(script), str(folder)], check=True, timeout=250)
    return folder


def run(model: Path, test: Callable[[Asking], Awaitable[None]]) -> None:
    async def inside() -> None:
        try:
            await test(Asking(model, device="cpu", steps=4))
        finally:
            await diffusers.close()

    asyncio.run(inside())


def made(asking: Asking, outcome: Outcome) -> list[bytes]:
    assert isinstance(outcome, Succeeded), outcome
    return [asking.store.of(one.stored) for one in outcome.assets]


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_a_model_paints_the_same_for_the_same_seed_and_tells_each_step(model: Path) -> None:
    async def test(asking: Asking) -> None:
        first, second = made(asking, await asking.submit(size="128x64", seed=5, n=2))
        assert opened(first).size == opened(second).size == (128, 64)
        assert asking.reports == [0, 12, 25, 37, 50, 62, 75, 87, 100]
        (again,) = made(asking, await asking.submit(size="128x64", seed=5))
        assert again == first != second
        (other,) = made(asking, await asking.submit(size="128x64", seed=5, prompt="a hill <|endoftext|> {x:2}"))
        assert other != first
        (own,) = made(asking, await asking.submit(output_format="webp"))
        assert (opened(own).size, opened(own).format) == ((64, 64), "WEBP")

    run(model, test)


def test_a_picture_is_changed_in_its_own_size_with_and_without_a_mask(model: Path) -> None:
    async def test(asking: Asking) -> None:
        (picture,) = made(asking, await asking.submit(size="96x160", seed=1))
        (changed,) = made(asking, await asking.submit(capability="image.edit", inputs=(given("image", picture),)))
        assert opened(changed).size == (96, 160)
        assert changed != picture
        file = io.BytesIO()
        Image.new("L", (96, 160), "white").save(file, "PNG")
        inputs = (given("image", picture), given("mask", file.getvalue()))
        (masked,) = made(asking, await asking.submit(capability="image.edit", inputs=inputs))
        assert opened(masked).size == (96, 160)

    run(model, test)


def test_weights_that_could_run_code_are_not_loaded(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "pickled"
    for file in (one for one in model.rglob("*") if one.is_file()):
        to = copy / file.relative_to(model)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(file.read_bytes())
    weights = next((copy / "unet").glob("*.safetensors"))
    weights.rename(weights.with_suffix(".bin"))

    async def test(asking: Asking) -> None:
        refused = await asking.submit()
        assert isinstance(refused, Failed), refused
        assert (refused.scope, refused.cool_s > 0) == ("channel", True)

    run(copy, test)


def test_a_request_is_stopped_between_two_steps_and_the_model_stays(model: Path) -> None:
    async def test(asking: Asking) -> None:
        long = asyncio.create_task(asking.submit(options={"steps": 900}))
        while len(asking.reports) < 2:  # noqa: ASYNC110 (what is waited for is told by another process)
            await asyncio.sleep(0.01)
        before = diffusers.inference().pid
        long.cancel()
        await asyncio.gather(long, return_exceptions=True)
        made(asking, await asking.submit())
        assert diffusers.inference().pid == before

    run(model, test)

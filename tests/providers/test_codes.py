"""Pictures that are codes, read by a decoder that has nothing in common with what wrote them."""

import io
from typing import Any

import pytest
import segno
from PIL import Image

from bide.providers import drawing_code, sandbox
from bide.providers.base import Failed, Succeeded
from tests.providers.sandbox_calls import Store, call, run

SHORT = "https://example.com/boat"


def coded(content: str, *, size: str = "1024x1024", prompt: str = "a boat", **request: Any) -> Image.Image:
    store = Store()
    asked = call(prompt, store=store, capability="image.code", size=size, content=content, **request)
    (image,) = store.pictures(run(sandbox.submit(asked)))
    return image


def read(image: Image.Image) -> list[str]:
    zxing = pytest.importorskip("zxingcpp")
    return [one.text for one in zxing.read_barcodes(image.convert("RGB"))]


@pytest.mark.parametrize(
    "content",
    [SHORT, "x", "灯台 – naïve 🚢 маяк", "https://example.com/?" + "q=12&" * 120, "x" * 1273, "海" * 984],
    ids=["short", "one", "other-scripts", "long", "most-repair", "longest"],
)
def test_a_scanner_reads_the_content(content: str) -> None:
    assert read(coded(content)) == [content]


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("size", ["1024x1024", "1280x720", "512x768"])
def test_it_is_read_in_every_format_and_shape(form: str, size: str) -> None:
    image = coded(SHORT, size=size, output_format=form)
    assert f"{image.width}x{image.height}" == size
    assert read(image) == [SHORT]


@pytest.mark.parametrize("seed", range(12))
def test_it_is_read_in_all_its_colours_and_somewhat_turned_and_smaller(seed: int) -> None:
    image = coded(SHORT, seed=seed)
    assert read(image) == [SHORT]
    assert read(image.resize((600, 600)).rotate(8, fillcolor="gray")) == [SHORT]


def test_the_same_request_draws_the_same_and_the_prompt_and_seed_decide_the_art() -> None:
    first = coded(SHORT, seed=7).tobytes()
    assert coded(SHORT, seed=7).tobytes() == first
    assert coded(SHORT, seed=8).tobytes() != first
    assert coded(SHORT, seed=7, prompt="a hill").tobytes() != first


def test_a_picture_given_in_place_of_a_text_is_led_to() -> None:
    store, address = Store(), "https://example.com/code.png"
    asked = call("a boat", store=store, capability="image.code", size="1024x1024", content_image_url=address)
    (image,) = store.pictures(run(sandbox.submit(asked)))
    assert read(image) == [address]


def test_as_much_repair_is_used_as_fits_and_the_modules_are_those_of_the_standard() -> None:
    for length, level in ((1273, "h"), (1274, "q"), (1664, "m"), (2332, "l"), (2953, "l")):
        modules = drawing_code._modules("x" * length)
        made = segno.make_qr(b"x" * length, error=level, mode="byte", mask=drawing_code._MASK, boost_error=False)
        assert [bytes(row) for row in made.matrix] == list(modules)


def test_the_quiet_zone_is_light_and_the_code_dark() -> None:
    """Contrast as for text (WCAG 2): at least seven to one."""
    for seed in range(40):
        dark, light = drawing_code._colours(seed)
        assert (luminance(light) + 0.05) / (luminance(dark) + 0.05) > 7
    card = drawing_code._card(drawing_code._modules(SHORT), 1, 1024)
    pixels = card.width // (len(drawing_code._modules(SHORT)) + 8)
    around = card.crop((0, 0, card.width, 4 * pixels))
    assert around.getcolors() == [(around.width * around.height, drawing_code._colours(1)[1])]


def luminance(colour: tuple[int, int, int]) -> float:
    parts = [one / 255 / 12.92 if one <= 10 else ((one / 255 + 0.055) / 1.055) ** 2.4 for one in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize(
    ("content", "size", "word"),
    [("", "1024x1024", "0 bytes"), ("海" * 985, "1024x1024", "2955 bytes"), ("x" * 500, "64x64", "too small")],
)
def test_what_no_code_can_hold_is_refused(content: str, size: str, word: str) -> None:
    asked = call("a boat", capability="image.code", size=size, content=content)
    outcome = run(sandbox.submit(asked))
    assert isinstance(outcome, Failed)
    assert outcome.code == "bad_request"
    assert word in outcome.message


def test_the_file_says_what_the_code_holds() -> None:
    store = Store()
    asked = call("a boat", store=store, capability="image.code", content="灯台", size="256x256")
    outcome = run(sandbox.submit(asked))
    assert isinstance(outcome, Succeeded)
    assert Image.open(io.BytesIO(store.files(outcome)[0])).info["content"] == "灯台"

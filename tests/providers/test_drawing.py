"""What the sandbox's pictures are, seen by decoding them again."""

import io
import json
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageChops, ImageDraw, JpegImagePlugin

from bide.providers import drawing_text
from bide.providers.drawing import (
    EDIT_PIXELS_MAX,
    Picture,
    Source,
    finished,
    source_base,
    source_inset,
    source_mask,
    unfinished,
)
from bide.providers.drawing_files import INPUT_PIXELS_MAX, Refused
from bide.providers.drawing_kept import Kept

BOAT = Picture(
    prompt="A small red boat", model="gpt-image-2", width=256, height=192, index=0, quality="medium",
    transparent=False, output_format="png", compression=100, font="",
)  # fmt: skip
HOSTILE = {
    "empty": "",
    "blank": " \n\t ",
    "controls": "".join(map(chr, range(32))) + "\x7f\x80\x9f",
    "one endless word": "x" * 32_000,
    "many words": "lorem ipsum " * 2_700,
    "many lines": "\n" * 32_000,
    "spaces": " " * 32_000,
    "emoji": "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u2764\ufe0f",
    "right to left": "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd \u202eabc\u202c",
    "east": "\u4f60\u597d\u4e16\u754c\u3053\u3093\ud55c\uad6d" * 40,
    "heaped accents": "a" + "\u0301" * 5_000,
    "lone surrogates": "a\ud800b\udfff",
    "not characters": "\ufffe\uffff\U0010ffff\ue000",
    "markup": "%s {0} <b> \\n &amp; [delay:1]",
}


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def saved(image: Image.Image, form: str = "PNG", **how: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **how)
    return out.getvalue()


def plain(size: tuple[int, int] = (256, 192), colour: tuple[int, int, int] = (40, 120, 200)) -> Image.Image:
    """A picture to edit: one colour, its right half another."""
    image = Image.new("RGB", size, colour)
    image.paste((200, 60, 40), (size[0] // 2, 0, *size))
    return image


def masking(size: tuple[int, int], box: tuple[int, int, int, int]) -> bytes:
    mask = Image.new("RGBA", size, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), box)
    return saved(mask)


def source(base: Image.Image, *, mask: bytes | None = None, size: tuple[int, int] | None = None) -> Source:
    image, came = source_base(saved(base), size)
    return Source(image, source_mask(mask, came, image.size) if mask else None, ())


def differing(one: Image.Image, other: Image.Image) -> float:
    """The share of pixels that differ."""
    difference = ImageChops.difference(one.convert("RGB"), other.convert("RGB")).convert("L")
    return 1 - difference.histogram()[0] / (one.width * one.height)


def about(image: Image.Image) -> dict[str, str]:
    """What a file of ours says of itself."""
    if image.format == "PNG":
        return {name: image.info[name] for name in ("prompt", "model", "seed")}
    if image.format == "WEBP":
        comment = image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
        assert comment.startswith(b"UNICODE\0")
        text = comment[8:].decode("utf-16-be")
    else:
        assert isinstance(image, JpegImagePlugin.JpegImageFile)
        text = b"".join(data for name, data in image.applist if name == "COM").decode()
    found: dict[str, str] = json.loads(text)
    return found


# -- generations


@pytest.mark.parametrize(("form", "name"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
@pytest.mark.parametrize("size", [(256, 256), (320, 100), (100, 320), (1, 1), (17, 900)])
def test_a_picture_has_the_asked_size_and_format(form: str, name: str, size: tuple[int, int]) -> None:
    image = opened(finished(replace(BOAT, output_format=form, width=size[0], height=size[1])))
    assert (image.size, image.format, image.mode) == (size, name, "RGB")


def test_the_same_picture_has_the_same_bytes() -> None:
    for form in ("png", "jpeg", "webp"):
        assert finished(replace(BOAT, output_format=form)) == finished(replace(BOAT, output_format=form))


@pytest.mark.parametrize(
    "change", [{"index": 1}, {"prompt": "A small blue boat"}, {"model": "dall-e-3"}, {"quality": "high"}]
)
def test_index_prompt_model_and_quality_each_change_the_picture(change: dict[str, Any]) -> None:
    assert differing(opened(finished(BOAT)), opened(finished(replace(BOAT, **change)))) > 0.05


def test_the_prompt_is_written_on_the_picture() -> None:
    """Bright letters on the dark card: a longer prompt has more of them."""

    def letters(prompt: str) -> int:
        card = opened(finished(replace(BOAT, prompt=prompt))).convert("L").crop((12, 125, 244, 185))
        return sum(card.histogram()[190:])

    assert letters("A small red boat on a wide and quiet sea, seen from the lighthouse") > letters(".") + 200


@pytest.mark.parametrize("form", ["png", "webp"])
def test_a_transparent_picture_has_real_alpha(form: str) -> None:
    image = opened(finished(replace(BOAT, transparent=True, output_format=form)))
    assert image.mode == "RGBA"
    alpha = image.getchannel("A").histogram()
    assert alpha[0] > 0.1 * image.width * image.height
    assert alpha[255] > 0.2 * image.width * image.height


@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_compression_makes_smaller_files(form: str) -> None:
    sizes = [len(finished(replace(BOAT, output_format=form, compression=part))) for part in (0, 50, 100)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2] / 2


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("prompt", ["A small red boat", "\u5c0f\u8239 \U0001f6a4 caf\u00e9", "\U0001f6a4" * 32_000])
def test_the_file_says_prompt_model_and_seed_in_full(form: str, prompt: str) -> None:
    picture = replace(BOAT, output_format=form, prompt=prompt)
    said = about(opened(finished(picture)))
    assert said == {"prompt": prompt, "model": "gpt-image-2", "seed": str(picture.seed)}


@pytest.mark.parametrize("prompt", HOSTILE.values(), ids=HOSTILE.keys())
def test_any_prompt_can_be_drawn(prompt: str) -> None:
    for form in ("png", "jpeg", "webp"):
        assert opened(finished(replace(BOAT, prompt=prompt, output_format=form))).size == BOAT.size


@given(st.text(st.characters(), max_size=60), st.integers(1, 200), st.integers(1, 200))
@settings(max_examples=60, deadline=None)
def test_whatever_the_prompt_and_size_a_picture_comes(prompt: str, width: int, height: int) -> None:
    assert opened(finished(replace(BOAT, prompt=prompt, width=width, height=height))).size == (width, height)


def test_a_font_that_is_not_there_is_passed_over() -> None:
    picture = replace(BOAT, prompt="caf\u00e9", font="/nowhere/font.ttf")
    assert opened(finished(picture)).size == picture.size


def test_characters_without_a_font_become_boxes_with_their_code_point() -> None:
    built_in = (drawing_text.BUILT_IN,)
    block = drawing_text.fitted("a \u4f60\u597d", 500, 100, (20,), built_in)
    assert [(run.text, run.font is None) for run in block.lines[0]] == [
        ("a ", False), ("\u4f60", True), ("\u597d", True),
    ]  # fmt: skip
    image = Image.new("RGB", (200, 40))
    drawing_text.write(ImageDraw.Draw(image, "RGBA"), block, 0, 0)
    assert image.getbbox() is not None


def test_text_is_broken_at_spaces_shrunk_to_fit_and_cut_with_dots_at_last() -> None:
    built_in = (drawing_text.BUILT_IN,)

    def lines(text: str, width: int, height: int, sizes: tuple[int, ...]) -> tuple[list[str], int]:
        block = drawing_text.fitted(text, width, height, sizes, built_in)
        return ["".join(run.text for run in line) for line in block.lines], block.size

    assert lines("red boat", 500, 100, (20, 10)) == (["red boat"], 20)
    assert lines("red boat", 60, 100, (20, 10)) == (["red", "boat"], 20)
    assert lines("red boat", 60, 30, (20, 10)) == (["red boat"], 10)
    assert lines("red\nboat", 500, 100, (20,)) == (["red", "boat"], 20)
    cut, size = lines("a red boat and a green boat", 60, 14, (20, 10))
    assert (len(cut), size) == (1, 10)
    assert cut[0].startswith("a red")
    assert cut[0].endswith("...")


# -- unfinished pictures


@pytest.mark.parametrize(("form", "name"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_unfinished_pictures_come_nearer_to_the_finished_one(form: str, name: str) -> None:
    picture = replace(BOAT, output_format=form)
    done = opened(finished(picture)).convert("RGB")
    shown = [opened(data) for data in unfinished(picture, None, 3)]
    assert [(image.size, image.format) for image in shown] == [(BOAT.size, name)] * 3
    away = [
        sum(level * count for level, count in enumerate(ImageChops.difference(image, done).convert("L").histogram()))
        for image in shown
    ]
    assert away == sorted(away, reverse=True)
    assert away[-1] > 0


# -- edits


def test_an_edit_shows_its_input_below_the_drawing() -> None:
    base = plain()
    edited = opened(finished(BOAT, source(base)))
    assert edited.size == base.size
    assert differing(edited.crop((0, 0, 256, 96)), base.crop((0, 0, 256, 96))) < 0.7
    assert differing(edited, base) > 0.2
    other = opened(finished(replace(BOAT, index=1), source(base)))
    assert differing(edited, other) > 0.05


def test_an_input_of_another_size_is_resized_to_the_asked_one() -> None:
    assert source(plain((1000, 400)), size=(256, 192)).base.size == (256, 192)
    assert source(plain((1000, 400))).base.size == (1000, 400)


def test_a_large_input_is_scaled_down_to_what_an_edit_may_have() -> None:
    size = source(Image.new("L", (5000, 3334))).base.size
    assert 0.98 * EDIT_PIXELS_MAX < size[0] * size[1] <= EDIT_PIXELS_MAX
    assert abs(size[0] / size[1] - 1.5) < 0.01


@pytest.mark.parametrize(("form", "loss"), [("png", 0), ("webp", 12), ("jpeg", 12)])
@pytest.mark.parametrize("size", [None, (256, 192), (512, 384)])
def test_only_the_transparent_part_of_the_mask_is_repainted(
    form: str, loss: int, size: tuple[int, int] | None
) -> None:
    base, box = Image.linear_gradient("L").resize((256, 192)).convert("RGB"), (16, 32, 112, 160)
    start = source(base, mask=masking(base.size, box), size=size)
    times = start.base.width // base.width
    picture = replace(BOAT, output_format=form, width=start.base.width, height=start.base.height)
    difference = ImageChops.difference(opened(finished(picture, start)).convert("RGB"), start.base)
    inside = tuple(side * times for side in box)
    repainted = difference.crop(inside).convert("L").histogram()
    assert sum(repainted[20:]) > 0.5 * sum(repainted)
    edge = 16 if loss else 0  # blocks of an encoder reach over the border
    difference.paste(0, (inside[0] - edge, inside[1] - edge, inside[2] + edge, inside[3] + edge))
    assert max(high for _, high in difference.getextrema()) <= loss  # type: ignore[misc]


def test_a_mask_without_transparency_changes_nothing() -> None:
    base = plain()
    start = source(base, mask=masking(base.size, (0, 0, 0, 0)))
    assert differing(opened(finished(BOAT, start)), base) == 0


def test_repainting_transparently_makes_holes_inside_the_mask_only() -> None:
    base, box = plain(), (16, 32, 240, 176)
    image = opened(finished(replace(BOAT, transparent=True), source(base, mask=masking(base.size, box))))
    alpha = image.getchannel("A")
    assert alpha.crop(box).histogram()[0] > 100
    alpha.paste(255, box)
    assert alpha.getextrema() == (255, 255)


def test_the_transparency_of_an_input_stays_or_becomes_white() -> None:
    base = plain().convert("RGBA")
    base.paste((0, 0, 0, 0), (0, 0, 40, 40))
    kept = opened(finished(replace(BOAT, transparent=True), source(base)))
    assert kept.getpixel((2, 2))[3] == 0  # type: ignore[index]
    masked = source(base, mask=masking(base.size, (60, 60, 99, 99)))
    flat = opened(finished(replace(BOAT, output_format="jpeg"), masked))
    assert min(flat.getpixel((2, 2))) > 240  # type: ignore[type-var,arg-type]


def test_an_opaque_input_is_cut_out_when_transparency_is_asked() -> None:
    alpha = opened(finished(replace(BOAT, transparent=True), source(plain()))).getchannel("A")
    assert alpha.getpixel((0, 0)) == 0
    assert alpha.getpixel((128, 60)) == 255


def test_further_pictures_are_small_insets() -> None:
    base = plain()
    insets = tuple(source_inset(saved(Image.new("RGB", (300, 300), "lime")), n, base.size) for n in range(2, 17))
    assert max(insets[0].size) == 32
    edited = opened(finished(BOAT, Source(base, None, insets))).convert("RGB")
    lime = sum(count for count, colour in edited.getcolors(70_000) or () if colour == (0, 255, 0))
    assert 7 * 32 * 32 <= lime <= 15 * 32 * 32


def test_a_photograph_taken_on_its_side_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for form in ("JPEG", "PNG"):
        image, came = source_base(saved(plain((300, 200)), form, exif=exif), None)
        assert (image.size, came) == ((200, 300), (200, 300))


@pytest.mark.parametrize(
    "image",
    [
        Image.new("L", (40, 30), 99), Image.new("LA", (40, 30), (99, 99)), Image.new("P", (40, 30)),
        Image.new("1", (40, 30)), Image.new("RGBA", (40, 30)), Image.new("I;16", (40, 30), 40_000),
    ],
    ids=lambda image: str(image.mode),
)  # fmt: skip
def test_pictures_of_every_colour_mode_can_be_edited(image: Image.Image) -> None:
    base, came = source_base(saved(image), None)
    assert (base.size, came) == (image.size, image.size)
    if image.mode == "I;16":
        assert base.getpixel((0, 0)) == (156, 156, 156)


def test_printing_colours_can_be_edited() -> None:
    assert source_base(saved(Image.new("CMYK", (40, 30)), "JPEG"), (80, 60))[0].mode == "RGB"


# -- refusals


def giant() -> bytes:
    """A few bytes that claim 65,535 x 65,535 pixels."""
    data = bytearray(saved(Image.new("L", (8, 8)), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    return bytes(data)


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "no picture": (lambda: source_base(b"hello", None), "not a readable"),
    "nothing": (lambda: source_base(b"", None), "not a readable"),
    "another format": (lambda: source_base(saved(Image.new("RGB", (9, 9)), "GIF"), None), "not a readable"),
    "cut off": (lambda: source_base(saved(plain())[:200], None), "damaged"),
    "a bomb": (lambda: source_base(giant(), None), "readable|pixels"),
    "too many pixels": (lambda: source_base(saved(Image.new("1", (10_000, 5_001))), None), f"{INPUT_PIXELS_MAX:,}"),
    "mask of another size": (lambda: source(plain(), mask=masking((10, 10), (0, 0, 5, 5))), "same size"),
    "mask without alpha": (lambda: source(plain(), mask=saved(plain())), "alpha"),
    "inset that is none": (lambda: source_inset(b"x", 3, (90, 90)), "image 3"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_refused_with_a_reason(name: str) -> None:
    work, reason = REFUSED[name]
    with pytest.raises(Refused, match=reason):
        work()


def test_broken_files_are_refused_and_nothing_else_is_raised() -> None:
    chance = random.Random(7)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    files = [saved(plain((64, 48)), form, exif=exif) for form in ("PNG", "JPEG", "WEBP")]
    for _ in range(300):
        data = bytearray(chance.choice(files))
        for _ in range(chance.randint(1, 12)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with suppress(Refused):
            source_base(bytes(data), (32, 32))


# -- what is kept


def test_kept_pictures_are_bounded_in_bytes_and_the_longest_unused_go_first() -> None:
    kept = Kept(10_000)
    pictures = [replace(BOAT, index=index) for index in range(5)]
    for picture in pictures[:4]:
        kept.put(picture, b"x" * 1_900)
    assert kept.get(pictures[0]) is not None
    kept.put(pictures[4], b"y" * 1_900)
    assert [kept.get(picture) is not None for picture in pictures] == [True, False, True, True, True]
    kept.put(replace(BOAT, index=9), b"z" * 2_500)
    assert kept.get(replace(BOAT, index=9)) is None

"""The pictures of the sandbox: a small landscape made of a seed, with the prompt on it.

The same `Picture` (and the same `Source`, for an edit) always gives the same bytes. All of this is pure
processor time and belongs into a thread: about 60 ms for 1024x1024 as PNG, half of it the encoding.
"""

import colorsys
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from bide.providers.drawing_files import Refused, decoded, encode, opened
from bide.providers.drawing_text import BUILT_IN, fitted, fonts_for, write

EDIT_PIXELS_MAX = 16_000_000
"""Pixels of an edited picture that keeps the size of its input; a larger input is scaled down."""
SIDE_MAX = 16_383
"""Pixels of one side: the most WebP can hold."""

DETAIL: Final[Mapping[str, tuple[int, int]]] = {
    "low": (224, 3), "standard": (384, 7), "medium": (384, 7), "hd": (640, 12), "high": (640, 12),
    "xhigh": (768, 16), "max": (896, 20),
}  # fmt: skip
"""By quality: pixels of the longer side at which the scene is painted before it is enlarged, and its discs."""

_SKY = ((0.0, 0.55, 0.95), (0.06, 0.5, 0.98), (-0.08, 0.6, 0.75), (-0.02, 0.45, 0.9))
"""The sky's four corners: turn of the hue, strength and light."""
_RESIZE = Image.Resampling.BICUBIC
_TEXT_SIDE_MIN = 48

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture to draw: everything its bytes depend on, save the source of an edit."""

    prompt: str
    model: str
    width: int
    height: int
    index: int
    quality: str
    transparent: bool
    output_format: str
    compression: int
    font: str

    @property
    def size(self) -> Size:
        return self.width, self.height

    @property
    def seed(self) -> int:
        """32 bits of prompt, model and index: another size or format keeps the composition."""
        text = f"{self.prompt}\0{self.model}\0{self.index}"
        return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).digest())


@dataclass(frozen=True, slots=True)
class Source:
    """What an edit starts from, decoded: `base` has the size of the result, `repaint` (same size) is white
    where the mask was transparent, `insets` are the further pictures, small."""

    base: Image.Image
    repaint: Image.Image | None
    insets: tuple[Image.Image, ...]


def finished(picture: Picture, source: Source | None = None) -> bytes:
    """The encoded picture."""
    return _file(picture, _draw(picture, source))


def unfinished(picture: Picture, source: Source | None, steps: int) -> list[bytes]:
    """`steps` encoded pictures that grow from a blur towards the finished one, of the same size and format."""
    image = _draw(picture, source)
    shown = []
    for left in range(steps, 0, -1):
        coarse = (max(1, picture.width >> (left + 2)), max(1, picture.height >> (left + 2)))
        small = image.resize(coarse, Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(1))
        shown.append(_file(picture, small.resize(picture.size, _RESIZE)))
    return shown


def source_base(data: bytes, size: Size | None) -> tuple[Image.Image, Size]:
    """The first input picture at the asked size (None: its own, within bounds), and the size it came in.

    Raises `Refused`, as the next two do.
    """
    image, came = decoded(opened(data, "image"), "image", size)
    wanted = size or _bounded(came)
    return (image if image.size == wanted else image.resize(wanted, _RESIZE)), came


def source_mask(data: bytes, came: Size, size: Size) -> Image.Image:
    """Where to repaint: the more transparent the mask, the more. `came` is the input's own size."""
    image, own = decoded(opened(data, "mask"), "mask", None)
    if own != came:
        raise Refused(f"mask is {own[0]}x{own[1]} and the image is {came[0]}x{came[1]}; both must have the same size")
    if image.mode != "RGBA":
        raise Refused("mask has no alpha channel; its transparent pixels say what to edit")
    return ImageChops.invert(image.getchannel("A")).resize(size, Image.Resampling.NEAREST)


def source_inset(data: bytes, number: int, size: Size) -> Image.Image:
    """The further input picture `number` (the second is 2), small enough for the corner of a `size` picture."""
    side = max(4, min(size) // 6)
    image, _ = decoded(opened(data, f"image {number}"), f"image {number}", (side, side))
    image.thumbnail((side, side))
    return image


def _bounded(size: Size) -> Size:
    scale = min(1.0, math.sqrt(EDIT_PIXELS_MAX / (size[0] * size[1])), SIDE_MAX / max(size))
    return max(1, int(size[0] * scale)), max(1, int(size[1] * scale))


def _file(picture: Picture, image: Image.Image) -> bytes:
    about = {"prompt": picture.prompt, "model": picture.model, "seed": str(picture.seed)}
    return encode(image, picture.output_format, picture.compression, about)


def _draw(picture: Picture, source: Source | None) -> Image.Image:
    """RGB, or RGBA where the picture is transparent."""
    if source is None:
        return _labelled(picture, *_scene(picture, picture.size))
    if source.repaint is None:
        return _edited(picture, source)
    return _repainted(picture, source, source.repaint)


def _edited(picture: Picture, source: Source) -> Image.Image:
    """The base with a veil of discs, the insets and the prompt over it."""
    base = source.base
    alpha: Image.Image | None = None
    if base.mode == "RGBA":
        alpha = base.getchannel("A")
        colours = Image.new("RGB", base.size, "white")
        colours.paste(base, mask=alpha)
    else:
        colours = base.copy()
    if not picture.transparent:
        alpha = None
    elif alpha is None or alpha.getextrema() == (255, 255):
        alpha = _rounded(base.size, min(base.size) // 8)  # an opaque base is cut out: round corners
    draw = ImageDraw.Draw(colours, "RGBA")
    chance, (width, height) = Random(picture.seed), base.size
    for _ in range(5):
        tint, radius = _colour(chance.random(), 0.45, 1.0), min(base.size) * chance.uniform(0.05, 0.16)
        _disc(draw, chance.random() * width, chance.random() * height, radius, (*tint, 60))
    return _labelled(picture, colours, alpha, source.insets)


def _repainted(picture: Picture, source: Source, repaint: Image.Image) -> Image.Image:
    """The base with a whole new picture inside the transparent part of the mask, and nowhere else."""
    mode = "RGBA" if picture.transparent else "RGB"
    base = source.base
    if base.mode == "RGBA" and mode == "RGB":
        flat = Image.new("RGB", base.size, "white")
        flat.paste(base, mask=base.getchannel("A"))
        base = flat
    result = base.convert(mode) if base.mode != mode else base.copy()
    box = repaint.getbbox()
    if box is None:
        return result
    colours, alpha = _scene(picture, (box[2] - box[0], box[3] - box[1]))
    patch = _labelled(picture, colours, alpha, source.insets, in_middle=True)
    result.paste(patch, box[:2], repaint.crop(box))
    return result


def _scene(picture: Picture, size: Size) -> tuple[Image.Image, Image.Image | None]:
    """Sky, sun, discs and hills in one family of colours; for a transparent picture also its alpha: all but sky.

    Painted small at twice its size, halved (which smooths the edges) and enlarged: several times faster
    than painting at full size, and soft.
    """
    side, discs = DETAIL[picture.quality]
    scale = min(1.0, side / max(size))
    half = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    whole = half[0] * 2, half[1] * 2
    chance = Random(picture.seed)
    hue = chance.random()
    corners = Image.new("RGB", (2, 2))
    for corner, (turn, strength, light) in enumerate(_SKY):
        colour = _colour(hue + turn + chance.uniform(-0.03, 0.03), strength, light)
        corners.putpixel((corner % 2, corner // 2), colour)
    colours = corners.resize(whole, Image.Resampling.BILINEAR, box=(0.5, 0.5, 1.5, 1.5))
    alpha = Image.new("L", whole if picture.transparent else (1, 1), 0)
    draw, cover = ImageDraw.Draw(colours, "RGBA"), ImageDraw.Draw(alpha)
    _sky(draw, cover, chance, hue, whole, discs)
    _hills(draw, cover, chance, hue, whole)
    return _enlarged(colours, half, size), _enlarged(alpha, half, size) if picture.transparent else None


def _enlarged(image: Image.Image, half: Size, size: Size) -> Image.Image:
    return image.resize(half, Image.Resampling.BOX).resize(size, Image.Resampling.BILINEAR)


def _sky(
    draw: ImageDraw.ImageDraw, cover: ImageDraw.ImageDraw, chance: Random, hue: float, size: Size, discs: int
) -> None:
    """A sun with its glow, and drifting discs."""
    width, height = size
    short = min(size)
    x, y = width * chance.uniform(0.2, 0.8), height * chance.uniform(0.2, 0.42)
    sun = short * chance.uniform(0.09, 0.14)
    for ring, strength in ((2.6, 26), (1.9, 34), (1.4, 44)):
        _disc(draw, x, y, sun * ring, (255, 250, 235, strength))
    _disc(draw, x, y, sun, (255, 248, 228, 235))
    _disc(cover, x, y, sun * 1.4, 255)
    for _ in range(discs):
        tint = _colour(hue + chance.uniform(-0.15, 0.15), chance.uniform(0.15, 0.5), 1.0)
        x, y, radius = width * chance.random(), height * chance.uniform(0.0, 0.7), short * chance.uniform(0.02, 0.11)
        _disc(draw, x, y, radius, (*tint, chance.randint(50, 110)))
        _disc(cover, x, y, radius, 255)


def _hills(draw: ImageDraw.ImageDraw, cover: ImageDraw.ImageDraw, chance: Random, hue: float, size: Size) -> None:
    """Three ridges, the nearer the darker."""
    width, height = size
    for ridge in range(3):
        top, swing = height * (0.5 + 0.13 * ridge), height * 0.07
        colour = _colour(hue - 0.05 - 0.03 * ridge, 0.5 + 0.1 * ridge, 0.66 - 0.17 * ridge)
        waves = [(chance.uniform(0.5, 3.5), chance.random() * math.tau, chance.uniform(0.3, 1.0)) for _ in range(3)]
        outline = []
        for step in range(65):
            along = step / 64
            rise = sum(part * math.sin(along * math.tau * turns + start) for turns, start, part in waves)
            outline.append((along * width, top + swing * rise))
        outline += [(width, height), (0, height)]
        draw.polygon(outline, fill=(*colour, 225))
        cover.polygon(outline, fill=255)


def _labelled(
    picture: Picture,
    colours: Image.Image,
    alpha: Image.Image | None,
    insets: tuple[Image.Image, ...] = (),
    *,
    in_middle: bool = False,
) -> Image.Image:
    """Adds the insets at the top, and a dark card with the prompt and a small caption at the bottom, or
    `in_middle`, where a repainted part is widest as a rule."""
    width, height = colours.size
    margin = max(1, min(width, height) // 28)
    for picture_in, corner in _inset_places(insets, width, margin):
        framed = Image.new("RGB", (picture_in.width + 4, picture_in.height + 4), "white")
        framed.paste(picture_in, (2, 2), picture_in if picture_in.mode == "RGBA" else None)
        colours.paste(framed, corner)
        if alpha is not None:
            alpha.paste(255, (*corner, corner[0] + framed.width, corner[1] + framed.height))
    if min(width, height) >= _TEXT_SIDE_MIN:
        _card(picture, colours, alpha, margin, in_middle)
    if alpha is not None:
        colours.putalpha(alpha)
    return colours


def _inset_places(insets: tuple[Image.Image, ...], width: int, margin: int) -> list[tuple[Image.Image, Size]]:
    """Each inset with its upper left corner: rows from the upper right."""
    places: list[tuple[Image.Image, Size]] = []
    right, top, row = width - margin, margin, 0
    for inset in insets:
        if right - inset.width - 4 < margin and row:
            right, top, row = width - margin, top + row + margin // 2, 0
        places.append((inset, (right - inset.width - 4, top)))
        right, row = right - inset.width - 4 - margin // 2, max(row, inset.height + 4)
    return places


def _card(picture: Picture, colours: Image.Image, alpha: Image.Image | None, margin: int, in_middle: bool) -> None:
    width, height = colours.size
    pad = max(3, margin * 3 // 4)
    inner = width - 2 * (margin + pad)
    size = max(11, round(math.sqrt(width * height) / 24))
    small = max(9, round(size * 0.5))
    text = picture.prompt if picture.prompt.strip() else "(no prompt)"
    fonts = (BUILT_IN,) if text.isascii() and picture.model.isascii() else fonts_for(picture.font)
    sizes = tuple(dict.fromkeys(max(9, round(size * part)) for part in (1, 0.8, 0.62, 0.48)))
    said = fitted(text, inner, int(height * 0.36), sizes, fonts)
    shape_and_place = f"{picture.width}x{picture.height} | #{picture.index + 1}"
    caption = f"{shape_and_place} | {picture.model or 'sandbox'} | {picture.seed:08x}"
    noted = fitted(caption, inner, small, (small,), fonts)
    tall = said.height + noted.height + pad * 5 // 2
    bottom = (height + tall) // 2 if in_middle else height - margin
    box = (margin, bottom - tall, width - margin, bottom)
    shape = _rounded((box[2] - box[0], tall), min(tall // 3, margin))
    colours.paste((18, 20, 34), box[:2], shape.point(lambda value: value * 0.66))
    if alpha is not None:
        alpha.paste(255, box[:2], shape)
    draw = ImageDraw.Draw(colours, "RGBA")
    write(draw, said, box[0] + pad, box[1] + pad)
    write(draw, noted, box[0] + pad, box[1] + pad + said.height + pad // 2, (255, 255, 255, 165))


def _rounded(size: Size, radius: int) -> Image.Image:
    """A white rectangle with smooth round corners on black."""
    large = Image.new("L", (size[0] * 2, size[1] * 2), 0)
    ImageDraw.Draw(large).rounded_rectangle((0, 0, size[0] * 2 - 1, size[1] * 2 - 1), radius * 2, fill=255)
    return large.resize(size, Image.Resampling.BOX)


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: int | tuple[int, ...]) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _colour(hue: float, strength: float, light: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, strength, light)
    return round(red * 255), round(green * 255), round(blue * 255)

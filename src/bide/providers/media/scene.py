"""An endless landscape, and pictures of it: every picture is a window into it.

What lies at a place depends on the seed and the place alone. So a larger window shows the same things smaller, with
more around them; a window beside it goes on where it ended; more pixels show the same window finer. Sky, sun,
drifting discs and hills, as in `bide.providers.drawing`.

Places are in units of the height of the first picture: y grows downwards, the horizon is near 0.5.
"""

import colorsys
import math
from dataclasses import dataclass, replace
from random import Random

from PIL import Image, ImageDraw

from bide.providers.drawing_text import BUILT_IN, fitted, fonts_for, write
from bide.providers.media.turn import alone

SIDE_MAX = 4096
"""Pixels of one side."""
WINDOW_MAX = 16.0
"""Units of one side of a window."""
MASK_SIDE = 64
"""A region is kept as so many rows of so many points."""

_CELL = 0.25
_GROUND = 0.7
"""Where the lowest discs drift."""
_RIDGE, _SWING = 0.13, 0.06
_ROWS = 128

Size = tuple[int, int]
Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Patch:
    """A region that shows something else: `points` are the rows of a mask over that window, a bit each, in hex."""

    left: float
    top: float
    width: float
    height: float
    points: str
    seed: int
    strength: float


@dataclass(frozen=True, slots=True)
class View:
    """A picture in numbers: which landscape, how it was changed since, the window, and the size in pixels.

    `changes` are (seed, strength 0 to 1): the landscape moved that far towards another one.
    """

    seed: int
    left: float
    top: float
    width: float
    height: float
    pixels: Size
    changes: tuple[tuple[int, float], ...] = ()
    patches: tuple[Patch, ...] = ()


class _Chance:
    """Random numbers of a thing in the landscape, moved by the changes."""

    def __init__(self, view: View, thing: str) -> None:
        self._own = Random(f"{view.seed} {thing}")
        self._others = [(Random(f"{seed} {thing}"), strength) for seed, strength in view.changes]

    def uniform(self, low: float, high: float) -> float:
        value = self._own.uniform(low, high)
        for other, strength in self._others:
            value += strength * (other.uniform(low, high) - value)
        return value


def paint(view: View, caption: str = "") -> Image.Image:
    """The picture, RGB. Raises `ValueError` for a size or window out of bounds."""
    image = _coarse(view).resize(view.pixels, Image.Resampling.BILINEAR)
    return _captioned(image, caption) if caption else image


def sketch(view: View, caption: str = "") -> Image.Image:
    """The same in about a quarter of the pixels, as it is before it is enlarged: for who enlarges it anyway."""
    image = _coarse(view)
    return _captioned(image, caption) if caption else image


def _coarse(view: View) -> Image.Image:
    width, height = view.pixels
    if not 1 <= min(width, height) <= max(width, height) <= SIDE_MAX:
        raise ValueError(f"a picture has sides of 1 to {SIDE_MAX} pixels")
    if not 0 < min(view.width, view.height) <= max(view.width, view.height) <= WINDOW_MAX + 1e-6:
        raise ValueError(f"a window has sides of up to {WINDOW_MAX:.0f} units")
    side = min(max(width, height), max(320, min(1024, max(width, height) // 2)))
    scale = side / max(width, height)
    half = max(1, round(width * scale)), max(1, round(height * scale))
    image = _painted(view, half)
    for patch in view.patches:
        other = replace(view, changes=(*view.changes, (patch.seed, patch.strength)), patches=())
        image.paste(_painted(other, half), (0, 0), _region(patch, view, half))
    return image


@alone
def _painted(view: View, size: Size) -> Image.Image:
    """At twice the size, halved: that smooths the edges."""
    whole = size[0] * 2, size[1] * 2
    look = _Chance(view, "look")
    hue = look.uniform(0.0, 1.0)
    sky = [look.uniform(-0.08, 0.08) for _ in range(3)]
    image = _sky(view, hue, sky, whole)
    draw = ImageDraw.Draw(image, "RGBA")
    _sun(draw, view, look, whole)
    _discs(draw, view, hue, whole)
    _hills(draw, view, hue, whole)
    return image.reduce(2)


def _at(view: View, size: Size, x: float, y: float) -> tuple[float, float]:
    """A place of the landscape in pixels."""
    return (x - view.left) * size[0] / view.width, (y - view.top) * size[1] / view.height


def _sky(view: View, hue: float, turns: list[float], size: Size) -> Image.Image:
    """Three colours: high above, the middle, the horizon; beyond, the first and the last go on."""
    stops = ((-0.6, turns[0], 0.7, 0.62), (0.1, turns[1], 0.55, 0.88), (0.6, turns[2] - 0.06, 0.42, 0.98))
    rows = min(size[1], _ROWS)
    strip = bytearray()
    for row in range(rows):
        y = view.top + (row + 0.5) * view.height / rows
        part = 0 if y < stops[1][0] else 1
        low, high = stops[part], stops[part + 1]
        along = min(1.0, max(0.0, (y - low[0]) / (high[0] - low[0])))
        turn, strength, light = (one + along * (other - one) for one, other in zip(low[1:], high[1:], strict=True))
        strip += bytes(_colour(hue + turn, strength, light))
    column = Image.frombytes("RGB", (1, rows), bytes(strip)).resize((1, size[1]), Image.Resampling.BILINEAR)
    return column.resize(size, Image.Resampling.NEAREST)


def _sun(draw: ImageDraw.ImageDraw, view: View, look: _Chance, size: Size) -> None:
    x, y, radius = look.uniform(0.15, 0.85), look.uniform(0.16, 0.38), look.uniform(0.07, 0.12)
    for ring, strength in ((2.6, 26), (1.9, 34), (1.4, 44), (1.0, 235)):
        _disc(draw, view, size, (x, y, radius * ring), (255, 249, 230, strength))


def _discs(draw: ImageDraw.ImageDraw, view: View, hue: float, size: Size) -> None:
    """One disc, or none, for each square of a grid over the sky."""
    columns = range(math.floor(view.left / _CELL) - 1, math.ceil((view.left + view.width) / _CELL) + 1)
    lowest = min(_GROUND, view.top + view.height)
    for row in range(math.floor(view.top / _CELL) - 1, math.ceil(lowest / _CELL) + 1):
        for column in columns:
            chance = _Chance(view, f"disc {column} {row}")
            radius = chance.uniform(-0.07, 0.09)
            x, y = (column + chance.uniform(0.0, 1.0)) * _CELL, (row + chance.uniform(0.0, 1.0)) * _CELL
            if radius > 0.012 and y < _GROUND:
                tint = _colour(hue + chance.uniform(-0.15, 0.15), chance.uniform(0.15, 0.5), 1.0)
                _disc(draw, view, size, (x, y, radius), (*tint, round(chance.uniform(50, 110))))


def _hills(draw: ImageDraw.ImageDraw, view: View, hue: float, size: Size) -> None:
    """Ridge before ridge, the nearer the darker, as far down as the window reaches."""
    ridges = max(3, math.ceil((view.top + view.height - 0.5 + 2 * _SWING) / _RIDGE))
    steps = round(min(400, 64 + 32 * view.width))
    for ridge in range(ridges):
        top = 0.5 + _RIDGE * ridge
        chance = _Chance(view, f"ridge {ridge}")
        depth = min(ridge, 3)
        light = 0.66 - 0.15 * depth + (0.04 * (ridge % 2) if ridge > 3 else 0.0)
        colour = _colour(hue - 0.05 - 0.03 * depth, 0.5 + 0.08 * depth, light)
        waves = [
            (chance.uniform(1.5, 9.0), chance.uniform(0.0, math.tau), chance.uniform(0.1, 0.4)) for _ in range(3)
        ]
        outline = []
        for step in range(steps + 1):
            x = view.left + view.width * step / steps
            rise = sum(part * math.sin(x * turns + start) for turns, start, part in waves)
            outline.append(_at(view, size, x, top + _SWING * rise))
        draw.polygon([*outline, (size[0], size[1]), (0, size[1])], fill=(*colour, 235))


def _disc(
    draw: ImageDraw.ImageDraw, view: View, size: Size, disc: tuple[float, float, float], fill: tuple[int, ...]
) -> None:
    """`disc` is x, y and radius."""
    x, y = _at(view, size, disc[0], disc[1])
    wide, tall = disc[2] * size[0] / view.width, disc[2] * size[1] / view.height
    if x + wide > 0 and x - wide < size[0] and y + tall > 0 and y - tall < size[1]:
        draw.ellipse((x - wide, y - tall, x + wide, y + tall), fill=fill)


def _region(patch: Patch, view: View, size: Size) -> Image.Image:
    """Where a patch shows, in a picture of that size."""
    points = Image.frombytes("1", (MASK_SIDE, MASK_SIDE), bytes.fromhex(patch.points)).convert("L")
    left, top = _at(view, size, patch.left, patch.top)
    right, bottom = _at(view, size, patch.left + patch.width, patch.top + patch.height)
    shape = max(1, round(right - left)), max(1, round(bottom - top))
    region = Image.new("L", size, 0)
    region.paste(points.resize(shape, Image.Resampling.NEAREST), (round(left), round(top)))
    return region


def _captioned(image: Image.Image, caption: str) -> Image.Image:
    """A dark strip at the bottom with one or two lines."""
    size, pad = max(9, round(math.sqrt(image.width * image.height) / 32)), max(2, image.height // 80)
    fonts = (BUILT_IN,) if caption.isascii() else fonts_for("")
    said = fitted(caption, max(1, image.width - 2 * pad), round(size * 2.6), (size, max(8, size * 2 // 3)), fonts)
    top = image.height - said.height - 2 * pad
    if top > image.height // 2:
        draw = ImageDraw.Draw(image, "RGBA")
        draw.rectangle((0, top, image.width, image.height), fill=(18, 20, 34, 150))
        write(draw, said, pad, top + pad)
    return image


def _colour(hue: float, strength: float, light: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, min(1.0, max(0.0, strength)), min(1.0, max(0.0, light)))
    return round(red * 255), round(green * 255), round(blue * 255)

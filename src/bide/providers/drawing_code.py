"""Pictures that are codes to scan: a QR code of a text in the colours of a landscape, which is seen around it.

The code is as large as its text needs (ISO/IEC 18004, versions 1 to 40), in UTF-8 bytes, with as much repair as a
code of any size has room for. Its dark modules are dark and its light ones near white, whatever the prompt, and four
modules around it are empty, as the standard asks: everything a scanner needs is on the card, and the art around it.
"""

import colorsys
from dataclasses import dataclass
from functools import lru_cache
from random import Random

import segno
from PIL import Image

from bide.providers.drawing_files import Refused, encode
from bide.providers.media import scene
from bide.providers.media.scene import View

_LEVELS = ((1273, "h"), (1663, "q"), (2331, "m"), (2953, "l"))
"""Bytes that the largest code holds with each amount of repair, of the most to the least."""
CONTENT_BYTES_MAX = _LEVELS[-1][0]
QUIET = 4
"""Modules that stay empty on each side."""
_MASKS_TRIED_BYTES_MAX = 120
"""Of a longer text one mask is taken instead of the best of eight: all can be read, and to weigh them takes long."""
_MASK = 3
_ART_SHARE = 0.13
"""How much of the shorter side the art takes at each edge, where the modules stay large enough."""
_MODULE_PIXELS = 4
_MODULE_PIXELS_MIN = 2


@dataclass(frozen=True, slots=True)
class Code:
    """A code to draw: everything its bytes depend on. `size` in pixels."""

    content: str
    prompt: str
    model: str
    seed: int
    size: tuple[int, int]
    output_format: str
    compression: int


def check(content: str) -> None:
    """Raises `Refused` for a text that no code holds."""
    count = len(_utf8(content))
    if not 1 <= count <= CONTENT_BYTES_MAX:
        raise Refused(f"content has {count} bytes in UTF-8; a code holds 1 to {CONTENT_BYTES_MAX}")


def finished(code: Code) -> bytes:
    """The encoded picture. Raises `Refused` as `check` does, and for a size at which it could not be read."""
    check(code.content)
    least = _MODULE_PIXELS_MIN * (len(_modules(code.content)) + 2 * QUIET)
    if least > min(code.size):
        size = f"{code.size[0]}x{code.size[1]}"
        raise Refused(f"size {size} is too small for a code of this content: at least {least} pixels are needed")
    image = scene.paint(View(code.seed, 0.0, 0.0, code.size[0] / code.size[1], 1.0, code.size))
    card = _card(_modules(code.content), code.seed, min(code.size))
    image.paste(card, ((image.width - card.width) // 2, (image.height - card.height) // 2))
    about = {"prompt": code.prompt, "model": code.model, "seed": str(code.seed), "content": code.content}
    return encode(image, code.output_format, code.compression, about)


@lru_cache(maxsize=64)
def _modules(content: str) -> tuple[bytes, ...]:
    """The code row by row, a byte a module: 1 is dark."""
    data = _utf8(content)
    mask = None if len(data) <= _MASKS_TRIED_BYTES_MAX else _MASK
    level = next(name for most, name in _LEVELS if len(data) <= most)
    made = segno.make_qr(data, error=level, mode="byte", mask=mask, boost_error=False)
    return tuple(bytes(row) for row in made.matrix)


def _utf8(content: str) -> bytes:
    return content.encode("utf-8", "replace")


def _card(modules: tuple[bytes, ...], seed: int, side: int) -> Image.Image:
    """The code and its quiet zone: whole pixels a module, dark ones in one of a few dark colours."""
    count = len(modules) + 2 * QUIET
    pixels = round(side * (1 - 2 * _ART_SHARE)) // count
    if pixels < _MODULE_PIXELS:  # a large code needs the place that the art would have
        pixels = min(_MODULE_PIXELS, side // count)
    dark, light = _colours(seed)
    small = Image.new("RGB", (count, count), light)
    bits = Image.frombytes("L", (len(modules), len(modules)), b"".join(modules)).point(lambda bit: 255 * bit)
    small.paste(dark, (QUIET, QUIET), bits)
    return small.resize((count * pixels, count * pixels), Image.Resampling.NEAREST)


def _colours(seed: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """A dark and a light one of the same hue: at least ten to one in contrast."""
    hue = Random(f"code {seed}").random()
    dark, light = colorsys.hsv_to_rgb(hue, 0.75, 0.3), colorsys.hsv_to_rgb(hue, 0.07, 1.0)
    return _bytes(dark), _bytes(light)


def _bytes(colour: tuple[float, float, float]) -> tuple[int, int, int]:
    red, green, blue = (round(255 * one) for one in colour)
    return red, green, blue

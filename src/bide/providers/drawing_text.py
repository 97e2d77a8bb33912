"""Words on a picture, for every prompt there can be.

The scalable font inside Pillow has ASCII and little else. Characters beyond it are drawn with a font of
the system that has them (`fonts_for`); where there is none, a character is drawn as a small box with its
code point in hex, so that one still sees that it was there and which one it was.
"""

import os
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import ImageDraw, ImageFont

SHOWN_MAX = 700
"""Characters of a text that are laid out at all."""

BUILT_IN = ""
"""The name, in place of a path, of the font inside Pillow."""

_FAMILIES = (
    "dejavusans.", "notosans-regular.", "notosanscjk-regular.", "unifont", "notosansarabic-regular.",
    "notosanshebrew-regular.", "notosansdevanagari-regular.", "notosansthai-regular.", "notosansbengali-regular.",
    "notosanstamil-regular.", "notosanssymbols-regular.", "notosanssymbols2-regular.",
)  # fmt: skip
"""Beginnings of the names of the font files looked for, the better looking first, then what else has many scripts."""
_NOT_THESE = ("csur", "jp", "sample")
"""Parts of Unifont's file names that say it is not the common one."""
_FONTS_MAX, _FILES_MAX = 16, 20_000
_NOT_A_CHARACTER = "\U0010ffff"
_FRAME, _INK = (255, 255, 255, 120), (255, 255, 255, 255)

Colour = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbours of one line in one font; `font` None: a single character drawn as a hex box."""

    text: str
    font: str | None
    width: float


Line = tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """A text laid out at one font size, in pixels."""

    lines: tuple[Line, ...]
    size: int

    @property
    def line_height(self) -> int:
        return round(self.size * 1.3)

    @property
    def height(self) -> int:
        return self.line_height * len(self.lines)


@lru_cache(maxsize=8)
def fonts_for(named: str) -> tuple[str, ...]:
    """The fonts to try in this order: the built-in one, the one `named` by a path, those of the system.

    Looks through the font folders once per process. A font that cannot be read is left out.
    """
    found: list[tuple[int, str]] = []
    for path in _font_files():
        name = path.name.lower()
        rank = next((n for n, family in enumerate(_FAMILIES) if name.startswith(family)), None)
        if rank is not None and not (name.startswith("unifont") and any(word in name for word in _NOT_THESE)):
            found.append((rank, str(path)))
    paths = [named] if named else []
    paths += [path for _, path in sorted(found)]
    return (BUILT_IN, *[path for path in dict.fromkeys(paths[:_FONTS_MAX]) if _loads(path)])


def fitted(text: str, width: int, height: int, sizes: tuple[int, ...], fonts: tuple[str, ...]) -> Block:
    """The text at the first of `sizes` at which all of it fits; else at the last one, cut with dots."""
    block = Block((), sizes[-1])
    for size in sizes:
        lines_max = max(1, int(height / (size * 1.3)))
        lines = list(_broken(text, size, width, lines_max + 1, fonts))
        whole = len(lines) <= lines_max and len(text) <= SHOWN_MAX
        block = Block(tuple(lines[:lines_max]), size)
        if whole:
            return block
    if not block.lines:
        return block
    return Block((*block.lines[:-1], _dotted(block.lines[-1], block.size, width)), block.size)


def write(draw: ImageDraw.ImageDraw, block: Block, left: int, top: int, colour: Colour = _INK) -> None:
    """Draws a block with its upper left corner there."""
    for number, line in enumerate(block.lines):
        x, base = float(left), top + number * block.line_height + block.size
        for run in line:
            if run.font is None:
                _write_box(draw, run.text, x, base, block.size)
            else:
                font = _font(run.font, block.size)
                draw.text((x, base), run.text, font=font, fill=colour, anchor="ls")
                x += font.getlength(run.text) - run.width
            x += run.width


def _broken(text: str, size: int, width: int, lines_max: int, fonts: tuple[str, ...]) -> Iterator[Line]:
    """At most `lines_max` lines: broken at line ends, else at a space, else inside a word."""
    emitted = 0
    for paragraph in _shown(text).split("\n"):
        line: list[tuple[str, str | None, float]] = []
        used, space = 0.0, -1
        for char, font in _with_fonts(paragraph, fonts):
            advance = _advance(char, font, size)
            while line and used + advance > width:
                keep = space if space >= 0 else len(line)
                yield _joined(line[:keep])
                emitted += 1
                if emitted >= lines_max:
                    return
                line = line[keep + (1 if space >= 0 else 0) :]
                used, space = sum(part[2] for part in line), -1
            if char == " ":
                space = len(line)
            line.append((char, font, advance))
            used += advance
        if line:
            yield _joined(line)
            emitted += 1
            if emitted >= lines_max:
                return


def _shown(text: str) -> str:
    """What of a text is worth drawing: line ends made equal, spaces made one, invisible marks left out, and
    letters joined with their accents where Unicode has them as one character."""
    shown = []
    for char in unicodedata.normalize("NFC", text[:SHOWN_MAX]):
        category = unicodedata.category(char)
        if char in "\n\r\v\f" or category in ("Zl", "Zp"):
            shown.append("\n")
        elif category == "Zs" or char == "\t":
            shown.append(" ")
        elif category != "Cf" and not "\ufe00" <= char <= "\ufe0f":
            shown.append(char)
    return "\n".join(" ".join(word for word in line.split(" ") if word) for line in "".join(shown).split("\n"))


def _with_fonts(text: str, fonts: tuple[str, ...]) -> Iterator[tuple[str, str | None]]:
    """Each character with the first font that has it; a neighbour's font is kept where that one has it too,
    so that letters which join are drawn together."""
    current: str | None = fonts[0]
    for char in text:
        if char.isascii() and char.isprintable() and (current == BUILT_IN or char.isalnum()):
            current = BUILT_IN
        elif current is None or current == BUILT_IN or not _covers(current, char):
            current = next((font for font in fonts if _covers(font, char)), None)
        yield char, current


def _joined(parts: list[tuple[str, str | None, float]]) -> Line:
    runs: list[Run] = []
    for char, font, advance in parts:
        if runs and font is not None and runs[-1].font == font:
            runs[-1] = Run(runs[-1].text + char, font, runs[-1].width + advance)
        else:
            runs.append(Run(char, font, advance))
    return tuple(runs)


def _dotted(line: Line, size: int, width: int) -> Line:
    dots = _advance(".", BUILT_IN, size) * 3
    kept: list[Run] = []
    used = 0.0
    for run in line:
        text, taken = run.text, run.width
        while text and used + taken + dots > width:
            taken -= _advance(text[-1], run.font, size)
            text = text[:-1]
        if text:
            kept.append(Run(text, run.font, taken))
            used += taken
        if text != run.text:
            break
    return (*kept, Run("...", BUILT_IN, dots))


def _write_box(draw: ImageDraw.ImageDraw, char: str, x: float, base: float, size: int) -> None:
    """The code point in hex, in two rows inside a frame."""
    digits = f"{ord(char):04X}" if ord(char) < 0x10000 else f"{ord(char):06X}"
    half, font = len(digits) // 2, _font(BUILT_IN, max(5, round(size * 0.42)))
    wide, top = _advance(char, None, size) - size * 0.12, base - size * 0.88
    draw.rectangle((x, top, x + wide, top + size), outline=_FRAME)
    for row, text in enumerate((digits[:half], digits[half:])):
        middle = (x + wide / 2, top + size * (0.27 + 0.47 * row))
        draw.text(middle, text, font=font, fill=_INK, anchor="mm")


@lru_cache(maxsize=16_384)
def _advance(char: str, font: str | None, size: int) -> float:
    """How far a character moves on: measured alone, near enough for breaking lines."""
    if font is None:
        return size * (0.92 if ord(char) < 0x10000 else 1.2)
    return _font(font, size).getlength(char)


@lru_cache(maxsize=16_384)
def _covers(font: str, char: str) -> bool:
    """Whether a font has a character: it does not draw it as it draws what no font has."""
    if unicodedata.category(char) in ("Cc", "Cs", "Co", "Cn"):
        return False
    if font == BUILT_IN and not char.isascii():
        return char in "\u2018\u2019\u201c\u201d"
    return _shape(font, char) != _shape(font, _NOT_A_CHARACTER)


@lru_cache(maxsize=256)
def _shape(font: str, char: str) -> tuple[tuple[int, int], bytes]:
    mask = _font(font, 16).getmask(char)
    return mask.size, bytes(mask)


@lru_cache(maxsize=128)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    if name == BUILT_IN:
        font = ImageFont.load_default(size)
        if not isinstance(font, ImageFont.FreeTypeFont):
            raise RuntimeError("this Pillow was built without FreeType")
        return font
    return ImageFont.truetype(name, size)


def _loads(path: str) -> bool:
    try:
        _shape(path, _NOT_A_CHARACTER)
    except (OSError, ValueError):
        return False
    return True


def _font_files() -> Iterator[Path]:
    """Font files below the folders of this system, in a steady order, at most `_FILES_MAX` names looked at."""
    looked = 0
    for folder in _folders():
        for here, folders, files in os.walk(folder):
            folders.sort()
            for name in sorted(files):
                looked += 1
                if looked > _FILES_MAX:
                    return
                if name.lower().endswith((".ttf", ".otf", ".ttc")):
                    yield Path(here, name)


def _folders() -> tuple[Path, ...]:
    home = Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        return (Path(os.environ.get("WINDIR", "C:\\Windows"), "Fonts"),)
    if sys.platform == "darwin":
        return (Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts")
    return (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".local/share/fonts", home / ".fonts")

"""Picture files: reading a caller's picture with care, writing ours with the prompt inside.

What a file says of itself, so that a test or a person can ask it: PNG carries the text fields `prompt`,
`model` and `seed` (tEXt, or iTXt beyond Latin-1); JPEG carries one JSON object with these keys in its
comment (in several comment segments where it does not fit into one); WebP carries the same JSON object
in the EXIF field UserComment.
"""

import io
import json
import struct
import zlib
from collections.abc import Mapping

from PIL import ExifTags, Image, ImageChops, ImageOps, PngImagePlugin

INPUT_PIXELS_MAX = 50_000_000
"""Pixels of a picture we decode: 200 MB in memory."""

READABLE = ("PNG", "JPEG", "WEBP")
WRITABLE = ("png", "jpeg", "webp")

_BROKEN = (
    ArithmeticError, EOFError, LookupError, MemoryError, OSError, SyntaxError, TypeError, ValueError, Warning,
    struct.error, Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow raises for broken or hostile files, by its own code and by trying; warnings, where they are errors."""

_PNG_START, _PNG_COLOURS = b"\x89PNG\r\n\x1a\n", {"RGB": 2, "RGBA": 6}
_STRIPE, _ABOVE = 128, b"\2"
"""Rows that are packed at a time, and the filter `Up` (section 9 of the PNG specification)."""
_COMMENT_BYTES_MAX = 65_533
_UNICODE = b"UNICODE\0"
"""Marks a UserComment as UTF-16, in the byte order of the EXIF block: big-endian, as Pillow writes it."""
_ON_ITS_SIDE = (5, 6, 7, 8)


class Refused(Exception):
    """The request cannot be done; the message is for the caller."""


def opened(data: bytes, what: str) -> Image.Image:
    """The picture in `data`, its header read and nothing decoded yet. Raises `Refused`."""
    try:
        image = Image.open(io.BytesIO(data), formats=READABLE)
    except _BROKEN:
        raise Refused(f"{what} is not a readable PNG, JPEG or WebP picture") from None
    if image.width * image.height > INPUT_PIXELS_MAX:
        raise Refused(f"{what} has {image.width}x{image.height} pixels; at most {INPUT_PIXELS_MAX:,} are decoded")
    return image


def decoded(image: Image.Image, what: str, about: tuple[int, int] | None) -> tuple[Image.Image, tuple[int, int]]:
    """An opened picture as RGB or, where it has any transparency, RGBA, upright; and its whole size, upright.

    `about`: the size it will be shown at, if that is known: a JPEG may then be decoded smaller, but never
    below that size. Raises `Refused`.
    """
    size = image.size
    try:
        if about is not None:
            image.draft(image.mode, (max(about), max(about)))
        image.load()
        if image.getexif().get(ExifTags.Base.Orientation) in _ON_ITS_SIDE:
            size = size[1], size[0]
        if image.mode.startswith("I"):  # 16 bits of grey, which `convert` would clip
            image = image.convert("I").point(lambda grey: grey * (1 / 256)).convert("L")
        upright = ImageOps.exif_transpose(image)
        return upright.convert("RGBA" if upright.has_transparency_data else "RGB"), size
    except _BROKEN:
        raise Refused(f"{what} is damaged and cannot be decoded") from None


def encode(image: Image.Image, form: str, compression: int, about: Mapping[str, str]) -> bytes:
    """The bytes of an RGB or RGBA picture in the format `form` (of `WRITABLE`).

    `compression` is 0 to 100 as on the wire, where 100 is the best picture; PNG has no use for it. The
    fastest settings are used: WebP method 0 takes a quarter of the default's time.
    """
    out = io.BytesIO()
    quality = max(1, round(compression * 0.92))
    match form:
        case "png":
            return _png(image, about)
        case "webp":
            image.save(out, "WEBP", quality=quality, method=0, exif=_exif(about))
            return out.getvalue()
        case "jpeg":
            image.convert("RGB").save(out, "JPEG", quality=quality, subsampling="4:4:4" if quality > 90 else "4:2:0")
            return _with_comment(out.getvalue(), _utf8(_as_json(about)))
    raise Refused(f"output_format {form!r} is not one of png, jpeg and webp")


def _png(image: Image.Image, about: Mapping[str, str]) -> bytes:
    """A PNG file whose rows are all written as what differs from the row above: half of Pillow's time, which tries
    five filters for each row, and no part of it keeps other threads waiting for long."""
    width, height = image.size
    packer, parts = zlib.compressobj(1), []
    for top in range(0, height, _STRIPE):
        bottom = min(height, top + _STRIPE)
        above = image.crop((0, top - 1, width, bottom - 1))  # zeros above the first row
        rows = ImageChops.subtract_modulo(image.crop((0, top, width, bottom)), above).tobytes()
        length = len(rows) // (bottom - top)
        parts.append(packer.compress(_ABOVE + _ABOVE.join(
            [rows[at : at + length] for at in range(0, len(rows), length)])))  # fmt: skip
    parts.append(packer.flush())
    head = struct.pack(">IIBBBBB", width, height, 8, _PNG_COLOURS[image.mode], 0, 0, 0)
    texts = [_chunk(kind, data) for kind, data, *_ in _png_text(about).chunks]
    chunks = (_chunk(b"IHDR", head), *texts, _chunk(b"IDAT", b"".join(parts)), _chunk(b"IEND", b""))
    return b"".join((_PNG_START, *chunks))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))))


def _png_text(about: Mapping[str, str]) -> PngImagePlugin.PngInfo:
    fields = PngImagePlugin.PngInfo()
    for name, value in about.items():
        fields.add_text(name, _utf8(value).decode("utf-8"))
    return fields


def _exif(about: Mapping[str, str]) -> bytes:
    exif = Image.Exif()
    text = _utf8(_as_json(about)).decode("utf-8").encode("utf-16-be")
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = _UNICODE + text
    return exif.tobytes()


def _with_comment(jpeg: bytes, comment: bytes) -> bytes:
    """A JPEG file with comment segments behind its first segment, the JFIF header."""
    behind = 4 + int.from_bytes(jpeg[4:6], "big")
    parts = [comment[start : start + _COMMENT_BYTES_MAX] for start in range(0, len(comment), _COMMENT_BYTES_MAX)]
    segments = b"".join(b"\xff\xfe" + struct.pack(">H", len(part) + 2) + part for part in parts)
    return jpeg[:behind] + segments + jpeg[behind:]


def _as_json(about: Mapping[str, str]) -> str:
    return json.dumps(dict(about), ensure_ascii=False)


def _utf8(text: str) -> bytes:
    """UTF-8, a lone surrogate written as `\\udxxx`: the gateway refuses them, a direct caller may not."""
    return text.encode("utf-8", "backslashreplace")

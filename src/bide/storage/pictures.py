"""An uploaded picture, judged by its header before anybody decodes it.

Only the structure of PNG (W3C PNG, third edition), JPEG (ITU-T T.81) and WebP (RFC 9649) is walked: a few bytes
for each chunk, at most `_STEPS_MAX` chunks. Pillow is not asked, although it decodes none of the pixels either
when it opens a file: it joins the EXIF segments of a JPEG by repeated copying (14 s for a hostile 50 MB file,
measured), warns about malformed EXIF and APNG data through the process-wide `warnings`, and allocates the whole
canvas of a WebP. The tests compare the answers here with Pillow's.
"""

import asyncio
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from bide.storage.sniff import content_type

_STEPS_MAX = 4096
_IN_LOOP_MAX = 64 * 1024
_SIDE_MAX = 16_384


class BadPicture(ValueError):
    """A picture we do not take, in one sentence that a caller may read."""


@dataclass(frozen=True, slots=True)
class Picture:
    content_type: str
    width: int
    height: int
    has_alpha: bool


@dataclass(slots=True)
class _Found:
    width: int
    height: int
    has_alpha: bool
    frames: int = 1


def inspect(
    source: Path | bytes | BinaryIO,
    *,
    bytes_max: int,
    pixels_max: int,
    side_max: int = _SIDE_MAX,
    frames_max: int = 1,
) -> Picture:
    """What a picture says of itself; raises `BadPicture`. Bounds are in bytes, pixels, pixels of one side, frames.

    `source` is a path, the bytes, or a seekable binary file, which is left at its beginning.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            found = _inspect(file, bytes_max)
    else:
        found = _inspect(BytesIO(source) if isinstance(source, bytes) else source, bytes_max)
    kind, header = found
    if not header.width or not header.height:
        raise BadPicture("The picture has no width or no height.")
    if header.width > side_max or header.height > side_max:
        raise BadPicture(f"The picture is {header.width}x{header.height} pixels; a side may have at most {side_max}.")
    if header.width * header.height > pixels_max:
        raise BadPicture(
            f"The picture is {header.width}x{header.height} pixels; at most {pixels_max} pixels are accepted."
        )
    if header.frames > frames_max:
        raise BadPicture(f"The picture has {header.frames} frames; at most {frames_max} accepted.")
    return Picture(kind, header.width, header.height, header.has_alpha)


async def inspect_soon(
    source: Path | bytes | BinaryIO,
    *,
    bytes_max: int,
    pixels_max: int,
    side_max: int = _SIDE_MAX,
    frames_max: int = 1,
) -> Picture:
    """`inspect`, in a thread unless the picture is small and in memory."""
    bounds = {"bytes_max": bytes_max, "pixels_max": pixels_max, "side_max": side_max, "frames_max": frames_max}
    if isinstance(source, bytes) and len(source) <= _IN_LOOP_MAX:
        return inspect(source, **bounds)
    return await asyncio.to_thread(inspect, source, **bounds)


def _inspect(file: BinaryIO, bytes_max: int) -> tuple[str, _Found]:
    size = file.seek(0, 2)
    file.seek(0)
    if size > bytes_max:
        raise BadPicture(f"The picture has {size} bytes; at most {bytes_max} are accepted.")
    kind = content_type(file.read(32))
    walk = _WALKS.get(kind or "")
    if kind is None or walk is None:
        raise BadPicture("The file is not a PNG, JPEG or WebP picture.")
    found = walk(file, size)
    file.seek(0)
    return kind, found


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise BadPicture("The picture's header is cut off.")
    return data


_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


def _png(file: BinaryIO, size: int) -> _Found:
    """IHDR, then the chunks up to the first pixel data: `tRNS` gives alpha, `acTL` frames."""
    file.seek(8)
    start = _exactly(file, 25)
    depth, colour, compression, filters, interlace = start[16:21]
    sound = (
        start[:8] == b"\0\0\0\x0dIHDR"
        and int.from_bytes(start[21:25], "big") == zlib.crc32(start[4:21])
        and depth in _PNG_DEPTHS.get(colour, ())
        and compression == filters == 0
        and interlace <= 1
    )
    if not sound:
        raise BadPicture("The PNG header is not well-formed.")
    width, height = int.from_bytes(start[8:12], "big"), int.from_bytes(start[12:16], "big")
    found = _Found(width, height, colour in (4, 6))
    for _ in range(_STEPS_MAX):
        step = _exactly(file, 8)
        length, name = int.from_bytes(step[:4], "big"), step[4:]
        if name == b"IDAT":
            return found
        if name == b"tRNS":
            found.has_alpha = True
        elif name == b"acTL" and length >= 4:
            found.frames = max(found.frames, int.from_bytes(_exactly(file, 4), "big"))
            file.seek(-4, 1)
        if name == b"IEND" or length > size:
            raise BadPicture("The PNG has no pixels.")
        file.seek(length + 4, 1)
    raise BadPicture("The PNG header is too long.")


def _jpeg(file: BinaryIO, size: int) -> _Found:
    """Segments up to the start of scan; exactly one of them is a frame header (SOF0 to SOF15)."""
    file.seek(2)
    found = None
    for _ in range(_STEPS_MAX):
        marker = _marker(file)
        if marker == 0xDA:
            if found is None:
                break
            return found
        if marker in (0xD8, 0xD9):
            break
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            continue
        length = int.from_bytes(_exactly(file, 2), "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = _exactly(file, 6)
            if found is not None or length < 8 + 3 * frame[5]:
                break
            found = _Found(int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big"), has_alpha=False)
            length -= 6
        if length < 2:
            break
        file.seek(length - 2, 1)
    raise BadPicture("The JPEG header is not well-formed.")


def _marker(file: BinaryIO) -> int:
    """The next marker: FF, any number of fill bytes FF up to a bound, the marker's own byte."""
    if _exactly(file, 1) != b"\xff":
        raise BadPicture("The JPEG header is not well-formed.")
    for _ in range(256):
        byte = _exactly(file, 1)[0]
        if byte != 0xFF:
            return byte
    raise BadPicture("The JPEG header is not well-formed.")


def _webp(file: BinaryIO, size: int) -> _Found:
    """A simple file is one bitstream; an extended one has a canvas, flags, and chunks behind them."""
    file.seek(4)
    end = 8 + int.from_bytes(_exactly(file, 4), "little")
    if end > size:
        raise BadPicture("The WebP file is cut off.")
    file.seek(12)
    found, frames, pixels = None, 0, False
    for _ in range(_STEPS_MAX):
        if file.tell() + 8 > end:
            break
        step = _exactly(file, 8)
        name, length = step[:4], int.from_bytes(step[4:], "little")
        after = file.tell() + length + length % 2
        if name == b"VP8X" and found is None:
            body = _exactly(file, 10)
            width, height = (1 + int.from_bytes(body[at : at + 3], "little") for at in (4, 7))
            found = _Found(width, height, bool(body[0] & 0x10))
        elif name in (b"VP8 ", b"VP8L"):
            inner = _webp_lossy(file) if name == b"VP8 " else _webp_lossless(file)
            if found is None:
                return inner
            if inner.width > found.width or inner.height > found.height:
                raise BadPicture("The WebP picture is larger than its canvas.")
            pixels = True
        elif name == b"ANMF":
            frames += 1
        file.seek(after)
    else:
        raise BadPicture("The WebP file has too many chunks.")
    if found is None or not (pixels or frames):
        raise BadPicture("The WebP file has no pixels.")
    found.frames = max(1, frames)
    return found


def _webp_lossy(file: BinaryIO) -> _Found:
    """A VP8 key frame (RFC 6386, 9.1): 3 bytes of tag, a start code, 14 bits of each side."""
    body = _exactly(file, 10)
    if body[0] & 1 or body[3:6] != b"\x9d\x01\x2a":
        raise BadPicture("The WebP header is not well-formed.")
    width, height = (int.from_bytes(body[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    return _Found(width, height, has_alpha=False)


def _webp_lossless(file: BinaryIO) -> _Found:
    """Signature 2F, 14 bits of width - 1, 14 of height - 1, 1 of alpha, 3 of version 0."""
    body = _exactly(file, 5)
    bits = int.from_bytes(body[1:], "little")
    if body[0] != 0x2F or bits >> 29:
        raise BadPicture("The WebP header is not well-formed.")
    return _Found(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1))


_WALKS: dict[str, Callable[[BinaryIO, int], _Found]] = {"image/png": _png, "image/jpeg": _jpeg, "image/webp": _webp}

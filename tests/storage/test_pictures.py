"""Pictures judged by their headers: the answers are Pillow's, the bombs are never opened."""

import asyncio
import io
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bide.storage.pictures import BadPicture, Picture, inspect, inspect_soon

BOUNDS = {"bytes_max": 50_000_000, "pixels_max": 50_000_000}


def drawn(kind: str, mode: str, size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, kind, **options)
    return out.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")


def png(width: int, height: int, *chunks: bytes, colour: int = 2, depth: int = 8) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def jpeg(width: int, height: int, *segments: bytes) -> bytes:
    frame = b"\xff\xc0\0\x11\x08" + struct.pack(">HH", height, width) + b"\3\1\x22\0\2\x11\1\3\x11\1"
    return b"\xff\xd8" + b"".join(segments) + frame + b"\xff\xda\0\x0c\3\1\0\2\x11\3\x11\0\x3f\0"


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(
        name + len(data).to_bytes(4, "little") + data + b"\0" * (len(data) % 2) for name, data in chunks
    )
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def canvas(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    return b"VP8X", bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def lossless(width: int, height: int) -> tuple[bytes, bytes]:
    return b"VP8L", b"\x2f" + ((width - 1) | (height - 1) << 14 | 1 << 28).to_bytes(4, "little") + bytes(8)


def animated(kind: str, frames: int) -> bytes:
    first, *more = [Image.new("RGB", (20, 20), (n * 9, 0, 0)) for n in range(frames)]
    out = io.BytesIO()
    first.save(out, kind, save_all=True, append_images=more, duration=50)
    return out.getvalue()


EXIF = Image.Exif()
EXIF[0x010E] = "a description " * 1000

GOOD = [
    *(drawn("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    drawn("PNG", "RGB", transparency=(0, 0, 0)), drawn("PNG", "P", transparency=0), drawn("PNG", "RGB", exif=EXIF),
    *(drawn("JPEG", mode) for mode in ("L", "RGB", "CMYK")), drawn("JPEG", "RGB", progressive=True),
    drawn("JPEG", "RGB", exif=EXIF, comment=b"words", icc_profile=bytes(200_000)),
    drawn("WEBP", "RGB"), drawn("WEBP", "RGBA"), drawn("WEBP", "RGB", lossless=True),
    drawn("WEBP", "RGBA", lossless=True), drawn("WEBP", "RGB", exif=EXIF), drawn("WEBP", "RGB", (1, 5000)),
    drawn("WEBP", "RGBA", (3000, 3), lossless=True),
]  # fmt: skip


@pytest.mark.parametrize("content", GOOD)
def test_the_answer_is_the_one_pillow_gives(content: bytes, tmp_path: Path) -> None:
    with Image.open(io.BytesIO(content)) as picture:
        alpha = picture.has_transparency_data
        wanted = Picture(Image.MIME[picture.format or ""], picture.width, picture.height, alpha)
    assert inspect(content, **BOUNDS) == wanted
    path = tmp_path / "upload"
    path.write_bytes(content)
    assert inspect(path, **BOUNDS) == wanted
    with path.open("rb") as file:
        assert inspect(file, **BOUNDS) == wanted
        assert file.tell() == 0
    assert asyncio.run(inspect_soon(path, **BOUNDS)) == asyncio.run(inspect_soon(content, **BOUNDS)) == wanted


@pytest.mark.parametrize(
    "content",
    [
        png(65_535, 65_535), png(2**31 - 1, 2**31 - 1), png(50_000_001, 1), png(10_000, 5_001), jpeg(65_535, 65_535),
        riff(canvas(2**24, 2**24), lossless(1, 1)), riff(lossless(16_384, 16_384)), png(16_385, 1),
    ],
)  # fmt: skip
def test_a_bomb_is_refused_without_memory(content: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(BadPicture, match="at most"):
        inspect(content, **BOUNDS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_refused_beyond_its_bound_of_frames(kind: str) -> None:
    content = animated(kind, 5)
    with pytest.raises(BadPicture, match="5 frames; at most 1 "):
        inspect(content, **BOUNDS)
    assert inspect(content, **BOUNDS, frames_max=5).width == 20


def test_an_animation_of_countless_frames_is_refused() -> None:
    frames = chunk(b"acTL", struct.pack(">II", 2**32 - 1, 0))
    with pytest.raises(BadPicture, match="4294967295 frames"):
        inspect(png(8, 8, frames), **BOUNDS)
    with pytest.raises(BadPicture, match="too many chunks"):
        inspect(riff(canvas(8, 8, 2), *[(b"ANMF", bytes(16))] * 10_000), **BOUNDS)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(50), b"<svg/>", b"%PDF", b"BM" + bytes(60), b"II*\0" + bytes(60),
        animated("GIF", 2), png(0, 8), png(8, 0), png(8, 8, colour=1), png(8, 8, depth=3), png(8, 8)[:40],
        png(8, 8).replace(b"IHDR", b"IHDX"), b"\x89PNG\r\n\x1a\n" + bytes(8) + png(8, 8)[8:],
        png(8, 8)[:29] + b"\0\0\0\0" + png(8, 8)[33:], png(8, 8, b"\xff\xff\xff\xfftEXt"),
        png(8, 8, chunk(b"IEND", b"")), png(8, 8, *[chunk(b"tEXt", b"")] * 5000),
        b"\xff\xd8\xff", b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xda\0\2", jpeg(0, 8), jpeg(8, 0), jpeg(8, 8)[:12],
        jpeg(8, 8, b"\xff\xe0\0\1"), jpeg(8, 8, b"\xff\xe0\0\0"), jpeg(8, 8, b"\xff\xe0\xff\xff"),
        jpeg(8, 8, jpeg(8, 8)[2:21]), jpeg(8, 8, b"\xff\xfe\0\2" * 5000), jpeg(8, 8, b"\xff" * 1000),
        jpeg(8, 8, b"x"), riff(), riff(canvas(8, 8)), riff(canvas(8, 8), lossless(9, 8)),
        riff((b"VP8L", b"\x2e" + bytes(12))),
        riff((b"VP8 ", bytes(12))), riff((b"VP8 ", b"")), riff(lossless(8, 8))[:-4],
        riff(canvas(8, 8), *[(b"JUNK", b"")] * 5000), riff((b"ANMF", bytes(16))),
    ],
)  # fmt: skip
def test_what_is_not_a_sound_picture_is_refused_with_a_sentence(content: bytes) -> None:
    with pytest.raises(BadPicture) as caught:
        inspect(content, **BOUNDS)
    assert str(caught.value).startswith("The ")
    assert str(caught.value).endswith(".")


def test_a_file_beyond_its_bound_is_refused() -> None:
    content = drawn("PNG", "RGB")
    assert inspect(content, bytes_max=len(content), pixels_max=1200)
    with pytest.raises(BadPicture, match=f"has {len(content)} bytes; at most {len(content) - 1}"):
        inspect(content, bytes_max=len(content) - 1, pixels_max=1200)
    with pytest.raises(BadPicture, match="at most 1199 pixels"):
        inspect(content, bytes_max=len(content), pixels_max=1199)


def test_a_hostile_exif_is_skipped_in_silence() -> None:
    """Pillow warns about such a tag, and joins such segments for seconds."""
    tag = b"Exif\0\0MM\0*\0\0\0\x08\0\2\1\x1a\0\5\0\0\0\1\x7f\xff\xff\xff\1\x1b\0\5\0\0\0\1\x7f\xff\xff\xff"
    large = b"\xff\xe1\xff\xff" + b"Exif\0\0".ljust(65_533, b"M")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        picture = inspect(jpeg(8, 9, b"\xff\xe1" + (len(tag) + 2).to_bytes(2, "big") + tag, *[large] * 700), **BOUNDS)
    assert (picture.width, picture.height) == (8, 9)
    assert warned == []


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(GOOD), st.integers(0, 400), st.binary(max_size=8), st.booleans())
def test_any_damage_is_a_picture_or_a_refusal(content: bytes, at: int, damage: bytes, cut: bool) -> None:
    damaged = content[:at] + damage + (b"" if cut else content[at + len(damage) :])
    try:
        picture = inspect(damaged, **BOUNDS)
    except BadPicture:
        return
    assert 0 < picture.width * picture.height <= BOUNDS["pixels_max"]

"""Films that play everywhere, from one or several pictures; and small moving GIFs.

A film is a list of shots. One that is longer but begins with the same shots begins with the same pictures, byte
for byte: that is how a film is extended, by making the shots again and adding one.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from bide.providers.media import h264
from bide.providers.media.boxes import Film, Track, box, mp4, probe
from bide.providers.media.turn import alone

__all__ = ["Film", "Shot", "film", "fitted", "gif", "probe"]

SECONDS_MAX = 3600.0
FPS_MAX = 60
GIF_SIDE_MAX = 480
GIF_FRAMES_MAX = 150
LAP_S = 4.0
"""Seconds in which the moving bar crosses the picture."""

_FIT = Image.Resampling.BILINEAR

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture, and the seconds it is shown."""

    image: Image.Image
    seconds: float


@alone
def film(
    shots: Sequence[Shot],
    *,
    size: Size | None = None,
    fps: int = 24,
    title: str = "",
    comment: str = "",
    sound: Track | None = None,
) -> bytes:
    """An MP4 file: H.264, its index first, each shot a cut to the next picture, with a bar that moves.

    `size` in pixels (None: that of the first picture); other pictures are filled into it, their middle kept. Sides
    are 2 to 4096; an odd one loses a pixel, for H.264 keeps colours for two pixels at a time. `fps` is 1 to 60.
    The length is that of all shots to the nearest frame, at least one frame a shot. `sound`: see `sound.flac_track`.
    Raises `ValueError` for what is out of bounds.
    """
    width, height = size or (shots[0].image.size if shots else (0, 0))
    frame = h264.Frame(width - width % 2, height - height % 2)
    if not shots or not 1 <= fps <= FPS_MAX or not 2 <= min(width, height) <= max(width, height) <= h264.SIDE_MAX:
        raise ValueError("a film needs a shot, sides of 2 to 4096 pixels and 1 to 60 frames per second")
    counts = _counts(shots, fps)
    shape = frame.width, frame.height
    pictures = ((_shaped(shot.image, shape), count) for shot, count in zip(shots, counts, strict=True))
    samples, alone = [], []
    for unit, stands_alone in h264.scenes(pictures, frame, round(LAP_S * fps)):
        samples.append(len(unit).to_bytes(4) + unit)
        if stands_alone:
            alone.append(len(samples))
    seen = Track(
        entry=_entry(frame), scale=fps * 1000, per_sample=1000, length=1000 * len(samples), samples=samples,
        alone=alone, size=shape,
    )  # fmt: skip
    return mp4([seen] if sound is None else [seen, sound], title, comment)


def gif(shots: Sequence[Shot], *, side_max: int = 320, fps: int = 5, comment: str = "") -> bytes:
    """A GIF that repeats for ever, its longer side at most `side_max` (of 480) pixels, of at most 150 frames: a
    longer film is shown in larger steps. Raises `ValueError` without a shot."""
    if not shots or not 1 <= fps <= 50 or not 1 <= side_max <= GIF_SIDE_MAX:
        raise ValueError("a GIF needs a shot, a side of 1 to 480 pixels and 1 to 50 frames per second")
    scale = min(1.0, side_max / max(shots[0].image.size))
    size = max(1, round(shots[0].image.width * scale)), max(1, round(shots[0].image.height * scale))
    counts = _counts(shots, fps)
    thinned = -(-sum(counts) // GIF_FRAMES_MAX)
    shown, lap = [-(-count // thinned) for count in counts], max(1, round(LAP_S * fps / thinned))
    frames = list(_gif_frames(shots, shown, size, lap))
    out = io.BytesIO()
    frames[0].save(
        out, "GIF", save_all=True, append_images=frames[1:], duration=round(1000 * thinned / fps), loop=0,
        optimize=False, comment=comment.encode("utf-8", "backslashreplace")[:1000],
    )  # fmt: skip
    return out.getvalue()


def _gif_frames(shots: Sequence[Shot], counts: Sequence[int], size: Size, lap: int) -> Iterator[Image.Image]:
    at, tall = 0, max(1, size[1] // 40)
    for shot, count in zip(shots, counts, strict=True):
        still = fitted(shot.image, size).quantize(64, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        palette = still.getpalette() or []
        lightest = max(range(len(palette) // 3), key=lambda one: sum(palette[3 * one : 3 * one + 3]))
        for number in range(at, at + count):
            one = still.copy()
            phase = number % (2 * lap)
            wide = size[0] * (min(phase, 2 * lap - phase) + 1) // (lap + 1)
            ImageDraw.Draw(one).rectangle((0, size[1] - tall, wide, size[1]), fill=lightest)
            yield one
        at += count


def _counts(shots: Sequence[Shot], fps: int) -> list[int]:
    """Frames of each shot: the ends are rounded, not the lengths, so that no error adds up."""
    counts, passed, frames = [], 0.0, 0
    for shot in shots:
        passed += shot.seconds
        if not 0 < shot.seconds <= SECONDS_MAX or passed > SECONDS_MAX:
            raise ValueError("a shot lasts more than 0 seconds, and all of them at most an hour")
        counts.append(max(1, round(passed * fps) - frames))
        frames += counts[-1]
    return counts


def fitted(image: Image.Image, size: Size) -> Image.Image:
    """The picture as RGB in that size: scaled until it fills it, and cut at both ends of the longer way."""
    plain = image if image.mode == "RGB" else image.convert("RGB")
    if plain.size == size:
        return plain
    scale = max(size[0] / plain.width, size[1] / plain.height)
    wide, tall = min(plain.width, size[0] / scale), min(plain.height, size[1] / scale)
    left, top = (plain.width - wide) / 2, (plain.height - tall) / 2
    return plain.resize(size, _FIT, box=(left, top, left + wide, top + tall))


def _shaped(image: Image.Image, size: Size) -> Image.Image:
    """The same for a picture that is stretched afterwards: a smaller one is only cut, which leaves less to do."""
    if image.width * image.height >= size[0] * size[1]:
        return fitted(image, size)
    scale = max(size[0] / image.width, size[1] / image.height)
    wide, tall = max(1, min(image.width, round(size[0] / scale))), max(1, min(image.height, round(size[1] / scale)))
    left, top = (image.width - wide) // 2, (image.height - tall) // 2
    cut = image if (wide, tall) == image.size else image.crop((left, top, left + wide, top + tall))
    return cut if cut.mode == "RGB" else cut.convert("RGB")


def _entry(frame: h264.Frame) -> bytes:
    """The sample entry `avc1` (ISO 14496-15)."""
    sets = h264.parameters(frame)
    shape = frame.width.to_bytes(2) + frame.height.to_bytes(2) + bytes.fromhex("0048000000480000") + bytes(4)
    head = bytes(6) + (1).to_bytes(2) + bytes(16) + shape + (1).to_bytes(2) + bytes(32) + bytes.fromhex("0018ffff")
    return box(b"avc1", head, box(b"avcC", h264.configuration(*sets)))

"""A still picture that keeps playing, as H.264 of the constrained baseline profile (ITU-T H.264), without a codec.

The first picture of a scene holds its samples as they are (macroblocks of type I_PCM); each later one skips
every macroblock but the few that changed. So a film weighs about 1.5 bytes a pixel for each scene, whatever its
length, and needs no transform, no prediction and no search.
"""

import re
import struct
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image

SIDE_MAX = 4096
"""Pixels of one side."""

SMOOTH_PIXELS_MAX = 3_000_000
"""A frame with more is stretched in two steps, the second of them without smoothing, which takes a third of the
time."""

BLOCK_BYTES = 384
"""One macroblock: 16x16 samples of light, then 8x8 of each of the two colours."""
WHITE = bytes([235]) * 256 + bytes([128]) * 128
"""A white macroblock."""

_LEVELS: Final = (
    (3600, 31), (8192, 41), (8704, 42), (22080, 50), (36864, 52), (139264, 62),
)  # fmt: skip
"""The most macroblocks of a picture, and the level (times ten) that allows them (table A-1). The higher of two
levels with the same size is named: an I_PCM picture is larger than the smaller buffer of the lower one."""

_BT709: Final = (
    0.182586, 0.614231, 0.062007, 16.5, -0.100644, -0.338572, 0.439216, 128.5, 0.439216, -0.398942, -0.040274, 128.5,
)  # fmt: skip
"""RGB to light and two colours in the narrow range of ITU-R BT.709: 16 to 235 and 16 to 240. No sample is ever 0,
so that raw samples never look like a start code."""

_START_CODE = re.compile(rb"\x00\x00(?=[\x00-\x03])")
_IDR_SLICE, _SLICE, _SEQUENCE, _PICTURE = 0x65, 0x41, 0x67, 0x68
Size = tuple[int, int]

_PCM_IN_I = b"\x0d\x00"
"""`ue(25)` from a whole byte on, filled up with zeros to the next one: I_PCM in an I slice."""


class Bits:
    """Bits written from the highest down."""

    def __init__(self) -> None:
        self.done = bytearray()
        self._held, self._count = 0, 0

    def put(self, value: int, width: int) -> None:
        self._held = (self._held << width) | value
        self._count += width
        while self._count >= 8:
            self._count -= 8
            self.done.append((self._held >> self._count) & 0xFF)
        self._held &= (1 << self._count) - 1

    def golomb(self, *values: int) -> None:
        """`ue(v)` of each value (section 9.1)."""
        for value in values:
            self.put(value + 1, 2 * (value + 1).bit_length() - 1)

    def fill(self) -> None:
        """Zeros up to the next whole byte."""
        if self._count:
            self.put(0, 8 - self._count)

    def end(self) -> bytes:
        """The stop bit, and all bytes."""
        self.put(1, 1)
        self.fill()
        return bytes(self.done)


@dataclass(frozen=True, slots=True)
class Frame:
    """The shape of a film: pixels (both sides even) and macroblocks across and down."""

    width: int
    height: int

    @property
    def across(self) -> int:
        return (self.width + 15) // 16

    @property
    def down(self) -> int:
        return (self.height + 15) // 16

    @property
    def level(self) -> int:
        """Times ten, as it is written."""
        return next(level for most, level in _LEVELS if self.across * self.down <= most)


def parameters(frame: Frame) -> tuple[bytes, bytes]:
    """The sequence and the picture parameter set (sections 7.3.2.1 and 7.3.2.2), as NAL units."""
    bits = Bits()
    for value in (66, 0xC0, frame.level):
        bits.put(value, 8)
    bits.golomb(0, 4, 2, 1)  # set 0, 8 bits of frame_num, output in decoding order, one reference
    bits.put(0, 1)
    bits.golomb(frame.across - 1, frame.down - 1)
    bits.put(0b11, 2)  # whole frames; direct_8x8_inference
    right, below = frame.across * 16 - frame.width, frame.down * 16 - frame.height
    bits.put(1 if right or below else 0, 1)
    if right or below:
        bits.golomb(0, right // 2, 0, below // 2)
    bits.put(0b1001, 4)  # VUI: no aspect ratio, no overscan, but the kind of signal
    bits.put(0b10101, 5)  # unspecified kind, narrow range, colours described:
    for _ in range(3):
        bits.put(1, 8)  # primaries, transfer and matrix of BT.709
    bits.put(0, 6)  # no chroma place, timing, HRD (two), picture structure, restrictions
    sequence = _nal(_SEQUENCE, bits.end())
    bits = Bits()
    bits.golomb(0, 0)
    bits.put(0, 2)  # CAVLC, no field order
    bits.golomb(0, 0, 0)
    bits.put(0, 3)  # no weighting
    bits.golomb(0, 0, 0)
    bits.put(0b100, 3)  # deblocking is said in each slice; no constrained intra, no redundant pictures
    return sequence, _nal(_PICTURE, bits.end())


def blocks(image: Image.Image, frame: Frame) -> list[bytes]:
    """The macroblocks of an RGB picture, row by row. One of another size is stretched to the frame's, which costs
    less here than before: light and colours are one sample each, and the colours are kept for two pixels at a time.
    """
    across, down = frame.across, frame.down
    light, blue, red = image.convert("RGB", _BT709).split()
    smooth = frame.width * frame.height <= SMOOTH_PIXELS_MAX
    lights = array("Q", _plane(light, (frame.width, frame.height), (across * 16, down * 16), smooth))
    half, whole_half = (frame.width // 2, frame.height // 2), (across * 8, down * 8)
    blues = array("Q", _plane(blue, half, whole_half, smooth))
    reds = array("Q", _plane(red, half, whole_half, smooth))
    made: list[bytes] = []
    row = array("Q", bytes(across * BLOCK_BYTES))
    for top in range(down):  # eight bytes at a time: 48 eights make one macroblock
        for line in range(16):
            start = (top * 16 + line) * across * 2
            row[2 * line :: 48] = lights[start : start + 2 * across : 2]
            row[2 * line + 1 :: 48] = lights[start + 1 : start + 2 * across : 2]
        for line in range(8):
            start = (top * 8 + line) * across
            row[32 + line :: 48] = blues[start : start + across]
            row[40 + line :: 48] = reds[start : start + across]
        data = row.tobytes()
        made += [data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES)]
    return made


def _plane(samples: Image.Image, size: Size, padded: Size, smooth: bool) -> bytes:
    """One kind of sample in that size, filled up to whole macroblocks; these edges are not shown."""
    if samples.size == (2 * size[0], 2 * size[1]):
        samples = samples.reduce(2)
    elif samples.size != size and smooth:
        samples = samples.resize(size, Image.Resampling.BILINEAR)
    elif samples.size != size:
        between = (size[0] + 1) // 2, (size[1] + 1) // 2
        samples = samples.resize(between, Image.Resampling.BILINEAR).resize(size, Image.Resampling.NEAREST)
    if padded != size:
        wider = Image.new("L", padded, 128)
        wider.paste(samples, (0, 0))
        samples = wider
    return samples.tobytes()


def whole(made: Sequence[bytes], scene: int) -> bytes:
    """A picture of its own (IDR) from all its macroblocks; `scene` differs from that of the one before."""
    bits = Bits()
    bits.golomb(0, 7, 0)
    bits.put(0, 8)
    bits.golomb(scene % 2)
    bits.put(0, 2)
    bits.golomb(0, 1, 25)  # the quantiser's default, no deblocking, and the first macroblock's type
    bits.fill()
    head = _nal(_IDR_SLICE, bytes(bits.done))
    return _PCM_IN_I.join((head + made[0], *made[1:-1], made[-1] + b"\x80")) if len(made) > 1 else (
        head + made[0] + b"\x80"
    )


def changed(blocks_at: Mapping[int, bytes], total: int, number: int) -> bytes:
    """The picture before it again, with other macroblocks at some places; `number` counts from the last IDR."""
    bits = Bits()
    bits.golomb(0, 5, 0)
    bits.put(number & 0xFF, 8)
    bits.put(0, 3)
    bits.golomb(0, 1)
    behind = 0
    for at in sorted(blocks_at):
        bits.golomb(at - behind, 30)
        bits.fill()
        bits.done += blocks_at[at]
        behind = at + 1
    if behind < total:
        bits.golomb(total - behind)
    return _nal(_SLICE, bits.end())


def scenes(pictures: Iterable[tuple[Image.Image, int]], frame: Frame, lap: int) -> Iterator[tuple[bytes, bool]]:
    """Each picture of the film as (NAL unit, whether it stands alone).

    `pictures`: RGB of the frame's shape, and for how many frames each is shown. A white bar near the bottom grows
    over the first `lap` frames and shrinks over the next, so that what is shown at a time never depends on how
    long the film goes on.
    """
    across, total = frame.across, frame.across * frame.down
    row = max(0, (frame.height - 8) // 16) * across  # the lowest one of which at least half is seen
    at = 0
    for scene, (picture, count) in enumerate(pictures):
        made = blocks(picture, frame)
        seen, made_before = _filled(at, lap, across), dict[tuple[int, int], bytes]()
        yield whole(made[:row] + [WHITE] * seen + made[row + seen :], scene), True
        for number in range(1, count):
            now = _filled(at + number, lap, across)
            if (seen, now) not in made_before:  # they come again with every lap, only their number is another
                new = {row + one: WHITE for one in range(seen, now)}
                new |= {row + one: made[row + one] for one in range(now, seen)}
                made_before[seen, now] = changed(new, total, 0)
            yield _numbered(made_before[seen, now], number), False
            seen = now
        at += count


def _numbered(unit: bytes, number: int) -> bytes:
    """A unit made by `changed` for the number 0, with another one: its eight bits begin at the last of the second
    byte. No start code comes of it, for the bytes on both sides of them are never 0."""
    return bytes((unit[0], unit[1] | number >> 7 & 1, unit[2] | number << 1 & 0xFF)) + unit[3:]


def configuration(sequence: bytes, picture: bytes) -> bytes:
    """What the box `avcC` holds (ISO 14496-15)."""
    head = bytes([1, sequence[1], sequence[2], sequence[3], 0xFF, 0xE1])
    return head + struct.pack(">H", len(sequence)) + sequence + b"\x01" + struct.pack(">H", len(picture)) + picture


def _filled(at: int, lap: int, across: int) -> int:
    """Macroblocks of the bar in the picture `at`."""
    phase = at % (2 * lap)
    return across * min(phase, 2 * lap - phase) // lap


def _nal(kind: int, payload: bytes) -> bytes:
    """A NAL unit; the escape keeps its bytes from looking like a start code (section 7.4.1)."""
    return bytes([kind]) + _START_CODE.sub(b"\x00\x00\x03", payload)

"""MP4 files (ISO 14496-12): putting tracks into one that plays while it arrives, and reading what one says."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

BOXES_MAX = 10_000
"""Boxes of one file that are looked at."""

_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_UNDEFINED = 0x55C4
"""The language `und`."""


@dataclass(frozen=True, slots=True)
class Track:
    """One track: `entry` is the sample entry box, `per_sample` and `length` are in ticks of 1/`scale` second,
    `alone` the numbers (from 1) of the samples that need none before them, None: all."""

    entry: bytes
    scale: int
    per_sample: int
    length: int
    samples: Sequence[bytes]
    alone: Sequence[int] | None = None
    size: tuple[int, int] = (0, 0)
    """Pixels; (0, 0) is sound."""


@dataclass(frozen=True, slots=True)
class Film:
    """What an MP4 file says of itself. `frames` is 0 where it does not say (a film in fragments)."""

    width: int
    height: int
    seconds: float
    frames: int
    sound: bool


class _Broken(Exception):
    pass


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def mp4(tracks: Sequence[Track], title: str = "", comment: str = "") -> bytes:
    """The file: its index comes before its samples, which lie track after track."""
    head = box(b"ftyp", b"isom", struct.pack(">I", 512), b"isomiso2avc1mp41")
    start = len(head) + len(_index(tracks, [0] * len(tracks), title, comment)) + 8
    places = []
    for track in tracks:
        places.append(start)
        start += sum(map(len, track.samples))
    if start > 0xFFFFFFFF:
        raise ValueError("the file would be larger than 4 GB")
    samples = [sample for track in tracks for sample in track.samples]
    before = struct.pack(">I4s", 8 + sum(map(len, samples)), b"mdat")
    return b"".join((head, _index(tracks, places, title, comment), before, *samples))


def probe(data: bytes) -> Film | None:
    """What the file says, None if it is no MP4 file with a film. The beginning of a file is
    enough if its index is in there. Safe for any bytes: no box is followed beyond the one it lies in, and few are
    looked at."""
    try:
        view = memoryview(data)
        looked = [0]
        moov = _first(view, b"moov", looked)
        if moov is None or bytes(view[4:8]) != b"ftyp":
            return None
        film: tuple[int, int, float, int] | None = None
        sound = False
        for kind, body in _boxes(moov, looked):
            if kind == b"trak":
                handler = _handler(body, looked)
                sound = sound or handler == b"soun"
                if handler == b"vide" and film is None:
                    film = _film(body, looked)
        seconds = _seconds(_first(moov, b"mvhd", looked))
        if film is None:
            return None
        return Film(film[0], film[1], seconds or film[2], film[3], sound)
    except (_Broken, struct.error):
        return None


# -- writing


def _index(tracks: Sequence[Track], places: Sequence[int], title: str, comment: str) -> bytes:
    scale = tracks[0].scale
    length = max(_in_movie(track, scale) for track in tracks)
    head = full(
        b"mvhd", struct.pack(">IIII", 0, 0, scale, length), struct.pack(">IH", 0x10000, 0x100), bytes(10), _MATRIX,
        bytes(24), struct.pack(">I", len(tracks) + 1),
    )  # fmt: skip
    numbered = enumerate(zip(tracks, places, strict=True), 1)
    traks = [_track(track, number, place, scale) for number, (track, place) in numbered]
    return box(b"moov", head, *traks, _about(title, comment))


def _in_movie(track: Track, scale: int) -> int:
    return round(track.length * scale / track.scale)


def _track(track: Track, number: int, place: int, scale: int) -> bytes:
    width, height = track.size
    seen = width > 0
    head = full(
        b"tkhd", struct.pack(">5I", 0, 0, number, 0, _in_movie(track, scale)), bytes(12),
        struct.pack(">HH", 0 if seen else 0x100, 0), _MATRIX, struct.pack(">II", width << 16, height << 16), flags=7,
    )  # fmt: skip
    media = full(b"mdhd", struct.pack(">4IHH", 0, 0, track.scale, track.length, _UNDEFINED, 0))
    name = b"vide" if seen else b"soun"
    handler = full(b"hdlr", struct.pack(">I4s", 0, name), bytes(12), b"\0")
    kind = full(b"vmhd", bytes(8), flags=1) if seen else full(b"smhd", bytes(4))
    here = box(b"dinf", full(b"dref", struct.pack(">I", 1), full(b"url ", flags=1)))
    return box(b"trak", head, box(b"mdia", media, handler, box(b"minf", kind, here, _table(track, place))))


def _table(track: Track, place: int) -> bytes:
    """`stbl`: when each sample is shown, where it lies and how long it is. All lie in one chunk."""
    count, sizes = len(track.samples), [len(sample) for sample in track.samples]
    times = [(count, track.per_sample)]
    last = track.length - track.per_sample * (count - 1)
    if last != track.per_sample:
        times = [(count - 1, track.per_sample), (1, last)]
    parts = [
        full(b"stsd", struct.pack(">I", 1), track.entry),
        full(b"stts", struct.pack(">I", len(times)), *[struct.pack(">II", *one) for one in times]),
        full(b"stsc", struct.pack(">4I", 1, 1, count, 1)),
        full(b"stsz", struct.pack(">II", 0, count), struct.pack(f">{count}I", *sizes)),
        full(b"stco", struct.pack(">II", 1, place)),
    ]
    if track.alone is not None:
        alone = struct.pack(f">{len(track.alone)}I", *track.alone)
        parts.append(full(b"stss", struct.pack(">I", len(track.alone)), alone))
    return box(b"stbl", *parts)


def _about(title: str, comment: str) -> bytes:
    """`udta` with a title and a comment, as players show them."""
    items = []
    for kind, text in ((b"\xa9nam", title), (b"\xa9cmt", comment)):
        if text:
            data = text.encode("utf-8", "backslashreplace")
            items.append(box(kind, box(b"data", struct.pack(">II", 1, 0), data)))
    if not items:
        return b""
    handler = full(b"hdlr", struct.pack(">I4s4s", 0, b"mdir", b"appl"), bytes(8), b"\0")
    return box(b"udta", full(b"meta", handler, box(b"ilst", *items)))


# -- reading


def _boxes(view: memoryview, looked: list[int]) -> Iterator[tuple[bytes, memoryview]]:
    """Each box in `view` as (kind, body). Raises `_Broken` at one that reaches beyond it."""
    at = 0
    while at + 8 <= len(view):
        looked[0] += 1
        if looked[0] > BOXES_MAX:
            raise _Broken
        size, kind = struct.unpack_from(">I4s", view, at)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", view, at + 8)
            head = 16
        elif size == 0:
            size = len(view) - at
        if size < head or at + size > len(view):
            raise _Broken
        yield kind, view[at + head : at + size]
        at += size


def _first(view: memoryview, path: bytes, looked: list[int]) -> memoryview | None:
    """The first box at a path of four-letter names, one in the other."""
    for kind, body in _boxes(view, looked):
        if kind == path[:4]:
            return body if len(path) == 4 else _first(body, path[4:], looked)
    return None


def _handler(trak: memoryview, looked: list[int]) -> bytes:
    body = _first(trak, b"mdiahdlr", looked)
    return b"" if body is None else bytes(body[8:12])


def _film(trak: memoryview, looked: list[int]) -> tuple[int, int, float, int]:
    """Width, height, seconds, frames."""
    head, table = _first(trak, b"tkhd", looked), _first(trak, b"mdiaminfstblstsz", looked)
    if head is None or table is None:
        raise _Broken
    width, height = struct.unpack_from(">II", head, 88 if head[0] == 1 else 76)
    each, frames = struct.unpack_from(">II", table, 4)
    if each == 0 and 12 + 4 * frames > len(table):
        raise _Broken
    return width >> 16, height >> 16, _seconds(_first(trak, b"mdiamdhd", looked)), frames


def _seconds(body: memoryview | None) -> float:
    """Of `mvhd` and `mdhd`, which begin alike; 0.0 where it is not said."""
    if body is None or not len(body):
        raise _Broken
    scale, length = struct.unpack_from(">IQ", body, 20) if body[0] == 1 else struct.unpack_from(">II", body, 12)
    if scale == 0:
        raise _Broken
    unknown = 0xFFFFFFFFFFFFFFFF if body[0] == 1 else 0xFFFFFFFF
    return 0.0 if length == unknown else length / scale

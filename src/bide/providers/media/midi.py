"""Songs as notes: a standard MIDI file, and the list of instruments that callers are shown."""

import struct
from collections.abc import Sequence
from typing import Any, Final

from bide.providers.media.music import PARTS, Note, Part, Song, notes, tune
from bide.providers.media.turn import alone

PER_QUARTER = 480
"""MIDI ticks of a quarter note."""
DRUM_CHANNEL = 9

Tempo = tuple[float, float, int]
"""A section: where it begins (seconds), how long a quarter is there (seconds), and its first tick."""

_CHANNELS: Final = (0, 1, 9, 9, 2, 3, 4, 5, 6, 7, 8, 10)
"""Of the parts in their order; both kinds of drums are on the one that General MIDI keeps for them."""


@alone
def instruments(song: Song) -> list[dict[str, Any]]:
    """`{name, notes: [{pitch, start, end, velocity}]}` for each part that plays: MIDI pitch, seconds, 1 to 127."""
    return [
        {
            "name": name.replace("_", " ").title() if name != "fx" else "FX",
            "notes": [
                {"pitch": note.pitch, "start": note.start, "end": note.end, "velocity": note.velocity}
                for note in played
            ],
        }
        for name, played in notes(song).items()
        if played
    ]


@alone
def midi(song: Song, title: str = "") -> bytes:
    """A file of type 1: a track with the title and the tempo of each section, then one for each part."""
    played, tempos = notes(song), _map(song)
    end = _tick(tempos, song.seconds)
    tracks = [_tempo_track(tempos, title, end)]
    for part, channel in zip(PARTS, _CHANNELS, strict=True):
        if played.get(part.name):
            tracks.append(_part_track(tempos, part, channel, played[part.name], end))
    head = b"MThd" + struct.pack(">IHHH", 6, 1, len(tracks), PER_QUARTER)
    return head + b"".join(b"MTrk" + struct.pack(">I", len(track)) + track for track in tracks)


def _tempo_track(tempos: Sequence[Tempo], title: str, end: int) -> bytes:
    events = [(0, _meta(3, title.encode("utf-8", "backslashreplace")[:1000]))] if title else []
    events += [(tick, _meta(0x51, round(1e6 * quarter_s).to_bytes(3))) for _, quarter_s, tick in tempos]
    return _events(events, end)


def _part_track(tempos: Sequence[Tempo], part: Part, channel: int, played: Sequence[Note], end: int) -> bytes:
    events = [(0, _meta(3, part.name.encode()))]
    if channel != DRUM_CHANNEL:
        events.append((0, bytes([0xC0 | channel, part.program])))
    sounding = []
    for note in played:
        start = _tick(tempos, note.start)
        sounding.append((start, 1, bytes([0x90 | channel, note.pitch, note.velocity])))
        sounding.append((max(start + 1, _tick(tempos, note.end)), 0, bytes([0x80 | channel, note.pitch, 0])))
    sounding.sort(key=lambda one: one[:2])  # at the same moment what ends comes first
    events += [(tick, event) for tick, _, event in sounding]
    return _events(events, end)


def _map(song: Song) -> list[Tempo]:
    found, passed, tick = [], 0.0, 0.0
    for section in song.sections:
        quarter_s = 2 * tune(section).step_s
        found.append((passed, quarter_s, round(tick)))
        passed += section.seconds
        tick += section.seconds / quarter_s * PER_QUARTER
    return found


def _tick(tempos: Sequence[Tempo], at_s: float) -> int:
    begin, quarter_s, tick = next(one for one in reversed(tempos) if one[0] <= at_s + 1e-9)
    return tick + round((at_s - begin) / quarter_s * PER_QUARTER)


def _events(events: Sequence[tuple[int, bytes]], end: int) -> bytes:
    """Events at ticks, in order, and the end of the track."""
    out, behind = bytearray(), 0
    for tick, event in events:
        out += _length(tick - behind) + event
        behind = tick
    return bytes(out + _length(max(0, end - behind)) + _meta(0x2F, b""))


def _meta(kind: int, data: bytes) -> bytes:
    return bytes([0xFF, kind]) + _length(len(data)) + data


def _length(value: int) -> bytes:
    """Seven bits a byte, the highest first, all but the last marked."""
    found = [value & 0x7F]
    while value := value >> 7:
        found.append(value & 0x7F | 0x80)
    return bytes(reversed(found))

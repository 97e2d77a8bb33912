"""Songs as samples, with nothing but the standard library.

A track is a row of 16-bit samples, each raised by the peak of its part so that none is below zero. The peaks of all
parts add up to 32768. So any number of tracks is mixed by adding them as huge integers, no sample ever touches its
neighbour, and the sum of all stems is exactly the song. A note is one wave in 8 bits, repeated and made louder or
softer by tables. Bars that sound alike are made once.
"""

import math
import sys
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from random import Random

from bide.providers.media.music import PARTS, STEPS, TICKS, Part, Section, Song, Tune, bar, bars, kind
from bide.providers.media.turn import alone

RATES = (22_050, 44_100)
"""Samples a second that can be made: multiples of the ticks that steps are measured in."""

_LEVELS, _LEVEL_DB = 16, 2.0
_WAVE = 2048
"""Samples of a reference wave."""
_GRAIN_S = 0.01
"""How long a note keeps one strength, at least."""
_WIDE = {"guitar": 11, "keyboard": 17, "strings": 23, "synth": 7, "backing_vocals": 13, "percussion": 5}
"""Ticks that the right channel hears a part later."""

Pcm = bytes
"""Signed 16-bit samples, little-endian; of two channels, left and right in turn."""
Cells = dict[tuple[str, int, tuple[int, ...]], bytes]


@alone
def render(song: Song, parts: Iterable[str] | None = None, *, rate: int = 22_050, channels: int = 1) -> Pcm:
    """The song, or those of its tracks that are named. `rate` is one of `RATES`, `channels` 1 or 2.

    The samples are `round(song.seconds * rate)` for each channel. Raises `ValueError` for another rate or a track
    the song does not have. The sum of tracks is exact, but for rounding while the song fades out.
    """
    wanted = None if parts is None else frozenset(parts)
    played = [part for part in song.parts if wanted is None or part.name in wanted]
    if rate not in RATES or channels not in (1, 2) or (wanted is not None and len(played) != len(wanted)):
        raise ValueError("there is no such rate, number of channels or track")
    sides: list[list[bytes]] = [[] for _ in range(channels)]
    passed, made = 0.0, 0
    for section in song.sections:
        passed += section.seconds
        count = round(passed * rate) - made
        for side, pieces in zip(sides, _section(section, played, song.low, rate, count, channels), strict=True):
            side.append(pieces)
        made += count
    mixes = [_faded(array("h", b"".join(side)), round(song.fade_s * rate)) for side in sides]
    if channels == 1:
        return _little(mixes[0])
    both = array("h", bytes(4 * len(mixes[0])))
    both[0::2], both[1::2] = mixes
    return _little(both)


def loudness(pcm: Pcm, count: int) -> list[float]:
    """`count` values from 0 to 1: how loud a track of one channel is, in equal stretches of time."""
    values = array("h", pcm)
    if sys.byteorder == "big":
        values.byteswap()
    found = []
    for number in range(count):
        stretch = values[len(values) * number // count : len(values) * (number + 1) // count]
        some = stretch[:: max(1, len(stretch) // 64)]
        found.append(round(max(max(some), -min(some)) / 32768, 3) if some else 0.0)
    return found


# -- bars


def _section(section: Section, parts: Sequence[Part], low: bool, rate: int, count: int, channels: int) -> list[bytes]:
    """For each channel `count` samples from where the section begins in its tune."""
    tune, numbered = bars(section)
    length = tune.step * (rate // TICKS) * STEPS
    skipped = max(0, round(section.begin_s * rate) - numbered.start * length)
    cells: Cells = {}
    made: dict[tuple[str, int], list[bytes]] = {}
    for place in map(kind, numbered):
        if place not in made:
            tracks = [(part, _bar(tune, place, part, low, rate, cells)) for part in parts]
            made[place] = [_mixed(tracks, length, right * (rate // TICKS)) for right in range(channels)]
    sides = []
    for side in range(channels):
        whole = b"".join(made[kind(number)][side] for number in numbered)[2 * skipped : 2 * (skipped + count)]
        sides.append(whole + bytes(2 * count - len(whole)))
    return sides


def _bar(tune: Tune, place: tuple[str, int], part: Part, low: bool, rate: int, cells: Cells) -> bytes:
    """One bar of a part, raised by its peak. `cells` are the notes made so far."""
    step, behind, pieces = tune.step * (rate // TICKS), 0, []
    for at, steps, pitches in bar(tune, place, part, low):
        if at > behind:
            pieces.append(_silence(part.peak, (at - behind) * step))
        key = part.name, steps, pitches
        if key not in cells:
            cells[key] = _cell(tune, part, pitches, steps * step, rate)
        pieces.append(cells[key])
        behind = at + steps
    if behind < STEPS:
        pieces.append(_silence(part.peak, (STEPS - behind) * step))
    return b"".join(pieces)


def _mixed(tracks: Sequence[tuple[Part, bytes]], count: int, late: int) -> bytes:
    """The sum of tracks as signed samples: together they are raised by 32768, which is a flip of the highest bit.

    `late`: samples that are one tick, for the right channel; 0 for the left one."""
    missing = sum(part.peak for part in PARTS) - sum(part.peak for part, _ in tracks)
    total = _as_int(_silence(missing, count)) if tracks else _as_int(_silence(32768, count))
    for part, track in tracks:
        ticks = _WIDE.get(part.name, 0) * late
        total += _as_int(_silence(part.peak, ticks) + track[: len(track) - 2 * ticks] if ticks else track)
    total ^= _as_int(_silence(0x8000, count))
    return total.to_bytes(2 * count, sys.byteorder)


def _silence(raised: int, count: int) -> bytes:
    return raised.to_bytes(2, sys.byteorder) * count


def _as_int(data: bytes) -> int:
    return int.from_bytes(data, sys.byteorder)


def _faded(mix: "array[int]", fade: int) -> "array[int]":
    count = min(fade, len(mix))
    if count > 0:
        start = len(mix) - count
        mix[start:] = array("h", [value * (count - at) // count for at, value in enumerate(mix[start:])])
    return mix


def _little(values: "array[int]") -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


# -- notes


def _cell(tune: Tune, part: Part, pitches: Sequence[int], count: int, rate: int) -> bytes:
    """One tone, chord or hit, raised by the part's peak."""
    if part.shape == "hit":
        return _hit(part.peak, pitches[0], count, rate)
    if part.shape == "rush":
        noise = Random(tune.seed).randbytes(round(rate * 0.05))
        return _shaped(noise, part.peak, "swell", count, rate)
    share = part.peak // len(pitches)
    tones = [_shaped(_period(part.tones, pitch, rate), share, part.shape, count, rate) for pitch in pitches]
    if len(tones) == 1:
        return tones[0]
    total = sum(map(_as_int, tones), _as_int(_silence(part.peak - share * len(tones), count)))
    return total.to_bytes(2 * count, sys.byteorder)


@lru_cache(maxsize=32)
def _wave(tones: tuple[float, ...]) -> bytes:
    """One period of a sound of those harmonics in 8 bits, around 128."""
    sine = [math.sin(math.tau * at / _WAVE) for at in range(_WAVE)]
    sums = [
        sum(strength * sine[at * harmonic % _WAVE] for harmonic, strength in enumerate(tones, 1))
        for at in range(_WAVE)
    ]
    top = max(map(abs, sums))
    return bytes(128 + round(127 * value / top) for value in sums)


def _period(tones: tuple[float, ...], pitch: int, rate: int) -> bytes:
    """A few whole periods at a pitch: as many as make a whole number of samples, or nearly. They begin at zero, so
    that a change of strength between two of them makes no click."""
    one = rate / (440.0 * 2 ** ((pitch - 69) / 12))
    turns = min(range(1, 5), key=lambda many: (abs(many * one - round(many * one)) / (many * one) > 0.001, many))
    length, wave = round(turns * one), _wave(tones)
    return bytes([wave[at * turns * _WAVE // length % _WAVE] for at in range(length)])


def _shaped(wave: bytes, peak: int, shape: str, count: int, rate: int) -> bytes:
    """The wave again and again, at the strengths that a note of that shape has, raised by `peak`."""
    times = max(1, round(_GRAIN_S * rate / len(wave)))
    grain, grains = wave * times, count // (len(wave) * times)
    made: dict[int, bytes] = {}
    pieces = []
    for number in range(grains):
        level = _level(shape, 1000 * number * len(grain) // rate, 1000 * count // rate)
        if level not in made:
            upper, lower = _strength(peak, level)
            both = bytearray(2 * len(grain))
            high = 1 if sys.byteorder == "little" else 0
            both[high::2], both[1 - high :: 2] = grain.translate(upper), grain.translate(lower)
            made[level] = bytes(both)
        pieces.append(made[level])
    pieces.append(_silence(peak, count - len(grain) * grains))
    return b"".join(pieces)


@lru_cache(maxsize=1024)
def _strength(peak: int, level: int) -> tuple[bytes, bytes]:
    """Tables from 8 bits to the upper and lower half of 16, raised by `peak`; `level` is `_level`'s."""
    gain = peak / 128 * 10 ** (_LEVEL_DB * (level - _LEVELS) / 20)
    values = [peak + int(gain * (value - 128)) for value in range(256)]
    return bytes(value >> 8 for value in values), bytes(value & 0xFF for value in values)


@lru_cache(maxsize=16_384)
def _level(shape: str, at_ms: int, length_ms: int) -> int:
    """1 is the softest, `_LEVELS` is full strength, each step between is `_LEVEL_DB` decibels."""
    at_s, length_s = at_ms / 1000, max(1, length_ms) / 1000
    match shape:
        case "plucked":
            level = _LEVELS - 12 * at_s / 0.6
        case "swell":
            level = _LEVELS - 11 * max(0.0, 1 - at_s / (0.3 * length_s))
        case _:  # sung
            level = _LEVELS - 8 * max(0.0, 1 - at_s / 0.06) - 3 * at_s / length_s
    level -= 10 * max(0.0, 1 - (length_s - at_s) / 0.06)
    return max(1, min(_LEVELS, round(level)))


@lru_cache(maxsize=64)
def _drum(peak: int, pitch: int, rate: int) -> bytes:
    """A falling tone (36), noise with a tone (38), or a tick of noise."""
    sounding = round(rate * (0.16 if pitch in (36, 38) else 0.045))
    fall, strength, turn, values = math.exp(-5.5 / sounding), 1.0, 0.0, []
    for grain in array("b", Random(pitch).randbytes(sounding)):
        if pitch == 36:
            turn += (45 + 110 * strength) / rate
            value = math.sin(math.tau * turn)
        elif pitch == 38:
            turn += 185 / rate
            value = grain / 200 + 0.36 * math.sin(math.tau * turn)
        else:
            value = grain / 180
        values.append(peak + int(peak * strength * value))
        strength *= fall
    return array("H", values).tobytes()


def _hit(peak: int, pitch: int, count: int, rate: int) -> bytes:
    sound = _drum(peak, pitch, rate)[: 2 * count]
    return sound + _silence(peak, count - len(sound) // 2)

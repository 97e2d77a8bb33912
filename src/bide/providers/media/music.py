"""Songs as a few numbers: what to play, from which seed, from when to when; and the notes that follow from them.

A song is a list of sections. What a section plays at a moment depends on its seed, its style and that moment alone,
never on how long it goes on: a song that is cut and played on by another section begins as it was. Everything a
follow-up needs is in these numbers, so a song can be kept as a line of JSON (`numbers`, `from_numbers`).

Times are in seconds of the song. A step is an eighth note and a whole number of 1/22050 s, a bar has eight.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any, Final

TICKS = 22_050
"""Of a second: every step is a whole number of them."""
SECONDS_MAX = 900.0
SECTIONS_MAX = 64
STEPS = 8
"""Steps of a bar."""


@dataclass(frozen=True, slots=True)
class Part:
    """An instrument. `program` is that of General MIDI (from 0; -1: drums), `low` the MIDI pitch its notes lie above,
    `peak` its greatest amplitude, `tones` the strengths of its harmonics, `shape` how its notes swell and fade."""

    name: str
    program: int
    low: int
    peak: int
    tones: tuple[float, ...]
    shape: str
    velocity: int


PARTS: Final = (
    Part("vocals", 53, 60, 6600, (1.0, 0.65, 0.4, 0.1, 0.16), "sung", 104),
    Part("backing_vocals", 52, 55, 1900, (1.0, 0.3, 0.2), "swell", 64),
    Part("drums", -1, 35, 6000, (), "hit", 110),
    Part("percussion", -1, 35, 1700, (), "hit", 60),
    Part("bass", 33, 31, 4700, (1.0, 0.45, 0.2), "plucked", 100),
    Part("guitar", 24, 50, 2600, (1.0, 0.6, 0.45, 0.3, 0.2), "plucked", 80),
    Part("keyboard", 0, 52, 2600, (1.0, 0.4, 0.15, 0.08), "plucked", 78),
    Part("strings", 48, 55, 1800, (1.0, 0.5, 0.33, 0.25, 0.2), "swell", 62),
    Part("synth", 81, 62, 1600, (1.0, 0.0, 0.33, 0.0, 0.2), "plucked", 66),
    Part("brass", 61, 53, 1200, (1.0, 0.8, 0.6, 0.4), "sung", 60),
    Part("woodwinds", 73, 67, 1200, (1.0, 0.12), "sung", 60),
    Part("fx", 122, 60, 868, (), "rush", 40),
)  # fmt: skip
"""The twelve tracks of every song. Their peaks add up to 32768, so that no sum of them is ever cut off."""
VOICES: Final = ("vocals", "backing_vocals")
DRUM_PITCHES: Final = {"k": 36, "s": 38, "h": 42, "t": 54}
"""Kick, snare, closed hi-hat and tambourine, as General MIDI numbers them."""

_SCALES: Final[Mapping[str, tuple[int, ...]]] = {
    "major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10), "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}  # fmt: skip
_CHORDS: Final = ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 0, 4), (0, 3, 5, 4), (1, 4, 0, 5))
"""Degrees of the scale that the chords of four bars stand on."""
_BEATS: Final[Mapping[str, tuple[str, ...]]] = {
    "rock": ("khshkksh", "khshkhss"), "dance": ("khkhkhkh", "khkskhks"), "slow": ("k.h.s.h.", "k.hks.h."),
    "soft": ("h.h.h.hh", "k...h..."), "swing": ("h.hhh.hs", "k.hsk.hh"),
}  # fmt: skip
_MANNERS: Final[Mapping[str, tuple[int, int, str, str]]] = {
    "ballad": (66, 80, "major", "slow"), "ambient": (60, 72, "dorian", "soft"),
    "lofi": (72, 86, "dorian", "slow"), "lo-fi": (72, 86, "dorian", "slow"),
    "jazz": (104, 132, "dorian", "swing"), "blues": (84, 104, "mixolydian", "swing"),
    "rock": (112, 138, "mixolydian", "rock"), "metal": (138, 164, "minor", "rock"),
    "punk": (150, 172, "major", "rock"), "folk": (92, 112, "major", "soft"),
    "country": (100, 124, "major", "rock"), "pop": (104, 124, "major", "rock"),
    "dance": (120, 130, "minor", "dance"), "house": (120, 126, "minor", "dance"),
    "techno": (126, 136, "minor", "dance"), "trance": (132, 140, "minor", "dance"),
    "electronic": (116, 130, "minor", "dance"), "edm": (124, 130, "minor", "dance"),
    "hip": (82, 96, "minor", "slow"), "rap": (84, 98, "minor", "slow"),
    "trap": (130, 144, "minor", "slow"), "reggae": (70, 84, "major", "slow"),
    "funk": (98, 114, "dorian", "rock"), "soul": (76, 96, "dorian", "slow"),
    "classical": (80, 108, "major", "soft"), "piano": (72, 96, "major", "soft"),
    "waltz": (92, 108, "major", "soft"), "cinematic": (70, 92, "minor", "soft"),
    "epic": (84, 104, "minor", "rock"), "march": (108, 120, "major", "rock"),
}  # fmt: skip
"""Words of a style: beats a minute from and to, scale, drums. The first one that is known decides."""
_MOODS: Final[Mapping[str, tuple[float, str]]] = {
    "sad": (0.9, "minor"), "dark": (0.95, "minor"), "melancholic": (0.9, "minor"), "happy": (1.06, "major"),
    "bright": (1.04, "major"), "uplifting": (1.06, "major"), "slow": (0.8, ""), "fast": (1.25, ""),
    "calm": (0.85, ""),
}  # fmt: skip
"""Words that change it: speed, scale."""
_RHYTHMS: Final = ((2, 2, 2, 2), (3, 1, 2, 2), (1, 1, 2, 4), (4, 2, 2), (2, 1, 1, 4), (3, 3, 2), (1, 1, 1, 1, 2, 2))
_FORM: Final = "aabbaabbccbb"
"""What follows what, four bars each: verse, chorus, bridge; then from the start."""


@dataclass(frozen=True, slots=True)
class Section:
    """A tune from its second `begin_s` on, for `seconds`, at a speed (pitch stays)."""

    seed: int
    style: str
    seconds: float
    begin_s: float = 0.0
    speed: float = 1.0


@dataclass(frozen=True, slots=True)
class Song:
    """Sections one after the other. `voices` False: nobody sings; `low`: an octave lower. The last `fade_s`
    seconds grow silent."""

    sections: tuple[Section, ...]
    voices: bool = True
    low: bool = False
    fade_s: float = 1.5

    @property
    def seconds(self) -> float:
        return sum(section.seconds for section in self.sections)

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(part for part in PARTS if self.voices or part.name not in VOICES)


@dataclass(frozen=True, slots=True)
class Note:
    """One tone, `start` to `end` in seconds of the song; `velocity` 1 to 127."""

    pitch: int
    start: float
    end: float
    velocity: int


@dataclass(frozen=True, slots=True)
class Tune:
    """What a seed and a style come to. `step` is in ticks of 1/22050 s, `key` a MIDI pitch class."""

    seed: int
    step: int
    key: int
    scale: tuple[int, ...]
    chords: tuple[int, ...]
    beat: tuple[str, ...]

    @property
    def step_s(self) -> float:
        return self.step / TICKS

    @property
    def beats_per_minute(self) -> float:
        return 30.0 / self.step_s


Cell = tuple[int, int, tuple[int, ...]]
"""What sounds in a bar: first step, steps, and MIDI pitches; drums have one pitch."""


def song(seed: int, style: str, seconds: float, *, voices: bool = True, low: bool = False) -> Song:
    """A new song. Raises `ValueError` for a length that is not above 0 and at most `SECONDS_MAX`."""
    return _checked(Song((Section(seed, style, seconds),), voices, low))


def extended(old: Song, at_s: float, seed: int, style: str, seconds: float) -> Song:
    """Plays the old song until `at_s` and goes on for `seconds` with another tune, or with the same one: the seed and
    style of the old song's last section."""
    at_s = min(max(0.0, at_s), old.seconds)
    kept = _between(old.sections, 0.0, at_s)
    return _checked(replace(old, sections=(*kept, Section(seed, style, seconds, at_s))))


def cut(old: Song, begin_s: float, end_s: float) -> Song:
    """The part of a song between two moments of it. Raises `ValueError` if nothing is left."""
    return _checked(replace(old, sections=_between(old.sections, begin_s, end_s)))


def joined(songs: Sequence[Song]) -> Song:
    """One song after the other."""
    return _checked(replace(songs[0], sections=tuple(section for one in songs for section in one.sections)))


def replaced(old: Song, begin_s: float, end_s: float, seed: int, style: str) -> Song:
    """Another tune between two moments; as long as before, and the same before and after."""
    end_s = min(end_s, old.seconds)
    before, after = _between(old.sections, 0.0, begin_s), _between(old.sections, end_s, old.seconds)
    return _checked(replace(old, sections=(*before, Section(seed, style, end_s - begin_s, begin_s), *after)))


def sped(old: Song, speed: float) -> Song:
    """All of it faster or slower by a factor of 0.25 to 4; the pitch stays."""
    if not 0.25 <= speed <= 4:
        raise ValueError("speed is a factor from 0.25 to 4")
    sections = tuple(
        replace(one, seconds=one.seconds / speed, begin_s=one.begin_s / speed, speed=one.speed * speed)
        for one in old.sections
    )
    return _checked(replace(old, sections=sections))


def covered(old: Song, style: str) -> Song:
    """The same melodies in another style: each section keeps its seed."""
    return replace(old, sections=tuple(replace(one, style=style) for one in old.sections))


def numbers(one: Song) -> dict[str, Any]:
    """The song as JSON values."""
    return asdict(one)


def from_numbers(kept: Mapping[str, Any]) -> Song:
    """What `numbers` gave, also after a turn through JSON."""
    return Song(**{**kept, "sections": tuple(Section(**section) for section in kept["sections"])})


def tune(section: Section) -> Tune:
    words = re.findall(r"[a-z-]+", section.style.lower())
    chance = Random(f"tune {section.seed}")
    manner = next((_MANNERS[word] for word in words if word in _MANNERS), None)
    slowest, fastest, scale, beat = manner or chance.choice(list(_MANNERS.values()))
    beats = chance.uniform(slowest, fastest)
    for factor, other in (_MOODS[word] for word in words if word in _MOODS):
        beats, scale = beats * factor, other or scale
    beats = min(max(beats, 40.0), 220.0) * section.speed
    return Tune(
        section.seed, max(1, round(TICKS * 30 / beats)), chance.randrange(12), _SCALES[scale], chance.choice(_CHORDS),
        _BEATS[beat],
    )  # fmt: skip


def kind(number: int) -> tuple[str, int]:
    """Where a bar stands in the form of every song. Bars of a tune that stand alike sound alike."""
    group, in_group = divmod(number, 4)
    return _FORM[group % len(_FORM)], in_group


def bar(one: Tune, place: tuple[str, int], part: Part, low: bool = False) -> tuple[Cell, ...]:
    """What a part plays in a bar (of that `kind`) of a tune, in order and without overlap."""
    letter, in_group = place
    chord = one.chords[(in_group + (2 if letter == "c" else 0)) % 4]
    chance = Random(f"{one.seed} {part.name} {letter} {in_group}")
    tones = _chord(one, part.low, chord)
    match part.name:
        case "vocals":
            return _melody(one, part.low - (12 if low else 0), chord, chance, rests=0.12)
        case "woodwinds":
            return _melody(one, part.low, chord, chance, rests=0.1 if in_group % 2 == 0 else 0.75)
        case "drums" | "percussion":
            return _hits(one.beat[1 if in_group == 3 else 0] if part.name == "drums" else "tt.ttt.t"[in_group % 2 :])
        case "bass":
            return tuple((at, 2, tones[:1] if at != 6 else tones[2:]) for at in (0, 2, 4, 6))
        case "guitar":
            return tuple((at, 1, (tones[(0, 1, 2, 1)[at % 4]],)) for at in range(STEPS))
        case "keyboard":
            return tuple((at, 4, tones) for at in (0, 4))
        case "synth":
            return tuple((at, 1, (tones[at % 3],)) for at in (1, 3, 4, 7))
        case "brass":
            return ((0, 2, tones[:2]), (6, 2, tones[1:]))
        case "fx":
            return ((0, STEPS, (part.low,)),) if in_group == 0 else ()
    return ((0, STEPS, tones),)


def bars(section: Section) -> tuple[Tune, range]:
    """The tune of a section, and the bars it touches."""
    one = tune(section)
    length = one.step_s * STEPS
    first = math.floor(section.begin_s / length + 1e-9)
    return one, range(first, max(first + 1, math.ceil((section.begin_s + section.seconds) / length - 1e-9)))


def notes(of: Song) -> dict[str, tuple[Note, ...]]:
    """All notes by the name of their part, in order; those cut by the end of a section end there."""
    found: dict[str, list[Note]] = {part.name: [] for part in of.parts}
    passed = 0.0
    for section in of.sections:
        one, numbered = bars(section)
        for part in of.parts:
            found[part.name] += _timed(of, section, one, numbered, part, passed)
        passed += section.seconds
    return {name: tuple(some) for name, some in found.items()}


def _timed(of: Song, section: Section, one: Tune, numbered: range, part: Part, passed: float) -> Iterator[Note]:
    moved = passed - section.begin_s
    for number in numbered:
        for at, steps, pitches in bar(one, kind(number), part, of.low):
            start = (number * STEPS + at) * one.step_s + moved
            end = min(start + steps * one.step_s, passed + section.seconds)
            start = max(start, passed)
            if end - start > 1e-6:
                for pitch in pitches:
                    yield Note(pitch, round(start, 6), round(end, 6), part.velocity)


def _melody(one: Tune, low: int, chord: int, chance: Random, rests: float) -> tuple[Cell, ...]:
    """A walk along the scale that stands on a tone of the chord at the beginning and in the middle."""
    cells: list[Cell] = []
    degree, at = chord + chance.choice((0, 2, 4)), 0
    for steps in chance.choice(_RHYTHMS):
        if at in (0, 4):
            degree = min((chord + jump for jump in (-3, 0, 2, 4, 7)), key=lambda near: (abs(near - degree), near))
        if at == 0 or chance.random() >= rests:
            cells.append((at, steps, (_pitch(one, low, degree % 10),)))
        degree += chance.choice((-2, -1, -1, 0, 1, 1, 2))
        at += steps
    return tuple(cells)


def _hits(pattern: str) -> tuple[Cell, ...]:
    return tuple((at, 1, (DRUM_PITCHES[hit],)) for at, hit in enumerate(pattern) if hit != ".")


def _chord(one: Tune, low: int, degree: int) -> tuple[int, ...]:
    """Three tones, each within the octave above `low`."""
    keys = ((one.key + one.scale[(degree + step) % 7]) % 12 for step in (0, 2, 4))
    return tuple(low + (key - low) % 12 for key in keys)


def _pitch(one: Tune, low: int, degree: int) -> int:
    """The pitch of a degree of the scale, counted from the first key note at or above `low`."""
    octave, step = divmod(degree, 7)
    return low + (one.key - low) % 12 + one.scale[step] + 12 * octave - (12 if one.key > 6 else 0)


def _between(sections: Sequence[Section], begin_s: float, end_s: float) -> tuple[Section, ...]:
    kept, passed = [], 0.0
    for section in sections:
        begin, end = max(begin_s, passed) - passed, min(end_s, passed + section.seconds) - passed
        if end - begin > 1e-9:
            kept.append(replace(section, begin_s=section.begin_s + begin, seconds=end - begin))
        passed += section.seconds
    return tuple(kept)


def _checked(made: Song) -> Song:
    lengths = [section.seconds for section in made.sections]
    fits = all(0 < length <= SECONDS_MAX for length in lengths) and sum(lengths) <= SECONDS_MAX
    if not all(0.124 < section.speed < 8.01 for section in made.sections):
        raise ValueError("a song cannot become more than eight times as fast or as slow")
    if not fits or not 1 <= len(lengths) <= SECTIONS_MAX:
        raise ValueError(f"a song has 1 to {SECTIONS_MAX} sections and lasts at most {SECONDS_MAX:.0f} seconds")
    return made

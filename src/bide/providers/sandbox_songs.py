"""The songs of the sandbox: `music.generate` with all its actions.

Two songs for most actions, that differ; the same request makes the same. A follow-up works on what its source is made
of: an extension begins as its source does, stems add up to the song, a cover has its melodies. Of an uploaded sound
only its length is known here, so what follows up on it goes on with a tune that its bytes decide.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from bide.providers.base import Call, Outcome, Succeeded
from bide.providers.drawing_files import Refused
from bide.providers.media import music, words
from bide.providers.media.music import VOICES, Song
from bide.providers.sandbox_song import RATE_FINE, STYLE_MAX, Piece, piece_of, seed_of, song_item, the_song
from bide.providers.sandbox_steps import Steps, text, texts

CAPABILITIES = frozenset({"music.generate"})

SECONDS_MIN, SECONDS_MAX = 5, 360
EXTEND_S = 30.0
NO_WORDS = "[Instrumental]"
UPLOADED = "upload"
"""The operation that brings a caller's own sound here."""


def check(call: Call) -> None:
    """Raises `Refused` for what cannot be made."""
    _planned(call)


async def make(call: Call, steps: Steps) -> Outcome:
    """Makes and stores the songs, one after the other: a song is some megabytes."""
    pieces = _planned(call)[: steps.partial]
    items = [await song_item(call, piece, steps) for piece in pieces]
    return Succeeded(items=tuple(items), response={"state": "succeeded"})


# -- what is asked


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request, with what follows from it for all its songs."""

    call: Call
    action: str
    prompt: str
    style: str
    lyric: str
    """Empty: none was given."""
    title: str

    @property
    def request(self) -> Mapping[str, Any]:
        return self.call.request

    @property
    def instrumental(self) -> bool:
        return self.request.get("instrumental") is True

    @property
    def low(self) -> bool:
        return self.request.get("vocal_gender") == "m"

    def seed(self, number: int) -> int:
        """Of one of the songs."""
        named, said = sorted(self.call.sources.items()), sorted(self.request.items())
        sources = [source.about.get("seed") for _, listed in named for source in listed]
        said = [(name, value) for name, value in said if not name.endswith(("_id", "_ids"))]
        return seed_of(self.call.model, number, *sources, *said)

    def seconds(self, otherwise: float) -> float:
        asked = self.request.get("duration")
        if not isinstance(asked, int | float):
            return otherwise
        return float(min(max(asked, SECONDS_MIN), SECONDS_MAX))

    def moment(self, name: str, song: Song) -> float:
        """A second of a song. Raises `Refused` for one that lies behind its end."""
        value = self.request.get(name)
        if not isinstance(value, int | float):
            raise Refused(f"`{name}` is missing: a second of the song")
        if not 0 <= value <= song.seconds:
            raise Refused(f"`{name}` is {value:g}, and the song has {song.seconds:.2f} seconds")
        return float(value)


def _planned(call: Call) -> list[Piece]:
    """The songs that are to be made."""
    request = call.request
    action = text(request, "action") or "generate"
    if action not in _ACTIONS:
        raise Refused(f"the sandbox does not know the `action` {json.dumps(action)}")
    prompt = text(request, "prompt")
    lyric = text(request, "lyric") or _written(_about(request))
    wanted = Wanted(call, action, prompt, _style(request), lyric, text(request, "title"))
    try:
        pieces = _ACTIONS[action](wanted)
        speed = request.get("speed")
        if isinstance(speed, int | float) and speed != 1:
            pieces = [replace(one, song=music.sped(one.song, speed)) for one in pieces]
        return pieces
    except ValueError as error:
        raise Refused(str(error)) from None


def _style(request: Mapping[str, Any]) -> str:
    """The style, without what is not wanted in it."""
    unwanted = {one.strip().lower() for one in text(request, "negative_tags").split(",")}
    tags = [one.strip() for one in text(request, "style").split(",")]
    return ", ".join(one for one in tags if one and one.lower() not in unwanted)


def _about(request: Mapping[str, Any]) -> str:
    """What the words are to be about: a text, or all the texts of an object."""
    return " ".join(one for one in texts(request.get("lyric_prompt")) if one)


def _written(about: str) -> str:
    return words.lyrics(about, seed_of(about)).text if about else ""


# -- songs from words


def _generate(wanted: Wanted) -> list[Piece]:
    return [_new(wanted, number, wanted.style, low=wanted.low) for number in range(2)]


def _new(wanted: Wanted, number: int, manner: str, *, low: bool, seconds: float | None = None) -> Piece:
    """A new song. Its words, title and tags are those given, or follow from the prompt; both songs share them."""
    said = wanted.prompt or _about(wanted.request) or wanted.lyric or wanted.title or manner
    shared = seed_of("words", said)
    made = words.lyrics(said, shared)
    style = wanted.style or manner or ", ".join(made.tags)
    seed = wanted.seed(number)
    length = wanted.seconds(30 + seed % 21) if seconds is None else seconds
    played = f"{manner} {style} {said}" if not wanted.style else f"{wanted.style} {manner}"
    song = music.song(seed, played[:STYLE_MAX], length, voices=not wanted.instrumental, low=low)
    lyric = NO_WORDS if wanted.instrumental else wanted.lyric or made.text
    return Piece(song, wanted.title or made.title, lyric, style, wanted.prompt, seed)


def _inspo(wanted: Wanted) -> list[Piece]:
    if not wanted.request.get("audio_urls"):
        raise Refused("`audio_urls` is missing: there is nothing to be inspired by")
    return _generate(wanted)


def _artist(wanted: Wanted) -> list[Piece]:
    """The words of a song by a singer, who brings a style and a voice."""
    persona = wanted.call.source("persona_id")
    if persona is None:
        raise Refused("`persona_id` is missing: nobody would sing")
    _, old = the_song(wanted.call)
    asked = replace(wanted, lyric=wanted.lyric or old.lyric, title=wanted.title or old.title)
    manner = str(persona.about.get("style") or "")
    length = wanted.seconds(old.song.seconds)
    return [_new(asked, number, manner, low=bool(persona.about.get("low")), seconds=length) for number in range(2)]


# -- songs from songs


def _extend(wanted: Wanted) -> list[Piece]:
    """The old song until `continue_at`, then another tune; longer than before."""
    source, old = the_song(wanted.call)
    at_s = wanted.moment("continue_at", old.song)
    seconds = max(wanted.seconds(EXTEND_S), old.song.seconds - at_s + SECONDS_MIN)
    style = wanted.style or old.style
    lyric = "\n\n".join(one for one in (old.lyric, wanted.lyric) if one)
    history = (*old.history, {"id": source.id, "continue_at": at_s})
    return [
        _after(wanted, old, number, style=style, lyric=lyric, history=history, rate=old.rate,
               song=music.extended(old.song, at_s, wanted.seed(number), style[:STYLE_MAX], seconds))
        for number in range(2)
    ]  # fmt: skip


def _after(wanted: Wanted, old: Piece, number: int, **changed: Any) -> Piece:
    """What follows on a song: its words and style, unless others were asked for. Not its tracks, where all play."""
    asked = {"title": wanted.title, "lyric": wanted.lyric, "style": wanted.style, "prompt": wanted.prompt}
    given = {name: value for name, value in asked.items() if value}
    return replace(old, **{**given, "seed": wanted.seed(number), **changed})


def _concat(wanted: Wanted) -> list[Piece]:
    """The whole of a song that went on from others: here every extension is whole already."""
    source, old = the_song(wanted.call)
    history = (*old.history, {"id": source.id, "continue_at": None})
    return [_after(wanted, old, 0, seed=old.seed, history=history)]


def _cover(wanted: Wanted) -> list[Piece]:
    """The same melodies in another style; the second time by a voice an octave away."""
    _, old = the_song(wanted.call)
    made = []
    for number in range(2):
        style = wanted.style or ", ".join(words.tags(wanted.prompt, wanted.seed(number)))
        song = music.covered(old.song, style[:STYLE_MAX])
        song = replace(song, voices=song.voices and not wanted.instrumental, low=song.low != (number == 1))
        made.append(_after(wanted, old, number, style=style, song=song, history=()))
    return made


def _remaster(wanted: Wanted) -> list[Piece]:
    """Twice as many samples; the wider the variation, the more the speed differs."""
    _, old = the_song(wanted.call)
    wide = {"subtle": 0.005, "normal": 0.01, "high": 0.03}.get(text(wanted.request, "variation_category"), 0.0)
    songs = (music.sped(old.song, 1 + wide), replace(music.sped(old.song, 1 / (1 + wide)), fade_s=3.0))
    return [_after(wanted, old, number, song=song, rate=RATE_FINE) for number, song in enumerate(songs)]


def _mashup(wanted: Wanted) -> list[Piece]:
    """A half of the one and a half of the other; the second time the other way round."""
    sources = wanted.call.sources.get("mashup_audio_ids", ())
    if len(sources) != 2:
        raise Refused("`mashup_audio_ids` must name two songs")
    one, other = (piece_of(source) for source in sources)
    lyric = words.mashup(one.lyric, other.lyric, wanted.seed(0)).text
    return [
        _after(wanted, first, number, title=wanted.title or f"{first.title} × {second.title}"[: words.TITLE_MAX],
               lyric=wanted.lyric or lyric, style=wanted.style or f"{first.style}, {second.style}"[:1000],
               song=music.joined([_half(first.song), _half(second.song)]), tracks=None, history=())
        for number, (first, second) in enumerate(((one, other), (other, one)))
    ]  # fmt: skip


def _half(song: Song) -> Song:
    return music.cut(song, 0.0, song.seconds / 2)


# -- parts of songs


def _stems(wanted: Wanted) -> list[Piece]:
    """Voices, and everything else. Together they are the song."""
    _, old = the_song(wanted.call)
    voices = tuple(name for name in old.heard if name in VOICES)
    others = tuple(name for name in old.heard if name not in VOICES)
    if not voices or not others:
        raise Refused("`audio_id` names something without voice or without accompaniment: it cannot be taken apart")
    return [_track(wanted, old, "Vocals", voices), _track(wanted, old, "Instrumental", others)]


def _all_stems(wanted: Wanted) -> list[Piece]:
    _, old = the_song(wanted.call)
    return [_track(wanted, old, name.replace("_", " ").title(), (name,)) for name in old.heard]


def _track(wanted: Wanted, old: Piece, name: str, tracks: tuple[str, ...]) -> Piece:
    lyric = old.lyric if set(tracks) & set(VOICES) else NO_WORDS
    return replace(old, title=f"{wanted.title or old.title} ({name})", lyric=lyric, tracks=tracks)


def _replace(wanted: Wanted) -> list[Piece]:
    """Another tune between two moments; the same before and after."""
    _, old = the_song(wanted.call)
    begin_s = wanted.moment("replace_section_start", old.song)
    end_s = wanted.moment("replace_section_end", old.song)
    style = (wanted.style or f"{wanted.prompt} {old.style}")[:STYLE_MAX]
    song = music.replaced(old.song, begin_s, end_s, wanted.seed(0), style)
    return [_after(wanted, old, 0, style=wanted.style or old.style, song=song)]


def _paint(wanted: Wanted) -> list[Piece]:
    """Something is added to an uploaded sound between two moments: instruments (under), or a voice (over)."""
    old = _uploaded(wanted)
    begin_s = wanted.moment(f"{wanted.action}_start", old.song)
    end_s = wanted.moment(f"{wanted.action}_end", old.song)
    sings, style = wanted.action == "overpainting", wanted.style or old.style
    lyric = (wanted.lyric or words.lyrics(wanted.prompt or old.title, old.seed).text) if sings else NO_WORDS
    made = []
    for number in range(2):
        song = music.replaced(old.song, begin_s, end_s, wanted.seed(number), style[:STYLE_MAX])
        made.append(_after(wanted, old, number, style=style, lyric=lyric, song=replace(song, voices=sings)))
    return made


def _samples(wanted: Wanted) -> list[Piece]:
    """A part of an uploaded sound, and a song that goes on from it."""
    old = _uploaded(wanted)
    begin_s, end_s = wanted.moment("samples_start", old.song), wanted.moment("samples_end", old.song)
    part, style = music.cut(old.song, begin_s, end_s), wanted.style or old.style
    return [
        _after(wanted, old, number, style=style, song=music.extended(
            part, part.seconds, wanted.seed(number), style[:STYLE_MAX], wanted.seconds(EXTEND_S)))
        for number in range(2)
    ]  # fmt: skip


def _uploaded(wanted: Wanted) -> Piece:
    source, piece = the_song(wanted.call)
    if source.operation != UPLOADED:
        raise Refused(f"`audio_id` names something that was not uploaded; {wanted.action} takes an uploaded sound")
    return piece


_ACTIONS: Final[Mapping[str, Callable[[Wanted], list[Piece]]]] = {
    "generate": _generate, "extend": _extend, "upload_extend": _extend, "upload_cover": _cover, "concat": _concat,
    "cover": _cover, "artist_consistency": _artist, "artist_consistency_vox": _artist, "stems": _stems,
    "all_stems": _all_stems, "replace_section": _replace, "underpainting": _paint, "overpainting": _paint,
    "variation": _cover, "swap_vocals": _cover, "swap_instrumentals": _cover, "remaster": _remaster,
    "mashup": _mashup, "samples": _samples, "inspo": _inspo,
}  # fmt: skip

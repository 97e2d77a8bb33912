"""What the sandbox makes of a song beside songs: its voice, a WAV file, notes, a film, times of words; and what goes
into songs: uploaded sounds and personas.
"""

import io
import wave
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from bide.providers.base import Asset, Call, Input, Item, Outcome, Succeeded
from bide.providers.drawing_files import Refused
from bide.providers.drawing_kept import paint
from bide.providers.media import midi, music, scene, sound, synth, video, words
from bide.providers.media.music import VOICES
from bide.providers.sandbox_song import RATE, RATE_FINE, Piece, cover_view, seed_of, song_item, the_song
from bide.providers.sandbox_steps import NEXT, Steps, read, store, text

CAPABILITIES = frozenset({
    "music.vocals", "music.wav", "music.midi", "music.film", "music.timing", "music.upload", "music.voice",
    "music.persona",
})  # fmt: skip

UPLOAD_SECONDS = 60.0
"""Taken as the length of a sound that is not WAV."""
VOICE_SECONDS_MIN = 10
WAVE_POINTS = 200

_FROM_A_FILE = frozenset({"music.upload", "music.voice"})
_VOICE_TYPES = frozenset({"audio/mpeg", "audio/wav"})


def check(call: Call) -> None:
    """Raises `Refused` for what cannot be made."""
    if call.capability in _FROM_A_FILE:
        _file(call)
        return
    _, piece = the_song(call)
    if call.capability in ("music.vocals", "music.persona"):
        _window(call, piece)
    if call.capability == "music.vocals" and not set(piece.heard) & set(VOICES):
        raise Refused("`audio_id` names an instrumental song: there is no voice to take out")


async def make(call: Call, steps: Steps) -> Outcome:
    made = await _MAKERS[call.capability](call, steps)
    if isinstance(made, Item):
        return Succeeded(items=(made,), response={"state": "succeeded"})
    return Succeeded(response=made)


# -- other forms of a song


def _window(call: Call, piece: Piece) -> tuple[float, float]:
    """`vocal_start` and `vocal_end`; the whole song where they are left out. Raises `Refused` beyond its end."""
    begin_s, end_s = call.request.get("vocal_start"), call.request.get("vocal_end")
    begin_s = float(begin_s) if isinstance(begin_s, int | float) else 0.0
    end_s = float(end_s) if isinstance(end_s, int | float) else piece.seconds
    if end_s > piece.song.seconds + 0.01:
        raise Refused(f"`vocal_end` is {end_s:g}, and the song has {piece.seconds:g} seconds")
    if begin_s >= end_s:
        raise Refused(f"`vocal_start` is {begin_s:g}, which leaves nothing before second {end_s:g}")
    return begin_s, end_s


async def _vocals(call: Call, steps: Steps) -> Item:
    source, piece = the_song(call)
    begin_s, end_s = _window(call, piece)
    alone = tuple(name for name in piece.heard if name in VOICES)
    cut = replace(piece, song=music.cut(piece.song, begin_s, end_s), tracks=alone, title=f"{piece.title} (Vocals)")
    data, loud = await paint(_heard, cut)
    points = [round(32_767 * one) for one in loud]
    shape = {"data": [[value for one in points for value in (-one, one)]], "mip_map_level": 11}
    fields = {"start_s": begin_s, "end_s": end_s, "wave": {"waveform_aggregates": [shape]}}
    kept = {"seed": piece.seed, "source": source.id, "start_s": begin_s, "end_s": end_s, NEXT: steps.next}
    return Item((Asset(await store(call, data, steps), role="audio"),), fields, kept)


def _heard(piece: Piece) -> tuple[bytes, list[float]]:
    pcm = synth.render(piece.song, piece.tracks, rate=piece.rate)
    data, _ = sound.song_file(pcm, rate=piece.rate, title=piece.title)
    return data, synth.loudness(pcm, WAVE_POINTS)


async def _wav(call: Call, steps: Steps) -> Item:
    _, piece = the_song(call)
    return Item((Asset(await store(call, await paint(_fine, piece), steps), role="audio"),))


def _fine(piece: Piece) -> bytes:
    pcm = synth.render(piece.song, piece.tracks, rate=RATE_FINE)
    return sound.wav(pcm, rate=RATE_FINE, title=piece.title, comment=piece.prompt)


async def _midi(call: Call, steps: Steps) -> Item:
    """All notes; those of the voices are left out where no voice is heard."""
    _, piece = the_song(call)
    song = piece.song if set(piece.heard) & set(VOICES) else replace(piece.song, voices=False)
    data, instruments = await paint(lambda: (midi.midi(song, piece.title), midi.instruments(song)))
    return Item((Asset(await store(call, data, steps), role="midi"),), {"instruments": instruments})


async def _film(call: Call, steps: Steps) -> Item:
    _, piece = the_song(call)
    return Item((Asset(await store(call, await paint(_filmed, piece), steps), role="video"),))


def _filmed(piece: Piece) -> bytes:
    """The cover, for as long as the song, with the song as its sound."""
    cover = scene.paint(cover_view(piece), piece.title)
    pcm, step = synth.render(piece.song, piece.tracks, rate=RATE), music.tune(piece.song.sections[0]).step
    track = sound.flac_track(pcm, rate=RATE, block=min(max(16, step), 65_535))
    return video.film([video.Shot(cover, piece.song.seconds)], title=piece.title, comment=piece.prompt, sound=track)


async def _timing(call: Call, steps: Steps) -> dict[str, Any]:
    _, piece = the_song(call)
    sings = bool(set(piece.heard) & set(VOICES))
    aligned = words.aligned(piece.lyric, piece.seconds, piece.seed) if sings else []
    _, loud = await paint(_heard, piece)
    if steps.crash:
        raise RuntimeError("the sandbox was asked to crash")
    return {"aligned_words": aligned, "waveform_data": loud, "hoot_cer": round(piece.seed % 100 / 1000, 3)}


# -- what goes into songs


def _file(call: Call) -> Input:
    if not call.inputs:
        raise Refused("`audio_url` is missing: there is no sound")
    one = call.inputs[0]
    if call.capability == "music.voice" and one.content_type not in _VOICE_TYPES:
        raise Refused(f"`audio_url` leads to {one.content_type}; a recording must be MP3 or WAV")
    return one


async def _upload(call: Call, steps: Steps) -> Item:
    """The caller's own sound as a song; what follows up on it is a tune that its bytes decide."""
    one = _file(call)
    data = await read(one)
    seed, seconds = await paint(_looked_at, data)
    title = words.title("", seed)
    length = min(seconds or UPLOAD_SECONDS, music.SECONDS_MAX)
    piece = Piece(music.song(seed, "", length), title, "", ", ".join(words.tags("", seed)), "", seed)
    return await song_item(call, piece, steps, audio=data)


def _looked_at(data: bytes) -> tuple[int, float | None]:
    """A number from its bytes, and its seconds where these can be told (WAV); else None."""
    seed = seed_of(data.hex() if len(data) < 4096 else (data[:2048].hex(), data[-2048:].hex(), len(data)))
    try:
        with wave.open(io.BytesIO(data)) as file:
            seconds = file.getnframes() / max(1, file.getframerate())
    except (wave.Error, EOFError, ValueError, RuntimeError):
        return seed, None
    return seed, seconds if seconds > 0 else None


async def _voice(call: Call, steps: Steps) -> Item:
    seed, seconds = await paint(_looked_at, await read(_file(call)))
    if seconds is not None and seconds < VOICE_SECONDS_MIN:
        raise Refused(f"`audio_url` leads to {seconds:.1f} seconds of sound; at least {VOICE_SECONDS_MIN} are needed")
    return _singer(call, steps, "voice", seed, "", bool(seed % 2))


async def _persona(call: Call, steps: Steps) -> Item:
    _, piece = the_song(call)
    return _singer(call, steps, "persona", piece.seed, piece.style, piece.song.low)


def _singer(call: Call, steps: Steps, kind: str, seed: int, style: str, low: bool) -> Item:
    """A persona has no files. What callers are shown in their list is kept by these names."""
    if steps.crash:
        raise RuntimeError("the sandbox was asked to crash")
    name, description = text(call.request, "name"), text(call.request, "description")
    shown = {"name": name, "description": description, "source_type": kind}
    return Item((), shown, {**shown, "seed": seed, "style": style, "low": low, NEXT: steps.next})


_MAKERS: Final[Mapping[str, Callable[[Call, Steps], Awaitable[Item | dict[str, Any]]]]] = {
    "music.vocals": _vocals, "music.wav": _wav, "music.midi": _midi, "music.film": _film, "music.timing": _timing,
    "music.upload": _upload, "music.voice": _voice, "music.persona": _persona,
}  # fmt: skip

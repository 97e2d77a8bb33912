"""A song of the sandbox as it is kept between two calls, and its files.

What a song is made of is kept with its item as numbers (`bide.providers.media.music`), so a follow-up makes it again:
longer, in another style, or some of its tracks alone.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bide.providers.base import Asset, Call, Item, Source
from bide.providers.drawing_files import Refused, encode
from bide.providers.drawing_kept import paint
from bide.providers.media import music, scene, sound, synth
from bide.providers.media.music import Song
from bide.providers.media.scene import View
from bide.providers.sandbox_steps import NEXT, Steps, store

RATE, RATE_FINE = 22_050, 44_100
COVER_SIDE, COVER_SIDE_SMALL = 720, 360
STYLE_MAX = 200
"""Characters of a style that are kept with each section of a song."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A song with its words. `tracks`: those that are heard alone; None: all. `history`: the songs it went on from,
    `{"id", "continue_at"}`."""

    song: Song
    title: str
    lyric: str
    style: str
    prompt: str
    seed: int
    tracks: tuple[str, ...] | None = None
    rate: int = RATE
    history: tuple[Mapping[str, Any], ...] = field(default=())

    @property
    def heard(self) -> tuple[str, ...]:
        """Names of the tracks that are heard."""
        every = tuple(part.name for part in self.song.parts)
        return every if self.tracks is None else self.tracks

    @property
    def seconds(self) -> float:
        return round(self.song.seconds, 2)


def piece_of(source: Source) -> Piece:
    """The song of an earlier item."""
    about = source.about
    tracks = about["tracks"]
    return Piece(
        music.from_numbers(about["song"]), about["title"], about["lyric"], about["style"], about["prompt"],
        about["seed"], None if tracks is None else tuple(tracks), about["rate"], tuple(about["history"]),
    )  # fmt: skip


def the_song(call: Call) -> tuple[Source, Piece]:
    """What `audio_id` names. Raises `Refused` if nothing is named."""
    source = call.source("audio_id")
    if source is None:
        raise Refused("`audio_id` is missing: there is nothing to work on")
    return source, piece_of(source)


def about(piece: Piece, words: str) -> dict[str, Any]:
    """What is kept of a song: what `piece_of` reads."""
    return {
        "song": music.numbers(piece.song), "title": piece.title, "lyric": piece.lyric, "style": piece.style,
        "prompt": piece.prompt, "seed": piece.seed, "tracks": piece.tracks, "rate": piece.rate,
        "history": list(piece.history), NEXT: words,
    }  # fmt: skip


def seed_of(*said: object) -> int:
    """A number from 0 to 2^32 - 1 that follows from what was said."""
    text = "\0".join(map(str, said)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest())


async def song_item(call: Call, piece: Piece, steps: Steps, audio: bytes | None = None) -> Item:
    """The song with its files, `audio`, `image` and `image_large`. `audio`: a caller's own sound instead of ours."""
    data, small, large = await paint(_files, piece, audio)
    assets = (
        Asset(await store(call, data, steps), role="audio"),
        Asset(await store(call, small, steps), role="image"),
        Asset(await store(call, large, steps), role="image_large"),
    )
    fields = {
        "title": piece.title, "lyric": piece.lyric, "style": piece.style, "prompt": piece.prompt,
        "duration": piece.seconds, "seed": str(piece.seed), "concat_history": list(piece.history) or None,
    }  # fmt: skip
    return Item(assets, fields, about(piece, steps.next))


def _files(piece: Piece, audio: bytes | None) -> tuple[bytes, bytes, bytes]:
    data = audio or sounding(piece)
    cover = scene.paint(cover_view(piece), piece.title)
    large = encode(cover, "jpeg", 85, {"prompt": piece.prompt})
    cover.thumbnail((COVER_SIDE_SMALL, COVER_SIDE_SMALL))
    return data, encode(cover, "jpeg", 80, {"prompt": piece.prompt}), large


def sounding(piece: Piece) -> bytes:
    """The song as a file: MP3 where that can be written, else WAV."""
    pcm = synth.render(piece.song, piece.tracks, rate=piece.rate)
    data, _ = sound.song_file(pcm, rate=piece.rate, title=piece.title, comment=piece.prompt)
    return data


def cover_view(piece: Piece) -> View:
    return View(piece.seed, 0.0, 0.0, 1.0, 1.0, (COVER_SIDE, COVER_SIDE))

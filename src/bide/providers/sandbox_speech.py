"""The voices of the sandbox: `speech.generate` reads a text, `voice.clone` learns a voice.

What is heard are tones, one for each syllable, as high as the voice is and as long as the text: nothing speaks here.
"""

import hashlib
import math
import re
from array import array
from functools import lru_cache
from typing import Any

from bide.providers.base import Asset, Call, Item, Outcome, Succeeded
from bide.providers.drawing_files import Refused
from bide.providers.drawing_kept import paint
from bide.providers.media import sound
from bide.providers.sandbox_steps import NEXT, Steps, store, text

CAPABILITIES = frozenset({"speech.generate", "voice.clone"})

RATE = 22_050
SECONDS_MAX = 120
_SYLLABLE_S, _PAUSE_S = 0.16, 0.22
_PITCHES = (110, 220)
"""Hertz of the lowest and of the highest voice."""
_VOWELS = re.compile(
    r"[aeiouyäöüàáâèéêìíòóôùúåæøœаеёиоуыэюя]+|[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]", re.IGNORECASE
)
_STEPS = (0, 2, 4, 2, 5, 4, 0, -3)
"""Semitones of the melody of speech."""


def check(call: Call) -> None:
    """Raises `Refused` for what cannot be made."""
    if call.capability == "speech.generate" and not text(call.request, "text").strip():
        raise Refused("text is missing: there is nothing to read")


async def make(call: Call, steps: Steps) -> Outcome:
    """A recording, or a voice, which has no files."""
    if call.capability == "voice.clone":
        if steps.crash:
            raise RuntimeError("the sandbox was asked to crash")
        name = text(call.request, "name")
        voice = Item((), {"name": name}, {"voice": _seed(text(call.request, "audio_url"), name), NEXT: steps.next})
        return Succeeded(items=(voice,), response={"state": "succeeded"})
    data, seconds = await paint(_read, text(call.request, "text"), _voice(call), text(call.request, "format"))
    item = Item((Asset(await store(call, data, steps), role="audio"),), {"seconds": seconds}, {NEXT: steps.next})
    return Succeeded(items=(item,), response={"state": "succeeded"})


def _voice(call: Call) -> int:
    """A number that stands for a voice."""
    source = call.source("voice_id")
    if source is not None:
        return int(source.about["voice"])
    return _seed(call.model, str(call.request.get("reference_id") or call.request.get("voice_id") or ""))


def _seed(*said: str) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(said).encode("utf-8", "surrogatepass"), digest_size=4).digest())


def _read(said: str, voice: int, form: str) -> tuple[bytes, float]:
    """The file and its seconds: WAV where that was asked for or nothing else can be written, else MP3."""
    low, high = _PITCHES
    base, samples = low + voice % (high - low), array("h")
    for number, syllables in enumerate(_syllables(said)):
        for at in range(syllables):
            samples.extend(_tone(base * 2 ** (_STEPS[(number + at) % len(_STEPS)] / 12)))
        samples.extend(array("h", bytes(2 * round(_PAUSE_S * RATE))))
        if len(samples) > SECONDS_MAX * RATE:
            break
    pcm, about = samples.tobytes(), {"rate": RATE, "comment": said[:200]}
    data: bytes = sound.wav(pcm, rate=RATE, comment=said[:200]) if form == "wav" else _file(pcm, about)
    return data, round(len(samples) / RATE, 2)


def _file(pcm: bytes, about: dict[str, Any]) -> bytes:
    return sound.song_file(pcm, **about)[0]


def _syllables(said: str) -> list[int]:
    """Of each word, at least one."""
    return [max(1, len(_VOWELS.findall(word))) for word in said.split()]


@lru_cache(maxsize=64)
def _tone(hertz: float) -> "array[int]":
    """One syllable: a tone that swells and fades, with two overtones."""
    count = round(_SYLLABLE_S * RATE)
    turn = 2 * math.pi * hertz / RATE
    return array("h", [
        round(9_000 * math.sin(math.pi * at / count) * (
            math.sin(turn * at) + 0.4 * math.sin(2 * turn * at) + 0.2 * math.sin(3 * turn * at)))
        for at in range(count)
    ])  # fmt: skip

"""The words for songs of the sandbox: `music.lyrics`, `music.mashup_lyrics` and `music.style`."""

from typing import Any

from bide.providers.base import Call, Outcome, Succeeded
from bide.providers.drawing_files import Refused
from bide.providers.media import words
from bide.providers.media.words import Lyrics
from bide.providers.sandbox_song import seed_of
from bide.providers.sandbox_steps import Steps, text

CAPABILITIES = frozenset({"music.lyrics", "music.mashup_lyrics", "music.style"})

VARIANTS = 2


def check(call: Call) -> None:
    """Raises `Refused` for what cannot be made."""
    _said(call)


async def make(call: Call, steps: Steps) -> Outcome:
    said = _said(call)
    if steps.crash:
        raise RuntimeError("the sandbox was asked to crash")
    if "variants" in said:
        said["variants"] = said["variants"][: steps.partial]
    return Succeeded(response=said)


def _said(call: Call) -> dict[str, Any]:
    request = call.request
    if call.capability == "music.mashup_lyrics":
        first, second = text(request, "lyrics_a"), text(request, "lyrics_b")
        if not first or not second:
            raise Refused("lyrics_a and lyrics_b are needed: there is nothing to mix")
        return _shown(words.mashup(first, second, seed_of(first, second)))
    prompt = text(request, "prompt")
    if not prompt:
        raise Refused("prompt is missing: there is nothing to write about")
    if call.capability == "music.style":
        return {"upsampled_tags": words.style(prompt, seed_of(prompt))}
    variants = [_shown(words.lyrics(prompt, seed_of(prompt, number))) for number in range(VARIANTS)]
    return {**variants[0], "variants": variants}


def _shown(made: Lyrics) -> dict[str, Any]:
    return {"text": made.text, "title": made.title, "tags": list(made.tags)}

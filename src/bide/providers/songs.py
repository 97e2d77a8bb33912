"""A song in one text, for upstreams that take no more, and what can be said of the song that came."""

from typing import Any

from bide.providers.base import Call
from bide.providers.films import text

ACTIONS = frozenset({"", "generate"})
TITLE_MAX = 80
_VOICES = {"m": "a male voice", "f": "a female voice"}


def prompt_of(call: Call) -> str | None:
    """All that a call says of a song; None for what would follow up on another song, or for nothing said."""
    request = call.request
    if text(request, "action") not in ACTIONS or request.get("audio_urls"):
        return None
    instrumental = request.get("instrumental") is True
    lyric = "" if instrumental else text(request, "lyric")
    said = [text(request, "prompt")]
    for name, before in (("style", "Style: "), ("negative_tags", "Without: "), ("title", "Title: ")):
        if value := text(request, name):
            said.append(before + value)
    if not (any(said) or lyric):
        return None
    if instrumental:
        said.append("Instrumental, nobody sings.")
    elif voice := _VOICES.get(text(request, "vocal_gender")):
        said.append(f"Sung by {voice}.")
    seconds = request.get("duration")
    if isinstance(seconds, int | float) and seconds > 0:
        said.append(f"About {seconds:g} seconds long.")
    if not instrumental and not lyric and (about := text(request, "lyric_prompt")):
        said.append(f"Lyrics about: {about}")
    if lyric:
        said.append(f"Lyrics:\n{lyric}")
    return "\n".join(one for one in said if one)


def song_fields(call: Call, texts: list[str]) -> dict[str, Any]:
    """The words of the item: those that were asked for, else those that the upstream wrote beside the sound."""
    request = call.request
    prompt = text(request, "prompt")
    return {
        "title": text(request, "title") or (prompt or text(request, "style"))[:TITLE_MAX], "prompt": prompt,
        "lyric": text(request, "lyric") or "\n\n".join(texts), "style": text(request, "style"),
    }  # fmt: skip

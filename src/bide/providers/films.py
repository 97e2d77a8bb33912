"""What a call for a film asks for, whatever the service it came through calls it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bide.providers.base import Call, Input, Source

VIDEO = "video"
_SIZES = {"small": 720, "large": 1080, "std": 720, "pro": 1080, "2k": 1440, "4k": 2160}
_SHORT_SIDES = (360, 480, 540, 720, 768, 1080)
_ENDS = ("end_image", "last_image", "tail_image", "last_frame")
_REFERENCES = ("reference", "ingredient")


@dataclass(frozen=True, slots=True)
class Film:
    """`ratio` is `16:9` and the like; `short_side` in pixels; both empty or 0 if the call does not say. `first` and
    `last` are pictures it begins and ends with, `references` what it shows, `follows` an earlier film."""

    prompt: str
    action: str
    ratio: str
    short_side: int
    seconds: float | None
    first: Input | None
    last: Input | None
    references: tuple[Input, ...]
    follows: Source | None


def asked(call: Call) -> Film:
    """What a call asks for."""
    request = call.request
    action = text(request, "action")
    last = next((one for one in call.inputs if one.field.startswith(_ENDS)), None)
    others = [one for one in call.inputs if one is not last and one.field != "mask"]
    first, references = others[0] if others else None, list[Input]()
    shows = action.startswith(_REFERENCES) or "reference" in action
    if shows or len(others) > 2 or any(one.field.startswith(_REFERENCES) for one in others):
        references = others if shows or len(others) > 2 else [
            one for one in others if one.field.startswith(_REFERENCES)
        ]  # fmt: skip
        first = next((one for one in others if one not in references), None)
    elif len(others) == 2 and last is None:
        last = others[1]
    return Film(
        _prompt(request), action, _ratio(request), _short_side(request), _seconds(request), first, last,
        tuple(references), call.source("video_id"),
    )  # fmt: skip


def nearest(seconds: float | None, made: Sequence[float], otherwise: float) -> float:
    """The length an upstream makes that is nearest to the one asked for; the longer of two."""
    return otherwise if seconds is None else min(made, key=lambda one: (abs(one - seconds), -one))


def video_of(source: Source) -> Input | None:
    """The film itself among the files of an earlier item."""
    return next((one for one in source.files if one.field == VIDEO), None)


def text(request: Mapping[str, Any], name: str) -> str:
    value = request.get(name)
    return value if isinstance(value, str) else ""


def _prompt(request: Mapping[str, Any]) -> str:
    parts = request.get("content")
    said = [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)] if (
        isinstance(parts, list)
    ) else []  # fmt: skip
    return text(request, "prompt") or text(request, "text") or " ".join(said)


def pixels(request: Mapping[str, Any]) -> tuple[int, int] | None:
    """`size` as `WxH`, if it is that."""
    width, cross, height = text(request, "size").replace("*", "x").partition("x")
    if cross and width.isdecimal() and height.isdecimal() and len(width + height) < 12 and int(width) * int(height):
        return int(width), int(height)
    return None


def _ratio(request: Mapping[str, Any]) -> str:
    if (size := pixels(request)) is not None:
        return "16:9" if size[0] > size[1] else "9:16" if size[0] < size[1] else "1:1"
    if (turned := text(request, "orientation")) in ("landscape", "portrait"):
        return "16:9" if turned == "landscape" else "9:16"
    return text(request, "aspect_ratio")


def _short_side(request: Mapping[str, Any]) -> int:
    if (size := pixels(request)) is not None:
        return min(size)
    for name in ("resolution", "size", "mode"):
        said = text(request, name).lower()
        if said in _SIZES:
            return _SIZES[said]
        digits = said.removesuffix("p")
        if digits.isdecimal() and digits in map(str, _SHORT_SIDES):
            return int(digits)
    return 0


def _seconds(request: Mapping[str, Any]) -> float | None:
    value = request.get("duration")
    if isinstance(value, str) and value.isdecimal() and len(value) < 6:
        value = int(value)
    return float(value) if isinstance(value, int | float) and value > 0 else None

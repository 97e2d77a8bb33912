"""Clips as both dialects of `suno_proxy` tell of them: how far they are, and what song they are. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from bide.providers.base import Asset, Call, Item, Outcome, Succeeded
from bide.providers.exchange import Answer, failed_work, web_address

WORKING, DONE, FAILED = "working", "done", "failed"
STATES: Final[Mapping[str, str]] = {
    **dict.fromkeys((
        "not_start", "submitted", "queueing", "queued", "pending", "in_progress", "processing", "streaming",
        "text_success", "first_success",
    ), WORKING),
    **dict.fromkeys(("success", "complete", "completed"), DONE),
    **dict.fromkeys(("failure", "failed", "error"), FAILED),
}  # fmt: skip
"""Words of tasks and clips, in lower case. Another is work that goes on."""
TITLE_MAX = 80
MARK = 8
EARLIER_S = 30.0
"""How much the wrapper's clock may differ from ours."""
PAIR = 2
TEXT_MAX = 10_000

Clip = Mapping[str, Any]


def state(clip: Clip) -> str:
    return STATES.get(str(clip.get("status")).lower(), WORKING)


def is_id(value: Any) -> bool:
    """Ids are put into a list with commas."""
    return isinstance(value, str) and 0 < len(value) <= 100 and value.isprintable() and "," not in value


def percent(value: Any) -> int | None:
    text = value.strip().removesuffix("%") if isinstance(value, str) else ""
    return min(int(text), 100) if text.isascii() and text.isdigit() and len(text) < 4 else None


# -- what was made


def finished(call: Call, answer: Answer, clips: Sequence[Clip], *, task: str = "") -> Outcome:
    """The songs of clips that are over. Those that failed are left out, unless all did."""
    items = []
    for clip in clips:
        if state(clip) != FAILED and (audio := web_address(clip.get("audio_url"))):
            items.append(_song(call, clip, audio, task))
    if items:
        return Succeeded(items=tuple(items), response={"state": "succeeded"})
    return failed_work(call, answer, reason(clips) or "The upstream says it succeeded, but there is no song.")


def reason(clips: Any) -> str:
    """Why the first clip failed that says so."""
    for clip in clips if isinstance(clips, list) else ():
        if isinstance(clip, dict):
            said = clip.get("error_message") or _about(clip).get("error_message")
            if isinstance(said, str) and said:
                return said
    return ""


def _song(call: Call, clip: Clip, audio: str, task: str) -> Item:
    about = _about(clip)
    found = [("audio", audio), ("image", web_address(clip.get("image_url"))),
             ("image_large", web_address(clip.get("image_large_url")))]  # fmt: skip
    if not found[1][1]:
        found[1] = ("image", found[2][1])
    told = {
        "title": _unmarked(call, _text(clip.get("title"))),
        "lyric": _text(clip.get("lyric")) or _text(clip.get("prompt")) or _text(about.get("prompt")),
        "style": _text(clip.get("tags")) or _text(about.get("tags")),
        "prompt": _text(clip.get("gpt_description_prompt")) or _text(call.request.get("prompt")),
    }
    fields: dict[str, Any] = {**told}
    if (seconds := _number(clip.get("duration")) or _number(about.get("duration"))) is not None:
        fields["duration"] = seconds
    follow = {"clip": _text(clip.get("id")), **({"task": task} if task else {})}
    return Item(tuple(Asset(url=url, role=role) for role, url in found if url), fields, follow)


def variants(listed: list[Any]) -> list[dict[str, Any]]:
    """Lyrics, each with a title and tags."""
    found = []
    for one in listed:
        if isinstance(one, dict) and (text := _text(one.get("text"))):
            tags = one.get("tags")
            tags = tags.split(",") if isinstance(tags, str) else tags if isinstance(tags, list) else []
            kept = [tag.strip() for tag in tags if isinstance(tag, str) and tag.strip()]
            found.append({"text": text, "title": _text(one.get("title")), "tags": kept})
    return found


# -- which submission a clip is of


def marked(call: Call, title: str) -> str:
    """A title with the end of our task's id, if there is room for it."""
    return f"{title}{_mark(call)}" if len(title) + len(_mark(call)) <= TITLE_MAX else title


def _mark(call: Call) -> str:
    return f" #{call.task_id[-MARK:]}"


def _unmarked(call: Call, title: str) -> str:
    return title.replace(_mark(call), "")


def of_submission(call: Call, title: str, words: str, listed: list[Any]) -> list[dict[str, Any]]:
    """The clips of a submission: those with its mark; if it had none, those with its words that were made since, if
    they are a pair. Of more nobody can say whose they are."""
    clips = [one for one in listed if isinstance(one, dict) and is_id(one.get("id")) and _is_since(call, one)]
    if title and marked(call, title) != title:
        return [one for one in clips if _mark(call) in _text(one.get("title"))]
    same = [one for one in clips if words and words in (_text(one.get("gpt_description_prompt")),
                                                         _text(one.get("prompt")))]  # fmt: skip
    return same if len(same) == PAIR and call.asked_at else []


def _is_since(call: Call, clip: Clip) -> bool:
    try:
        at = datetime.fromisoformat(_text(clip.get("created_at")))
    except ValueError:
        return False
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return at.timestamp() * 1000 >= call.asked_at - EARLIER_S * 1000


def _about(clip: Clip) -> Mapping[str, Any]:
    inner = clip.get("metadata")
    return inner if isinstance(inner, dict) else {}


def _text(value: Any) -> str:
    return value[:TEXT_MAX] if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else 0.0
    except ValueError:
        return None
    return number if 0 < number < 100_000 else None

"""What the body and the headers of an upstream's error say, whatever their shape.

The shapes, all seen in use:

    {"error": {"message", "type", "param", "code", "innererror": {"code"}}}        OpenAI, Azure
    {"error": {"code": 429, "message", "status": "RESOURCE_EXHAUSTED"}}            Google
    {"error": "text"}   {"success": false, "error": {…}}   {"message": "text"}
    {"detail": "text"}  {"detail": [{"loc", "msg", "type"}]}                       FastAPI
    {"code": n, "description" | "message"}
    {"title", "detail", "status"}                                                  RFC 9457
    {"errors": [{"code", "message"}]}
    an HTML page (its title counts), plain text, nothing

An error's body is a stranger's: everything here is linear in its length, and no repetition in a pattern is
without a bound.
"""

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

WAIT_MAX_S = 120.0
"""Longer waits than this are not obeyed as such: the channel is asked again, or another one."""
TEXT_MAX = 1_000
"""Characters of one text that are kept: patterns run on it, and nobody is shown more."""
_PAGE_MAX = 4_096
_HTML_TEXT_MAX = 200
_DEPTH_MAX = 8
_SPAN_MAX = 60
_MESSAGES = ("message", "detail", "description", "msg", "error", "title")
_TAGS = re.compile(r"<[^<>]{0,500}>")
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s{0,3}(ms|[smhd])")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TRY_AGAIN = re.compile(
    r"(?i)(?:try again|retry) (?:in|after) ((?:\d{1,9}(?:\.\d{1,9})?\s{0,3}(?:ms|[smh])\s{0,3}){1,4})"
)


@dataclass(frozen=True, slots=True)
class Words:
    """`codes`: everything that names the error, the most exact first. `number`: a numeric code.

    `kind` is OpenAI's `type`. `structured`: the body had one of the shapes of an API, so the upstream itself
    speaks, not a proxy before it.
    """

    message: str = ""
    codes: tuple[str, ...] = ()
    kind: str = ""
    number: int | None = None
    param: str = ""
    structured: bool = False


def from_bytes(body: bytes) -> Words:
    """The words of an error's body, which may be cut off or anything else."""
    text = body.decode("utf-8", "replace").strip()
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        document = None
    if document is not None:
        words = from_document(document)
        if words is not None:
            return words
    return Words(message=_page(text))


def from_document(document: Any, depth: int = 0) -> Words | None:
    """The words of a decoded document, or None if it has none of the shapes (`depth`: it lies so deep in another)."""
    if depth > _DEPTH_MAX:
        return None
    if isinstance(document, list) and document:
        document = document[0]
    if isinstance(document, str) and document:
        return Words(message=_text(document), structured=True)
    if not isinstance(document, dict):
        return None
    error = document.get("error")
    if isinstance(error, dict) and error:
        return _from_error(error)
    if isinstance(error, str) and error:
        inner = _from_error(document)
        return Words(inner.message, inner.codes or _code_like(error), inner.kind, inner.number, inner.param, True)
    errors = document.get("errors")
    if isinstance(errors, list) and errors:
        return from_document(errors[0], depth + 1)
    detail = document.get("detail")
    if isinstance(detail, list) and detail:
        return _from_fields(detail)
    if isinstance(detail, dict) and detail:
        return from_document(detail, depth + 1)
    if any(_text(document.get(name)) for name in _MESSAGES):
        return _from_error(document)
    return None


def _from_error(error: Mapping[str, Any]) -> Words:
    inner = error.get("innererror")
    candidates = [inner.get("code") if isinstance(inner, dict) else None, error.get("code"), error.get("status")]
    codes = tuple(_text(code) for code in candidates if isinstance(code, str) and code and not code.isdigit())
    numbers = [_number(code) for code in candidates]
    return Words(
        message=next((text for name in _MESSAGES if (text := _text(error.get(name)))), ""),
        codes=codes,
        kind=_text(error.get("type")),
        number=next((number for number in numbers if number is not None), None),
        param=_text(error.get("param")),
        structured=True,
    )


def _from_fields(detail: list[Any]) -> Words:
    """FastAPI's list: one entry per wrong field."""
    said: list[str] = []
    param = ""
    for entry in detail[:5]:
        if isinstance(entry, dict):
            loc = entry.get("loc")
            parts = [str(part) for part in loc[:8] if part != "body"] if isinstance(loc, list) else []
            place = _text(".".join(parts))
            param = param or place
            said.append(f"{place}: {_text(entry.get('msg'))}" if place else _text(entry.get("msg")))
        else:
            said.append(_text(entry))
    kind = detail[0].get("type") if isinstance(detail[0], dict) else None
    return Words(_text("; ".join(filter(None, said))), kind=_text(kind), param=param, structured=True)


def _text(value: Any) -> str:
    return value[:TEXT_MAX] if isinstance(value, str) else ""


def _number(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10 else None


def _code_like(text: str) -> tuple[str, ...]:
    """`{"error": "insufficient_quota"}`: the text is the code."""
    return (text,) if len(text) <= 100 and "_" in text.strip("_") and text.replace("_", "").isalpha() else ()


def _page(text: str) -> str:
    text = text[:_PAGE_MAX]
    if "<" in text[:1]:
        text = _title(text) or _TAGS.sub(" ", text)
    return " ".join(text.split())[:_HTML_TEXT_MAX]


def _title(page: str) -> str:
    """What stands between the tags of the title, or nothing: looked for, not matched, so that it costs one pass."""
    lower = page.translate(_LOWER)  # of the same length, which `lower()` does not promise
    start = lower.find("<title")
    start = lower.find(">", start) if start >= 0 else -1
    end = lower.find("</title", start) if start >= 0 else -1
    return page[start + 1 : end] if end >= 0 else ""


def wait_s(headers: Mapping[str, str], message: str = "") -> float | None:
    """Seconds an upstream asks to wait, at most `WAIT_MAX_S`; None if it does not say.

    `retry-after-ms`, then `retry-after` (seconds, or a date, measured against the answer's own `date`), then
    the reset of those `x-ratelimit` counters that are used up, then "try again in 20s" in the message.
    """
    said = _decimal(headers.get("retry-after-ms"))
    if said is not None:
        return _capped(said / 1000)
    after = headers.get("retry-after")
    said = _decimal(after)
    if said is None and after:
        said = _span(after) or _until(after, headers.get("date"))
    if said is None:
        resets = [
            reset
            for what in ("requests", "tokens", "images")
            if headers.get(f"x-ratelimit-remaining-{what}", "0").strip() == "0"
            and (reset := _span(headers.get(f"x-ratelimit-reset-{what}", ""))) is not None
        ]
        said = max(resets, default=None)
    if said is None and (found := _TRY_AGAIN.search(message[:TEXT_MAX])):
        said = _span(found.group(1))
    return None if said is None else _capped(said)


def _capped(seconds: float) -> float:
    return min(max(seconds, 0.0), WAIT_MAX_S)


def _decimal(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\s{0,9}\d{1,9}(?:\.\d{1,9})?\s{0,9}", text) else None


def _span(text: str) -> float | None:
    """`6m0s`, `20ms`, `1.5s`, `12`: seconds."""
    if (plain := _decimal(text)) is not None:
        return plain
    if len(text) > _SPAN_MAX:
        return None
    parts = _SPAN.findall(text)
    if not parts or _SPAN.sub("", text).strip():
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _until(moment: str, now: str | None) -> float | None:
    try:
        then, since = parsedate_to_datetime(moment[:_SPAN_MAX]), parsedate_to_datetime((now or "")[:_SPAN_MAX])
        return (then - since).total_seconds()
    except (ValueError, TypeError):
        return None

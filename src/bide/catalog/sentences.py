"""The words of a refusal: what a value is, and what a field takes. Pure.

The words for reading before anything goes wrong are those of the documentation (`bide.api.field_words`).
"""

import json
from typing import Any

from bide.catalog import sizes
from bide.catalog.fields import URL_LENGTH_MAX, Field


def shown(value: Any) -> str:
    """A value of a body in a sentence: short, on one line."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            if len(value) <= 60:
                return json.dumps(value, ensure_ascii=False)
            return f"{json.dumps(value[:40], ensure_ascii=False)[:-1]}…\" ({len(value):,} characters)"
        case list():
            return f"a list of {len(value)}"
        case {"filename": _, "size": int(size)}:
            return f"a file of {size:,} bytes"
        case dict():
            return "an object"
        case _:
            return str(value)


def allowed(field: Field) -> str:
    """What a field takes, in words, to follow 'it must be'."""
    if field.form_only:
        return f"{_allowed(field)} in a multipart/form-data body"
    return _allowed(field)


def _allowed(field: Field) -> str:
    if field.enum is not None:
        listed = [shown(value) for value in field.enum]
        return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} or {listed[-1]}"
    match field.type:
        case "string":
            return f"a text{_between(field.length_min, field.length_max, 'characters')}{_text_rest(field)}"
        case "integer" | "number":
            return _number_allowed(field)
        case "boolean":
            return "true or false"
        case "size":
            return sizes.allowed(field)
        case "url" | "file" | "item":
            return item_allowed(field)
        case "object":
            return "an object"
        case "text_or_object":
            return f"{item_allowed(field)}, or an object"
        case _:
            count = _between(field.count_min, field.count_max, "")
            if field.count_max == 1:
                return item_allowed(field)
            single = "" if field.type in ("strings", "array") else f"{item_allowed(field)}, or "
            return f"{single}a list{count or ' of them'}"


def _number_allowed(field: Field) -> str:
    if field.min is not None and field.min == field.max:
        return str(field.min)
    kind = "a whole number" if field.type == "integer" else "a number"
    if field.min is not None and field.max is not None:
        return f"{kind} from {field.min} to {field.max}"
    return kind + _between(field.min, field.max, "")


def _between(least: float | None, most: float | None, unit: str) -> str:
    unit = f" {unit}" if unit else ""
    if least and most is not None:
        return f" of {least:,} to {most:,}{unit}"
    if most is not None:
        return f" of at most {most:,}{unit}"
    return f" of at least {least:,}{unit}" if least is not None else ""


def _text_rest(field: Field) -> str:
    if field.plain:
        return " without control characters"
    return f" that matches {field.pattern}" if field.pattern else ""


def item_allowed(field: Field) -> str:
    url = f"an http:// or https:// URL of at most {field.length_max or URL_LENGTH_MAX:,} characters"
    file = "a file" + (f" of at most {field.bytes_max:,} bytes" if field.bytes_max else "")
    match field.type:
        case "url" | "urls":
            return url
        case "item" | "items":
            return f"the id of {_of_kind(field)}"
        case "file":
            return file
        case "files":
            return f"{url} (in a multipart/form-data body also {file})"
        case _:
            return f"a text{_between(field.length_min, field.length_max, 'characters')}"


def _of_kind(field: Field) -> str:
    kind = field.kind or "result"
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind} made before"

"""What the catalogue says of fields and of the rules between them, in words for people. Markdown, pure.

The words of refusals are in `bide.catalog.sentences`; these are for reading before anything goes wrong.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from bide.catalog.fields import Bounds, Field
from bide.catalog.load import Operation
from bide.catalog.rules import Rule

_TYPES: Mapping[str, str] = {
    "url": "URL",
    "urls": "URL or list of URLs",
    "strings": "list of strings",
    "array": "list",
    "file": "file (multipart)",
    "files": "URL, list of URLs, or files",
    "size": "`WxH` or `auto`",
    "items": "id or list of ids",
    "text_or_object": "string or object",
}
_BOUNDS = (
    ("min", "at least {}"), ("max", "at most {}"), ("length_min", "at least {:,} characters"),
    ("length_max", "at most {:,} characters"), ("pattern", "matches `{}`"),
    ("count_min", "at least {} entries"), ("count_max", "at most {} entries"),
    ("bytes_max", "at most {:,} bytes each"), ("multiple_of", "sides multiples of {}"), ("side_min", "sides from {}"),
    ("side_max", "sides to {:,}"), ("pixels_min", "at least {:,} pixels"), ("pixels_max", "at most {:,} pixels"),
    ("ratio_max", "at most {:g}:1"),
)  # fmt: skip


def type_of(field: Field) -> str:
    """The type with its bounds; of a field with few values, those."""
    if field.enum:
        return ", ".join(f"`{value}`" for value in field.enum)
    if field.type == "item":
        return f"id of {_a(field.kind or 'result')} made before"
    return f"{_TYPES.get(field.type, field.type)} {bounds(field)}".strip()


def spellings(field: Field) -> str:
    """A sentence with a space before it for each other way to say the field."""
    listed = ", ".join(f"`{one}`" for one in field.aliases)
    also = f" Also spelled {listed}." if listed else ""
    return also + (f" Where the body leaves it out, the header `{field.header}` says it." if field.header else "")


def default_of(field: Field) -> Any:
    """What leaving it out means, whoever decides so; None: nothing."""
    return field.default if field.default is not None else field.assumed


def bounds(found: Bounds) -> str:
    """`(at least 1, at most 10)`; empty where nothing is bounded."""
    said = [text.format(value) for name, text in _BOUNDS if _is_said(name, value := getattr(found, name, None))]
    return f"({', '.join(said)})" if said else ""


def _is_said(name: str, value: Any) -> bool:
    return value is not None and not (name in ("length_min", "count_min") and value <= 1)


def rules_of(operation: Operation) -> list[str]:
    """One sentence for each rule that does something."""
    return [_rule(rule) for rule in operation.rules]


def _rule(rule: Rule) -> str:
    met = [f"`{name}` is {_either(globs)}" for name, globs in rule.when.items()]
    met += [f"`{name}` is left out" for name in rule.without]
    when = " and ".join(met) or "Always"
    if rule.message:
        return f"{when}: refused{' for some values' if rule.refuse else ''}: {rule.message}"
    does = [f"`{name}` is {_value(value)} unless it is given" for name, value in rule.default.items()]
    does += [f"`{name}` is {_value(value)}" for name, value in rule.force.items()]
    does += [f"`{name}`: {_narrowed(found)}" for name, found in rule.set.items()]
    does += [f"`{name}` is needed" for name in rule.require]
    does += [f"{' or '.join(f'`{name}`' for name in rule.require_one)} is needed"] if rule.require_one else []
    return f"{when}: {'; '.join(does)}"


def _value(value: Any) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _either(globs: Iterable[str]) -> str:
    return " or ".join(f"`{one}`" for one in globs)


def _narrowed(found: Bounds) -> str:
    values = ", ".join(f"`{one}`" for one in found.enum or ())
    return " ".join(part for part in (values, bounds(found)) if part)


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"

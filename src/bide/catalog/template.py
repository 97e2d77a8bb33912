"""Answers as data: the `answer` table of an operation, checked once and then filled in for every result. Pure.

A table, a list, a number or a boolean stands for itself. A text that is one name in braces stands for that value in
its own type, a text with names in it for the text. What has no value leaves its key, or its place in a list, out.

    {request.NAME}   a field of the request, with its default
    {said.NAME}      what the provider said beside the files (`Succeeded.response`); `{said.usage.NAME}`: inside it
    {item.NAME}      of a produced item: `id`, `number` (from 1), and what the provider said of it (`Item.fields`)
    {asset.ROLE}     the address of its first file of that role; `{assets.ROLE}`: those of all of them, as a list
    {task.NAME}      `id`, `trace_id`
    {time.NAME}      `created` and `finished`: `2026-01-02 10:00:00` in UTC; with `_iso` behind as
                     `2026-01-02T10:00:00.000Z`, with `_s` as Unix seconds, with `_unix` as
                     whole ones; `elapsed_s`: seconds between them
    {one.NAME}       of the entry, in what is repeated for the entries of another list

A table in a list that has `each = "items"` is repeated for every item, one that has `each = "said.NAME"` for every
entry of that list. Outside of these `item`, `asset` and `assets` are the first item's.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

Json = dict[str, Any]
Contexts = Mapping[str, Mapping[str, Any]]

ABSENT: Final[Any] = object()
TASK_NAMES = frozenset({"id", "trace_id"})
_TIME_FORMS = ("", "_iso", "_s", "_unix")
TIME_NAMES = frozenset({*(f"{when}{form}" for when in ("created", "finished") for form in _TIME_FORMS), "elapsed_s"})
CONTEXTS = ("request", "said", "item", "asset", "assets", "task", "time", "one")
EACH_ITEM = "items"

_NAME = re.compile(r"\{([a-z]+)\.([A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)\}")
_LIKE_A_NAME = re.compile(r"\{[^{}]*\}")


class TemplateError(ValueError):
    """A template that is wrong, in a sentence that names the place."""


@dataclass(frozen=True, slots=True)
class Constant:
    value: Any


@dataclass(frozen=True, slots=True)
class Name:
    """`{context.name}`."""

    context: str
    name: str


@dataclass(frozen=True, slots=True)
class Text:
    """A text with names in it."""

    parts: tuple["str | Name", ...]


@dataclass(frozen=True, slots=True)
class Table:
    entries: Mapping[str, "Node"]


@dataclass(frozen=True, slots=True)
class Each:
    """A table for each item (`over` is None), or for each entry of a list."""

    over: Name | None
    entry: Table


@dataclass(frozen=True, slots=True)
class Listing:
    entries: tuple["Node | Each", ...]


Node = Constant | Name | Text | Table | Listing


@dataclass(frozen=True, slots=True)
class Made:
    """One item as templates see it."""

    item: Mapping[str, Any]
    asset: Mapping[str, str]
    assets: Mapping[str, list[str]]


def parse(template: Mapping[str, Any], fields: Sequence[str]) -> Table:
    """The template of an operation with these fields. Raises `TemplateError`."""
    return _table("answer", template, frozenset(fields), in_list=False)


def _table(place: str, table: Mapping[str, Any], fields: frozenset[str], *, in_list: bool) -> Table:
    if "each" in table and not in_list:
        raise TemplateError(f"{place}: `each` means something in a table of a list alone")
    return Table({
        key: _node(f"{place}.{key}", value, fields, in_list=in_list) for key, value in table.items() if key != "each"
    })  # fmt: skip


def _node(place: str, value: Any, fields: frozenset[str], *, in_list: bool) -> Node:
    if isinstance(value, dict):
        if "each" in value:
            raise TemplateError(f"{place}: `each` means something in a table of a list alone")
        return _table(place, value, fields, in_list=in_list)
    if isinstance(value, list):
        return Listing(tuple(_entry(f"{place}[{at}]", one, fields, in_list=in_list) for at, one in enumerate(value)))
    return _text(place, value, fields, in_list=in_list) if isinstance(value, str) else Constant(value)


def _entry(place: str, value: Any, fields: frozenset[str], *, in_list: bool) -> Node | Each:
    if not isinstance(value, dict) or "each" not in value:
        return _node(place, value, fields, in_list=in_list)
    each = value["each"]
    over = None if each == EACH_ITEM else _text(place, f"{{{each}}}", fields, in_list=in_list)
    if over is not None and not isinstance(over, Name):
        raise TemplateError(f'{place}: `each` is {each!r}; it must be "{EACH_ITEM}" or a name such as said.words')
    return Each(over, _table(place, value, fields, in_list=True))


def _text(place: str, text: str, fields: frozenset[str], *, in_list: bool) -> Node:
    parts: list[str | Name] = []
    at = 0
    for found in _LIKE_A_NAME.finditer(text):
        name = _NAME.fullmatch(found[0])
        if name is None or not _is_known(name[1], name[2], fields, in_list=in_list):
            raise TemplateError(f"{place}: there is no {found[0]}")
        if found.start() > at:
            parts.append(text[at : found.start()])
        parts.append(Name(name[1], name[2]))
        at = found.end()
    if not parts:
        return Constant(text)
    if at < len(text):
        parts.append(text[at:])
    return parts[0] if len(parts) == 1 and isinstance(parts[0], Name) else Text(tuple(parts))


def _is_known(context: str, name: str, fields: frozenset[str], *, in_list: bool) -> bool:
    match context:
        case "request":
            return name in fields
        case "task":
            return name in TASK_NAMES
        case "time":
            return name in TIME_NAMES
        case "one":
            return in_list
        case "said":
            return True
        case _:
            return context in CONTEXTS and "." not in name


def names(node: Node | Each) -> Iterator[Name]:
    """Every name in a template."""
    match node:
        case Name():
            yield node
        case Text():
            yield from (part for part in node.parts if isinstance(part, Name))
        case Table():
            for one in node.entries.values():
                yield from names(one)
        case Listing():
            for entry in node.entries:
                yield from names(entry)
        case Each():
            yield from names(node.entry)


# -- filling in


def fill(template: Table, contexts: Contexts, made: Sequence[Made]) -> Json:
    """The answer. `contexts` are request, said, task and time."""
    return _filled_table(template, _with(contexts, made[0]) if made else contexts, made)


def _with(contexts: Contexts, made: Made) -> Contexts:
    return {**contexts, "item": made.item, "asset": made.asset, "assets": made.assets}


def _filled_table(table: Table, contexts: Contexts, made: Sequence[Made]) -> Json:
    filled = {key: _filled(one, contexts, made) for key, one in table.entries.items()}
    return {key: value for key, value in filled.items() if value is not ABSENT}


def _filled(node: Node, contexts: Contexts, made: Sequence[Made]) -> Any:
    match node:
        case Constant():
            return node.value
        case Name():
            value: Any = contexts.get(node.context, {})
            for part in node.name.split("."):
                value = value.get(part) if isinstance(value, Mapping) else None
            return ABSENT if value is None else value
        case Text():
            values = [one if isinstance(one, str) else _filled(one, contexts, made) for one in node.parts]
            return ABSENT if any(one is ABSENT for one in values) else "".join(map(str, values))
        case Table():
            return _filled_table(node, contexts, made)
        case Listing():
            return [one for entry in node.entries for one in _entries(entry, contexts, made) if one is not ABSENT]


def _entries(entry: Node | Each, contexts: Contexts, made: Sequence[Made]) -> list[Any]:
    if not isinstance(entry, Each):
        return [_filled(entry, contexts, made)]
    if entry.over is None:
        return [_filled_table(entry.entry, _with(contexts, one), made) for one in made]
    listed = _filled(entry.over, contexts, made)
    if not isinstance(listed, list | tuple):
        return []
    return [_filled_table(entry.entry, {**contexts, "one": one}, made) for one in listed if isinstance(one, Mapping)]


def times(created_ms: int, finished_ms: int) -> dict[str, Any]:
    """The context `time`."""
    found: dict[str, Any] = {"elapsed_s": (finished_ms - created_ms) / 1000}
    for when, at_ms in (("created", created_ms), ("finished", finished_ms)):
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
        found[when] = at.strftime("%Y-%m-%d %H:%M:%S")
        found[f"{when}_iso"] = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        found[f"{when}_s"], found[f"{when}_unix"] = at_ms / 1000, at_ms // 1000
    return found

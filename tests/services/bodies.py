"""Requests made from the catalogue alone: the smallest an operation takes, and every way to get a field wrong."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bide.catalog.checks import left_out
from bide.catalog.fields import ITEMS, Field
from bide.catalog.files import tables_of
from bide.catalog.load import Catalog, Operation
from bide.catalog.places import EACH, FRONT, PARAMETERS
from bide.errors import BadRequest

PICTURE = "https://example.com/boat.png"
ITEM = "0190c0a0-0000-7000-8000-000000000001"


def everything(directory: Path) -> Path:
    """A directory of an operator who switches on all that the package knows and does not offer."""
    for name, (_, table) in tables_of([]).items():
        off = [path for path, one in table["operations"].items() if one.get("enabled") is False]
        if off:
            lines = [f'name = "{name}"', *(f'[operations."{path}"]\nenabled = true' for path in off)]
            (directory / f"{name}.toml").write_text("\n".join(lines), "utf-8")
    return directory


def operations(catalog: Catalog) -> list[Operation]:
    return [operation for service in catalog.services.values() for operation in service.operations.values()]


def smallest(
    operation: Operation, given: Mapping[str, Any] | None = None, also: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The required fields, and then whatever the refusals ask for. `given`: values of some fields, where needed;
    `also`: values of some fields in any case."""
    body = {name: value_of(name, field, given) for name, field in operation.fields.items() if field.required}
    body |= also or {}
    for _ in range(20):
        try:
            operation.check(body)
            return body
        except BadRequest as refusal:
            missing, said, _ = str(refusal).partition(" is missing")
            if not said:
                raise AssertionError(f"{operation.key}: {body}: {refusal}") from None
            name = next(one for one in re.findall(r"`(\w+)`", missing) if one in operation.fields)
            body[name] = value_of(name, operation.fields[name], given)
    raise AssertionError(f"{operation.key}: {body} is never enough")


def value_of(name: str, field: Field, given: Mapping[str, Any] | None = None) -> Any:
    """A value that a field takes."""
    if given and name in given:
        return given[name]
    if field.fetch == "audio" and given and "a sound" in given:
        return given["a sound"]
    if field.is_picture or field.type in ("url", "urls"):
        url = (given or {}).get("a picture") if field.is_picture else None
        return url or PICTURE
    if field.type in ITEMS:
        return ITEM
    if field.example is not None:
        return field.example
    if field.enum:
        return field.enum[0]
    count = field.count_min or 1
    return {
        "string": "x" * max(field.length_min or 1, 1), "integer": int(field.min or 1), "number": field.min or 1,
        "boolean": True, "size": "1024x1024", "strings": ["x"] * count, "object": {}, "array": [{}] * count,
        "text_or_object": {"about": "snow"},
    }[field.type]  # fmt: skip


def wrong_values(field: Field) -> Iterator[Any]:
    """Values that a field refuses by itself."""
    return (value for value in _wrong_values(field) if value not in left_out(field))


def _wrong_values(field: Field) -> Iterator[Any]:
    yield {"url": "ftp://example.com/x", "urls": ["ftp://example.com/x"], "files": "x", "file": "x",
           "integer": "7", "number": "7", "boolean": "true"}.get(field.type, 7)  # fmt: skip
    if field.form_only:
        return
    if field.enum:
        yield "no such value" if field.type == "string" else 987_654_321
    if field.max is not None:
        yield field.max + 1
    if field.min is not None:
        yield field.min - 1
    if field.length_max is not None and field.type in ("string", "text_or_object"):
        yield "x" * (field.length_max + 1)
    if field.length_min and field.type == "string":
        yield "x" * (field.length_min - 1)
    if field.plain:
        yield "two\nlines"
    if field.pattern:
        yield "~"
    if field.count_min and field.type not in ("files", "strings"):
        yield []
    if field.count_max is not None and field.count_max > 1 and field.type == "urls":
        yield [PICTURE] * (field.count_max + 1)
    if field.count_max is not None and field.type in ("strings", "array"):
        yield [{}] * (field.count_max + 1) if field.type == "array" else ["x"] * (field.count_max + 1)


def addresses_in(operation: Operation, address: str) -> Iterator[tuple[str, str, Any, str]]:
    """Every place of an operation where an address may be: the field, the place as a sentence calls it, a value that
    holds the address there, and who fetches it."""
    for name in operation.addresses:
        field = operation.fields[name]
        if field.type in ("urls", "files"):
            yield name, name, [PICTURE] * max(0, (field.count_min or 1) - 1) + [address], field.fetch or "picture"
        elif field.type in ("url", "string") and field.fetch:
            yield name, name, address, field.fetch
        for place in field.places or ():
            where = name if place.path in (FRONT, PARAMETERS) else _place(name, place.path)
            yield name, where, holding(place.path, address), place.fetch
        if field.type == "array":
            yield name, f"{name}[0].nobody.thought_of", [{"nobody": {"thought_of": address}}], "upstream"
        elif field.type in ("object", "text_or_object"):
            yield name, f"{name}.nobody.thought_of", {"nobody": {"thought_of": address}}, "upstream"


def _place(name: str, path: str) -> str:
    return f"{name}{'' if path.startswith(EACH) else '.'}{path.replace(EACH, '[0]')}"


def holding(path: str, address: str) -> Any:
    """The smallest value that has an address at a place."""
    if path in (FRONT, PARAMETERS):
        return f"{address} a boat" if path == FRONT else f"a boat --sref {address}"
    value: Any = address
    for step in reversed(re.findall(r"\[\]|\w+", path)):
        value = [value] if step == EACH else {step: value}
    return value


def steered(operation: Operation, body: Mapping[str, Any], words: str) -> dict[str, Any] | None:
    """A body with words for the sandbox in one of its texts, or in a text of its own; None where it takes none."""
    for name, value in body.items():
        field = operation.fields[name]
        if field.type == "string" and field.enum is None and name != "model" and not field.fetch:
            return {**body, name: f"{value} {words}"}
        if field.type == "array" and isinstance(value, list) and value and isinstance(value[0].get("text"), str):
            return {**body, name: [{**value[0], "text": f"{value[0]['text']} {words}"}, *value[1:]]}
    if "prompt" in operation.fields and operation.fields["prompt"].type == "string":
        return {**body, "prompt": f"a boat {words}"}
    return None

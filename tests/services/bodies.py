"""Requests made from the catalogue alone: the smallest an operation takes, and every way to get a field wrong."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bide.catalog.fields import ITEMS, Field
from bide.catalog.files import tables_of
from bide.catalog.load import Catalog, Operation
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


def smallest(operation: Operation, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The required fields, and then whatever the refusals ask for. `given`: values of some fields, where needed."""
    body = {name: value_of(name, field, given) for name, field in operation.fields.items() if field.required}
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
    }[field.type]  # fmt: skip


def wrong_values(field: Field) -> Iterator[Any]:
    """Values that a field refuses by itself."""
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
    if field.length_max is not None and field.type == "string":
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

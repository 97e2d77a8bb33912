"""JSON Schemas (2020-12) of request bodies and of the headers beside them, made from the catalogue. Pure.

For JSON bodies a schema and `Operation.check` agree, but for what a schema cannot say (the arithmetic of picture
sizes). Rules between fields are left out of forms: tools that read a schema with files cannot follow conditions.
"""

from collections.abc import Mapping
from typing import Any

from bide.api.schemas import Schema
from bide.catalog import fields as catalog_fields
from bide.catalog import sizes
from bide.catalog.checks import left_out
from bide.catalog.fields import Bounds, Field
from bide.catalog.load import Operation
from bide.catalog.rules import FILE, pattern

BINARY: Schema = {"type": "string", "format": "binary"}


def body(operation: Operation, *, form: bool) -> Schema:
    """What `Operation.check` takes. Sizes are bounded further than a schema can say; their description tells."""
    shown = {name: field for name, field in operation.fields.items() if form or not field.form_only}
    properties = {name: _field(field, form=form) for name, field in shown.items()}
    for name, field in shown.items():
        for alias in field.aliases:
            properties[alias] = {**properties[name], "description": f"Another spelling of `{name}`."}
    schema: Schema = {"type": "object", "properties": properties}
    required = [name for name, field in shown.items() if field.required and not field.header]
    if not form:
        # A field of forms alone is refused in JSON, not ignored.
        properties |= {name: {"type": "null"} for name in operation.fields if name not in shown}
        schema["required"] = required
        if conditions := _conditions(operation):
            schema["allOf"] = conditions
    else:
        lists = [name for name in required if shown[name].type in catalog_fields.LISTS]
        schema["required"] = [name for name in required if name not in lists]
        for name in lists:
            properties[f"{name}[]"] = {**properties[name], "description": f"Another spelling of `{name}`."}
            schema["anyOf"] = [{"required": [name]}, {"required": [f"{name}[]"]}]
    return schema


def headers(operation: Operation) -> list[Schema]:
    """The headers, as OpenAPI has parameters, that say fields which the body leaves out."""
    return [
        {"name": field.header, "in": "header", "required": False, "schema": _text(field),
         "description": f"The field `{name}`, where the body does not have it."}
        for name, field in operation.fields.items() if field.header
    ]  # fmt: skip


def example(operation: Operation) -> dict[str, Any]:
    """A body that works."""
    wanted = ("async", "callback_url", "trace_id")
    return {
        name: field.example
        for name, field in operation.fields.items()
        if field.example is not None and name not in wanted
    }


def _field(field: Field, *, form: bool) -> Schema:
    schema = _typed(field, form=form)
    if not field.required and not form:
        schema = _optional(schema, left_out(field))
    schema["description"] = field.description
    default = field.default if field.default is not None else field.assumed
    if default is not None:
        schema["default"] = default
    if field.suggest:
        schema["examples"] = list(field.suggest)
    elif field.example is not None:
        schema["examples"] = [field.example]
    return schema


def _optional(schema: Schema, empty: tuple[Any, ...]) -> Schema:
    """With `null` and the empty values that count as left out."""
    if "enum" in schema:
        return {**schema, "type": [schema["type"], "null"], "enum": [*schema["enum"], None, *empty]}
    more = [{"enum": [None, *empty]}] if empty else [{"type": "null"}]
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], *more]}
    return {"anyOf": [schema, *more]} if empty else {**schema, "type": [schema["type"], "null"]}


def _typed(field: Field, *, form: bool) -> Schema:
    url = {"type": "string", "maxLength": field.length_max or catalog_fields.URL_LENGTH_MAX,
           "pattern": catalog_fields.URL_PATTERN}  # fmt: skip
    match field.type:
        case "string":
            return _text(field)
        case "size":
            return {"type": "string", **(_bounds(field) if field.enum else {"pattern": sizes.PATTERN})}
        case "integer" | "number" | "boolean" | "object":
            return {"type": field.type, **_bounds(field)}
        case "text_or_object":
            return {"anyOf": [_text(field), {"type": "object"}]}
        case "url":
            return url
        case "item":
            return _item(field)
        case "items":
            return {"anyOf": [_item(field), {"type": "array", "items": _item(field), **_counts(field)}]}
        case "file":
            return dict(BINARY)
        case "strings":
            item = _text(Bounds(length_min=field.length_min, length_max=field.length_max))
            return {"type": "array", "items": item, **_counts(field)}
        case "array":
            return {"type": "array", **_counts(field)}
        case "urls" | "files":
            item = {"anyOf": [BINARY, url]} if form and field.type == "files" else url
            return {"anyOf": [item, {"type": "array", "items": item, **_counts(field)}]}


def _item(field: Field) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": field.length_max or catalog_fields.ITEM_LENGTH_MAX,
            "pattern": catalog_fields.PLAIN_PATTERN}  # fmt: skip


_KEYWORDS = {
    "enum": "enum", "min": "minimum", "max": "maximum", "length_min": "minLength", "length_max": "maxLength",
    "pattern": "pattern",
}  # fmt: skip


def _bounds(bounds: Bounds) -> Schema:
    schema = {keyword: value for name, keyword in _KEYWORDS.items() if (value := getattr(bounds, name)) is not None}
    if "enum" in schema:
        schema["enum"] = list(schema["enum"])
    if bounds.plain:
        schema["pattern"] = catalog_fields.PLAIN_PATTERN
    return schema


def _text(bounds: Bounds) -> Schema:
    """A text: what nothing else bounds must still be free of NUL."""
    schema = _bounds(bounds)
    return {"type": "string", **({} if {"enum", "pattern"} & set(schema) else {"pattern": "^[^\\u0000]*$"}), **schema}


def _counts(bounds: Bounds) -> Schema:
    named = {"minItems": bounds.count_min, "maxItems": bounds.count_max}
    return {keyword: value for keyword, value in named.items() if value is not None}


def _conditions(operation: Operation) -> list[Schema]:
    """The rules as `if`/`then`, as far as a schema can say them. What is absent is taken at its default."""
    made: list[Schema] = []
    for rule in operation.rules:
        if rule.refuse or any(FILE in globs for globs in rule.when.values()):
            continue  # arithmetic; a file or an address: beyond a schema
        if any(operation.fields[name].aliases for name in (*rule.require, *rule.require_one, *rule.without)):
            continue
        then: Schema = {}
        properties = {
            name: narrowed for name, bounds in rule.set.items()
            if (narrowed := _narrowed(operation.fields[name], bounds))
        }  # fmt: skip
        if properties:
            then["properties"] = properties
        if rule.require:
            then["required"] = list(rule.require)
            then["allOf"] = [{"properties": {name: _given(operation.fields[name])}} for name in rule.require]
        if rule.require_one:
            then["anyOf"] = [
                {"required": [name], "properties": {name: _given(operation.fields[name])}}
                for name in rule.require_one
            ]
        if rule.message:
            then = {"not": {}}
        if then:
            met = _when(operation, rule.when)
            if rule.without:
                met["not"] = {"anyOf": [
                    {"required": [one], "properties": {one: _given(operation.fields[one])}} for one in rule.without
                ]}  # fmt: skip
            made.append({"if": met, "then": then})
    return made


def _given(field: Field) -> Schema:
    """A value that does not count as left out."""
    return {"not": {"enum": [None, *left_out(field)]}}


def _narrowed(field: Field, bounds: Bounds) -> Schema:
    empty = left_out(field)
    if field.type in catalog_fields.LISTS:
        # A single value is no list, so `maxItems` does not touch it.
        schema = _counts(bounds)
        return {"anyOf": [schema, {"enum": [[]]}]} if "minItems" in schema and [] in empty else schema
    schema = _bounds(bounds)
    if "enum" in schema:
        more = [] if field.required else [None, *empty]
        more += [""] if field.type == "size" and "" not in more else []
        return {**schema, "enum": [*schema["enum"], *more]}
    return {"anyOf": [schema, {"enum": list(empty)}]} if schema and empty else schema


def _when(operation: Operation, when: Mapping[str, tuple[str, ...]]) -> Schema:
    properties: Schema = {}
    required: list[str] = []
    for name, globs in when.items():
        field = operation.fields[name]
        test: Schema = {"pattern": pattern(globs)}
        if field.type == "boolean":
            test = {"enum": [glob == "true" for glob in globs]}
        elif field.type in ("integer", "number"):
            test = {"enum": [float(glob) if "." in glob else int(glob) for glob in globs]}
        default = field.default
        met = default is not None and _written(default) in globs
        empty = list(left_out(field))
        either = {"anyOf": [test, {"enum": empty}]} if empty else test
        properties[name] = either if met else {**_given(field), **test}
        if not met:
            required.append(name)
    return {"properties": properties, **({"required": required} if required else {})}


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

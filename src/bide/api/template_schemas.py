"""JSON Schemas (2020-12) of answers that the catalogue describes as templates. Pure.

What a template says by itself is always there, in its type; what stands for a value may be left out, but for ids,
numbers and times, which every answer has. A value has the type of the field it repeats, where it repeats one.
"""

from collections.abc import Mapping
from typing import Any

from bide.catalog.fields import Field
from bide.catalog.template import Constant, Each, Listing, Name, Node, Table, Text

Schema = dict[str, Any]

_SURE = frozenset({("item", "id"), ("item", "number")})
_TYPES: Mapping[str, str] = {
    "string": "string", "url": "string", "size": "string", "item": "string", "integer": "integer", "number": "number",
    "boolean": "boolean", "strings": "array", "urls": "array", "items": "array", "array": "array", "object": "object",
}  # fmt: skip
"""Of the fields of a request; a list is one, however it was sent."""
_URL: Schema = {"type": "string", "format": "uri", "description": "Address of the file; needs no token."}


def table(template: Table, fields: Mapping[str, Field]) -> Schema:
    """The schema of a table: an object with its keys and no others."""
    return {
        "type": "object",
        "properties": {key: _node(one, fields) for key, one in template.entries.items()},
        "required": [key for key, one in template.entries.items() if _is_sure(one)],
        "additionalProperties": False,
    }


def _is_sure(node: Node) -> bool:
    match node:
        case Name():
            return node.context in ("task", "time") or (node.context, node.name) in _SURE
        case Text():
            return all(isinstance(one, str) or _is_sure(one) for one in node.parts)
        case _:
            return True


def _node(node: Node, fields: Mapping[str, Field]) -> Schema:
    match node:
        case Constant():
            return {"const": node.value}
        case Text():
            return {"type": "string"}
        case Table():
            return table(node, fields)
        case Listing():
            kinds = [_node(one.entry if isinstance(one, Each) else one, fields) for one in node.entries]
            items = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
            return {"type": "array", "items": items} if kinds else {"type": "array", "maxItems": 0}
        case Name():
            return _name(node, fields)


def _name(name: Name, fields: Mapping[str, Field]) -> Schema:
    match name.context:
        case "asset":
            return dict(_URL)
        case "assets":
            return {"type": "array", "minItems": 1, "items": dict(_URL)}
        case "task":
            return {"type": "string"}
        case "time":
            kinds = {"s": "number", "unix": "integer"}
            return {"type": kinds.get(name.name.rpartition("_")[2], "string")}
        case "request":
            kind = _TYPES.get(fields[name.name].type)
            return {"type": kind} if kind else {}
        case "item" if name.name == "id":
            return {"type": "string", "minLength": 1, "description": "Names it in later requests."}
        case "item" if name.name == "number":
            return {"type": "integer", "minimum": 1}
        case _:
            return {}

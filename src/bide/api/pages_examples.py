"""Examples of requests in curl and Python, and of what they are answered. Pure.

Every address of the gateway in them is `BASE`, which is replaced by the one a reader uses. The tests run all of them.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from bide.api import request_schemas
from bide.catalog import shape
from bide.catalog.fields import ITEMS, Field
from bide.catalog.load import Operation
from bide.catalog.rules import condition
from bide.catalog.template import Each, Listing, Made, Name, Node, Table, Text, times
from bide.settings import Settings

BASE = "https://bide.invalid"
"""Stands for the address of the gateway; `.invalid` is nobody's (RFC 2606)."""
TASK = "0190c0a0-5a3e-7000-8000-000000000001"
TRACE = "order-7731"
ITEM = "0190c0a0-5a3e-7000-8000-000000000002"
CREATED_MS = 1_764_000_037_000
PICTURE, SOUND = "https://example.com/boat.png", "https://example.com/humming.mp3"
SAID = "…"
"""What only the upstream knows."""

_FILE = f"{BASE}/files/2026-01-02/00112233445566778899aabbccddeeff"
_SUFFIXES: Mapping[str, str] = {"video": "mp4", "audio": "mp3", "midi": "mid"}

_URLLIB = '''\
import json
import os
{more}import urllib.request


def ask(path, body):
    request = urllib.request.Request(
        "{base}" + path,
        data=json.dumps(body).encode(),
        headers={{"Authorization": f"Bearer {{os.environ['BIDE_TOKEN']}}", "Content-Type": "application/json"}},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


'''


def body(operation: Operation) -> dict[str, Any]:
    """A request that works once the ids in it, such as `VIDEO_ID`, are those of things that were made."""
    found = request_schemas.example(operation)
    wanted = [name for name, field in operation.fields.items() if field.required]
    for _ in operation.rules or (None,):  # what a rule asks for may bring another rule about
        found |= {name: _value(operation.fields[name]) for name in wanted if name not in found}
        wanted = list(_needed(operation, found))
    return found | {name: _value(operation.fields[name]) for name in wanted}


def _needed(operation: Operation, found: Mapping[str, Any]) -> Iterator[str]:
    """What the rules ask for and a request lacks."""
    defaults = {name: field.default for name, field in operation.fields.items() if field.default is not None}
    values = {**defaults, **found}
    for rule in operation.rules:
        if condition(rule.when, rule.without)(values):
            yield from (name for name in rule.require if name not in values)
            if rule.require_one and not values.keys() & set(rule.require_one):
                yield rule.require_one[0]


def _value(field: Field) -> Any:
    """A value that a field takes."""
    if field.type in ITEMS:
        return placeholder(field.kind)
    if field.example is not None or field.enum:
        return field.example if field.example is not None else (field.enum or ("",))[0]
    address = SOUND if field.fetch == "audio" else PICTURE
    return {
        "integer": int(field.min or 1), "number": field.min or 1, "boolean": True, "size": "auto", "object": {},
        "strings": ["…"], "array": [], "urls": [address], "files": address, "url": address,
    }.get(field.type, "…")  # fmt: skip


def placeholder(kind: str | None) -> str:
    """Stands for the id of something of this kind: `VIDEO_ID`."""
    return f"{kind or 'item'}_id".upper()


def curl(path: str, asked: Mapping[str, Any]) -> str:
    """A command for a POSIX shell with the token in `BIDE_TOKEN`."""
    return (
        f'curl -s {BASE}{path} \\\n  -H "Authorization: Bearer $BIDE_TOKEN" -H "Content-Type: application/json" \\\n'
        f"  -d {_quoted(shown(asked))}"
    )


def curl_query(method: str, path: str, query: str) -> str:
    """The same for a request without a body."""
    verb = "" if method == "GET" else f" -X {method}"
    return f'curl -s{verb} "{BASE}{path}?{query}" -H "Authorization: Bearer $BIDE_TOKEN"'


def _quoted(text: str) -> str:
    """A word of a POSIX shell, in single quotes."""
    return "'" + text.replace("'", "'\\''") + "'"


def python(operation: Operation, asked: Mapping[str, Any]) -> str:
    """A whole program without further packages. It prints the result."""
    path = operation.paths[0]
    call = f'ask("{path}", {_literal(asked)})'
    if operation.entry.inline:
        return _URLLIB.format(more="", base=BASE) + f"print({call})\n"
    return (
        _URLLIB.format(more="import time\n", base=BASE)
        + f"started = {call}\n"
        + f'while not (task := ask("/{operation.service}/tasks", {{"id": started["task_id"]}})).get("response"):\n'
        + '    time.sleep(1)\nprint(task["response"])\n'
    )


def python_client(operation: Operation, asked: Mapping[str, Any]) -> str:
    """A program with OpenAI's own client, for operations that it has a method for."""
    return (
        "import os\n\nfrom openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{BASE}/{operation.service}", api_key=os.environ["BIDE_TOKEN"])\n'
        f"answer = client.{operation.entry.client_method}(\n"
        + "".join(f"    {name}={_literal(value)},\n" for name, value in asked.items())
        + ")\nprint(answer.to_dict())\n"
    )


def _literal(value: Any, indent: int = 0) -> str:
    """JSON data as Python writes it, one entry a line."""
    inner, outer = " " * (indent + 4), " " * indent
    if isinstance(value, Mapping) and value:
        lines = [f"{inner}{_text(name)}: {_literal(one, indent + 4)},\n" for name, one in value.items()]
        return "{\n" + "".join(lines) + outer + "}"
    if isinstance(value, list) and any(isinstance(one, Mapping | list) for one in value):
        return "[\n" + "".join(f"{inner}{_literal(one, indent + 4)},\n" for one in value) + outer + "]"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_literal(one) for one in value) + "]"
    return _text(value) if isinstance(value, str) else repr(value)


def _text(text: str) -> str:
    """A string in double quotes: JSON's is one of Python's too."""
    return json.dumps(text, ensure_ascii=False)


def shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


# -- answers


def response(operation: Operation, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What a task that succeeded keeps: the answer of the catalogue, filled in with things that look alike."""
    defaults = {name: field.default for name, field in operation.fields.items() if field.default is not None}
    request = {**defaults, **asked}
    if operation.entry.answer:
        said, made = _samples(operation.template)
        answer = shape.from_template(
            operation, request, said, [made], task={"id": TASK, "trace_id": TRACE},
            time=times(CREATED_MS, CREATED_MS + 61_000),
        )  # fmt: skip
    elif operation.entry.shape == "template":
        answer = {}
    else:
        answer = shape.answer(operation, request, {}, [{"url": f"{_FILE}.png"}], now_s=CREATED_MS // 1000)
    return shape.task_response(TASK, TRACE, answer)


def answer(operation: Operation, done: Mapping[str, Any]) -> dict[str, Any]:
    """What the call itself is answered unless it says otherwise."""
    return shape.inline_answer(operation, done) if operation.entry.inline else shape.accepted(TASK, TRACE)


def callback(operation: Operation, done: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    return shape.callback_body(operation, TASK, TRACE, done, settings.callback_shape)


def _samples(template: Table) -> tuple[dict[str, Any], Made]:
    """Values for what a template names of the provider's words and of the first item."""
    said: dict[str, Any] = {}
    item: dict[str, Any] = {}
    asset: dict[str, str] = {}
    for node in _nodes(template):
        match node:
            case Each(over=Name(context="said", name=name), entry=entry):
                said[name] = [{one.name: SAID for one in _nodes(entry) if isinstance(one, Name)}]
            case Each(over=Name(context="item", name=name), entry=entry):
                item[name] = [{one.name: SAID for one in _nodes(entry) if isinstance(one, Name)}]
            case Name(context="said", name=name):
                outer, _, inner = name.partition(".")
                if inner:  # what upstreams say in tables are counts
                    said.setdefault(outer, {})[inner] = 1
                else:
                    said.setdefault(name, SAID)
            case Name(context="item", name=name):
                item.setdefault(name, SAID)
            case Name(context="asset" | "assets", name=role):
                asset[role] = f"{_FILE}.{_SUFFIXES.get(role, 'png')}"
            case _:
                pass
    return said, Made({**item, "id": ITEM, "number": 1}, asset, {role: [url] for role, url in asset.items()})


def _nodes(node: Node | Each) -> Iterator[Node | Each]:
    yield node
    match node:
        case Text():
            for part in node.parts:
                if isinstance(part, Name):
                    yield part
        case Table():
            for one in node.entries.values():
                yield from _nodes(one)
        case Listing():
            for entry in node.entries:
                yield from _nodes(entry)
        case Each():
            yield from _nodes(node.entry)
        case _:
            pass

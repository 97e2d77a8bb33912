"""The documentation of a running gateway, made from its catalogue, settings and errors. Pure.

`blocks` is the whole content; `bide.api.pages_markdown` makes `/llms.txt` of it and `bide.api.pages_html` `/docs`.
"""

import json
from typing import Any

from bide.api import field_words, listed, pages_examples, pages_general, schemas
from bide.api.pages_blocks import Block, Bullets, Code, Grid, Heading, Paragraph, Routes, anchor
from bide.api.pages_prices import prices
from bide.catalog.load import Catalog, Operation, Service
from bide.settings import Settings


def blocks(catalog: Catalog, settings: Settings) -> list[Block]:
    """Everything: what is common to all services, then each service with its operations."""
    return [
        *pages_general.beginning(catalog),
        *pages_general.chapters(catalog, settings),
        *(block for service in catalog.services.values() for block in _service(service, settings)),
    ]


def _service(service: Service, settings: Settings) -> list[Block]:
    made: list[Block] = [Heading(2, service.title, anchor(service.name)), Paragraph(service.summary)]
    for operation in service.operations.values():
        made += _operation(operation, settings)
    return made + _tasks(service)


def _operation(operation: Operation, settings: Settings) -> list[Block]:
    entry = operation.entry
    rows = tuple(
        (f"`{name}`{' *' if field.required else ''}", field_words.type_of(field), _default(operation, name),
         field.description + field_words.spellings(field))
        for name, field in sorted(operation.fields.items(), key=lambda one: not one[1].required)
    )  # fmt: skip
    made: list[Block] = [
        Heading(3, entry.title, anchor(operation.service, operation.path)),
        Routes("POST", operation.paths),
        Paragraph(f"{entry.summary} {_facts(operation)}"),
        Grid(("field", "type or allowed values", "default", "meaning"), rows),
        Paragraph(
            "`*` required. In any other field `null`, and an empty text or list that means nothing there, count as"
            " left out. Unknown fields are kept on the task and have no effect."
        ),
    ]
    if rules := field_words.rules_of(operation):
        made += [Paragraph("Depending on the request:"), Bullets(tuple(rules))]
    if operation.entry.lines:
        made.append(Paragraph(
            "With the header `accept: application/x-ndjson` a call that waits is answered line by line: how far it"
            " is, and the result as the last line. A `callback_url` then has every line as well."
        ))  # fmt: skip
    made += prices(operation)
    return made + _examples(operation, settings) + (_listed(operation) if operation.listed.entries else [])


def _listed(operation: Operation) -> list[Block]:
    """The list of what it made, and forgetting one of them."""
    path, name = operation.paths[:1], listed.id_name(operation)
    gone = f"{name}={pages_examples.ITEM}"
    shown = dict.fromkeys(operation.listed.entries, pages_examples.SAID) | {name: pages_examples.ITEM}
    return [
        Routes("GET", path),
        Paragraph(
            f"Lists yours, the newest first. In the query, all optional: `limit` (1 to {listed.LIMIT_MAX}, by default"
            f" {listed.LIMIT}), `offset` and `user_id`. Free."
        ),
        Code("The list in curl", "sh", pages_examples.curl_query("GET", path[0], "limit=10")),
        Code("The list", "json", pages_examples.shown({"count": 1, "items": [shown]})),
        Routes("DELETE", path),
        Paragraph(f"Forgets the one whose `{name}` is in the query; `success` says whether there was one. Free."),
        Code("Forgetting in curl", "sh", pages_examples.curl_query("DELETE", path[0], gone)),
    ]


def _examples(operation: Operation, settings: Settings) -> list[Block]:
    asked = pages_examples.body(operation)
    done = pages_examples.response(operation, asked)
    shown = pages_examples.shown
    made: list[Block] = []
    if "json" in operation.entry.accepts:
        made += [
            Code("Example in curl", "sh", pages_examples.curl(operation.paths[0], asked)),
            Code("Example in Python", "python", pages_examples.python(operation, asked)),
        ]
    if operation.entry.client_method:
        made.append(Code("With OpenAI's Python client", "python", pages_examples.python_client(operation, asked)))
    made.append(Code("Answer", "json", shown(pages_examples.answer(operation, done))))
    if not operation.entry.inline:
        made.append(Code("`response` of the finished task", "json", shown(done)))
    if "callback_url" in operation.fields:
        body = pages_examples.callback(operation, done, settings)
        if body != done or operation.entry.inline:
            made.append(Code("Body of the callback", "json", shown(body)))
    return made


def _facts(operation: Operation) -> str:
    """Whether the caller waits, how long, what kind of task, which body."""
    entry = operation.entry
    waits = "The call waits for the result" if entry.inline else "The call answers at once with a `task_id`"
    if {"callback_url", "async"} <= set(operation.fields):
        waits += ", unless `callback_url` or `async` is given" if entry.inline else ", unless `async` is `false`"
    kept = " A call that waits leaves no task to look up." if entry.inline and not entry.inline_stored else ""
    bodies = " or ".join({"json": "JSON", "multipart": "multipart/form-data"}[one] for one in entry.accepts)
    return (
        f"{waits}.{kept} Task type `{entry.type}`; usually {entry.expected_s:g} s, at most {entry.run_s_max:g} s; "
        f"body: {bodies}."
    )


def _default(operation: Operation, name: str) -> str:
    value = field_words.default_of(operation.fields[name])
    return "" if value is None else f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _tasks(service: Service) -> list[Block]:
    """Where its tasks are, and what their documents hold."""
    operations = list(service.operations.values())
    types = ", ".join(f"`{one}`" for one in sorted({operation.type for operation in operations}))
    groups = "; ".join(
        f"`{name}` for {', '.join(f'`{one}`' for one in listed)}" for name, listed in service.type_groups.items()
    )
    properties: dict[str, Any] = schemas.task(operations)["properties"]
    repeated = [name for name in properties if any(name in one.entry.top for one in operations)]
    again = ", ".join(f"`{one}`" for one in repeated)
    more = f" A finished task repeats {again} beside `response`." if again else ""
    asked = {"action": "retrieve", "id": pages_examples.TASK}
    return [
        Heading(3, f"Tasks of {service.title}", anchor(service.name, "tasks")),
        Routes("POST", service.tasks_paths),
        Paragraph(
            f"Looks up or deletes tasks, as described under Tasks above. Types: {types}"
            f"{f'; in `retrieve_batch` also {groups}' if groups else ''}.{more}"
        ),
        Code("Example in curl", "sh", pages_examples.curl(service.tasks_paths[0], asked)),
    ]

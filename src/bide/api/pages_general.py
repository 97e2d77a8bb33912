"""What is the same for every service: tokens, waiting, tasks, callbacks, errors, limits. Pure."""

from collections.abc import Iterable
from typing import Any

from bide.api import pages_examples, schemas
from bide.api.openapi import ORDER
from bide.api.pages_blocks import Block, Bullets, Code, Entry, Grid, Heading, Index, Paragraph, Routes, anchor
from bide.api.schemas import Schema
from bide.catalog import shape
from bide.catalog.load import Catalog, Operation
from bide.errors import ERRORS, Forbidden, GatewayError, MethodNotAllowed
from bide.settings import Settings


def beginning(catalog: Catalog) -> list[Block]:
    """What this is, and where everything is."""
    index = Index(tuple(
        (anchor(service.name), service.title, tuple(
            Entry(anchor(one.service, one.path), f"`POST {one.paths[0]}`", one.entry.summary)
            for one in service.operations.values()
        ))
        for service in catalog.services.values()
    ))  # fmt: skip
    return [
        Heading(1, "bide", "bide"),
        Paragraph(
            "A self-hosted gateway for generative media: pictures, films and sounds as durable tasks behind one"
            " interface, one kind of token and one balance. This page describes the gateway that answered it and is"
            " made from its catalogue."
        ),
        Paragraph(
            f"Address: `{pages_examples.BASE}`. The same as Markdown: `GET /llms.txt`; as a page: `GET /docs`; for"
            " programs: `GET /openapi.json`."
        ),
        Heading(2, "All operations", "operations"),
        index,
    ]


def chapters(catalog: Catalog, settings: Settings) -> list[Block]:
    """What is the same for every operation."""
    return [
        *_authentication(),
        *_waiting(catalog),
        *_task_documents(catalog, settings),
        *_callbacks(catalog, settings),
        *_errors(),
        *_bounds(catalog, settings),
        *_dry_run(),
        *_other_paths(),
    ]


def _authentication() -> list[Block]:
    return [
        Heading(2, "Authentication", "authentication"),
        Paragraph(
            "Every request needs the header `Authorization: Bearer <token>`. A token belongs to an application, which"
            " holds the balance that pays. The examples take it from the environment variable `BIDE_TOKEN`."
        ),
        Paragraph(
            "Every path also exists below `/v1`. Every answer has the header `x-trace-id`: say it when you ask your"
            " operator about a request. With the header `idempotency-key` a request that is sent again with the same"
            " body is answered with the same task and is not made or paid twice."
        ),
    ]


def _waiting(catalog: Catalog) -> list[Block]:
    inline = _named(one for one in _operations(catalog) if one.entry.inline)
    at_once = _named(one for one in _operations(catalog) if not one.entry.inline)
    return [
        Heading(2, "Waiting, polling, callbacks", "waiting"),
        Paragraph("A request is answered in one of three ways. The work is the same and costs the same."),
        Bullets((
            f"It waits and is answered with the result. By default: {inline or 'none'}. Give your HTTP client a"
            " time-out as long as the operation may take.",
            f"It is answered at once with a `task_id`, and you ask for the result. By default: {at_once or 'none'};"
            " with `\"async\": true` every operation that has the field, and `\"async\": false` makes it wait.",
            "With `callback_url` it is answered at once too, and the result is POSTed there when the task has ended.",
        )),
        Paragraph(
            "To poll, ask the tasks path of the service with the `task_id`, every few seconds, until `response` is"
            " not empty. Then `response.success` says whether it worked: the result stands beside it, or `error`"
            " does. A task survives a restart of the gateway, and a lost connection of yours."
        ),
        Code("Accepted", "json", pages_examples.shown(shape.accepted(pages_examples.TASK, pages_examples.TRACE))),
    ]  # fmt: skip


def _task_documents(catalog: Catalog, settings: Settings) -> list[Block]:
    operations = _operations(catalog)
    properties = schemas.task(operations)["properties"]
    most = settings.batch_ids_max
    actions = (
        ("retrieve", "One task. Needs one of the ids; this action may be left out.", schemas.retrieve()),
        ("retrieve_batch", "A page of tasks, newest first. All filters must match.", schemas.retrieve_batch(most)),
        ("delete", "Takes finished tasks out with their files and callbacks.", schemas.delete(most)),
    )
    made: list[Block] = [
        Heading(2, "Tasks", "tasks"),
        Routes("POST", tuple(service.tasks_paths[0] for service in catalog.services.values())),
        Paragraph(
            "Each service answers for its own tasks. Looking is never charged. A task that does not exist, or is"
            " somebody else's, is answered with 200 and `{}`. A batch is answered with `items` and `count`, the"
            " number of all matches. `delete` of one `id` is answered with `id` and `deleted`, whether it was there;"
            " any other with `deleted`, the ids that are gone. If one of the tasks has not ended, nothing is deleted."
        ),
    ]
    for action, does, schema in actions:
        made += [
            Heading(3, f"Action `{action}`", f"tasks-{action.replace('_', '-')}"),
            Paragraph(does),
            Grid(("field", "type", "meaning"), tuple(
                _property(*one) for one in schema["properties"].items() if one[1].get("enum") != [None, ""]
            )),
        ]
    return [
        *made,
        Heading(3, "The document of a task", "tasks-document"),
        Grid(("field", "type", "meaning"), tuple(_property(*one) for one in properties.items())),
        Paragraph(
            "While a task is not finished its `response` is `{}`, and `finished_at`, `duration` and `elapsed` are not"
            f" there. Finished tasks and their files are kept {settings.retention_days:g} days, unless the"
            " application has a time of its own."
        ),
    ]


def _property(name: str, schema: Schema) -> tuple[str, str, str]:
    kind: Any = schema.get("type", "")
    listed = kind if isinstance(kind, list) else [kind]
    words = "text or null" if not kind and "anyOf" not in schema else " or ".join(listed)
    if "const" in schema:
        words = f"`{schema['const']}`"
    elif "enum" in schema:
        words = ", ".join(f"`{one}`" for one in schema["enum"] if one) or "null"
    return f"`{name}`", words or "object", schema.get("description", _MEANINGS.get(name, ""))


_MEANINGS = {
    "action": "What is asked for.",
    "ids": "Ids of tasks. Of `ids` and `trace_ids`, either may match.",
    "trace_ids": "The caller's own names of tasks.",
    "offset": "How many of the newest to leave out.",
    "_id": "A shorter id, for programs that expect one.",
    "id": "The `task_id` of the submit answer.",
    "type": "The task type of the operation.",
    "api_id": "A fixed id of the operation.",
    "application_id": "The application that paid.",
    "user_id": "Whose task it is.",
    "credential_id": "The credential that was used.",
}


def _callbacks(catalog: Catalog, settings: Settings) -> list[Block]:
    tries = ", ".join(f"{one:g}" for one in settings.callback_schedule)
    failed = shape.failure(pages_examples.TASK, pages_examples.TRACE, Forbidden.code, Forbidden.meaning)
    shown = next(iter(one for one in _operations(catalog) if "callback_url" in one.fields), None)
    made: list[Block] = [
        Heading(2, "Callbacks", "callbacks"),
        Paragraph(
            "The body is that of the task's `response`: `success`, `task_id`, `trace_id` and the result, or `error`."
            " Some operations put the result below `data`; the examples show which. It is sent at least once: the"
            " header `webhook-id` is the same in every attempt, so remember it. Any 2xx ends it, 410 does too; after"
            f" anything else it is tried again, {len(settings.callback_schedule)} times in all, with these seconds"
            f" before each attempt: {tries}. The address must be public, unless the operator allows others."
        ),
        Grid(("header", "holds"), (
            ("`webhook-id`", "the id of this callback, the same on every try"),
            ("`webhook-timestamp`", "Unix seconds of this try"),
            ("`webhook-signature`", "`v1,…` after Standard Webhooks, where the operator has set a secret"),
            ("`x-task-id`, `x-trace-id`", "the ids of the body"),
            ("`x-delivery-attempt`", "1 for the first try"),
        )),
    ]  # fmt: skip
    if shown is not None:
        done = pages_examples.response(shown, pages_examples.body(shown))
        body = pages_examples.callback(shown, done, settings)
        made.append(Code(f"A success, of `{shown.key}`", "json", pages_examples.shown(body)))
    return [*made, Code("A failure, of any operation", "json", pages_examples.shown(failed))]


def _errors() -> list[Block]:
    found: set[type[GatewayError]] = {*ERRORS.values(), MethodNotAllowed}
    errors = sorted(found, key=lambda error: (error.status, error.code))
    body = {"error": {"code": "bad_request", "message": "`n` is 11; it must be a whole number from 1 to 10"},
            "trace_id": pages_examples.TRACE}  # fmt: skip
    return [
        Heading(2, "Errors", "errors"),
        Paragraph("Every refusal has one body. Programs should look at `code`: the message is for people."),
        Code("An error", "json", pages_examples.shown(body)),
        Grid(("status", "code", "meaning"), tuple((str(one.status), f"`{one.code}`", one.meaning) for one in errors)),
        Paragraph(f"Of several things that are wrong, the first of this order is answered: {_codes(ORDER)}."),
        Paragraph(
            "A task that fails has the same codes in its `response`, or a code of the upstream's own, and costs"
            " nothing. With 429 the header `retry-after` says how many seconds to wait. Sending again is sensible"
            " after `too_many_requests`, `api_error`, `timeout` and `unavailable`; not after the others."
        ),
    ]


def _bounds(catalog: Catalog, settings: Settings) -> list[Block]:
    rows = [
        (f"`{service.name}`", name, _rate(limits.submits_per_s), str(limits.concurrent or "any number"),
         _rate(service.polls_per_s))
        for service in catalog.services.values()
        for name, limits in sorted({one.limit_class: one.limits for one in service.operations.values()}.items())
    ]  # fmt: skip
    return [
        Heading(2, "Limits", "limits"),
        Paragraph(
            "For each credential, unless the operator has set others. A request beyond them is answered"
            " `too_many_requests` with `retry-after`, and nothing was made."
        ),
        Grid(("service", "class of operations", "requests", "open tasks", "looking up tasks"), tuple(rows)),
        Paragraph(
            f"A JSON body has at most {settings.json_bytes_max:,} bytes and {settings.json_depth_max} levels, a"
            f" multipart body {settings.upload_bytes_max:,} bytes, one picture {settings.upload_file_bytes_max:,}"
            f" bytes and {settings.upload_pixels_max:,} pixels. Text must be UTF-8 without NUL. Addresses of pictures"
            " must be public, unless the operator allows others."
        ),
    ]


def _rate(per_s: float) -> str:
    return f"{per_s:g} a second" if per_s else "any number"


def _dry_run() -> list[Block]:
    properties: Schema = schemas.QUOTE["properties"]
    rows = tuple((f"`{name}`", _said_of(name, one)) for name, one in properties.items())
    return [
        Heading(2, "Trying without paying: dry_run", "dry-run"),
        Paragraph(
            'With `"dry_run": true` a request is checked and answered with its price, the balance that would pay, the'
            " channel and the time it usually takes. Nothing is made and nothing is charged."
        ),
        Grid(("field", "meaning"), rows),
    ]


def _said_of(name: str, schema: Schema) -> str:
    if name == "price":
        inner = schema["properties"].items()
        return " ".join(f"`{one}`: {said}" for one, part in inner if (said := part.get("description")))
    return str(schema.get("description") or {"trace_id": "As in any answer."}.get(name, "`true`."))


def _other_paths() -> list[Block]:
    return [
        Heading(2, "Other paths", "other-paths"),
        Paragraph("None of these needs a token."),
        Grid(("path", "answer"), (
            ("`GET /files/{day}/{name}`", "a stored result; the name cannot be guessed, and ranges work"),
            ("`GET /openapi.json`", "OpenAPI 3.1, with the schema of every answer"),
            ("`GET /llms.txt`", "this documentation as Markdown"),
            ("`GET /docs`", "this documentation as a page"),
            ("`GET /healthz`", "200 while the process answers"),
            ("`GET /readyz`", "200 while it can do its work, else 503"),
            ("`GET /metrics`", "counters for Prometheus"),
        )),
    ]  # fmt: skip


def _operations(catalog: Catalog) -> list[Operation]:
    return [operation for service in catalog.services.values() for operation in service.operations.values()]


def _named(operations: Iterable[Operation]) -> str:
    return ", ".join(f"`{one.key}`" for one in operations)


def _codes(codes: Iterable[str]) -> str:
    return ", ".join(f"`{one}`" for one in codes)

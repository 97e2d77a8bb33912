"""Writes `docs/reference/*.md` from the code: settings, errors, commands, operations.

python tools/reference.py           writes the pages
python tools/reference.py --check   writes nothing; ends with 1 and names the pages that are out of date
"""

import inspect
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import msgspec

from bide import settings
from bide.api.admin import ROUTES as _ROUTES  # noqa: F401  (importing it registers every route)
from bide.api.admin.access import BASE, HANDLERS
from bide.api.field_words import default_of, rules_of, spellings, type_of
from bide.catalog.load import Catalog, Operation, load
from bide.cli import main as program
from bide.errors import ERRORS, MethodNotAllowed
from bide.settings import ChannelSettings, Settings

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"
MADE = "<!-- Made by tools/reference.py from the code; `make docs` writes it anew. -->"


def pages() -> dict[str, str]:
    """File name to text."""
    return {
        "settings.md": settings_page(),
        "errors.md": errors_page(),
        "commands.md": commands_page(),
        "operations.md": operations_page(load()),
        "management.md": management_page(),
    }


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    safe = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in safe) + "\n"


def page(title: str, *parts: str) -> str:
    return "\n".join([f"# {title}", "", MADE, "", *(f"{part.strip()}\n" for part in parts)])


# -- the management API


def management_page() -> str:
    rows = [
        (f"`{method} {path}`", " ".join((handler.__doc__ or "").split("\n\n")[0].split()))
        for path, methods in sorted(HANDLERS.items()) for method, handler in methods.items()
    ]
    missing = [row[0] for row in rows if not row[1]]
    assert not missing, f"without a docstring: {missing}"
    return page(
        "Management API",
        f"Below `{BASE}`, with a platform token as bearer token. Paths work with and without a slash at their end."
        " How to use it is in [tenants](../tenants.md).",
        table(("route", "does"), rows),
    )


# -- settings


def settings_page() -> str:
    sections = [
        f"## {title[0].upper()}{title[1:]}\n\n"
        + table(("variable", "default", "meaning"), (_setting(name) for name in names if name != "channels"))
        for title, names in _sections()
        if names != ["channels"]
    ]
    return page(
        "Settings",
        "Sources, the later wins: the default, `bide.toml` in the working directory (or the file that `BIDE_CONFIG`"
        " names), the environment, options on the command line. In the file a setting has its name in small letters"
        " without `BIDE_`: `callback_timeout_s = 15`. A secret, and the database's address, can also be read from a"
        " file: `BIDE_WEBHOOK_SECRET_FILE=/run/secrets/webhook`. In the environment a list is separated by commas."
        " A wrong or unknown value means no start. `bide settings` prints what is in force and where it came from.",
        *sections,
        "## Channels\n\nIn `bide.toml`, one `[[channels]]` table for each; or in the database, by `bide channel` or"
        " the management API, where `key_file` has no place. See [channels](../channels.md).\n\n"
        + table(
            ("key", "default", "meaning"), (_channel(field) for field in msgspec.structs.fields(ChannelSettings))
        ),
        "## Other variables\n\n"
        + table(
            ("variable", "meaning"),
            (
                ("`BIDE_CONFIG`", "path of the settings file; it must exist"),
                ("`BIDE_TOKEN`", "not read by the gateway: the name its examples use for your token"),
                ("`SSL_CERT_FILE`", "certificates trusted for HTTPS to upstreams and receivers"),
            ),
        ),
    )


def _sections() -> list[tuple[str, list[str]]]:
    """The headings (`# -- tasks`) of the class and the settings below each."""
    found: list[tuple[str, list[str]]] = []
    for line in inspect.getsource(Settings).splitlines():
        if heading := re.match(r"\s+# -- (.+)", line):
            found.append((heading[1], []))
        elif (name := re.match(r"    (\w+): Annotated", line)) and found:
            found[-1][1].append(name[1])
    return found


def _setting(name: str) -> tuple[str, str, str]:
    default = settings.FIELDS[name].default
    return f"`{settings.variable(name)}`", _shown(default), settings.meaning(name)


def _channel(field: Any) -> tuple[str, str, str]:
    metas = getattr(ChannelSettings.__annotations__[field.name], "__metadata__", ())
    default = "required" if field.required else _shown(field.default)
    if field.default_factory is not msgspec.NODEFAULT:
        default = _shown(field.default_factory())
    return f"`{field.name}`", default, next((meta.description for meta in metas if meta.description), "")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{', '.join(_number(one) for one in value)}`" if value else ""
    if isinstance(value, int | float):
        return f"`{_number(value)}`"
    return f"`{value}`" if value else ""


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) and value < 1e6 else f"{value}"


# -- errors


def errors_page() -> str:
    errors = sorted({*ERRORS.values(), MethodNotAllowed}, key=lambda error: (error.status, error.code))
    return page(
        "Errors",
        "Every refusal has one body, and the trace id is in the header `x-trace-id` too:\n\n"
        '```json\n{"error": {"code": "bad_request", "message": "…"}, "trace_id": "…"}\n```',
        "A task that fails has the same codes: its `response` and its callback hold `success: false` and the same"
        " `error`. Tell errors apart by `code`; the message is for people and may change.",
        table(
            ("status", "code", "meaning"),
            ((str(error.status), f"`{error.code}`", error.meaning) for error in errors),
        ),
    )


# -- commands


def commands_page() -> str:
    parts = [
        "Every process stays in the foreground and logs to its standard output. `bide --help` and"
        " `bide COMMAND --help` say the same as this page."
    ]
    with click.Context(program, info_name="bide") as context:
        for path, command in commands(program, "bide"):
            parts.append(_command(path, command, context))
    return page("Commands", *parts)


def commands(command: click.Command, path: str) -> Iterable[tuple[str, click.Command]]:
    """Every command that does something, with the words that call it."""
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from commands(command.commands[name], f"{path} {name}")
    else:
        yield path, command


def _command(path: str, command: click.Command, context: click.Context) -> str:
    arguments = [p.make_metavar(context) for p in command.params if isinstance(p, click.Argument)]
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    usage = " ".join([path, *(["[OPTIONS]"] if options else []), *arguments])
    parts = [f"## {path}", f"```\n{usage}\n```", inspect.cleandoc(command.help or "").replace("\b\n", "")]
    if options:
        rows = ((_option(one, context), one.help or "") for one in options)
        parts.append(table(("option", "meaning"), rows))
    return "\n\n".join(parts)


def _option(option: click.Option, context: click.Context) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    return names if option.is_flag else f"{names} {option.make_metavar(context).removesuffix(' RANGE')}"


# -- operations


def operations_page(catalog: Catalog) -> str:
    parts = [
        "All requests are `POST` with `Authorization: Bearer <token>`. The same as a machine reads it:"
        " `GET /openapi.json` of a running gateway."
    ]
    for service in catalog.services.values():
        parts.append(f"## {service.title}\n\n{service.summary}")
        parts += [_operation(operation) for operation in service.operations.values()]
        parts.append(_tasks(service.tasks_paths))
    parts.append(
        "## For everything else\n\n"
        + table(
            ("path", "answer"),
            (
                ("`GET /files/{name}`", "a stored result; no token: the name cannot be guessed"),
                ("`GET /healthz`", "200 while the process answers"),
                ("`GET /readyz`", "200 while it can do its work, else 503"),
                ("`GET /metrics`", "counters for Prometheus"),
                ("`GET /openapi.json`", "this page as an OpenAPI 3.1 document"),
                ("`GET /docs`", "this page, with examples and answers, for a browser"),
                ("`GET /llms.txt`", "the same as Markdown, for models"),
            ),
        )
    )
    return page("Operations", *parts)


def _operation(operation: Operation) -> str:
    entry = operation.entry
    paths = ", ".join(f"`POST {path}`" for path in operation.paths)
    facts = [
        f"Task type `{entry.type}`",
        "the caller waits unless it sends `callback_url` or `async: true`" if entry.inline else "answers at once",
        f"at most {entry.run_s_max:g} s",
        f"body: {' or '.join({'json': 'JSON', 'multipart': 'multipart/form-data'}[one] for one in entry.accepts)}",
    ]
    rows = (
        (f"`{name}`{' *' if field.required else ''}", type_of(field), _shown(default_of(field)),
         field.description + spellings(field))
        for name, field in operation.fields.items()
    )
    rules = [f"- {line}" for line in rules_of(operation)]
    return "\n\n".join(
        [
            f"### {entry.title}: `{operation.key}`",
            f"{entry.summary} {'; '.join(facts)}.",
            paths,
            table(("field", "type", "default", "meaning"), rows) + "\n\\* required.",
            *(["Narrower for some requests:\n\n" + "\n".join(rules)] if rules else []),
        ]
    )


def _tasks(paths: Iterable[str]) -> str:
    return (
        f"### Tasks\n\n{', '.join(f'`POST {path}`' for path in paths)}: what became of a task. Free.\n\n"
        + table(
            ("field", "meaning"),
            (
                ("`action`", "`retrieve` (default) or `retrieve_batch`"),
                ("`id`, `task_id`", "`retrieve`: the task's id"),
                ("`trace_id`", "`retrieve`: the newest task with that trace id; wins over `id`"),
                ("`ids`, `trace_ids`", "`retrieve_batch`: a task in either list matches"),
                ("`type`", "`retrieve_batch`: a task type, or `images` for all of them"),
                ("`application_id`, `user_id`", "`retrieve_batch`: of your own tasks, those of one application"),
                ("`created_at_min`, `created_at_max`", "`retrieve_batch`: Unix seconds, inclusive"),
                ("`offset`, `limit`", "`retrieve_batch`: page, newest first; 0 and 12"),
            ),
        )
        + "\nA task that does not exist, or is somebody else's, is answered with 200 and `{}`. A batch is answered"
        " with `items` and `count`, the number of all matches. A task that is not finished has `response: {}` and no"
        " `finished_at`, `duration`, `elapsed`."
    )


def main() -> None:
    wrong = [name for name, text in pages().items() if _old(name) != text]
    if sys.argv[1:] == ["--check"]:
        sys.exit(f"out of date, run 'make docs': {', '.join(wrong)}" if wrong else 0)
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name in wrong:
        (REFERENCE / name).write_text(pages()[name], "utf-8")


def _old(name: str) -> str:
    path = REFERENCE / name
    return path.read_text("utf-8") if path.exists() else ""


if __name__ == "__main__":
    main()

"""`bide task`: what the operator may see of tasks, their attempts and their callbacks."""

from dataclasses import dataclass
from typing import Any

import click
import msgspec

from bide.callbacks import store as callbacks
from bide.cli.lazy import Loaded
from bide.cli.shared import (
    TEXT,
    CommandError,
    json_option,
    one_sentence,
    opened,
    place,
    plain,
    print_json,
    print_pairs,
    print_table,
    run,
    seconds,
    settings_of,
    when,
)
from bide.cli.task_unknown_list import list_unknown
from bide.clock import Clock
from bide.db import Database, Row
from bide.settings import Settings
from bide.tasks import attempts, inspect, store
from bide.tasks.attempts import Attempt
from bide.tasks.states import State

LIMIT_MAX = 10_000


COMMANDS = {
    "cancel": "bide.cli.task_cancel",
    "reconcile": "bide.cli.task_unknown",
    "resubmit": "bide.cli.task_unknown",
    "give-up": "bide.cli.task_unknown",
}


@click.group(commands=Loaded(COMMANDS))
def task() -> None:
    """Shows and cancels tasks, decides about lost submissions."""


# -- list


@task.command("list")
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=20, show_default=True, help="How many at most.")
@click.option("--unknown", is_flag=True, help="Submissions of which nobody knows whether the upstream took them.")
@json_option
@one_sentence
def list_(limit: int, unknown: bool, as_json: bool) -> None:
    """Lists the newest tasks, of all users; inline calls are among them."""
    settings = settings_of()
    if unknown:
        list_unknown(settings, limit, as_json)
        return
    rows = run(_list(settings, limit))
    if as_json:
        print_json([
            {"id": row[0], "type": row[1], "state": _state(row), "trace_id": row[6], "created_at": seconds(row[4]),
             "finished_at": seconds(row[5])}
            for row in rows
        ])  # fmt: skip
    elif rows:
        print_table(
            ("id", "type", "state", "created", "took", "trace id"),
            [(row[0], row[1], _state(row), when(row[4]), _took(row[4], row[5]), row[6]) for row in rows],
        )
    else:
        click.echo(f"There are no tasks in {place(settings)}.")


async def _list(settings: Settings, limit: int) -> list[Row]:
    async with opened(settings, Clock()) as db:
        return await inspect.latest(db, limit)


def _state(row: Row) -> str:
    return str(row[3] or row[2])


def _took(from_ms: int, to_ms: int | None) -> str:
    return "-" if to_ms is None else f"{(to_ms - from_ms) / 1000:.3f} s"


# -- show


@dataclass(frozen=True, slots=True)
class _Shown:
    """All that is known of a task. `queued` is its row of `inspect.open_attempt`, None once it is final."""

    record: store.Record
    state: str
    error: dict[str, Any] | None
    queued: Row | None
    attempts: list[Attempt]
    deliveries: list[tuple[Row, list[Row]]]


@task.command()
@click.argument("task_id", metavar="ID", type=TEXT)
@json_option
@one_sentence
def show(task_id: str, as_json: bool) -> None:
    """Shows one task: its times, its attempts at channels, its callbacks with every POST."""
    shown = run(_show(settings_of(), task_id))
    if as_json:
        print_json(_document(shown))
    else:
        _print(shown)


async def _show(settings: Settings, task_id: str) -> _Shown:
    async with opened(settings, Clock()) as db:
        # The queue is read first: a task that ends in between is found in what it left.
        queued = await inspect.open_attempt(db, task_id)
        record = await find_task(db, task_id)
        ending = await store.ending(db, task_id)
        if ending is None:
            state, error = (queued[0] if queued else State.QUEUED.value), None
        else:
            queued, state, error = None, ending[0], msgspec.json.decode(ending[1]).get("error")
        ended = await attempts.of_task(db, task_id)
        return _Shown(record, state, error, queued, ended, await callbacks.of_task(db, task_id))


async def find_task(db: Database, task_id: str) -> store.Record:
    """The task that a command line names. Raises `CommandError`."""
    record = await store.record(db, task_id)
    if record is None:
        raise CommandError(f"there is no task {task_id!r}")
    return record


def _document(shown: _Shown) -> dict[str, Any]:
    record, queued = shown.record, shown.queued
    return {
        "id": record.id, "service": record.service, "type": record.type, "state": shown.state,
        "trace_id": record.trace_id, "inline": not record.visible, "user_id": record.user_id,
        "application_id": record.application_id, "credential_id": record.credential_id,
        "created_at": seconds(record.created_at), "started_at": seconds(record.started_at),
        "finished_at": seconds(record.finished_at), "error": shown.error,
        "queue": None if queued is None else {
            "due_at": seconds(queued[1]), "leased": queued[2] is not None, "deadline_at": seconds(queued[3]),
        },
        "open_attempt": None if queued is None or queued[5] is None else {
            "number": queued[4], "channel": queued[5], "upstream_id": queued[6], "asked_at": seconds(queued[7]),
        },
        "attempts": [
            {"number": one.number, "channel": one.channel, "upstream_id": one.upstream_id,
             "asked_at": seconds(one.asked_at), "ended_at": seconds(one.ended_at), "outcome": one.outcome,
             "code": one.code, "status": one.status, "detail": one.detail,
             **({"resolved": one.resolved} if one.resolved else {})}
            for one in shown.attempts
        ],
        "deliveries": [
            {"id": row[0], "url": row[1], "state": row[2], "due_at": seconds(row[3]), "attempts": [
                {"number": post[0], "at": seconds(post[1]), "status": post[2], "latency_s": post[3] / 1000,
                 "error": post[4]}
                for post in posts
            ]}
            for row, posts in shown.deliveries
        ],
    }  # fmt: skip


def _print(shown: _Shown) -> None:
    record, queued = shown.record, shown.queued
    pairs = [
        ("id", record.id), ("type", record.type if record.visible else f"{record.type} (inline)"),
        ("state", shown.state), ("trace id", record.trace_id), ("user", record.user_id),
        ("application", record.application_id), ("credential", record.credential_id),
        ("created", when(record.created_at)), ("started", when(record.started_at)),
    ]  # fmt: skip
    if queued is None:
        pairs.append(("finished", f"{when(record.finished_at)}, {_took(record.created_at, record.finished_at)}"))
    else:
        pairs += [("deadline", when(queued[3])), ("lease ends" if queued[2] is not None else "due", when(queued[1]))]
    if shown.error is not None:
        pairs.append(("error", f"{shown.error.get('code')}: {shown.error.get('message')}"))
    print_pairs(pairs)
    _print_attempts(shown)
    _print_deliveries(shown)


def _print_attempts(shown: _Shown) -> None:
    rows = [
        (str(one.number), one.channel, one.outcome, one.code or "-", _number(one.status), when(one.asked_at),
         _took(one.asked_at, one.ended_at), one.upstream_id or "-")
        for one in shown.attempts
    ]  # fmt: skip
    queued = shown.queued
    if queued is not None and queued[5] is not None:
        rows.append((str(queued[4]), queued[5], "open", "-", "-", when(queued[7]), "-", queued[6] or "-"))
    if rows:
        click.echo("\nAttempts")
        print_table(("no.", "channel", "outcome", "code", "status", "asked", "took", "upstream id"), rows)
    for one in shown.attempts:
        if one.detail:
            click.echo(f"\nThe upstream's words in attempt {one.number}: {plain(' '.join(one.detail.split()))}")
        if one.resolved:
            click.echo(f"\nFound out about attempt {one.number}: {plain(one.resolved)}")


def _print_deliveries(shown: _Shown) -> None:
    for row, posts in shown.deliveries:
        due = f", due {when(row[3])}" if row[3] is not None else ""
        click.echo(f"\nCallback {row[0]} to {plain(row[1])}: {row[2]}{due}")
        if posts:
            print_table(
                ("no.", "sent", "status", "latency", "error"),
                [(str(p[0]), when(p[1]), _number(p[2]), f"{p[3] / 1000:.3f} s", p[4] or "-") for p in posts],
            )


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


# -- resend


@task.command()
@click.argument("task_id", metavar="ID", type=TEXT)
@one_sentence
def resend(task_id: str) -> None:
    """Sends the callback of a task once more, whether the receiver took it before or not.

    Prints the webhook-id, which stays the same. A worker sends it; if it fails, what is left of the schedule
    goes on.
    """
    for delivery_id in run(_resend(settings_of(), task_id)):
        click.echo(delivery_id)


async def _resend(settings: Settings, task_id: str) -> list[str]:
    clock = Clock()
    async with opened(settings, clock) as db:
        record, owed = await find_task(db, task_id), await callbacks.of_task(db, task_id)
        if not owed:
            raise CommandError(f"task {task_id} has no callback" + ("" if record.finished_at else " yet"))
        ids = [row[0] for row, _ in owed]
        sent = [name for name in ids if await db.write(callbacks.send_again, (name, clock.now_ms()))]
    if not sent:
        raise CommandError(f"the callback of task {task_id} is still to be sent")
    return sent

"""The tables of tasks: `tasks` (as accepted), `queue` (what is open), `endings` (how it ended), `files`.

Only `queue` is ever updated, and it holds unfinished tasks alone: a claim costs the same whether a thousand
or a million tasks are finished. Times are milliseconds.

A lease is a due time in the future and the number of who may write. There is no reaper: when a worker dies,
its tasks are simply due again. Every write of a worker names its lease, and changes nothing when the lease
is another's by now.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from bide.db import Database, Row, Tx
from bide.tasks.states import State


class Upload(msgspec.Struct, frozen=True):
    """A picture the caller sent in the body, now in our storage as `name`."""

    field: str
    name: str
    filename: str
    content_type: str
    size: int


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it was accepted."""

    id: str
    service: str
    operation: str
    type: str
    user_id: str
    application_id: str
    credential_id: str
    trace_id: str
    visible: bool
    created_at: int
    callback_url: str | None
    base_url: str
    request: bytes
    uploads: tuple[Upload, ...] | None
    """Pictures that came in the body; None: the body was JSON and had none."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write: until `until_ms`, as `id`."""

    id: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Terms:
    """What was agreed when the task was accepted, whatever changes afterwards. Amounts are micro-credits."""

    kept_ms: int
    """How long the task is kept once it is over."""
    price: int = 0
    """For one unit."""
    units: int = 0
    """How many were asked for."""
    held: int = 0
    """Of the application's own balance."""
    held_general: int = 0
    general_id: str | None = None
    limit_key: str | None = None
    """What it is counted under while it is open; None: nothing limits it."""


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to insert: queued, or leased with its first attempt open when `channel` is given (inline)."""

    task: Task
    deadline_at: int
    terms: Terms
    lease: Lease | None = None
    channel: str | None = None
    uploads_expire_at: int = 0
    idempotency_key: str | None = None
    body_hash: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """The task an idempotency key already stands for."""

    task_id: str
    body_hash: str


@dataclass(frozen=True, slots=True)
class Work:
    """A claimed task, with its open attempt if it has one (`channel` is not None)."""

    task: Task
    lease_id: int
    started_at: int
    deadline_at: int
    attempts: int
    channel: str | None
    upstream_id: str | None
    asked_at: int | None
    slot: str | None = None
    waits_for: str | None = None
    turn: int | None = None
    """The channel of which it has a slot; the line in which it stands, and where: see `bide.tasks.waiting`."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Whoever asks for at most `limit` due tasks."""

    now_ms: int
    limit: int
    lease: Lease


_TASK = (
    "id, service, operation, type, user_id, application_id, credential_id, trace_id, visible, created_at,"
    " callback_url, base_url, request, inputs"
)
_TERMS = "kept_ms, price, units, held, held_general, general_id, limit_key"
_ATTEMPT = "deadline_at, attempts, channel, upstream_id, asked_at, slot, waits_for, turn"
COLUMNS = f"task_id, lease_id, started_at, {_ATTEMPT}"
_uploads = msgspec.json.Decoder(tuple[Upload, ...])


def _task(row: Row) -> Task:
    values = [*row]
    values[8], values[13] = bool(row[8]), None if row[13] is None else _uploads.decode(row[13])
    return Task(*values)


# -- batches


async def insert(tx: Tx, items: Sequence[NewTask]) -> list[None]:
    """Inserts tasks."""
    await tx.each(f"INSERT INTO tasks ({_TASK}) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14)",
                  [_values(item.task) for item in items])  # fmt: skip
    await tx.each(
        "INSERT INTO queue (task_id, state, due_at, lease_id, deadline_at, started_at, attempts, channel, asked_at,"
        f" {_TERMS}) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16)",
        [_queued(item) for item in items],
    )
    await add_files(tx, [
        (upload.name, item.task.id, upload.size, upload.content_type, item.uploads_expire_at)
        for item in items for upload in item.task.uploads or ()
    ])  # fmt: skip
    await count(tx, Counter((t.user_id, t.service, t.type, t.application_id) for t in
                             (item.task for item in items) if t.visible))  # fmt: skip
    if any(item.lease is None for item in items):
        tx.wake("tasks")
    return [None] * len(items)


def _values(task: Task) -> tuple[Any, ...]:
    inputs = None if task.uploads is None else msgspec.json.encode(task.uploads)
    return (task.id, task.service, task.operation, task.type, task.user_id, task.application_id, task.credential_id,
            task.trace_id, int(task.visible), task.created_at, task.callback_url, task.base_url, task.request,
            inputs)  # fmt: skip


def _queued(item: NewTask) -> tuple[Any, ...]:
    task, lease, terms = item.task, item.lease, item.terms
    agreed = (terms.kept_ms, terms.price, terms.units, terms.held, terms.held_general, terms.general_id,
              terms.limit_key)  # fmt: skip
    if lease is None:
        return (task.id, State.QUEUED.value, task.created_at, None, item.deadline_at, None, 0, None, None, *agreed)
    attempts, asked_at = (0, None) if item.channel is None else (1, task.created_at)
    return (task.id, State.RUNNING.value, lease.until_ms, lease.id, item.deadline_at, task.created_at, attempts,
            item.channel, asked_at, *agreed)  # fmt: skip


async def known(tx: Tx, items: Sequence[NewTask]) -> list[Known | None]:
    """Writes down the idempotency keys of new tasks. Answers `Known` for one whose key is taken."""
    known: list[Known | None] = [None] * len(items)
    for position, item in enumerate(items):
        if item.idempotency_key is None:
            continue
        owner, key = item.task.application_id, item.idempotency_key
        while known[position] is None and not await tx.rows(
            "INSERT INTO idempotency (application_id, key, task_id, body_hash) VALUES ($1,$2,$3,$4)"
            " ON CONFLICT (application_id, key) DO NOTHING RETURNING key", owner, key, item.task.id, item.body_hash,
        ):  # fmt: skip
            found = await tx.rows(
                "SELECT task_id, body_hash FROM idempotency WHERE application_id = $1 AND key = $2", owner, key
            )
            known[position] = Known(*found[0]) if found else None  # deleted between the two: the key is free again
    return known


async def forget_keys(tx: Tx, items: Sequence[NewTask]) -> None:
    """Takes back the idempotency keys of tasks that were refused after all."""
    ids = [item.task.id for item in items if item.idempotency_key is not None]
    if ids:
        await tx.run("DELETE FROM idempotency WHERE task_id = ANY($1)", ids)


_OPEN = "SELECT limit_key, count(*), min(task_id) FROM queue WHERE limit_key = ANY($1) GROUP BY limit_key"


async def open_by_limit(tx: Tx, keys: list[str]) -> dict[str, tuple[int, str]]:
    """How many tasks are open under some limits, and the oldest of them."""
    return {row[0]: (row[1], row[2]) for row in await tx.rows(_OPEN, keys)} if keys else {}


async def open_under(db: Database, key: str) -> tuple[int, str]:
    """As `open_by_limit`, of one limit, outside of a transaction."""
    row = await db.load(_OPEN, key)
    return (0, "") if row is None else (row[1], row[2])


async def count(tx: Tx, changes: Counter[tuple[Any, ...]]) -> None:
    # Sorted, so that two writers that meet in a slot lock its rows in the same order.
    await tx.each(
        "INSERT INTO task_counts (user_id, service, type, application_id, slot, n) VALUES ($1,$2,$3,$4,$5,$6)"
        " ON CONFLICT (user_id, service, type, application_id, slot) DO UPDATE SET n = task_counts.n + excluded.n",
        [(*key, tx.slot, n) for key, n in sorted(changes.items())],
    )


async def claim(tx: Tx, items: list[Claim]) -> list[list[Work]]:
    """Leases due tasks: first runs, polls, retries, and those whose worker died. One query for all four."""
    return [await _claim(tx, item) for item in items]


async def _claim(tx: Tx, item: Claim) -> list[Work]:
    leased = await tx.rows(
        "WITH due AS MATERIALIZED (SELECT task_id FROM queue WHERE due_at <= $3 ORDER BY due_at LIMIT $4"
        " FOR UPDATE SKIP LOCKED)"
        " UPDATE queue SET state = 'running', lease_id = $1, due_at = $2, started_at = coalesce(started_at, $3)"
        " WHERE task_id = ANY(ARRAY(SELECT task_id FROM due))"
        f" RETURNING {COLUMNS}",
        item.lease.id, item.lease.until_ms, item.now_ms, item.limit,
    )  # fmt: skip
    return await works(tx, leased)


async def works(tx: Tx, leased: Sequence[Row]) -> list[Work]:
    """What was leased, from the columns `COLUMNS` of its rows."""
    if not leased:
        return []
    rows = await tx.rows(f"SELECT {_TASK} FROM tasks WHERE id = ANY($1)", [row[0] for row in leased])
    tasks = {row[0]: _task(row) for row in rows}
    return [Work(tasks[row[0]], *row[1:]) for row in leased]


async def extend(tx: Tx, items: list[list[tuple[str, int, int]]]) -> list[None]:
    """Keeps leases: lists of task id, lease id, the new end."""
    leases = [lease for item in items for lease in item]
    await tx.each("UPDATE queue SET due_at = $3 WHERE task_id = $1 AND lease_id = $2", leases)
    return [None] * len(items)


async def open_attempts(tx: Tx, items: list[tuple[str, int, str, int]]) -> list[int | None]:
    """Writes down that a channel that needs no slot is about to be asked: task id, lease id, channel, time.

    Answers the attempt's number, or None to a worker whose lease is another's by now.
    """
    rows = await tx.each(
        "UPDATE queue SET attempts = attempts + 1, channel = $3, upstream_id = NULL, asked_at = $4, turn = NULL,"
        " slot = NULL, waits_for = NULL WHERE task_id = $1 AND lease_id = $2 RETURNING task_id, lease_id, attempts",
        items)  # fmt: skip
    numbers = {(row[0], row[1]): row[2] for row in rows}
    return [numbers.get(item[:2]) for item in items]


async def park(tx: Tx, items: list[tuple[str, int, int, str]]) -> list[bool]:
    """Gives leases back until a poll is due: task id, lease id, due time, the upstream's id."""
    return await _held(tx, "UPDATE queue SET due_at = $3, lease_id = NULL, upstream_id = $4", items)


async def close_attempts(tx: Tx, items: Sequence[tuple[str, int]]) -> list[bool]:
    """No attempt is open any more, and its slot is free; the lease is kept: task id, lease id."""
    nothing = "channel = NULL, upstream_id = NULL, asked_at = NULL, slot = NULL, turn = NULL"
    return await _held(tx, f"UPDATE queue SET {nothing}", items)


async def put_back(tx: Tx, items: list[tuple[str, int, int]]) -> list[bool]:
    """Gives leases back: task id, lease id, due time. An open attempt stays open."""
    return await _held(tx, "UPDATE queue SET due_at = $3, lease_id = NULL", items)


async def release(tx: Tx, items: list[list[tuple[str, int, int]]]) -> list[None]:
    """Gives leases back, by lists, where nobody is being asked: another worker need not wait for their end."""
    for item in items:
        await tx.each(
            "UPDATE queue SET due_at = $3, lease_id = NULL WHERE task_id = $1 AND lease_id = $2"
            " AND (channel IS NULL OR upstream_id IS NOT NULL)",
            item,
        )
    tx.wake("tasks")
    return [None] * len(items)


async def accept(tx: Tx, items: list[tuple[str, int, str]]) -> list[bool]:
    """Writes the upstream's id of the open attempt down, keeping the lease: task id, lease id, upstream id."""
    return await _held(tx, "UPDATE queue SET upstream_id = $3", items)


async def take_out(tx: Tx, items: Sequence[tuple[str, int]]) -> list[Terms | None]:
    """Takes tasks out of the queue: task id, lease id. Answers their terms; None to all but the lease's holder."""
    rows = await tx.each(
        f"DELETE FROM queue WHERE task_id = $1 AND lease_id = $2 RETURNING task_id, lease_id, {_TERMS}", items
    )
    terms = {(row[0], row[1]): Terms(*row[2:]) for row in rows}
    return [terms.get(item) for item in items]


async def seize(tx: Tx, task_id: str, lease_id: int, until_ms: int) -> Work | None:
    """Takes an open task from whoever works on it. None when it is open no longer."""
    rows = await tx.rows(
        "UPDATE queue SET state = 'running', lease_id = $2, due_at = $3 WHERE task_id = $1"
        f" RETURNING lease_id, coalesce(started_at, 0), {_ATTEMPT}",
        task_id, lease_id, until_ms,
    )  # fmt: skip
    if not rows:
        return None
    tasks = await tx.rows(f"SELECT {_TASK} FROM tasks WHERE id = $1", task_id)
    return Work(_task(tasks[0]), *rows[0])


async def _held(tx: Tx, change: str, items: Sequence[tuple[Any, ...]]) -> list[bool]:
    """Changes rows for the holders of their leases (the first two values); False to whom it is not, or no longer."""
    # The row says whose lease it was in the argument's words: the update may have taken it away.
    rows = await tx.each(
        f"{change} WHERE task_id = $1 AND lease_id = $2 RETURNING task_id, cast($2 AS BIGINT)", items
    )
    won = {(row[0], row[1]) for row in rows}
    return [item[:2] in won for item in items]


async def ended_as(tx: Tx, task_id: str, response: bytes) -> bool:
    """Whether a task has ended with just this response: the same ending, written by an earlier try of ours."""
    return bool(await tx.rows("SELECT 1 FROM endings WHERE task_id = $1 AND response = $2", task_id, response))


async def add_endings(tx: Tx, items: Sequence[tuple[str, str, int | None, int, int, int, bytes]]) -> None:
    """Task id, final state, started, finished, when it may be deleted, whether base64 was asked for, response."""
    await tx.each("INSERT INTO endings (task_id, state, started_at, finished_at, expires_at, b64, response)"
                  " VALUES ($1,$2,$3,$4,$5,$6,$7)", items)  # fmt: skip


async def add_files(tx: Tx, items: Sequence[tuple[str, str, int, str, int]]) -> None:
    """Storage name, task id, bytes, content type, when it may be deleted."""
    await tx.each("INSERT INTO files (name, task_id, size, content_type, expires_at) VALUES ($1,$2,$3,$4,$5)"
                  " ON CONFLICT (name) DO NOTHING", items)  # fmt: skip


# -- reads

_DOCUMENT = (
    "SELECT t.id, t.service, t.operation, t.type, t.user_id, t.application_id, t.credential_id, t.trace_id,"
    " t.visible, t.created_at, coalesce(e.started_at, q.started_at), e.finished_at, e.b64, t.request, e.response"
    " FROM tasks t LEFT JOIN endings e ON e.task_id = t.id LEFT JOIN queue q ON q.task_id = t.id"
    " WHERE t.id = ANY($1)"
)
_OWN_DOCUMENT = f"{_DOCUMENT} AND t.user_id = ANY($2)"


@dataclass(frozen=True, slots=True)
class Record:
    """Everything a task document is made of."""

    id: str
    service: str
    operation: str
    type: str
    user_id: str
    application_id: str
    credential_id: str
    trace_id: str
    visible: int
    created_at: int
    started_at: int | None
    finished_at: int | None
    b64: int | None
    request: bytes
    response: bytes | None


async def record(db: Database, task_id: str) -> Record | None:
    row = await db.load(_DOCUMENT, task_id)
    return None if row is None else Record(*row)


async def own_record(db: Database, task_id: str, user_id: str) -> Record | None:
    """The record of a user's own task. What is another's is not read: it costs what an unknown id costs."""
    row = await db.load(_OWN_DOCUMENT, task_id, user_id)
    return None if row is None or row[4] != user_id else Record(*row)


async def records(db: Database, ids: list[str]) -> list[Record]:
    return [Record(*row) for row in await db.rows(_DOCUMENT, ids)]


async def ending(db: Database, task_id: str) -> tuple[str, bytes] | None:
    """Final state and response, or None while the task is open."""
    row = await db.load("SELECT task_id, state, response FROM endings WHERE task_id = ANY($1)", task_id)
    return None if row is None else (row[1], row[2])


async def has_key(db: Database, task_id: str) -> bool:
    """Whether a caller can ask for the task's result once more, by an idempotency key."""
    return await db.row("SELECT 1 FROM idempotency WHERE task_id = $1", task_id) is not None


async def is_open(db: Database, task_id: str) -> bool:
    return await db.load("SELECT task_id FROM queue WHERE task_id = ANY($1)", task_id) is not None

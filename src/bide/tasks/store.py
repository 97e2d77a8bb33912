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
class NewTask:
    """A task to insert: queued, or leased with its first attempt open when `channel` is given (inline)."""

    task: Task
    deadline_at: int
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
_uploads = msgspec.json.Decoder(tuple[Upload, ...])


def _task(row: Row) -> Task:
    values = [*row]
    values[8], values[13] = bool(row[8]), None if row[13] is None else _uploads.decode(row[13])
    return Task(*values)


# -- batches


async def insert(tx: Tx, items: list[NewTask]) -> list[Known | None]:
    """Inserts tasks. Answers `Known` for one whose idempotency key is taken, and does not insert it."""
    known = await _known(tx, items)
    new = [item for item, other in zip(items, known, strict=True) if other is None]
    await tx.each(f"INSERT INTO tasks ({_TASK}) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14)",
                  [_values(item.task) for item in new])  # fmt: skip
    await tx.each(
        "INSERT INTO queue (task_id, state, due_at, lease_id, deadline_at, started_at, attempts, channel, asked_at)"
        " VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9)",
        [_queued(item) for item in new],
    )
    await add_files(tx, [
        (upload.name, item.task.id, upload.size, upload.content_type, item.uploads_expire_at)
        for item in new for upload in item.task.uploads or ()
    ])  # fmt: skip
    await count(tx, Counter((t.user_id, t.service, t.type, t.application_id) for t in
                             (item.task for item in new) if t.visible))  # fmt: skip
    if any(item.lease is None for item in new):
        tx.wake("tasks")
    return known


def _values(task: Task) -> tuple[Any, ...]:
    inputs = None if task.uploads is None else msgspec.json.encode(task.uploads)
    return (task.id, task.service, task.operation, task.type, task.user_id, task.application_id, task.credential_id,
            task.trace_id, int(task.visible), task.created_at, task.callback_url, task.base_url, task.request,
            inputs)  # fmt: skip


def _queued(item: NewTask) -> tuple[Any, ...]:
    task, lease = item.task, item.lease
    if lease is None:
        return (task.id, State.QUEUED.value, task.created_at, None, item.deadline_at, None, 0, None, None)
    attempts, asked_at = (0, None) if item.channel is None else (1, task.created_at)
    return (task.id, State.RUNNING.value, lease.until_ms, lease.id, item.deadline_at, task.created_at, attempts,
            item.channel, asked_at)  # fmt: skip


async def _known(tx: Tx, items: list[NewTask]) -> list[Known | None]:
    known: list[Known | None] = [None] * len(items)
    for position, item in enumerate(items):
        if item.idempotency_key is None:
            continue
        owner, key = item.task.application_id, item.idempotency_key
        if await tx.rows(
            "INSERT INTO idempotency (application_id, key, task_id, body_hash) VALUES ($1,$2,$3,$4)"
            " ON CONFLICT (application_id, key) DO NOTHING RETURNING key", owner, key, item.task.id, item.body_hash,
        ):  # fmt: skip
            continue
        found = await tx.rows(
            "SELECT task_id, body_hash FROM idempotency WHERE application_id = $1 AND key = $2", owner, key
        )
        known[position] = Known(*found[0])
    return known


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
        " WHERE task_id IN (SELECT task_id FROM due)"
        " RETURNING task_id, lease_id, started_at, deadline_at, attempts, channel, upstream_id, asked_at",
        item.lease.id, item.lease.until_ms, item.now_ms, item.limit,
    )  # fmt: skip
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
    """Writes down that a channel is about to be asked: task id, lease id, channel, time.

    Answers the attempt's number, or None to a worker whose lease is another's by now.
    """
    rows = await tx.each(
        "UPDATE queue SET attempts = attempts + 1, channel = $3, upstream_id = NULL, asked_at = $4"
        " WHERE task_id = $1 AND lease_id = $2 RETURNING task_id, lease_id, attempts",
        items,
    )
    numbers = {(row[0], row[1]): row[2] for row in rows}
    return [numbers.get(item[:2]) for item in items]


async def park(tx: Tx, items: list[tuple[str, int, int, str]]) -> list[bool]:
    """Gives leases back until a poll is due: task id, lease id, due time, the upstream's id."""
    return await _held(tx, "UPDATE queue SET due_at = $3, lease_id = NULL, upstream_id = $4", items)


async def close_attempts(tx: Tx, items: Sequence[tuple[str, int]]) -> list[bool]:
    """No attempt is open any more; the lease is kept: task id, lease id."""
    return await _held(tx, "UPDATE queue SET channel = NULL, upstream_id = NULL, asked_at = NULL", items)


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


async def take_out(tx: Tx, items: Sequence[tuple[str, int]]) -> list[bool]:
    """Takes tasks out of the queue: task id, lease id. Only the lease's holder wins."""
    return await _held(tx, "DELETE FROM queue", items)


async def _held(tx: Tx, change: str, items: Sequence[tuple[Any, ...]]) -> list[bool]:
    """Changes rows for the holders of their leases (the first two values); False to whom it is not, or no longer."""
    rows = await tx.each(f"{change} WHERE task_id = $1 AND lease_id = $2 RETURNING task_id, {_BY[change[:6]]}", items)
    won = {(row[0], row[1]) for row in rows}
    return [item[:2] in won for item in items]


_BY = {"UPDATE": "cast($2 AS BIGINT)", "DELETE": "lease_id"}
"""How a row says whose lease it was: an update may have taken it away."""


async def ended_as(tx: Tx, task_id: str, response: bytes) -> bool:
    """Whether a task has ended with just this response: the same ending, written by an earlier try of ours."""
    return bool(await tx.rows("SELECT 1 FROM endings WHERE task_id = $1 AND response = $2", task_id, response))


async def add_endings(tx: Tx, items: Sequence[tuple[str, str, int | None, int, int, bytes]]) -> None:
    """Task id, final state, started, finished, whether base64 was asked for, response."""
    await tx.each(
        "INSERT INTO endings (task_id, state, started_at, finished_at, b64, response) VALUES ($1,$2,$3,$4,$5,$6)",
        items,
    )


async def add_files(tx: Tx, items: Sequence[tuple[str, str, int, str, int]]) -> None:
    """Storage name, task id, bytes, content type, when it may be deleted."""
    await tx.each(
        "INSERT INTO files (name, task_id, size, content_type, expires_at) VALUES ($1,$2,$3,$4,$5)"
        " ON CONFLICT (name) DO NOTHING",
        items,
    )


# -- reads

_DOCUMENT = (
    "SELECT t.id, t.service, t.operation, t.type, t.user_id, t.application_id, t.credential_id, t.trace_id,"
    " t.visible, t.created_at, coalesce(e.started_at, q.started_at), e.finished_at, e.b64, t.request, e.response"
    " FROM tasks t LEFT JOIN endings e ON e.task_id = t.id LEFT JOIN queue q ON q.task_id = t.id"
    " WHERE t.id = ANY($1)"
)


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


async def file_names(db: Database, task_id: str) -> list[Row]:
    """(name, size, content type) of a task's files."""
    return await db.rows("SELECT name, size, content_type FROM files WHERE task_id = $1 ORDER BY name", task_id)


async def latest(db: Database, limit: int) -> list[Row]:
    """(id, type, open state, final state, created, finished, trace id) of the newest tasks, for the operator."""
    return await db.scan(
        "SELECT t.id, t.type, q.state, e.state, t.created_at, e.finished_at, t.trace_id FROM tasks t"
        " LEFT JOIN endings e ON e.task_id = t.id LEFT JOIN queue q ON q.task_id = t.id ORDER BY t.id DESC LIMIT $1",
        limit,
    )


async def open_attempt(db: Database, task_id: str) -> Row | None:
    """(state, due, lease id, deadline, attempts, channel, upstream id, asked) of an open task."""
    return await db.row(
        "SELECT state, due_at, lease_id, deadline_at, attempts, channel, upstream_id, asked_at FROM queue"
        " WHERE task_id = $1", task_id,
    )  # fmt: skip


async def open_count(db: Database) -> tuple[int, int]:
    """How many tasks wait and how many are being worked on."""
    rows = await db.scan(
        "SELECT coalesce(sum(CASE WHEN lease_id IS NULL THEN 1 ELSE 0 END), 0),"
        " coalesce(sum(CASE WHEN lease_id IS NULL THEN 0 ELSE 1 END), 0) FROM queue"
    )
    return int(rows[0][0]), int(rows[0][1])

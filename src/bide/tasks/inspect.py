"""What an operator may see of tasks: reads of the tables of `bide.tasks.store` that no request of a caller needs."""

from dataclasses import dataclass, replace
from typing import Any

from bide.clock import first_id
from bide.db import Database, Row, mark


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


# -- looking for tasks


OPEN = "open"


async def open_at(db: Database, channel: str) -> int:
    """How many attempts are open at a channel, or have a slot there. Reads the whole queue: not for every task."""
    rows = await db.scan("SELECT count(*) FROM queue WHERE channel = $1 OR slot = $1", channel)
    return int(rows[0][0])


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which tasks are meant. None: not filtered by it.

    A call that waited for its answer left no task behind, so it is listed only while it is `open`.
    """

    user_id: str | None = None
    services: tuple[str, ...] | None = None
    application_id: str | None = None
    trace_id: str | None = None
    ids: tuple[str, ...] | None = None
    """Finished tasks that may match, when they were found elsewhere. Open ones are found without."""
    state: str | None = None
    """`open`, or how the task ended."""
    from_ms: int | None = None
    """Inclusive."""
    until_ms: int | None = None
    """Exclusive."""


@dataclass(frozen=True, slots=True)
class Line:
    """A task in a list."""

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
    state: str
    """`queued`, `running`, or how it ended."""


async def services_of(db: Database, user_id: str) -> list[str]:
    """The services of which a user has tasks."""
    rows = await db.rows("SELECT DISTINCT service FROM task_counts WHERE user_id = $1 ORDER BY service", user_id)
    return [row[0] for row in rows]


async def page(db: Database, wanted: Wanted, limit: int, offset: int, *, ascending: bool = False) -> list[Line]:
    """One page of tasks by time."""
    sql, args = page_query(wanted, limit, offset, ascending=ascending)
    ids = [row[0] for row in await db.scan(sql, *args)]
    found = {row[0]: Line(*row) for row in await db.rows(_LINES, ids)} if ids else {}
    return [found[one] for one in ids if one in found]


async def total(db: Database, wanted: Wanted) -> int:
    """How many tasks there are. Costs what it counts."""
    args: list[Any] = []
    sql = f"SELECT count(*) FROM ({' UNION '.join(_branches(wanted, args))}) AS matches"
    return int((await db.scan(sql, *args))[0][0])


_LINES = (
    "SELECT t.id, t.service, t.operation, t.type, t.user_id, t.application_id, t.credential_id, t.trace_id,"
    " t.visible, t.created_at, coalesce(e.started_at, q.started_at), e.finished_at,"
    " coalesce(e.state, q.state, 'queued')"
    " FROM tasks t LEFT JOIN endings e ON e.task_id = t.id LEFT JOIN queue q ON q.task_id = t.id WHERE t.id = ANY($1)"
)


def page_query(wanted: Wanted, limit: int, offset: int, *, ascending: bool = False) -> tuple[str, list[Any]]:
    args: list[Any] = []
    order = "ASC" if ascending else "DESC"
    reach = mark(args, offset + limit)
    walks = [
        f"SELECT id FROM ({branch} ORDER BY id {order} LIMIT {reach}) AS b{at}"
        for at, branch in enumerate(_branches(wanted, args))
    ]
    return f"{' UNION '.join(walks)} ORDER BY id {order} LIMIT {mark(args, limit)} OFFSET {mark(args, offset)}", args


def _branches(wanted: Wanted, args: list[Any]) -> list[str]:
    """One query for each service of a user, whose tasks stand together in an index. What is open is found from the
    queue, which is as small as the work is."""
    if wanted.state == OPEN:
        return [_OF_QUEUE + _where(wanted, args, [])]
    visible = ["t.visible = 1"]
    if wanted.ids is not None:
        named = _OF_TASKS + _where(wanted, args, [f"t.id = ANY({mark(args, list(wanted.ids))})", *visible])
        return [named] if wanted.state else [named, _OF_QUEUE + _where(wanted, args, visible)]
    if wanted.user_id is None:
        return [_OF_TASKS + _where(wanted, args, visible)]
    each = [replace(wanted, services=(one,)) for one in wanted.services or ()]
    return [_OF_TASKS + _where(one, args, visible) for one in each] or [f"{_OF_TASKS} WHERE 1 = 0"]


_OF_TASKS = "SELECT t.id AS id FROM tasks t"
_OF_QUEUE = "SELECT t.id AS id FROM queue q JOIN tasks t ON t.id = q.task_id"


def _where(wanted: Wanted, args: list[Any], told: list[str]) -> str:
    told = list(told)
    for column, value in (("user_id", wanted.user_id), ("application_id", wanted.application_id),
                          ("trace_id", wanted.trace_id)):  # fmt: skip
        if value is not None:
            told.append(f"t.{column} = {mark(args, value)}")
    if wanted.services is not None:
        names = wanted.services
        told.append(f"t.service = {mark(args, names[0])}" if len(names) == 1 else
                    f"t.service = ANY({mark(args, list(names))})")  # fmt: skip
    if wanted.state not in (None, OPEN):
        ended = f"SELECT 1 FROM endings e WHERE e.task_id = t.id AND e.state = {mark(args, wanted.state)}"
        told.append(f"EXISTS ({ended})")
    if wanted.from_ms is not None:
        told.append(f"t.id >= {mark(args, first_id(wanted.from_ms))}")
    if wanted.until_ms is not None:
        told.append(f"t.id < {mark(args, first_id(wanted.until_ms))}")
    return f" WHERE {' AND '.join(told)}" if told else ""

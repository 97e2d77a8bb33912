"""`retrieve` by trace id and `retrieve_batch`: which tasks match, newest first, and how many in all.

A UUIDv7 begins with its time, so "newest first" is the order of ids, and a time window is a range of ids.
Every filter has an index (a test explains each on both databases); a total without a time window is read
from counters, so it costs the same in a large table.
"""

from dataclasses import dataclass
from typing import Any

from bide.clock import first_id
from bide.db import Database, mark

WALK_MAX = 500
"""Rows of an index that are read in the event loop."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What a caller looks for among its own tasks of one service. Empty means: not filtered by it."""

    user_id: str
    service: str
    ids: tuple[str, ...] = ()
    trace_ids: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    application_id: str = ""
    created_at_min: int | None = None
    """Milliseconds, inclusive."""
    created_at_max: int | None = None

    @property
    def is_walk(self) -> bool:
        """Whether a page is the end of one index, read backwards: then it costs what the page is long."""
        return not (self.ids or self.trace_ids or (self.application_id and self.types))

    @property
    def is_counted(self) -> bool:
        """Whether the counters know the total."""
        return not (self.ids or self.trace_ids or self.created_at_min is not None or self.created_at_max is not None)


async def newest(db: Database, user_id: str, service: str, trace_id: str) -> str | None:
    """The id of the caller's newest task with that trace id."""
    row = await db.row(
        "SELECT id FROM tasks WHERE user_id = $1 AND trace_id = $2 AND visible = 1 AND service = $3"
        " ORDER BY id DESC LIMIT 1", user_id, trace_id, service,
    )  # fmt: skip
    return None if row is None else row[0]


async def page(db: Database, wanted: Filter, offset: int, limit: int) -> list[str]:
    """Ids of one page of matches, newest first."""
    sql, args = page_query(wanted, offset, limit)
    read = db.rows if wanted.is_walk and offset + limit <= WALK_MAX else db.scan
    return [row[0] for row in await read(sql, *args)]


async def total(db: Database, wanted: Filter) -> int:
    """How many tasks match."""
    sql, args = total_query(wanted)
    rows = await (db.rows if wanted.is_counted else db.scan)(sql, *args)
    return int(rows[0][0])


def page_query(wanted: Filter, offset: int, limit: int) -> tuple[str, list[Any]]:
    args: list[Any] = []
    branches = _branches(wanted, args)
    reach = mark(args, offset + limit)
    parts = [f"SELECT id FROM ({branch} ORDER BY id DESC LIMIT {reach}) AS b{i}" for i, branch in enumerate(branches)]
    # UNION, not UNION ALL: a task named by its id and by its trace id is listed once.
    return f"{' UNION '.join(parts)} ORDER BY id DESC LIMIT {mark(args, limit)} OFFSET {mark(args, offset)}", args


def total_query(wanted: Filter) -> tuple[str, list[Any]]:
    args: list[Any] = []
    if not wanted.is_counted:
        return f"SELECT count(*) FROM ({' UNION '.join(_branches(wanted, args))}) AS matches", args
    where = f"user_id = {mark(args, wanted.user_id)} AND service = {mark(args, wanted.service)}"
    if wanted.types:
        where += f" AND type = ANY({mark(args, list(wanted.types))})"
    if wanted.application_id:
        where += f" AND application_id = {mark(args, wanted.application_id)}"
    return f"SELECT coalesce(sum(n), 0) FROM task_counts WHERE {where}", args


def _branches(wanted: Filter, args: list[Any]) -> list[str]:
    """One query per type and per way to name tasks, so that each walks a single index in order."""
    user, service, shared = f"user_id = {mark(args, wanted.user_id)}", mark(args, wanted.service), " AND visible = 1"
    if wanted.application_id:
        shared += f" AND application_id = {mark(args, wanted.application_id)}"
    if wanted.created_at_min is not None:
        shared += f" AND id >= {mark(args, first_id(wanted.created_at_min))}"
    if wanted.created_at_max is not None:
        shared += f" AND id < {mark(args, first_id(wanted.created_at_max + 1))}"
    plain = f"SELECT id FROM tasks WHERE {user} AND service = {service}{shared}"
    named = []
    if wanted.ids:
        named.append(f"{plain} AND id = ANY({mark(args, list(wanted.ids))})")
    if wanted.trace_ids:
        # `|| ''` hides the two columns from SQLite's planner, which knows no statistics: it would walk all of the
        # user's tasks in their order rather than look the few names up.
        few = f"trace_id = ANY({mark(args, list(wanted.trace_ids))}) AND service || '' = {service}"
        named.append(f"SELECT id || '' AS id FROM tasks WHERE {user} AND {few}{shared}")
    typed = [f" AND type = {mark(args, name)}" for name in wanted.types]
    return [f"{query}{kind}" for query in named or [plain] for kind in typed or [""]]

"""The table `usage`: one record for each task that ended, charged or not. It outlives the task.

Amounts are integer micro-credits, times milliseconds. Polls and refused requests leave no record.

A record has the id of its task, a UUIDv7: the order of ids is that of time, and a time window is a range of ids. A
page by user, application or trace id walks one index and costs what it is long (a test explains each on both
databases); a filter by credential, operation or status passes over what does not match.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, timedelta, tzinfo
from operator import attrgetter
from typing import Any

from bide.clock import first_id
from bide.db import Database, Tx, mark


@dataclass(frozen=True, slots=True)
class Usage:
    """One record; the fields are the columns."""

    id: str
    """The task's."""
    user_id: str
    application_id: str
    credential_id: str
    service: str
    operation: str
    trace_id: str
    status: int
    """HTTP status of the outcome: 200, or that of the error."""
    code: str | None
    created_at: int
    elapsed_ms: int
    units: int
    """Units that succeeded, of those that were asked for."""
    price: int
    """For one unit, as agreed when the task was accepted."""
    original_amount: int
    """What was held."""
    deducted_amount: int
    """What was charged in all."""
    deducted_general: int
    """Of that, from the general balance."""
    remaining_amount: int
    """Granted and not used of the application, afterwards."""
    used_amount: int


COLUMNS = ", ".join(field.name for field in fields(Usage))
_VALUES = ", ".join(f"${number}" for number in range(1, len(fields(Usage)) + 1))
_row = attrgetter(*(field.name for field in fields(Usage)))  # twenty times as quick as `astuple`, which copies


async def add(tx: Tx, items: Sequence[Usage]) -> None:
    """Writes records; the task's own key lets each be written once."""
    await tx.each(f"INSERT INTO usage ({COLUMNS}) VALUES ({_VALUES})", [_row(item) for item in items])


# -- reads


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records are meant. Empty means: not filtered by it; several values: any of them."""

    user_id: str | None = None
    applications: tuple[str, ...] = ()
    """Takes the place of `user_id`: whoever asks has made sure that it may ask for them."""
    credentials: tuple[str, ...] = ()
    operations: tuple[tuple[str, str], ...] | None = None
    """Service and operation; none of them (an empty tuple) matches nothing."""
    statuses: tuple[int, ...] = ()
    trace_ids: tuple[str, ...] = ()
    from_ms: int | None = None
    """Inclusive."""
    until_ms: int | None = None
    """Exclusive."""


async def page(
    db: Database, wanted: Filter, limit: int, offset: int = 0, *, ascending: bool = False, after: str = ""
) -> list[Usage]:
    """One page of records by time. `after`: only what comes after that id, in this order."""
    sql, args = page_query(wanted, limit, offset, ascending=ascending, after=after)
    return [Usage(*row) for row in await db.scan(sql, *args)]


async def total(db: Database, wanted: Filter) -> int:
    """How many records there are. Costs what it counts."""
    sql, args = total_query(wanted)
    return int((await db.scan(sql, *args))[0][0])


async def one(db: Database, usage_id: str) -> Usage | None:
    row = await db.row(f"SELECT {COLUMNS} FROM usage WHERE id = $1", usage_id)
    return None if row is None else Usage(*row)


async def ids_of_trace(db: Database, trace_id: str, limit: int) -> list[str]:
    """The newest tasks that ended under a trace id, whoever's they are."""
    rows = await db.rows("SELECT id FROM usage WHERE trace_id = $1 ORDER BY id DESC LIMIT $2", trace_id, limit)
    return [row[0] for row in rows]


async def statuses(db: Database, wanted: Filter) -> list[tuple[int, int]]:
    """(HTTP status, how many records)."""
    args: list[Any] = []
    rows = await db.scan(
        f"SELECT status, count(*) FROM usage{_where(wanted, args)} GROUP BY status ORDER BY status", *args
    )
    return [(row[0], row[1]) for row in rows]


@dataclass(frozen=True, slots=True)
class Day:
    """A day of some time zone: 24 hours, or 23 or 25 when its clocks are changed."""

    date: str
    begin_ms: int
    end_ms: int

    @property
    def length_ms(self) -> int:
        return self.end_ms - self.begin_ms


async def by_day(db: Database, wanted: Filter, days: Sequence[Day]) -> list[tuple[str, str, str, int, int]]:
    """(date, service, operation, micro-credits charged, how many records), oldest day first.

    Days of the same length that follow each other are one query: mostly all of them, since only a change of the
    clocks makes a longer or a shorter one.
    """
    found: list[tuple[str, str, str, int, int]] = []
    at = 0
    while at < len(days):
        end, length = at + 1, days[at].length_ms
        while end < len(days) and days[end].length_ms == length and days[end].begin_ms == days[end - 1].end_ms:
            end += 1
        run = days[at:end]
        args: list[Any] = [run[0].begin_ms, max(length, 1)]
        within = replace(wanted, from_ms=max(wanted.from_ms or 0, run[0].begin_ms),
                         until_ms=min(wanted.until_ms or run[-1].end_ms, run[-1].end_ms))  # fmt: skip
        rows = await db.scan(
            "SELECT (created_at - $1) / $2, service, operation, cast(sum(deducted_amount) AS BIGINT), count(*)"
            f" FROM usage{_where(within, args)} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3", *args,
        )  # fmt: skip
        found += [(run[row[0]].date, row[1], row[2], row[3], row[4]) for row in rows]
        at = end
    return found


def days(zone: tzinfo, from_ms: int, until_ms: int) -> list[Day]:
    """The days of a zone that a window touches, whole ones."""
    found: list[Day] = []
    if from_ms >= until_ms:
        return found
    date = datetime.fromtimestamp(from_ms / 1000, zone).date()
    begin = midnight(date, zone)
    while begin < until_ms:
        following = date + timedelta(days=1)
        end = midnight(following, zone)
        if end > begin:  # a zone that moved over the date line left a day out
            found.append(Day(date.isoformat(), begin, end))
        date, begin = following, end
    return found


def midnight(day: date, zone: tzinfo) -> int:
    """When a day begins, in milliseconds. Where the clocks leave midnight out, at the moment they are changed."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)


def page_query(
    wanted: Filter, limit: int, offset: int, *, ascending: bool = False, after: str = ""
) -> tuple[str, list[Any]]:
    """One walk of an index for each name that is looked up by an index: application or trace id."""
    args: list[Any] = []
    order, beyond = ("ASC", ">") if ascending else ("DESC", "<")
    reach = mark(args, offset + limit)
    walks = []
    for one in _branches(wanted):
        where = _where(one, args)
        if after:
            where += f"{' AND' if where else ' WHERE'} id {beyond} {mark(args, after)}"
        walks.append(f"SELECT {COLUMNS} FROM usage{where} ORDER BY id {order} LIMIT {reach}")
    if len(walks) == 1 and not offset:
        return walks[0], args
    parts = " UNION ALL ".join(f"SELECT * FROM ({walk}) AS b{at}" for at, walk in enumerate(walks))
    return f"{parts} ORDER BY id {order} LIMIT {mark(args, limit)} OFFSET {mark(args, offset)}", args


def total_query(wanted: Filter) -> tuple[str, list[Any]]:
    args: list[Any] = []
    counts = [f"(SELECT count(*) FROM usage{_where(one, args)})" for one in _branches(wanted)]
    return f"SELECT {' + '.join(counts)}", args


def _branches(wanted: Filter) -> list[Filter]:
    if wanted.trace_ids:
        return [replace(wanted, trace_ids=(one,)) for one in dict.fromkeys(wanted.trace_ids)]
    if wanted.applications:
        return [replace(wanted, applications=(one,)) for one in dict.fromkeys(wanted.applications)]
    return [wanted]


def _where(wanted: Filter, args: list[Any]) -> str:
    """The conditions. `|| ''` hides a column from SQLite's planner, which knows no statistics, and would rather walk
    all records of a user than look up those of a trace id."""
    told: list[str] = []
    if wanted.trace_ids:
        told.append(_any("trace_id", wanted.trace_ids, args))
    hidden = " || ''" if wanted.trace_ids else ""
    if wanted.applications:
        told.append(_any(f"application_id{hidden}", wanted.applications, args))
    elif wanted.user_id is not None:
        told.append(f"user_id{hidden} = {mark(args, wanted.user_id)}")
    if wanted.credentials:
        told.append(_any("credential_id", wanted.credentials, args))
    if wanted.operations is not None:
        pairs = [f"service = {mark(args, service)} AND operation = {mark(args, path)}"
                 for service, path in wanted.operations]  # fmt: skip
        told.append(f"({' OR '.join(pairs) or '1 = 0'})")
    if wanted.statuses:
        told.append(_any("status", wanted.statuses, args))
    if wanted.from_ms is not None:
        told.append(f"id >= {mark(args, first_id(wanted.from_ms))}")
    if wanted.until_ms is not None:
        told.append(f"id < {mark(args, first_id(wanted.until_ms))}")
    return f" WHERE {' AND '.join(told)}" if told else ""


def _any(column: str, values: Sequence[str | int], args: list[Any]) -> str:
    if len(values) == 1:
        return f"{column} = {mark(args, values[0])}"
    return f"{column} = ANY({mark(args, list(values))})"

"""The table `applications` from the side of those who manage it: subscriptions, each with a balance.

An application is for one service (`Individual`) or for all (`Global`, whose balance is the general one). Times are
milliseconds, amounts micro-credits.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bide.accounts import users
from bide.accounts.store import GLOBAL, INDIVIDUAL
from bide.clock import Clock
from bide.credits import granting
from bide.db import Database, Row, Tx
from bide.errors import BadRequest

SCOPES = (INDIVIDUAL, GLOBAL)
OWN_MAX = 100
"""Applications that a user may make for itself. A superuser may make more for it."""
CHANGEABLE = frozenset({"name", "allow_consume_global", "limits", "retention_ms", "disabled"})
_COLUMNS = (
    "id, user_id, name, scope, service, allow_consume_global, limits, retention_ms, disabled, created_at, updated_at"
)


@dataclass(frozen=True, slots=True)
class Application:
    id: str
    user_id: str
    name: str
    scope: str
    service: str | None
    """The one service of an individual application."""
    allow_consume_global: bool
    limits: Mapping[str, Any] | None
    """Other limits than the catalogue's (`bide.accounts.limits`)."""
    retention_ms: int | None
    disabled: bool
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class New:
    """A subscription to be made: `service` is None for the scope `Global`."""

    user_id: str
    service: str | None
    name: str
    allow_consume_global: bool = False
    free_amount: int = 0
    """Granted with the user's first application of the service."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which applications are looked for; None: not filtered by it."""

    user_id: str | None = None
    service: str | None = None
    scope: str | None = None


async def create(tx: Tx, clock: Clock, new: New, most: int | None = None) -> Application | None:
    """Inserts an application, with the free quota if it is the user's first of its service. None: no such user.
    Raises `BadRequest` when the user has `most` of them already.

    The lock of the user makes "first" exact: of two at once, one sees the other.
    """
    if await users.lock(tx, new.user_id) is None:
        return None
    if most is not None:
        count = await tx.rows("SELECT count(*) FROM applications WHERE user_id = $1", new.user_id)
        if count[0][0] >= most:
            raise BadRequest(f"A user may make {most:,} applications.")
    first = new.service is not None and not await tx.rows(
        "SELECT 1 FROM applications WHERE user_id = $1 AND service = $2 LIMIT 1", new.user_id, new.service
    )
    now = clock.now_ms()
    rows = await tx.rows(
        "INSERT INTO applications (id, user_id, name, scope, service, allow_consume_global, created_at, updated_at)"
        f" VALUES ($1, $2, $3, $4, $5, $6, $7, $7) RETURNING {_COLUMNS}",
        clock.new_id(now), new.user_id, new.name, GLOBAL if new.service is None else INDIVIDUAL, new.service,
        int(new.allow_consume_global), now,
    )  # fmt: skip
    made = _application(rows[0])
    if first and new.free_amount:
        await granting.free(tx, made.id, new.user_id, str(new.service), new.free_amount, now)
    return made


async def one(source: Database | Tx, application_id: str, user_id: str | None = None) -> Application | None:
    """The application of an id; if a user is given, only one of theirs."""
    mine, args = _of_user(user_id, 2)
    rows = await source.rows(f"SELECT {_COLUMNS} FROM applications WHERE id = $1{mine}", application_id, *args)
    return _application(rows[0]) if rows else None


async def named(db: Database, id_or_name: str, most: int = 2) -> list[Application]:
    """The application of an id, or those of a name: `most` of them."""
    rows = await db.rows(
        f"SELECT {_COLUMNS} FROM applications WHERE id = $1 OR name = $1 ORDER BY id LIMIT $2", id_or_name, most
    )
    found = [_application(row) for row in rows]
    return [one for one in found if one.id == id_or_name] or found


async def listed(
    db: Database, wanted: Filter, limit: int, offset: int, *, ascending: bool = False
) -> tuple[int, list[Application]]:
    """How many applications match and one page of them, newest first."""
    count, page, args = queries(wanted, ascending=ascending)
    n = await db.scan(count, *args)
    return int(n[0][0]), [_application(row) for row in await db.scan(page, *args, limit, offset)]


def queries(wanted: Filter, *, ascending: bool = False) -> tuple[str, str, list[Any]]:
    """The query of the total, that of a page (which takes limit and offset last), and what both take."""
    pairs = [("user_id", wanted.user_id), ("service", wanted.service), ("scope", wanted.scope)]
    given = [(column, value) for column, value in pairs if value is not None]
    where = " AND ".join(f"{column} = ${at}" for at, (column, _) in enumerate(given, 1))
    from_ = f"FROM applications{' WHERE ' + where if where else ''}"
    at = len(given)
    page = (
        f"SELECT {_COLUMNS} {from_} ORDER BY id {'ASC' if ascending else 'DESC'} LIMIT ${at + 1} OFFSET ${at + 2}"
    )
    return f"SELECT count(*) {from_}", page, [value for _, value in given]


async def change(
    tx: Tx, at_ms: int, application_id: str, user_id: str | None, changes: Mapping[str, Any]
) -> Application | None:
    """Sets some columns (`CHANGEABLE`; values as `Application` has them). None: there is no such application."""
    assert changes.keys() <= CHANGEABLE
    values = [_column(name, value) for name, value in changes.items()]
    sets = "".join(f", {name} = ${at}" for at, name in enumerate(changes, 3))
    mine, args = _of_user(user_id, len(values) + 3)
    rows = await tx.rows(
        f"UPDATE applications SET updated_at = $1{sets} WHERE id = $2{mine} RETURNING {_COLUMNS}",
        at_ms, application_id, *values, *args,
    )  # fmt: skip
    return _application(rows[0]) if rows else None


def _column(name: str, value: Any) -> Any:
    if name == "limits":
        return None if value is None else json.dumps(value)
    return int(value) if isinstance(value, bool) else value


def _of_user(user_id: str | None, number: int) -> tuple[str, list[str]]:
    return ("", []) if user_id is None else (f" AND user_id = ${number}", [user_id])


def _application(row: Row) -> Application:
    limits = None if row[6] is None else json.loads(row[6])
    return Application(row[0], row[1], row[2], row[3], row[4], bool(row[5]), limits, row[7], bool(row[8]), row[9],
                       row[10])  # fmt: skip

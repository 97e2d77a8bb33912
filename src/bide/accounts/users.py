"""The table `users` from the side of those who manage it: who pays. Times are milliseconds."""

import re
import unicodedata
from dataclasses import dataclass

from bide.clock import Clock
from bide.db import Database, Row, Tx
from bide.errors import BadRequest

NAME_MAX = 100
ERASED = "erased-"
"""How the name of a user that was erased begins (`bide.accounts.erasure`)."""

_COLUMNS = "id, name, created_at, erased_at"
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class User:
    id: str
    name: str
    created_at: int
    erased_at: int | None
    """Since when nothing is known of the person; None: not erased."""


def check_name(text: str) -> str:
    """The name of a user, an application or a credential. Raises `BadRequest` with a sentence."""
    if not text.strip() or not is_line(text, NAME_MAX):
        raise BadRequest(f"`name` must have 1 to {NAME_MAX} characters without line breaks and control characters.")
    return text


def is_line(text: str, most: int) -> bool:
    """Whether a text is one line of at most so many characters; joiners, which some scripts need, are no controls."""
    return len(text) <= most and not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in text)


async def create(tx: Tx, clock: Clock, name: str) -> User | None:
    """A user of that name. None when there is one already; `BadRequest` when it is no name."""
    if _ID.fullmatch(name) or name.startswith(ERASED):
        raise BadRequest(f"`name` must not look like an id, nor begin with `{ERASED}`.")
    now = clock.now_ms()
    rows = await tx.rows(
        "INSERT INTO users (id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING"
        f" RETURNING {_COLUMNS}", clock.new_id(now), check_name(name), now,
    )  # fmt: skip
    return _first(rows)


async def lock(tx: Tx, user_id: str) -> User | None:
    """The user, if it is there and was not erased; until the commit nobody else subscribes for it.

    Whoever locks a user and applications locks the user first.
    """
    return _first(await tx.rows(
        f"SELECT {_COLUMNS} FROM users WHERE id = $1 AND erased_at IS NULL FOR NO KEY UPDATE", user_id
    ))  # fmt: skip


async def one(source: Database | Tx, user_id: str) -> User | None:
    """The user of an id."""
    return _first(await source.rows(f"SELECT {_COLUMNS} FROM users WHERE id = $1", user_id))


async def named(source: Database | Tx, id_or_name: str) -> User | None:
    """The user of an id, or of a name: no name looks like an id."""
    return _first(await source.rows(f"SELECT {_COLUMNS} FROM users WHERE id = $1 OR name = $1", id_or_name))


async def names(db: Database, ids: list[str]) -> dict[str, str]:
    """The names of some users, by id."""
    return {row[0]: row[1] for row in await db.rows("SELECT id, name FROM users WHERE id = ANY($1)", ids)}


async def listed(
    db: Database, user_id: str | None, limit: int, offset: int, *, ascending: bool = False
) -> tuple[int, list[User]]:
    """How many users there are and one page of them, newest first; with an id: that one alone."""
    where, args = ("", []) if user_id is None else (" WHERE id = $1", [user_id])
    n = await db.scan(f"SELECT count(*) FROM users{where}", *args)
    at = len(args)
    rows = await db.scan(
        f"SELECT {_COLUMNS} FROM users{where} ORDER BY id {'ASC' if ascending else 'DESC'}"
        f" LIMIT ${at + 1} OFFSET ${at + 2}", *args, limit, offset,
    )  # fmt: skip
    return int(n[0][0]), [User(*row) for row in rows]


def _first(rows: list[Row]) -> User | None:
    return User(*rows[0]) if rows else None

"""The table `channels`: those that are configured while the gateway runs. Times are milliseconds.

`updated_at` grows with every change of a row, also of two in one millisecond: who has seen it has seen the row. A
channel that is removed keeps its row until nothing is open there, so that a process that starts meanwhile knows whom
to ask about open work.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from bide.db import Database, Row, Tx


@dataclass(frozen=True, slots=True)
class Kept:
    """One row. `settings` and `sealed` are what `bide.channels.configured` makes of a channel's settings."""

    name: str
    settings: str
    """JSON, without what is secret."""
    sealed: bytes | None
    key_end: str
    disabled: bool
    removed_at: int | None
    created_at: int
    updated_at: int


_COLUMNS = "name, settings, key_sealed, key_end, disabled, removed_at, created_at, updated_at"


def _kept(row: Row) -> Kept:
    name, settings, sealed, key_end, disabled, removed_at, created_at, updated_at = row
    sealed = None if sealed is None else bytes(sealed)
    return Kept(name, settings, sealed, key_end, bool(disabled), removed_at, created_at, updated_at)


async def versions(db: Database) -> dict[str, int]:
    """The cheap look: `updated_at` of every row by name."""
    return {row[0]: row[1] for row in await db.rows("SELECT name, updated_at FROM channels")}


async def every(db: Database) -> list[Kept]:
    """All of them by name, also those that are being removed."""
    return [_kept(row) for row in await db.rows(f"SELECT {_COLUMNS} FROM channels ORDER BY name")]


async def one(db: Database, name: str) -> Kept | None:
    """The channel of a name; None also when it is being removed."""
    row = await db.row(f"SELECT {_COLUMNS} FROM channels WHERE name = $1 AND removed_at IS NULL", name)
    return None if row is None else _kept(row)


async def add(tx: Tx, new: Kept) -> Kept | None:
    """Inserts a channel. Answers the row that has the name already, if there is one: nothing was done then."""
    if await tx.run(
        f"INSERT INTO channels ({_COLUMNS}) VALUES ($1,$2,$3,$4,$5,$6,$7,$8) ON CONFLICT (name) DO NOTHING",
        new.name, new.settings, new.sealed, new.key_end, int(new.disabled), new.removed_at, new.created_at,
        new.updated_at,
    ):  # fmt: skip
        return None
    rows = await tx.rows(f"SELECT {_COLUMNS} FROM channels WHERE name = $1", new.name)
    return _kept(rows[0]) if rows else await add(tx, new)  # it went between the two


async def change(tx: Tx, at_ms: int, name: str, changed: Callable[[Kept], Kept]) -> Kept | None:
    """What `changed` makes of a channel that is not being removed; None when there is none. What it raises is raised,
    and nothing was done."""
    rows = await tx.rows(
        f"SELECT {_COLUMNS} FROM channels WHERE name = $1 AND removed_at IS NULL FOR NO KEY UPDATE", name
    )
    if not rows:
        return None
    before = _kept(rows[0])
    after = replace(changed(before), name=name, updated_at=max(at_ms, before.updated_at + 1))
    await tx.run(
        "UPDATE channels SET settings = $2, key_sealed = $3, key_end = $4, disabled = $5, removed_at = $6,"
        " updated_at = $7 WHERE name = $1",
        name, after.settings, after.sealed, after.key_end, int(after.disabled), after.removed_at, after.updated_at,
    )  # fmt: skip
    return after


async def delete(tx: Tx, name: str, removed_at: int) -> bool:
    """Deletes the row of a channel that was removed then. Whether it was there."""
    return bool(await tx.run("DELETE FROM channels WHERE name = $1 AND removed_at = $2", name, removed_at))

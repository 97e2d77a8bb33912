"""The tables of callbacks: `deliveries` (one callback owed) and `delivery_attempts` (one POST of it).

A delivery is inserted in the transaction that ends its task, so none is ever forgotten. It is leased like a
task: due again when its worker dies. Times are milliseconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bide.db import Database, Row, Tx

PENDING, DELIVERED, PARKED = "pending", "delivered", "parked"


@dataclass(frozen=True, slots=True)
class NewDelivery:
    id: str
    task_id: str
    url: str
    host: str
    due_at: int
    created_at: int


@dataclass(frozen=True, slots=True)
class Owed:
    """A claimed delivery. `attempts` have been made before this one."""

    id: str
    task_id: str
    url: str
    host: str
    attempts: int
    lease_id: int


@dataclass(frozen=True, slots=True)
class ClaimDeliveries:
    """Whoever asks for at most `limit` due deliveries to hosts other than `busy`."""

    now_ms: int
    limit: int
    lease_id: int
    until_ms: int
    busy: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attempted:
    """One POST that is over, and what follows: `due_at` of the next one, or a final state."""

    delivery_id: str
    lease_id: int
    number: int
    at: int
    status: int | None
    latency_ms: int
    error: str
    state: str
    due_at: int | None


async def add(tx: Tx, items: Sequence[NewDelivery]) -> None:
    if not items:
        return
    await tx.each(
        "INSERT INTO deliveries (id, task_id, url, host, state, due_at, created_at) VALUES ($1,$2,$3,$4,$5,$6,$7)",
        [(d.id, d.task_id, d.url, d.host, PENDING, d.due_at, d.created_at) for d in items],
    )
    tx.wake("deliveries")


async def claim(tx: Tx, items: list[ClaimDeliveries]) -> list[list[Owed]]:
    """Leases due deliveries, those of dead workers among them."""
    return [await _claim(tx, item) for item in items]


async def _claim(tx: Tx, item: ClaimDeliveries) -> list[Owed]:
    rows = await tx.rows(
        "WITH due AS MATERIALIZED (SELECT id FROM deliveries WHERE due_at <= $1 AND due_at IS NOT NULL"
        " AND host <> ALL($2) ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED)"
        " UPDATE deliveries SET lease_id = $4, due_at = $5 WHERE id IN (SELECT id FROM due)"
        " RETURNING id, task_id, url, host, attempts, lease_id",
        item.now_ms, list(item.busy), item.limit, item.lease_id, item.until_ms,
    )  # fmt: skip
    return [Owed(*row) for row in rows]


async def extend(tx: Tx, items: list[tuple[str, int, int]]) -> list[None]:
    """Keeps leases: delivery id, lease id, the new end."""
    await tx.each("UPDATE deliveries SET due_at = $3 WHERE id = $1 AND lease_id = $2", items)
    return [None] * len(items)


async def put_back(tx: Tx, items: list[tuple[str, int, int]]) -> list[None]:
    """Gives leases back without an attempt: delivery id, lease id, due time."""
    await tx.each("UPDATE deliveries SET due_at = $3, lease_id = NULL WHERE id = $1 AND lease_id = $2", items)
    return [None] * len(items)


async def record(tx: Tx, items: list[Attempted]) -> list[bool]:
    """Writes attempts down and what follows from them. False to a worker whose lease is another's by now."""
    rows = await tx.each(
        "UPDATE deliveries SET state = $3, due_at = $4, lease_id = NULL, attempts = $5, finished_at = $6"
        " WHERE id = $1 AND lease_id = $2 RETURNING id",
        [
            (a.delivery_id, a.lease_id, a.state, a.due_at, a.number, None if a.state == PENDING else a.at)
            for a in items
        ],
    )
    won = {row[0] for row in rows}
    await tx.each(
        "INSERT INTO delivery_attempts (delivery_id, number, at, status, latency_ms, error)"
        " VALUES ($1,$2,$3,$4,$5,$6)",
        [(a.delivery_id, a.number, a.at, a.status, a.latency_ms, a.error) for a in items if a.delivery_id in won],
    )
    return [a.delivery_id in won for a in items]


async def send_again(tx: Tx, items: list[tuple[str, int]]) -> list[bool]:
    """Makes a finished delivery due once more: delivery id, time."""
    rows = await tx.each(
        "UPDATE deliveries SET state = 'pending', due_at = $2, finished_at = NULL"
        " WHERE id = $1 AND state <> 'pending' RETURNING id",
        items,
    )
    tx.wake("deliveries")
    won = {row[0] for row in rows}
    return [item[0] in won for item in items]


async def delete(tx: Tx, task_ids: list[str]) -> None:
    gone = await tx.rows("DELETE FROM deliveries WHERE task_id = ANY($1) RETURNING id", task_ids)
    await tx.run("DELETE FROM delivery_attempts WHERE delivery_id = ANY($1)", [row[0] for row in gone])


async def of_task(db: Database, task_id: str) -> list[tuple[Row, list[Row]]]:
    """Deliveries of a task, `(id, url, state, due_at, attempts)`, each with its attempts
    `(number, at, status, latency_ms, error)`."""
    found = await db.rows(
        "SELECT id, url, state, due_at, attempts FROM deliveries WHERE task_id = $1 ORDER BY id", task_id
    )
    return [
        (row, await db.rows("SELECT number, at, status, latency_ms, error FROM delivery_attempts"
                            " WHERE delivery_id = $1 ORDER BY number", row[0]))
        for row in found
    ]  # fmt: skip


async def owed(db: Database) -> int:
    """How many deliveries are still to be made."""
    row = await db.row("SELECT count(*) FROM deliveries WHERE due_at IS NOT NULL")
    return int(row[0]) if row else 0

"""The tables of callbacks: `deliveries` (one callback owed) and `delivery_attempts` (one POST of it).

A delivery is inserted in the transaction that ends its task, so none is ever forgotten. It is leased like a
task: due again when its worker dies. Times are milliseconds.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bide.db import Database, Row, Tx

PENDING, DELIVERED, PARKED = "pending", "delivered", "parked"



@dataclass(frozen=True, slots=True)
class NewDelivery:
    id: str
    task_id: str
    url: str
    host: str
    owner: str
    """The application that is called back: the unit of fairness between callers."""
    due_at: int
    created_at: int


@dataclass(frozen=True, slots=True)
class Owed:
    """A claimed delivery. `attempts` have been made before this one."""

    id: str
    task_id: str
    url: str
    host: str
    owner: str
    attempts: int
    lease_id: int


@dataclass(frozen=True, slots=True)
class ClaimDeliveries:
    """Whoever asks for at most `limit` due deliveries. `room` says how many more one host and owner may have,
    `put_off_ms` how long those of a host wait at least that has no room, and at most twice that."""

    now_ms: int
    limit: int
    lease_id: int
    until_ms: int
    room: Callable[[str, str], int]
    put_off_ms: Callable[[str], int]


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
        "INSERT INTO deliveries (id, task_id, url, host, owner, state, due_at, created_at)"
        " VALUES ($1,$2,$3,$4,$5,$6,$7,$8)",
        [(d.id, d.task_id, d.url, d.host, d.owner, PENDING, d.due_at, d.created_at) for d in items],
    )
    tx.wake("deliveries")


async def claim(tx: Tx, items: list[ClaimDeliveries]) -> list[tuple[list[Owed], bool]]:
    """Leases due deliveries, those of dead workers among them; and whether more may be due.

    No more than `limit` of what is due longest is looked at, and what has no room among it is put off: so the
    backlog of one receiver costs the same at each look, and is passed by in a few.
    """
    return [await _claim(tx, item) for item in items]


async def _claim(tx: Tx, item: ClaimDeliveries) -> tuple[list[Owed], bool]:
    due = await tx.rows(
        "SELECT id, task_id, url, host, owner, attempts FROM deliveries WHERE due_at <= $1 AND due_at IS NOT NULL"
        " ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED", item.now_ms, item.limit,
    )  # fmt: skip
    taken: list[Row] = []
    put_off: list[Row] = []
    hosts: Counter[tuple[str, str]] = Counter()
    for row in due:
        key = (row[3], row[4])
        if hosts[key] < item.room(*key):
            hosts[key] += 1
            taken.append(row)
        else:
            put_off.append(row)
    await tx.each("UPDATE deliveries SET lease_id = $2, due_at = $3 WHERE id = $1",
                  [(row[0], item.lease_id, item.until_ms) for row in taken])  # fmt: skip
    await tx.each("UPDATE deliveries SET lease_id = NULL, due_at = $2 WHERE id = $1",
                  [(row[0], item.now_ms + item.put_off_ms(row[3]) * (item.limit + number) // item.limit)
                   for number, row in enumerate(put_off)])  # fmt: skip
    return [Owed(*[*row, item.lease_id]) for row in taken], bool(put_off) and len(due) == item.limit


async def extend(tx: Tx, items: list[list[tuple[str, int, int]]]) -> list[None]:
    """Keeps leases: lists of delivery id, lease id, the new end."""
    leases = [lease for item in items for lease in item]
    await tx.each("UPDATE deliveries SET due_at = $3 WHERE id = $1 AND lease_id = $2", leases)
    return [None] * len(items)


async def release(tx: Tx, items: list[list[tuple[str, int, int]]]) -> list[None]:
    """Gives leases back without an attempt, by lists: delivery id, lease id, due time."""
    leases = [lease for item in items for lease in item]
    await tx.each("UPDATE deliveries SET due_at = $3, lease_id = NULL WHERE id = $1 AND lease_id = $2", leases)
    tx.wake("deliveries")
    return [None] * len(items)


async def record(tx: Tx, items: list[Attempted]) -> list[bool]:
    """Writes attempts down and what follows from them. False to a worker whose lease is another's by now."""
    rows = await tx.each(
        "UPDATE deliveries SET state = $3, due_at = $4, lease_id = NULL, attempts = $5, finished_at = $6"
        " WHERE id = $1 AND lease_id = $2 RETURNING id, cast($2 AS BIGINT)",
        [
            (a.delivery_id, a.lease_id, a.state, a.due_at, a.number, None if a.state == PENDING else a.at)
            for a in items
        ],
    )
    won = {(row[0], row[1]) for row in rows}
    winners = [(a.delivery_id, a.lease_id) in won for a in items]
    await tx.each(
        "INSERT INTO delivery_attempts (delivery_id, number, at, status, latency_ms, error)"
        " VALUES ($1,$2,$3,$4,$5,$6) ON CONFLICT (delivery_id, number) DO NOTHING",
        [
            (a.delivery_id, a.number, a.at, a.status, a.latency_ms, a.error)
            for a, ok in zip(items, winners, strict=True) if ok
        ],
    )  # fmt: skip
    return winners


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


async def delete(tx: Tx, task_ids: list[str]) -> int:
    """Deletes all callbacks of some tasks, and answers how many."""
    gone = await tx.rows("DELETE FROM deliveries WHERE task_id = ANY($1) RETURNING id", task_ids)
    await tx.run("DELETE FROM delivery_attempts WHERE delivery_id = ANY($1)", [row[0] for row in gone])
    return len(gone)


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


async def still_owed(source: Database | Tx, task_ids: list[str]) -> set[str]:
    """Which of these tasks have a callback that is still to be made."""
    rows = await source.rows(
        "SELECT task_id FROM deliveries WHERE task_id = ANY($1) AND due_at IS NOT NULL", task_ids
    )
    return {row[0] for row in rows}


async def owed(db: Database) -> int:
    """How many deliveries are still to be made."""
    rows = await db.scan("SELECT count(*) FROM deliveries WHERE due_at IS NOT NULL")
    return int(rows[0][0])

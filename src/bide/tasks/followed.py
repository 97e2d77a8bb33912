"""Columns of `queue` that follow a task at its upstream: how far it is, by what address the upstream may call back,
and how often a submission whose answer was lost was looked for.

That last number has no column of its own: while it counts there is no progress, so it stands in `progress` below
zero, with the number of the attempt it belongs to.
"""

from collections.abc import Sequence

from bide.db import Database, Row, Tx

ROUNDS = 10
"""More rounds than there ever are for one attempt."""


async def look_later(tx: Tx, items: Sequence[tuple[str, int, int, int, int]]) -> list[bool]:
    """Gives leases back until a lost submission is looked for again: task id, lease id, due time, attempt, rounds
    that are over."""
    rows = await tx.each(
        "UPDATE queue SET due_at = $3, lease_id = NULL, progress = $4 WHERE task_id = $1 AND lease_id = $2"
        " RETURNING task_id, cast($2 AS BIGINT)",
        [(*item[:3], -(item[3] * ROUNDS + item[4])) for item in items],
    )
    won = {(row[0], row[1]) for row in rows}
    return [item[:2] in won for item in items]


async def rounds(db: Database, task_id: str, attempt: int) -> int:
    """How often the submission of an attempt was looked for."""
    row = await db.row("SELECT progress FROM queue WHERE task_id = $1", task_id)
    mark = 0 if row is None or row[0] is None else -int(row[0])
    return mark % ROUNDS if mark > 0 and mark // ROUNDS == attempt else 0


async def tell(tx: Tx, items: Sequence[tuple[str, int, int]]) -> list[None]:
    """How far tasks are: task id, lease id, percent. Nothing is written for a lease that is another's by now."""
    latest = {item[:2]: item for item in items}
    await tx.each("UPDATE queue SET progress = $3 WHERE task_id = $1 AND lease_id = $2", list(latest.values()))
    return [None] * len(items)


async def name(tx: Tx, items: Sequence[tuple[str, int, str]]) -> list[bool]:
    """By what the open attempt may be called back: task id, lease id, hash of the token."""
    rows = await tx.each(
        "UPDATE queue SET callback_token = $3 WHERE task_id = $1 AND lease_id = $2 RETURNING task_id, lease_id", items
    )
    won = {(row[0], row[1]) for row in rows}
    return [item[:2] in won for item in items]


async def named(db: Database, token_hash: str) -> str | None:
    """The open task whose attempt has this token."""
    row = await db.load("SELECT callback_token, task_id FROM queue WHERE callback_token = ANY($1)", token_hash)
    return None if row is None else str(row[1])


async def bring_forward(tx: Tx, items: Sequence[tuple[str, int]]) -> list[bool]:
    """Makes parked polls due: hash of the token, the time it is now. False for what is not parked, or is due."""
    latest = dict(items)
    rows = await tx.each(
        "UPDATE queue SET due_at = $2 WHERE callback_token = $1 AND lease_id IS NULL AND upstream_id IS NOT NULL"
        " AND due_at > $2 RETURNING callback_token",
        list(latest.items()),
    )
    moved = {row[0] for row in rows}
    if moved:
        tx.wake("tasks")
    return [item[0] in moved for item in items]


# -- what an operator decides about a submission whose answer was lost


async def take_lost(tx: Tx, task_id: str, lease_id: int, until_ms: int) -> bool:
    """Leases an open task that waits to be looked for. False for any other, and while a worker looks."""
    return bool(await tx.rows(
        f"UPDATE queue SET lease_id = $2, due_at = $3 WHERE task_id = $1 AND {_LOST} RETURNING task_id",
        task_id, lease_id, until_ms,
    ))  # fmt: skip


async def look_now(tx: Tx, items: Sequence[tuple[str, int]]) -> list[bool]:
    """Brings the next look for a lost submission forward: task id, the time it is now."""
    answers = []
    for task_id, now_ms in items:
        rows = await tx.rows(
            f"UPDATE queue SET due_at = $2 WHERE task_id = $1 AND due_at > $2 AND {_LOST} RETURNING task_id",
            task_id, now_ms,
        )  # fmt: skip
        answers.append(bool(rows))
    if any(answers):
        tx.wake("tasks")
    return answers


async def lost(db: Database, limit: int) -> list[Row]:
    """(task id, attempt, channel, asked) of open tasks that wait to be looked for. Reads what is open."""
    return await db.scan(
        f"SELECT task_id, attempts, channel, asked_at FROM queue WHERE {_LOST} ORDER BY asked_at DESC LIMIT $1", limit
    )


_LOST = "lease_id IS NULL AND channel IS NOT NULL AND upstream_id IS NULL"

"""Tasks that are handed over: to a worker that works for some channels alone, or by it to all others.

A row that was handed over has `slot`, the name of such a channel, and no lease. It is due at the task's deadline, so
that no other worker looks at it before: if nobody who could do it comes, any worker then ends it. A worker for those
channels takes it by its slot, whenever it is due. Its lease is as any other: when it dies, the task is due again for
every worker, which hands it over anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bide.db import Tx
from bide.tasks.store import COLUMNS, Lease, Work, works


@dataclass(frozen=True, slots=True)
class ClaimHanded:
    """A worker for `channels` that asks for at most `limit` tasks."""

    now_ms: int
    limit: int
    lease: Lease
    channels: tuple[str, ...]


async def hand_over(tx: Tx, items: Sequence[tuple[str, int, int, str | None]]) -> list[bool]:
    """Gives leases back: task id, lease id, due time (the deadline), channel; None and now: to every other worker.
    False to whom the lease is not, or no longer."""
    rows = await tx.each(
        "UPDATE queue SET due_at = $3, slot = $4, lease_id = NULL, waits_for = NULL, turn = NULL"
        " WHERE task_id = $1 AND lease_id = $2 RETURNING task_id, cast($2 AS BIGINT)",
        items,
    )
    tx.wake("tasks")
    won = {(row[0], row[1]) for row in rows}
    return [item[:2] in won for item in items]


async def claim(tx: Tx, items: Sequence[ClaimHanded]) -> list[list[Work]]:
    """Leases what was handed over to some channels, the oldest first."""
    return [await _claim(tx, item) for item in items]


async def _claim(tx: Tx, item: ClaimHanded) -> list[Work]:
    return await works(tx, await tx.rows(
        "WITH handed AS MATERIALIZED (SELECT task_id FROM queue WHERE slot = ANY($5)"
        " AND (lease_id IS NULL OR due_at <= $3) ORDER BY task_id LIMIT $4 FOR UPDATE SKIP LOCKED)"
        " UPDATE queue SET state = 'running', lease_id = $1, due_at = $2, started_at = coalesce(started_at, $3)"
        f" WHERE task_id = ANY(ARRAY(SELECT task_id FROM handed)) RETURNING {COLUMNS}",
        item.lease.id, item.lease.until_ms, item.now_ms, item.limit, list(item.channels),
    ))  # fmt: skip

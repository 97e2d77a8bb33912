"""The table of attempts that are over: one row per submission of a task to a channel.

An attempt is open while its channel stands in the task's `queue` row; it is written there before the
upstream is asked, so a crash at any moment leaves a trace of what may have been paid for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bide.db import Database, Tx
from bide.tasks.store import Work

DETAIL_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Attempt:
    """One submission and how it ended: `succeeded`, `failed`, `unknown`, or `lost` (its worker died)."""

    task_id: str
    number: int
    channel: str
    upstream_id: str | None
    asked_at: int
    ended_at: int
    outcome: str
    code: str | None = None
    status: int | None = None
    detail: str | None = None
    resolved: str | None = None
    """What was found out about one whose outcome was not known."""


NOT_KNOWN = frozenset({"unknown", "lost"})
"""Outcomes of which nobody knows whether the upstream did the work, and was paid for it."""


def of_work(work: Work, ended_at: int) -> Attempt | None:
    """The open attempt of a claimed task as the row it becomes if nothing more is heard; None when none is open."""
    if work.channel is None or work.asked_at is None:
        return None
    task_id, number = work.task.id, work.attempts
    return Attempt(task_id, number, work.channel, work.upstream_id, work.asked_at, ended_at, "lost", "timeout")


_ALL = "task_id, number, channel, upstream_id, asked_at, ended_at, outcome, code, status, detail, resolved"


async def add(tx: Tx, attempts: Sequence[Attempt]) -> None:
    await tx.each(
        "INSERT INTO attempts (task_id, number, channel, upstream_id, asked_at, ended_at, outcome, code, status,"
        " detail, resolved) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11) ON CONFLICT (task_id, number) DO NOTHING",
        [
            (a.task_id, a.number, a.channel, a.upstream_id, a.asked_at, a.ended_at, a.outcome, a.code, a.status,
             a.detail[:DETAIL_MAX].replace("\0", "") if a.detail else None, a.resolved)
            for a in attempts
        ],
    )  # fmt: skip


async def of_task(db: Database, task_id: str) -> list[Attempt]:
    rows = await db.rows(
        f"SELECT {_ALL} FROM attempts WHERE task_id = $1 ORDER BY number", task_id
    )
    return [Attempt(*row) for row in rows]


async def unknown(db: Database, limit: int) -> list[Attempt]:
    """The latest attempts whose outcome was not known when they ended, with what was found out since."""
    rows = await db.scan(
        f"SELECT {_ALL} FROM attempts WHERE outcome IN ('unknown', 'lost') ORDER BY ended_at DESC LIMIT $1", limit
    )
    return [Attempt(*row) for row in rows]


async def resolve(tx: Tx, items: Sequence[tuple[str, int, str]]) -> list[None]:
    """Writes down what was found out: task id, number, in words."""
    await tx.each(
        "UPDATE attempts SET resolved = $3 WHERE task_id = $1 AND number = $2",
        [(task_id, number, words[:DETAIL_MAX].replace("\0", "")) for task_id, number, words in items],
    )
    return [None] * len(items)


async def delete(tx: Tx, task_ids: list[str]) -> None:
    await tx.run("DELETE FROM attempts WHERE task_id = ANY($1)", task_ids)

"""Deleting what is past its time: finished tasks in the tables of `bide.tasks.store`, and their files."""

from collections import Counter

from bide.clock import uuid7
from bide.db import Database, Tx
from bide.tasks import store


async def delete(tx: Tx, ids: list[str]) -> None:
    """Deletes finished tasks. Their files are deleted on their own (`expired_files`)."""
    gone = await tx.rows(
        "DELETE FROM tasks WHERE id = ANY($1) RETURNING user_id, service, type, application_id, visible", ids
    )
    await store.count(tx, Counter({key: -n for key, n in Counter(tuple(row[:4]) for row in gone if row[4]).items()}))
    await tx.run("DELETE FROM endings WHERE task_id = ANY($1)", ids)
    await tx.run("DELETE FROM idempotency WHERE task_id = ANY($1)", ids)


async def forget_files(tx: Tx, names: list[str]) -> None:
    """Deletes the rows of files that are gone from storage."""
    await tx.run("DELETE FROM files WHERE name = ANY($1)", names)


async def purgeable(db: Database, kept_until_ms: int, inline_until_ms: int, limit: int) -> list[str]:
    """Finished tasks that may go: all that ended before the one time, inline calls before the other."""
    old = await db.scan(
        "SELECT t.id FROM tasks t JOIN endings e ON e.task_id = t.id WHERE t.id < $1 AND e.finished_at < $2"
        " ORDER BY t.id LIMIT $3", uuid7(kept_until_ms, 0), kept_until_ms, limit,
    )  # fmt: skip
    inline = await db.scan(
        "SELECT t.id FROM tasks t JOIN endings e ON e.task_id = t.id WHERE t.visible = 0 AND t.id < $1"
        " AND e.finished_at < $2 ORDER BY t.id LIMIT $3", uuid7(inline_until_ms, 0), inline_until_ms, limit,
    )  # fmt: skip
    return list({row[0] for row in (*old, *inline)})


async def expired_files(db: Database, now_ms: int, limit: int) -> list[str]:
    """Names of files that may be deleted from storage."""
    rows = await db.scan("SELECT name FROM files WHERE expires_at < $1 ORDER BY expires_at LIMIT $2", now_ms, limit)
    return [row[0] for row in rows]

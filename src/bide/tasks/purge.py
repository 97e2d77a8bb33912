"""Deleting finished tasks and their files from the tables of `bide.tasks.store`: past their time, or asked for.

Rows go first, and with them the time of their files is over, in one transaction: what dies before the files are
deleted leaves them to the next sweep. A batch is bounded in rows and in bytes, since a large body
takes a database its time; and what may not go yet is put off, so it never stands in the way of what may.
"""

from collections import Counter
from collections.abc import Sequence

from bide.db import Database, Row, Tx
from bide.tasks import items, search, store
from bide.tasks.search import Filter

BYTES_MAX = 2 * 1024 * 1024
"""Bytes of request bodies that one transaction deletes, or one body if that alone is larger."""


def few(rows: Sequence[Row]) -> list[str]:
    """Ids of the first of some (task id, bytes), as many as one transaction may delete; at least one."""
    ids: list[str] = []
    size = 0
    for row in rows:
        size += row[1]
        if ids and size > BYTES_MAX:
            break
        ids.append(row[0])
    return ids


async def delete(tx: Tx, ids: list[str]) -> list[str]:
    """Deletes finished tasks; answers which were there. Their files are deleted on their own (`expired_files`)."""
    gone = await tx.rows(
        "DELETE FROM tasks WHERE id = ANY($1) RETURNING user_id, service, type, application_id, visible, id", ids
    )
    await store.count(tx, Counter({key: -n for key, n in Counter(tuple(row[:4]) for row in gone if row[4]).items()}))
    await tx.run("DELETE FROM endings WHERE task_id = ANY($1)", ids)
    await tx.run("DELETE FROM idempotency WHERE task_id = ANY($1)", ids)
    await items.delete(tx, ids)
    return [row[5] for row in gone]


# -- past their time


async def purgeable(db: Database, now_ms: int, limit: int) -> list[Row]:
    """(task id, bytes) of finished tasks that may go, those first whose time was over first."""
    return await db.scan(
        "SELECT e.task_id, coalesce(length(t.request), 0) FROM endings e LEFT JOIN tasks t ON t.id = e.task_id"
        " WHERE e.expires_at < $1 ORDER BY e.expires_at LIMIT $2", now_ms, limit,
    )  # fmt: skip


async def put_off(tx: Tx, ids: list[str], until_ms: int) -> None:
    """Keeps finished tasks for longer."""
    await tx.run("UPDATE endings SET expires_at = $2 WHERE task_id = ANY($1)", ids, until_ms)


async def expired_files(db: Database, now_ms: int, limit: int) -> list[Row]:
    """(name, task id) of files that may be deleted from storage, those first whose time was over first."""
    return await db.scan(
        "SELECT name, task_id FROM files WHERE expires_at < $1 ORDER BY expires_at LIMIT $2", now_ms, limit
    )


async def put_off_files(tx: Tx, names: list[str], until_ms: int) -> None:
    """Keeps files for longer."""
    await tx.run("UPDATE files SET expires_at = $2 WHERE name = ANY($1)", names, until_ms)


async def forget_files(tx: Tx, names: list[str]) -> None:
    """Deletes the rows of files that are gone from storage."""
    await tx.run("DELETE FROM files WHERE name = ANY($1)", names)


async def oldest_files(db: Database, prefix: str) -> list[str]:
    """The first file in the order of names, and the first below a folder: names begin with their day."""
    rows = await db.rows("SELECT name FROM files WHERE name < $1 ORDER BY name LIMIT 1", prefix)
    below = await db.rows("SELECT name FROM files WHERE name >= $1 ORDER BY name LIMIT 1", prefix)
    return [row[0] for row in [*rows, *below]]


# -- asked for


async def named(tx: Tx, wanted: Filter, limit: int) -> list[str]:
    """Ids of a caller's tasks, newest first."""
    sql, args = search.page_query(wanted, 0, limit)
    return [row[0] for row in await tx.rows(sql, *args)]


async def still_open(tx: Tx, ids: list[str]) -> list[str]:
    """Which of some tasks have not ended. One statement, so that what is being deleted counts as gone."""
    rows = await tx.rows(
        "SELECT t.id FROM tasks t LEFT JOIN endings e ON e.task_id = t.id AND e.task_id = ANY($1)"
        " WHERE t.id = ANY($1) AND e.task_id IS NULL ORDER BY t.id", ids,
    )  # fmt: skip
    return [row[0] for row in rows]


async def end_files(tx: Tx, task_ids: list[str]) -> list[Row]:
    """The time of all files of these tasks is over. Answers (name, bytes) of each."""
    return await tx.rows("UPDATE files SET expires_at = 0 WHERE task_id = ANY($1) RETURNING name, size", task_ids)


async def sizes(tx: Tx, ids: list[str]) -> list[Row]:
    """(task id, bytes) of tasks in the order of `ids`; one that is gone has none."""
    rows = await tx.rows("SELECT id, length(request) FROM tasks WHERE id = ANY($1)", ids)
    found = {row[0]: row[1] for row in rows}
    return [(one, found.get(one, 0)) for one in ids]


async def open_after(db: Database, after: str, limit: int) -> list[str]:
    """The next open tasks of anybody, inline calls too, in the order of their ids."""
    rows = await db.scan("SELECT task_id FROM queue WHERE task_id > $1 ORDER BY task_id LIMIT $2", after, limit)
    return [row[0] for row in rows]


async def of_user(db: Database, ids: list[str], user_id: str) -> list[str]:
    """Which of some tasks are a user's."""
    rows = await db.scan("SELECT id FROM tasks WHERE id = ANY($1) AND user_id = $2", ids, user_id)
    return [row[0] for row in rows]

"""The table `items`: what tasks made and later requests may name. Rows come with a task's ending and go with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from bide.db import Database, Row, Tx


class ItemFile(msgspec.Struct, frozen=True, array_like=True):
    """A file of an item in our storage."""

    role: str
    name: str
    content_type: str
    size: int


@dataclass(frozen=True, slots=True)
class ItemRow:
    """One produced thing. `about` is the provider's own, small JSON."""

    id: str
    task_id: str
    user_id: str
    service: str
    operation: str
    kind: str
    channel: str
    position: int
    about: dict[str, Any]
    files: tuple[ItemFile, ...] = ()


LISTED = "persona"
"""The one kind that its owner can ask for a list of; it has an index of its own."""

_COLUMNS = "id, task_id, user_id, service, operation, kind, channel, position, about, files"
_files = msgspec.json.Decoder(tuple[ItemFile, ...])


async def add(tx: Tx, items: Sequence[ItemRow]) -> None:
    """Writes items down."""
    await tx.each(
        f"INSERT INTO items ({_COLUMNS}) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10)",
        [
            (one.id, one.task_id, one.user_id, one.service, one.operation, one.kind, one.channel, one.position,
             msgspec.json.encode(one.about), msgspec.json.encode(one.files))
            for one in items
        ],
    )  # fmt: skip


async def own(db: Database, item_id: str, user_id: str, service: str) -> ItemRow | None:
    """A user's own item. What is another's is not read: it costs what an unknown id costs."""
    row = await db.load(
        f"SELECT {_COLUMNS} FROM items WHERE id = ANY($1) AND user_id = ANY($2)", item_id, user_id
    )
    if row is None or row[2] != user_id or row[3] != service:
        return None
    return _row(row)


def _row(row: Row) -> ItemRow:
    about, files = msgspec.json.decode(row[8]), _files.decode(row[9])
    return ItemRow(row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7], about, files)


async def listed(db: Database, user_id: str, service: str, offset: int, limit: int) -> list[ItemRow]:
    """A page of a user's things of the kind `LISTED`, the newest first."""
    rows = await db.scan(
        f"SELECT {_COLUMNS} FROM items WHERE kind = '{LISTED}' AND user_id = $1 AND service = $2"
        " ORDER BY id DESC LIMIT $3 OFFSET $4", user_id, service, limit, offset,
    )  # fmt: skip
    return [_row(row) for row in rows]


async def listed_count(db: Database, user_id: str, service: str) -> int:
    """How many there are."""
    rows = await db.scan(
        f"SELECT count(*) FROM items WHERE kind = '{LISTED}' AND user_id = $1 AND service = $2", user_id, service
    )
    return int(rows[0][0])


async def forget(tx: Tx, item_id: str, user_id: str, service: str) -> bool:
    """One of these is not there any more, for lists and for requests. False: it was not there."""
    changed = await tx.run(
        f"DELETE FROM items WHERE id = $1 AND user_id = $2 AND service = $3 AND kind = '{LISTED}'",
        item_id, user_id, service,
    )  # fmt: skip
    return changed > 0


async def delete(tx: Tx, task_ids: list[str]) -> None:
    """Forgets what these tasks made."""
    await tx.run("DELETE FROM items WHERE task_id = ANY($1)", task_ids)

"""The table `erasures`, and taking a person out of the tables that stay. Times are milliseconds.

A user that is erased has one row. While the work goes on its `receipt` says how far it is (`Progress`); when it is
done, what was done. The two are told apart by the receipt's `sha256`.

What stays says nothing of the person: the user is `erased-<id>`, applications and credentials have no names, usage
records no trace ids. They stay because the books are made of them.
"""

import hashlib
import json
from typing import Any

import msgspec

from bide.accounts import store
from bide.accounts.store import OWNER
from bide.accounts.users import ERASED
from bide.clock import Clock
from bide.db import Database, Tx
from bide.errors import BadRequest, NotFound


class Progress(msgspec.Struct, frozen=True):
    """How far an erasure is: the last usage record that was seen to, and what was deleted so far."""

    after: str = ""
    tasks: int = 0
    files: int = 0
    bytes: int = 0
    deliveries: int = 0
    usage_records: int = 0


async def receipt(source: Database | Tx, user_id: str) -> bytes | None:
    """The receipt of a user that was erased completely."""
    rows = await source.rows("SELECT receipt FROM erasures WHERE user_id = $1", user_id)
    return bytes(rows[0][0]) if rows and "sha256" in msgspec.json.decode(rows[0][0]) else None


async def begin(tx: Tx, clock: Clock, user_id: str) -> None:
    """From the commit on the user can do nothing and its names are gone. Nothing changes if that was done before.

    Raises `NotFound`, and `BadRequest` for the owner of the gateway.
    """
    rows = await tx.rows("SELECT name, erased_at FROM users WHERE id = $1 FOR NO KEY UPDATE", user_id)
    if not rows:
        raise NotFound("There is no such user.")
    if rows[0][0] == OWNER:
        raise BadRequest("The owner of the gateway cannot be erased.")
    if rows[0][1] is not None:
        return
    now = clock.now_ms()
    await tx.run("UPDATE users SET name = $2, erased_at = $3 WHERE id = $1", user_id, f"{ERASED}{user_id}", now)
    await anonymise(tx, user_id, now)
    await tx.run(
        "INSERT INTO erasures (id, user_id, at, receipt) VALUES ($1, $2, $3, $4)",
        clock.new_id(now), user_id, now, msgspec.json.encode(Progress()),
    )  # fmt: skip


async def anonymise(tx: Tx, user_id: str, now_ms: int) -> tuple[int, int]:
    """Revokes all tokens of a user and takes away what people wrote beside them; switches its applications off.

    Answers how many credentials and management tokens there are. The hashes of tokens stay: so none ever works again.
    """
    await store.lock(tx, await applications(tx, user_id))  # nobody begins a task meanwhile
    await tx.run(
        "UPDATE applications SET name = '', disabled = 1, updated_at = $2 WHERE user_id = $1", user_id, now_ms
    )
    credentials = await tx.run(
        "UPDATE credentials SET name = '', token_end = '', host = NULL, metadata = NULL, updated_at = $2,"
        " revoked_at = coalesce(revoked_at, $2) WHERE user_id = $1", user_id, now_ms,
    )  # fmt: skip
    tokens = await tx.run(
        "UPDATE platform_tokens SET token_end = '', revoked_at = coalesce(revoked_at, $2) WHERE user_id = $1",
        user_id, now_ms,
    )  # fmt: skip
    return credentials, tokens


async def applications(tx: Tx, user_id: str) -> list[str]:
    """Ids of a user's applications."""
    return [row[0] for row in await tx.rows("SELECT id FROM applications WHERE user_id = $1 ORDER BY id", user_id)]


async def progress(tx: Tx, user_id: str) -> Progress | None:
    """How far the erasure is, for whoever goes on with it: one at a time. None when it is done."""
    rows = await tx.rows("SELECT receipt FROM erasures WHERE user_id = $1 FOR NO KEY UPDATE", user_id)
    found = msgspec.json.decode(rows[0][0])
    return None if "sha256" in found else msgspec.convert(found, Progress)


async def keep(tx: Tx, user_id: str, state: Progress) -> None:
    await tx.run("UPDATE erasures SET receipt = $2 WHERE user_id = $1", user_id, msgspec.json.encode(state))


async def usage_after(tx: Tx, user_id: str, after: str, limit: int) -> list[str]:
    """Ids of the next usage records of a user. Every task that has ended has one, the inline calls too."""
    rows = await tx.rows(
        "SELECT id FROM usage WHERE user_id = $1 AND id > $2 ORDER BY id LIMIT $3", user_id, after, limit
    )
    return [row[0] for row in rows]


async def forget_traces(tx: Tx, ids: list[str]) -> None:
    """A trace id is the caller's own text, and may name a person."""
    await tx.run("UPDATE usage SET trace_id = '' WHERE id = ANY($1)", ids)


async def finish(tx: Tx, user_id: str, now_ms: int, done: dict[str, Any]) -> bytes:
    """Writes the receipt and answers it: JSON in its canonical form, with the SHA-256 of that form without it."""
    rows = await tx.rows("SELECT id FROM erasures WHERE user_id = $1", user_id)
    content = {"id": rows[0][0], "user_id": user_id, **done}
    content["sha256"] = hashlib.sha256(canonical(content)).hexdigest()
    written = canonical(content)
    await tx.run("UPDATE erasures SET at = $2, receipt = $3 WHERE user_id = $1", user_id, now_ms, written)
    return written


def canonical(content: dict[str, Any]) -> bytes:
    """JSON with sorted names, without spaces and in ASCII: `jq -cjS 'del(.sha256)' receipt.json | sha256sum` is the
    check of a copy."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()

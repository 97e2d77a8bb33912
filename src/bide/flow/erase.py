"""erase: what a caller, or the operator for it, wants gone before its time.

`delete` takes a caller's finished tasks out; `erase_user` takes out a person:

    begin      tokens revoked, applications off, names gone       one transaction: from here on nothing can begin
    cancel     every open task ends                               so every task has a usage record
    walk       by usage record: trace ids, tasks, callbacks       a transaction for each batch, which remembers how
               and files go                                       far it is
    finish     the receipt

Whoever is killed in between is followed by the next call, which goes on from there. In each transaction the time of
the files it leaves is over as well, so they go at once, or with the next sweep.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bide.accounts import erasure
from bide.accounts.erasure import Progress
from bide.credits import ledger
from bide.db import DatabaseError, Tx, write_one
from bide.errors import BadRequest
from bide.flow import removal
from bide.flow.cancel import cancel
from bide.flow.removal import BATCH, PAUSE_S
from bide.gateway import Gateway
from bide.log import log
from bide.tasks import purge
from bide.tasks.search import Filter

LOOKED_AT = 500
"""Open tasks of anybody among which those of a person are looked for: no index has the open ones by user."""


# -- a caller's own tasks


@dataclass(frozen=True, slots=True)
class _Deleted:
    ids: list[str]
    files: list[str]


async def delete(gateway: Gateway, wanted: Filter, limit: int, forget: Callable[[list[str]], None]) -> list[str]:
    """Deletes what a filter finds of a caller's tasks, at most the newest `limit`; answers the ids, newest first.

    `forget` is told them as soon as they are gone, before their files are. Raises `BadRequest`, and deletes nothing,
    when one of them has not ended.
    """
    deleted = await gateway.db.write(_delete, (wanted, limit))
    forget(deleted.ids)
    try:
        await removal.remove_files(gateway, deleted.files)
    except DatabaseError:
        log.warning("files of deleted tasks are left to the sweep", count=len(deleted.files))
    return deleted.ids


async def _delete(tx: Tx, items: list[tuple[Filter, int]]) -> list[_Deleted | BadRequest]:
    return [await _delete_one(tx, wanted, limit) for wanted, limit in items]


async def _delete_one(tx: Tx, wanted: Filter, limit: int) -> _Deleted | BadRequest:
    ids = await purge.named(tx, wanted, limit)
    still_open = await purge.still_open(tx, ids)
    if still_open:
        return BadRequest(f"The task {still_open[0]} has not ended yet; nothing was deleted.")
    files = await purge.end_files(tx, ids)
    gone = set((await removal.remove(tx, ids)).ids)
    return _Deleted([one for one in ids if one in gone], [row[0] for row in files])


# -- a person


async def erase_user(gateway: Gateway, user_id: str) -> bytes:
    """Erases a user and answers the receipt (JSON); the same one to whoever asks again.

    Raises `NotFound` for an unknown user, `BadRequest` for the owner.
    """
    known = await erasure.receipt(gateway.db, user_id)
    if known is not None:
        return known
    await write_one(gateway.db, lambda tx: erasure.begin(tx, gateway.clock, user_id))
    await cancel_all(gateway, user_id)
    while await erase_once(gateway, user_id):
        await gateway.clock.sleep(PAUSE_S)
    return await write_one(gateway.db, lambda tx: _finish(tx, user_id, gateway.clock.now_ms()))


async def cancel_all(gateway: Gateway, user_id: str) -> None:
    """Cancels what is open of a user for whom nothing can begin any more. One walk through the queue is enough, if it
    goes on only where nothing is open: another who cancels may take a task from us, and end it later than we look."""
    after = ""
    while found := await purge.open_after(gateway.db, after, LOOKED_AT):
        mine = await purge.of_user(gateway.db, found, user_id)
        await asyncio.gather(*(cancel(gateway, task_id) for task_id in mine))
        after = after if mine else found[-1]


async def erase_once(gateway: Gateway, user_id: str) -> bool:
    """One batch of a user's tasks. False when nothing was left."""
    files = await gateway.db.write(_erase, user_id)
    if files is None:
        return False
    await removal.remove_files(gateway, files)
    return True


async def _erase(tx: Tx, items: list[str]) -> list[list[str] | None]:
    return [await _erase_one(tx, user_id) for user_id in items]


async def _erase_one(tx: Tx, user_id: str) -> list[str] | None:
    """Answers the names of the files that are to go; None when there was nothing to do."""
    state = await erasure.progress(tx, user_id)
    if state is None:
        return None
    ids = purge.few(await purge.sizes(tx, await erasure.usage_after(tx, user_id, state.after, BATCH)))
    if not ids:
        return None
    await erasure.forget_traces(tx, ids)
    files = await purge.end_files(tx, ids)
    removed = await removal.remove(tx, ids)
    await erasure.keep(tx, user_id, Progress(
        after=ids[-1], tasks=state.tasks + len(removed.ids), files=state.files + len(files),
        bytes=state.bytes + sum(row[1] for row in files), deliveries=state.deliveries + removed.deliveries,
        usage_records=state.usage_records + len(ids),
    ))  # fmt: skip
    return [row[0] for row in files]


async def _finish(tx: Tx, user_id: str, now_ms: int) -> bytes:
    """The receipt, or the one that somebody else has written meanwhile. Amounts are micro-credits."""
    state = await erasure.progress(tx, user_id)
    if state is None:
        return await erasure.receipt(tx, user_id) or b""
    credentials, tokens = await erasure.anonymise(tx, user_id, now_ms)
    balances = (await ledger.balances(tx, await erasure.applications(tx, user_id))).values()
    done: dict[str, Any] = {
        "at": datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "deleted": {"tasks": state.tasks, "files": state.files, "bytes": state.bytes, "deliveries": state.deliveries},
        "revoked": {"credentials": credentials, "platform_tokens": tokens},
        "kept": {
            "usage_records": state.usage_records,
            "micro_credits": {
                name: sum(getattr(one, name) for one in balances) for name in ("granted", "used", "held")
            },
        },
    }
    return await erasure.finish(tx, user_id, now_ms, done)

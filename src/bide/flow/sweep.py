"""sweep: what is past its time goes, in small batches that never hold anything up.

Finished tasks when the time agreed at submission is over, the records of inline calls after `inline_grace_s`, files
when they expire. A task whose callback is still owed stays, with its files, and is looked at again later.
"""

from bide.callbacks import store as callbacks
from bide.db import Tx
from bide.flow import removal
from bide.flow.removal import AGAIN_MS, BATCH, PAUSE_S
from bide.gateway import Gateway
from bide.storage.base import PRIVATE, day_of
from bide.tasks import purge

__all__ = ["EVERY_S", "ORPHANS_EVERY_S", "PAUSE_S", "sweep_once", "sweep_orphans_once"]

EVERY_S = 30.0
ORPHANS_EVERY_S = 3600.0
SLACK_MS = 2 * 86_400_000
"""A file is stored at most a task's run time before it is registered: two days are plenty."""


async def sweep_once(gateway: Gateway) -> bool:
    """One batch of each. True when there is more to do at once."""
    now = gateway.clock.now_ms()
    found = await purge.purgeable(gateway.db, now, BATCH)
    ids = purge.few(found)
    if ids:
        await gateway.db.write(_remove, (ids, now + AGAIN_MS))
    files = await purge.expired_files(gateway.db, now, BATCH)
    if files:
        await _remove_files(gateway, {row[0]: row[1] for row in files}, now + AGAIN_MS)
    return len(ids) < len(found) or BATCH in (len(found), len(files))


async def _remove(tx: Tx, items: list[tuple[list[str], int]]) -> list[None]:
    """Task ids, and until when those stay whose callback is owed."""
    for ids, until_ms in items:
        owed = await callbacks.still_owed(tx, ids)
        if owed:
            await purge.put_off(tx, sorted(owed), until_ms)
        await removal.remove(tx, [one for one in ids if one not in owed])
    return [None] * len(items)


async def _remove_files(gateway: Gateway, files: dict[str, str], until_ms: int) -> None:
    """Files with their tasks: a callback that is owed links to them."""
    owed = await callbacks.still_owed(gateway.db, sorted(set(files.values())))
    stay = [name for name, task_id in files.items() if task_id in owed]
    if stay:
        await gateway.db.write(_put_off_files, (stay, until_ms))
    await removal.remove_files(gateway, [name for name, task_id in files.items() if task_id not in owed])


async def _put_off_files(tx: Tx, items: list[tuple[list[str], int]]) -> list[None]:
    for names, until_ms in items:
        await purge.put_off_files(tx, names, until_ms)
    return [None] * len(items)


async def sweep_orphans_once(gateway: Gateway) -> None:
    """Files that no row knows: a worker died between storing and settling. They go with their whole day, and so not
    before the last file of that day and of all days before it: an application may keep its own for longer."""
    oldest = gateway.clock.now_ms() - gateway.settings.retention_ms - SLACK_MS
    known = [name.removeprefix(PRIVATE).partition("/")[0] for name in await purge.oldest_files(gateway.db, PRIVATE)]
    await gateway.storage.delete_days(min([day_of(max(oldest, 0)), *known]))

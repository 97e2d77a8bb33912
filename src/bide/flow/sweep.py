"""sweep: what is past its time goes, in small batches that never hold anything up.

Finished tasks after `retention_days`; the records of inline calls after `inline_grace_s`; files when they
expire. A file is deleted before its row, so a crash between the two only means that it is deleted again.
"""

from bide.callbacks import store as callbacks
from bide.db import Tx
from bide.gateway import Gateway
from bide.log import log
from bide.storage.base import day_of
from bide.tasks import attempts, purge

BATCH = 200
EVERY_S = 30.0
ORPHANS_EVERY_S = 3600.0
SLACK_MS = 2 * 86_400_000
"""A file is stored at most a task's run time before it is registered: two days are plenty."""


async def sweep_once(gateway: Gateway) -> bool:
    """One batch of each. True when there is more to do at once."""
    now, settings = gateway.clock.now_ms(), gateway.settings
    inline_until = now - int(settings.inline_grace_s * 1000)
    ids = await purge.purgeable(gateway.db, now - settings.retention_ms, inline_until, BATCH)
    owed = await callbacks.still_owed(gateway.db, ids) if ids else set()
    gone = [one for one in ids if one not in owed]  # a callback that is owed needs its task
    if gone:
        await gateway.db.write(_delete, gone)
    names = await purge.expired_files(gateway.db, now, BATCH)
    if names:
        await gateway.db.write(_forget, await _deleted(gateway, names))
    return len(gone) >= BATCH or len(names) == BATCH


async def _deleted(gateway: Gateway, names: list[str]) -> list[str]:
    """Deletes files together, or one by one when the store refuses: one that stays must not keep the others."""
    try:
        await gateway.storage.delete(names)
        return names
    except OSError:
        log.warning("files could not be deleted together", count=len(names))
    gone = []
    for name in names:
        try:
            await gateway.storage.delete([name])
            gone.append(name)
        except OSError as error:
            log.error("a file could not be deleted", name=name, error=str(error))
    return gone


async def sweep_orphans_once(gateway: Gateway) -> None:
    """Files that no row knows: a worker died between storing and settling. They go with their whole day."""
    oldest = gateway.clock.now_ms() - gateway.settings.retention_ms - SLACK_MS
    await gateway.storage.delete_days(day_of(max(oldest, 0)))


async def _delete(tx: Tx, items: list[list[str]]) -> list[None]:
    for ids in items:
        await purge.delete(tx, ids)
        await attempts.delete(tx, ids)
        await callbacks.delete(tx, ids)
    return [None] * len(items)


async def _forget(tx: Tx, items: list[list[str]]) -> list[None]:
    for names in items:
        await purge.forget_files(tx, names)
    return [None] * len(items)

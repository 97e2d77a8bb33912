"""removal: what sweeping, deleting and erasing share. All that belongs to finished tasks goes with them.

Usage records and the ledger stay: they say what was paid for, not what was made.
"""

from dataclasses import dataclass

from bide.callbacks import store as callbacks
from bide.db import Tx
from bide.gateway import Gateway
from bide.log import log
from bide.tasks import attempts, purge

BATCH = 50
"""Tasks or files of one transaction: SQLite's one writer is busy for 3 ms with it (100: 5 ms; 200: 9 ms)."""
PAUSE_S = 0.02
"""Between two batches, for everybody else: so about 1,500 tasks go in a second."""
AGAIN_MS = 3_600_000
"""When a sweep looks again at what may not go yet, or could not."""


@dataclass(frozen=True, slots=True)
class Removed:
    """Ids of the tasks that were there, and how many callbacks went with them."""

    ids: list[str]
    deliveries: int


async def remove(tx: Tx, ids: list[str]) -> Removed:
    """Deletes finished tasks with their endings, idempotency keys, attempts and callbacks, owed ones too."""
    gone = await purge.delete(tx, ids)
    await attempts.delete(tx, ids)
    return Removed(gone, await callbacks.delete(tx, ids))


async def remove_files(gateway: Gateway, names: list[str]) -> None:
    """Deletes files from storage and then their rows, so a death between the two only means that it is done again.

    A file that the store does not let go of is left for a later sweep.
    """
    for start in range(0, len(names), BATCH):
        some = names[start : start + BATCH]
        stay = await _refused(gateway, some)
        gone = [one for one in some if one not in stay]
        await gateway.db.write(_forget, (gone, sorted(stay), gateway.clock.now_ms() + AGAIN_MS))


async def _refused(gateway: Gateway, names: list[str]) -> set[str]:
    """Deletes files together, or one by one when the store refuses. Answers those that it kept."""
    try:
        await gateway.storage.delete(names)
        return set()
    except OSError:
        log.warning("files could not be deleted together", count=len(names))
    stay = set()
    for name in names:
        try:
            await gateway.storage.delete([name])
        except OSError as error:
            log.error("a file could not be deleted", name=name, error=str(error))
            stay.add(name)
    return stay


async def _forget(tx: Tx, items: list[tuple[list[str], list[str], int]]) -> list[None]:
    """Files that are gone, those that stay, and until when."""
    for gone, stay, until_ms in items:
        await purge.forget_files(tx, gone)
        if stay:
            await purge.put_off_files(tx, stay, until_ms)
    return [None] * len(items)

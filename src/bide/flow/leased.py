"""leased: the writes of a worker that holds a task's lease."""

from collections.abc import Awaitable, Callable
from functools import partial

from bide.db import Batch, DatabaseError, Item, Result
from bide.gateway import Gateway
from bide.log import log

DATABASE_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)


class LeaseLost(Exception):
    """Another worker has the task: whatever we know of it is of no use any more."""


async def written(gateway: Gateway, batch: Batch[Item, Result], item: Item) -> Result:
    """A write of a lease's holder. Raises `LeaseLost` when the lease is another worker's by now."""
    result = await persistently(gateway, partial(gateway.db.write, batch, item))
    if not result:
        raise LeaseLost
    return result


async def persistently(gateway: Gateway, write: Callable[[], Awaitable[Result]]) -> Result:
    """Tries again while the database is away: what an upstream did for money must not be forgotten for that.

    All these writes may be repeated: a lease names their writer, and the ending knows itself again.
    """
    for pause_s in DATABASE_PAUSES_S:
        try:
            return await write()
        except DatabaseError:
            log.warning("the database is away; trying again", pause_s=pause_s)
            await gateway.clock.sleep(pause_s)
    return await write()

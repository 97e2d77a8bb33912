"""waiting: a caller that stays until its task has ended."""

import asyncio
from typing import Any

import msgspec

from bide.errors import WorkTimeout
from bide.flow import work
from bide.flow.submit import Accepted
from bide.flow.work import Watch
from bide.gateway import Gateway
from bide.tasks import store
from bide.tasks.states import State
from bide.tasks.store import Work

LOOK_EVERY_S = 0.5
CANCELLED_EVERY_S = 1.0
"""How often it is looked whether a task that is worked on here was cancelled."""


async def ended(gateway: Gateway, accepted: Accepted, watch: Watch) -> dict[str, Any]:
    """The response of a task that this caller waits for: worked on here, or, if it is in other hands, awaited."""
    if accepted.work is not None:
        found_here = await _worked(gateway, accepted, accepted.work, watch)
        if found_here is not None:
            return found_here
    while True:
        found = await store.ending(gateway.db, accepted.task_id)
        if found is not None:
            response: dict[str, Any] = msgspec.json.decode(found[1])
            return response
        if not await store.is_open(gateway.db, accepted.task_id):
            raise WorkTimeout
        await gateway.endings.wait(accepted.task_id, LOOK_EVERY_S)


async def _worked(gateway: Gateway, accepted: Accepted, claimed: Work, watch: Watch) -> dict[str, Any] | None:
    """The response of a task that is worked on here. None when it is in other hands by now, or was cancelled: then
    the upstream, which may take minutes, is waited for no longer."""
    loop = asyncio.get_running_loop()
    working = asyncio.create_task(
        work.run(gateway, claimed, watch=watch, fresh=accepted.fresh, values=accepted.values)
    )
    try:
        while True:
            # All callers look at the same moment: their lookups go out as one.
            await asyncio.wait({working}, timeout=CANCELLED_EVERY_S - loop.time() % CANCELLED_EVERY_S)
            if working.done():
                ending = working.result()
                return None if ending is None else ending.response
            found = await store.ending(gateway.db, accepted.task_id)
            if found is not None and found[0] == State.CANCELLED:
                return None
    finally:
        if not working.done():
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

"""waiting: a caller that stays until its task has ended."""

from typing import Any

import msgspec

from bide.errors import WorkTimeout
from bide.flow import work
from bide.flow.submit import Accepted
from bide.flow.work import Watch
from bide.gateway import Gateway
from bide.tasks import store

LOOK_EVERY_S = 0.5


async def ended(gateway: Gateway, accepted: Accepted, watch: Watch) -> dict[str, Any]:
    """The response of a task that this caller waits for: worked on here, or, if it is in other hands, awaited."""
    if accepted.work is not None:
        ending = await work.run(gateway, accepted.work, watch=watch, fresh=accepted.fresh, values=accepted.values)
        if ending is not None:
            return ending.response
    while True:
        found = await store.ending(gateway.db, accepted.task_id)
        if found is not None:
            response: dict[str, Any] = msgspec.json.decode(found[1])
            return response
        if not await store.is_open(gateway.db, accepted.task_id):
            raise WorkTimeout
        await gateway.endings.wait(accepted.task_id, LOOK_EVERY_S)

"""settle: the ending. One function, one transaction; whoever lost its lease writes nothing.

Together, or not at all: the task leaves the queue, its ending is written, its last attempt is closed, its
files are registered, and the callback it owes becomes due.
"""

from dataclasses import dataclass

import msgspec

from bide import metrics
from bide.callbacks import store as callbacks
from bide.callbacks.hosts import host_of
from bide.catalog import shape
from bide.db import Tx
from bide.gateway import Gateway
from bide.providers.base import Stored
from bide.tasks import attempts, store
from bide.tasks.attempts import Attempt
from bide.tasks.states import Event, State, after
from bide.tasks.store import Work


@dataclass(frozen=True, slots=True)
class Ending:
    """How a task ends. `response` is the public one, without the bytes of any file."""

    work: Work
    event: Event
    response: dict[str, object]
    code: str = ""
    files: tuple[Stored, ...] = ()
    b64: bool = False
    attempt: Attempt | None = None


@dataclass(frozen=True, slots=True)
class _Rows:
    """An ending as rows."""

    key: tuple[str, int]
    ending: tuple[str, str, int | None, int, int, bytes]
    attempt: Attempt | None
    files: tuple[tuple[str, str, int, str, int], ...]
    delivery: callbacks.NewDelivery | None


def failure(work: Work, code: str, message: str, attempt: Attempt | None = None) -> Ending:
    """The ending of a task that failed."""
    response = shape.failure(work.task.id, work.task.trace_id, code, message)
    return Ending(work, Event.FAIL, response, code=code, attempt=attempt)


async def settle(gateway: Gateway, ending: Ending) -> bool:
    """Ends a task. False, and nothing is written, when its lease is another worker's by now."""
    task, now = ending.work.task, gateway.clock.now_ms()
    state = after(State.RUNNING, ending.event)
    won = await gateway.db.write(_settle, _rows(gateway, ending, state, now))
    gateway.task_leases.drop(task.id)
    if not won:
        metrics.lost_lease()
        return False
    metrics.task(task.type, state.value, ending.code, (now - task.created_at) / 1000)
    gateway.endings.tell(task.id)
    return True


def _rows(gateway: Gateway, ending: Ending, state: State, now: int) -> _Rows:
    work, task = ending.work, ending.work.task
    delivery = None
    if task.callback_url is not None:
        delivery = callbacks.NewDelivery(
            gateway.clock.new_id(now), task.id, task.callback_url, host_of(task.callback_url),
            task.application_id, now + int(gateway.settings.callback_schedule[0] * 1000), now,
        )  # fmt: skip
    expires_at = now + gateway.settings.retention_ms
    return _Rows(
        key=(task.id, work.lease_id),
        ending=(task.id, state.value, work.started_at, now, int(ending.b64), msgspec.json.encode(ending.response)),
        attempt=ending.attempt,
        files=tuple((file.name, task.id, file.size, file.content_type, expires_at) for file in ending.files),
        delivery=delivery,
    )


async def _settle(tx: Tx, items: list[_Rows]) -> list[bool]:
    """The loser of a race writes nothing. It has won after all if what is there is its own ending: then an
    earlier try was committed, and only the word of it was lost."""
    won = await store.take_out(tx, [item.key for item in items])
    winners = [item for item, ok in zip(items, won, strict=True) if ok]
    await store.add_endings(tx, [item.ending for item in winners])
    await attempts.add(tx, [item.attempt for item in winners if item.attempt is not None])
    await store.add_files(tx, [file for item in winners for file in item.files])
    await callbacks.add(tx, [item.delivery for item in winners if item.delivery is not None])
    return [
        ok or await store.ended_as(tx, item.key[0], item.ending[-1]) for item, ok in zip(items, won, strict=True)
    ]

"""settle: the ending. One function, one transaction; whoever lost its lease writes nothing.

Together, or not at all: the task leaves the queue, its ending is written, its last attempt is closed, its
files and what it made are registered, what it cost is charged and the rest of the hold is released, its usage is
recorded, and the callback it owes becomes due.
"""

from dataclasses import dataclass, replace

import msgspec

from bide import metrics
from bide.callbacks import store as callbacks
from bide.callbacks.hosts import host_of
from bide.catalog import shape
from bide.credits import ledger, usage
from bide.credits.ledger import Held, Settlement
from bide.credits.pricing import Price
from bide.credits.usage import Usage
from bide.db import Tx
from bide.errors import ERRORS, ApiFailure
from bide.gateway import Gateway
from bide.providers.base import Stored
from bide.tasks import attempts, store
from bide.tasks import items as items_
from bide.tasks.attempts import Attempt
from bide.tasks.items import ItemRow
from bide.tasks.states import Event, State, after
from bide.tasks.store import Terms, Work


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
    units: int = 0
    """What is charged for: pictures, seconds, songs that were made. A task that did not succeed has none."""
    items: tuple[ItemRow, ...] = ()
    """What later requests may name."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """An ending as rows. Of what hangs on the task's terms there is what must be added to them."""

    work: Work
    state: State
    finished_at: int
    inline_ms: int
    """How long the ending is kept of a call that left no task to query."""
    b64: int
    response: bytes
    attempt: Attempt | None
    files: tuple[Stored, ...]
    delivery: callbacks.NewDelivery | None
    units: int
    code: str
    items: tuple[ItemRow, ...]


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
    return _Rows(
        work=work, state=state, finished_at=now, inline_ms=int(gateway.settings.inline_grace_s * 1000),
        b64=int(ending.b64), response=msgspec.json.encode(ending.response), attempt=ending.attempt,
        files=ending.files, delivery=delivery, units=max(ending.units, 0) if state is State.SUCCEEDED else 0,
        code=ending.code, items=ending.items,
    )  # fmt: skip


async def _settle(tx: Tx, items: list[_Rows]) -> list[bool]:
    """The loser of a race writes nothing. It has won after all if what is there is its own ending: then an
    earlier try was committed, and only the word of it was lost."""
    taken = await store.take_out(tx, [(item.work.task.id, item.work.lease_id) for item in items])
    won = [(item, terms) for item, terms in zip(items, taken, strict=True) if terms is not None]
    await store.add_endings(tx, [_ending(item, terms) for item, terms in won])
    await attempts.add(tx, [item.attempt for item, _ in won if item.attempt is not None])
    await store.add_files(tx, [
        (file.name, item.work.task.id, file.size, file.content_type, item.finished_at + terms.kept_ms)
        for item, terms in won for file in item.files
    ])  # fmt: skip
    await items_.add(tx, [one for item, _ in won for one in item.items])
    await _pay(tx, won)
    await callbacks.add(tx, [item.delivery for item, _ in won if item.delivery is not None])
    return [
        terms is not None or await store.ended_as(tx, item.work.task.id, item.response)
        for item, terms in zip(items, taken, strict=True)
    ]


def _ending(item: _Rows, terms: Terms) -> tuple[str, str, int | None, int, int, int, bytes]:
    task = item.work.task
    expires_at = item.finished_at + (terms.kept_ms if task.visible else item.inline_ms)
    started_at = item.work.started_at or None  # 0: cancelled before anybody began
    return (task.id, item.state.value, started_at, item.finished_at, expires_at, item.b64, item.response)


def _settlement(item: _Rows, terms: Terms) -> Settlement:
    """Only what succeeded is charged, at the price of the day on which the task was accepted."""
    task = item.work.task
    charge = Price(terms.price, terms.units, "").charge(item.units)
    held = Held(terms.held, terms.held_general)
    return Settlement(task.id, task.application_id, terms.general_id, task.credential_id, held, charge,
                      item.finished_at)  # fmt: skip


async def _pay(tx: Tx, items: list[tuple[_Rows, Terms]]) -> None:
    """Charges, releases, and records the usage with the balance after each."""
    settlements = [_settlement(item, terms) for item, terms in items]
    await ledger.settle(tx, settlements)
    balances = await ledger.balances(tx, sorted({one.application_id for one in settlements}))
    records: list[Usage] = []
    for (item, terms), settlement in reversed(list(zip(items, settlements, strict=True))):  # sums are after the last
        task, charged, held = item.work.task, settlement.charged, settlement.held
        balance = balances[task.application_id]
        balances[task.application_id] = replace(balance, used=balance.used - charged.own)
        error = ERRORS.get(item.code, ApiFailure) if item.state is not State.SUCCEEDED else None
        records.append(Usage(
            id=task.id, user_id=task.user_id, application_id=task.application_id,
            credential_id=task.credential_id, service=task.service, operation=task.operation,
            trace_id=task.trace_id, status=200 if error is None else error.status, code=item.code or None,
            created_at=task.created_at, elapsed_ms=item.finished_at - task.created_at,
            units=min(item.units, terms.units), price=terms.price,
            original_amount=held.own + held.general, deducted_amount=charged.own + charged.general,
            deducted_general=charged.general, remaining_amount=balance.remaining, used_amount=balance.used,
        ))  # fmt: skip
    await usage.add(tx, records)

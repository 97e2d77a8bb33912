"""expected: how long work should take, from what it took before; the catalogue's word until enough is known.

It tells callers when to come back, and when a submission is first looked at: nearly nothing is over before the mean
less twice the deviation.
"""

from bide.catalog.load import Operation
from bide.gateway import Gateway
from bide.providers.base import Pending
from bide.tasks import durations
from bide.tasks.durations import Duration, Key

EVERY_S = 15.0
ENOUGH = 5
"""Endings that say more than the catalogue."""
FIRST_MAX = 4.0
"""The first look comes at most so many times later than the provider would have it."""


def key_of(operation: Operation, model: str) -> Key:
    return (operation.service, operation.path, model)


def _known(gateway: Gateway, operation: Operation, model: str) -> Duration | None:
    found = gateway.durations.known.get(key_of(operation, model))
    return found if found is not None and found.n >= ENOUGH else None


def expected_s(gateway: Gateway, operation: Operation, model: str) -> float:
    """Seconds from the submission to an upstream until its end."""
    found = _known(gateway, operation, model)
    return operation.entry.expected_s if found is None else found.mean_ms / 1000


def first_s(gateway: Gateway, operation: Operation, model: str, pending: Pending) -> float:
    """Seconds until a submission that was just accepted is looked at."""
    found = _known(gateway, operation, model)
    if found is None:
        return pending.after_s
    soonest_s = (found.mean_ms - 2 * found.dev_ms) / 1000
    return max(pending.after_s, min(soonest_s, FIRST_MAX * pending.after_s))


def learn(gateway: Gateway, operation: Operation, model: str, asked_at: int | None) -> None:
    """An upstream has done its work just now."""
    if asked_at is not None:
        gateway.durations.see(key_of(operation, model), gateway.clock.now_ms() - asked_at)


async def exchange_once(gateway: Gateway) -> None:
    """Writes what was seen here, and reads what all nodes know."""
    seen = gateway.durations.take()
    if seen:
        await gateway.db.write(durations.add, (seen, gateway.clock.now_ms()))
    gateway.durations.known = await durations.all_known(gateway.db)

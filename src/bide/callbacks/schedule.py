"""When is a callback sent next? Pure; the policy is that of protocol/callbacks, delivery.

A 2xx answer ends a delivery and so does 410, by which a receiver says that it wants no more. Anything else is
tried again by the schedule, spread by ±20 % so that what failed together does not return together. A receiver
may ask for more time with `Retry-After`, not for less. After the last attempt the delivery is parked.
"""

from collections.abc import Sequence
from typing import Protocol

JITTER = 0.2
RETRY_AFTER_MAX_S = 3600.0
GONE = 410


class Outcome(Protocol):
    """What an attempt came to; `bide.callbacks.send.Sent` is one."""

    @property
    def status(self) -> int | None: ...
    @property
    def retry_after_s(self) -> float | None: ...


def delivered(status: int | None) -> bool:
    """The receiver took it."""
    return status is not None and 200 <= status <= 299


def ended(status: int | None) -> bool:
    """No further attempt is made: the receiver took it, or never wants it."""
    return delivered(status) or status == GONE


def next_attempt(
    schedule: Sequence[float], attempt_number: int, outcome: Outcome | None, chance: float
) -> float | None:
    """Seconds until the next attempt; None if there is none, because this one `ended` it or was the last (park).

    `schedule` holds the seconds before each attempt, counted from the one before. `attempt_number` is that of
    the attempt just made, the first being 1; 0 and no outcome ask for the delay before the first.
    `chance` is in [0, 1).
    """
    if (outcome is not None and ended(outcome.status)) or attempt_number >= len(schedule):
        return None
    delay = schedule[attempt_number] * (1 - JITTER + 2 * JITTER * chance)
    asked = outcome.retry_after_s if outcome is not None else None
    return max(delay, min(asked or 0.0, RETRY_AFTER_MAX_S))

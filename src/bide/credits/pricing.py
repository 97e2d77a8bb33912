"""Prices and amounts. Amounts are whole micro-credits: 1 credit is 1,000,000 of them. Pure.

A price is fixed when a task is submitted; what is charged at its end follows from it and from the units that
succeeded (images, seconds, songs), so a price that changes later changes no open task.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation, Overflow
from typing import Any

from bide.credits.jsonlogic import number

MICRO = 1_000_000
CREDITS_MAX = 1_000_000_000_000
"""No amount is larger: its micro-credits fit a 64-bit column."""
UNIT_CREDITS_MAX = 1_000_000
UNITS_MAX = 1_000_000
_ONE = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Price:
    """What a request costs."""

    unit_price: int
    """Micro-credits for one unit."""
    units: int
    """Units that were asked for, at least 1."""
    unit: str
    """What is counted: `Count`, `Second`, …"""

    @property
    def total(self) -> int:
        """Micro-credits if all units succeed."""
        return self.unit_price * self.units

    def charge(self, done: int) -> int:
        """Micro-credits for `done` units: only what succeeded, never more than was asked for."""
        return self.unit_price * min(max(done, 0), self.units)


def micro(credits: float | int | str | Decimal) -> int:
    """Micro-credits of an amount in credits, as it is written in decimals, half a micro-credit rounded up.

    `ValueError` for what is not a number, not finite, or more than `CREDITS_MAX` credits.
    """
    try:
        amount = credits if isinstance(credits, Decimal) else Decimal(str(credits))
        if not amount.is_finite() or abs(amount) > CREDITS_MAX:
            raise ValueError(f"{credits!r} is not an amount of credits: at most {CREDITS_MAX:,}")
    except (InvalidOperation, Overflow):
        raise ValueError(f"{credits!r} is not a number") from None
    return int(amount.quantize(_ONE, rounding=ROUND_HALF_UP).scaleb(6))


def credits(micro: int) -> float | int:
    """The amount in credits for JSON: 140000 → 0.14, 1000000 → 1."""
    whole, rest = divmod(micro, MICRO)
    return micro / MICRO if rest else whole


def shown(micro: int) -> str:
    """The amount in credits for people, exactly: "0.14", "-2", "1.000001"."""
    whole, rest = divmod(abs(micro), MICRO)
    text = f"{whole}.{rest:06}".rstrip("0").rstrip(".")
    return f"-{text}" if micro < 0 else text


def unit_price(value: Any) -> int:
    """Micro-credits of what a price rule gave at run time: 0 for less than that and for what is no number, at most
    `UNIT_CREDITS_MAX` credits. A rule that can give such a thing is wrong, but no caller has to suffer for it."""
    amount = number(value)
    if not amount > 0:
        return 0
    return micro(min(amount, UNIT_CREDITS_MAX))


def units(value: Any) -> int:
    """Units asked for: a started one counts as one, at least 1, at most `UNITS_MAX`."""
    if value.__class__ is int:
        return min(max(int(value), 1), UNITS_MAX)
    if value.__class__ is float and value > 1:
        return UNITS_MAX if value >= UNITS_MAX else math.ceil(value)
    return 1


def fixed(micro_per_unit: int, unit: str) -> Callable[[int], Price]:
    """The price by number of units, for a unit whose price does not depend on the request; the common ones are
    made in advance."""
    ready = [Price(micro_per_unit, max(count, 1), unit) for count in range(17)]
    return lambda count: ready[count] if count < len(ready) else Price(micro_per_unit, count, unit)

"""One line of the benchmark's table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure: what was seen, in which unit, what the yardstick saw, and what was asked for."""

    name: str
    value: float
    unit: str
    goal: str
    met: bool
    yardstick: str = ""
    ratio: float | None = None

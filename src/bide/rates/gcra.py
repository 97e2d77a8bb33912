"""The rule of a rate, without a clock and without a place: the generic cell rate algorithm (GCRA, ITU-T I.371).

It admits exactly what a token bucket admits, but remembers one number for a key: the *theoretical arrival time*
(TAT), the time at which its bucket will be full again. Everything admitted moves it ahead by one interval, and
nothing may move it further ahead than the whole bucket. A TAT that is past means a full bucket, which is the
same as no memory at all: such a key can be forgotten.

Times are integers, so that every process counts alike and no rounding adds up. Their unit is the caller's.
"""

from dataclasses import dataclass
from math import ceil

BURST_MAX = 1_000_000
REACH_MAX_S = 366 * 86_400
"""A bucket never takes longer than this to fill: its TAT then fits 64 bits in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Rate:
    per_s: float
    """How many a second, in the long run. Not above 0: no limit."""
    burst: int
    """How many at once after a pause: the capacity of the bucket, at least 1."""


def rate(per_s: float) -> Rate:
    """The rate whose bucket holds what a second brings, in whole ones, and at least one.

    0.5/s → burst 1; 1.9/s → 1; 60/s → 60.
    """
    return Rate(per_s, int(max(1.0, min(per_s, BURST_MAX))))


def steps(rate: Rate, unit: int, parts: int = 1) -> tuple[int, int]:
    """The interval between two (in `1/unit` seconds) and the burst, of one of `parts` equal parts of a rate.

    The interval is rounded up, so a rate is never exceeded; `rate.per_s` must be above 0.
    """
    reach_max = REACH_MAX_S * unit
    interval = max(1, ceil(min(unit * parts / rate.per_s, reach_max)))
    return interval, max(1, min(rate.burst // parts, reach_max // interval))


def decide(tat: int, now: int, interval: int, burst: int) -> tuple[int, int]:
    """The TAT to remember, and how long to wait: 0 when this one is admitted; else the TAT is as it was.

    A TAT further ahead than the bucket allows is not of this clock (it was set back, or the machine was started
    anew) or not of this rate, and counts as none. So `now` must never be older than the TAT: who shares a TAT
    reads the clock after the TAT is locked, not before.
    """
    reach = interval * burst
    start = tat if now < tat <= now + reach else now
    wait = start + interval - reach - now
    return (tat, wait) if wait > 0 else (start + interval, 0)

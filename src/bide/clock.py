"""Time, ids and chance, from one place.

Everything that needs the time, a new id or a random number takes a `Clock`, so a test can hold
them still. Times are integer milliseconds since the Unix epoch unless a name ends in `_s`.
"""

import asyncio
import random
import secrets
import time


class Clock:
    """The real clock."""

    def now_ms(self) -> int:
        """The wall clock in milliseconds: what rows are stamped with."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds that never go back: what durations and time-outs are measured with."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def chance(self) -> float:
        """A random number in [0, 1)."""
        return random.random()

    def lease_id(self) -> int:
        """A number no other claim has: 62 random bits, so that it fits a signed database integer."""
        return random.getrandbits(62)

    def token(self) -> str:
        """32 lowercase hex characters, 128 unguessable bits: credentials and file names."""
        return secrets.token_hex(16)

    def new_id(self, at_ms: int) -> str:
        """A UUIDv7 (RFC 9562) whose time is `at_ms`: rows are appended in the order of their ids."""
        return uuid7(at_ms, random.getrandbits(74))


def uuid7(at_ms: int, chance: int) -> str:
    """The UUIDv7 of a time in milliseconds and 74 bits of chance.

    `uuid7(t, 0)` is the smallest id of that millisecond, so a time window is a range of ids.
    """
    version, variant = 0x7000 | chance >> 62 & 0x0FFF, 0x8000 | chance >> 48 & 0x3FFF
    return f"{at_ms >> 16:08x}-{at_ms & 0xFFFF:04x}-{version:04x}-{variant:04x}-{chance & 0xFFFF_FFFF_FFFF:012x}"


NEWEST_MS = (1 << 48) - 1
"""The last time an id can hold."""


def first_id(at_ms: int) -> str:
    """The smallest id of a time, or of the nearest that an id can hold: where a window of ids begins."""
    return uuid7(min(max(at_ms, 0), NEWEST_MS), 0)


def time_of(id: str) -> int:
    """The time of a UUIDv7 in milliseconds."""
    return int(id[:8] + id[9:13], 16)


def storage_id(task_id: str) -> str:
    """The 24 hex digits the wire calls `_id`: time and chance of a UUIDv7 without its fixed bits."""
    digits = task_id.replace("-", "")
    return digits[:12] + digits[20:]

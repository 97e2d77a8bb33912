"""Whose turn it is: what may look at many rows is done for each user one after another.

The database looks through many rows for a few at once only (`Database.scan`). A user who asks for much at the same
time waits for itself then, and takes one of those places, so others find the next one free.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bide.errors import TooManyRequests


@dataclass(slots=True)
class _Line:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    count: int = 0
    """Who has the turn and who waits for it."""


class Turns:
    """The lines of one process; only those in which somebody stands."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def of(self, user_id: str, waiting_max: int | None = None) -> AsyncIterator[None]:
        """The turn of a user. Raises `TooManyRequests` when `waiting_max` wait for it already."""
        line = self._lines.setdefault(user_id, _Line())
        if waiting_max is not None and line.count > waiting_max:
            raise TooManyRequests("Too many requests at once: wait for their answers.")
        line.count += 1
        try:
            async with line.lock:
                yield
        finally:
            line.count -= 1
            if not line.count:
                del self._lines[user_id]

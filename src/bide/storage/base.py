"""What a store of files does, and how its files are called.

A name is `2026-11-22/<32 hex digits>.png`: the day it was stored, 128 unguessable bits, and an extension
that stands for the type the content showed. Uploads of callers have `private/` in front and are never
served. Anything else is not a name, so no path of a caller ever reaches a directory or a bucket.
"""

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from bide.clock import Clock
from bide.providers.base import Sink
from bide.storage.sniff import EXTENSIONS, extension

CHUNK = 256 * 1024
"""Bytes of one step while a file is read."""

_TYPES = {end: kind for kind, end in EXTENSIONS.items()}
PRIVATE = "private/"
_DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NAME = re.compile(rf"(private/)?([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})/([0-9a-f]{{32}})\.({'|'.join(_TYPES)})")


@dataclass(frozen=True, slots=True)
class Opened:
    """A stored file: `modified` is in seconds since the epoch; `chunks(start, end)` streams bytes [start, end).

    `chunks` raises `OSError` if the store fails or the file went away meanwhile.
    """

    name: str
    size: int
    content_type: str
    modified: float
    chunks: Callable[[int, int], AsyncGenerator[bytes, None]]


class Storage(Protocol):
    """Where results live. A failing store (disk full, server gone) shows as `OSError` everywhere."""

    def sink(self, bytes_max: int, *, private: bool = False) -> Sink:
        """A new file of at most `bytes_max` bytes; durable once its `close` has returned."""
        ...

    async def open(self, name: str) -> Opened | None:
        """The file of a name; None if there is none, or if it is not a name."""
        ...

    async def delete(self, names: Sequence[str]) -> None:
        """Removes files; those that are missing are no error."""
        ...

    async def delete_days(self, before: str) -> None:
        """Removes all files, private ones too, that were stored on days before `before` (`2026-11-22`).

        What a killed process had stored and never registered is found only so.
        """
        ...

    async def close(self) -> None: ...


def day_of(at_ms: int) -> str:
    """The day (UTC) under which a file of that time is stored."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).date().isoformat()


def is_day(folder: str) -> bool:
    return _DAY.fullmatch(folder) is not None


def is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def is_public(name: str) -> bool:
    """True for names `/files` may serve."""
    found = _NAME.fullmatch(name)
    return found is not None and found[1] is None


def type_of(name: str) -> str:
    """The content type of a name of ours."""
    return _TYPES[name.rpartition(".")[2]]


def token_of(name: str) -> str:
    """The unguessable part of a name of ours: stands for one content for ever."""
    return name.rpartition("/")[2].partition(".")[0]


def new_name(clock: Clock, content_type: str, *, private: bool = False) -> str:
    return f"{PRIVATE if private else ''}{day_of(clock.now_ms())}/{clock.token()}.{extension(content_type)}"

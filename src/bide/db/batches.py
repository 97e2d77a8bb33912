"""Running whatever waits as one transaction, and taking a batch apart when it fails.

Shared by both databases: they differ in how a transaction is opened, not in what a failure means.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bide.db import Batch, DatabaseError, Tx, apart


@dataclass(slots=True)
class Waiting:
    """One queued write: its batch function, its item, and the future of the caller."""

    batch: Batch[Any, Any]
    item: Any
    done: asyncio.Future[Any]


Answer = tuple[Waiting, Any]
Transaction = Callable[[Callable[[Tx], Awaitable[list[Answer]]]], Awaitable[list[Answer]]]


async def commit(waiting: Sequence[Waiting], transaction: Transaction) -> list[Answer]:
    """All of it in one transaction; on failure each kind alone, then each item alone.

    A write that asked for a transaction of its own has one. What it locks comes in no order with the locks of others,
    and what it refuses by raising must cost nobody else anything.

    Answers every waiting write with its result or its exception. `transaction` opens one, runs the work
    given, commits, and rolls back and raises if anything fails.
    """
    groups: dict[Batch[Any, Any], list[Waiting]] = {}
    for one in waiting:
        groups.setdefault(one.batch, []).append(one)
    if apart in groups and len(waiting) > 1:
        rest = [one for one in waiting if one.batch is not apart]
        return await _in_turn([*([rest] if rest else []), *([one] for one in groups[apart])], transaction)
    try:
        return await transaction(lambda tx: _run(tx, list(groups.items())))
    except DatabaseError as error:
        # Gone, locked or full: it would be so for each part as well, and each would wait for it anew. Whether a
        # commit went through whose answer was lost nobody knows; who asked must look, or ask in a way that
        # may be repeated.
        return [(one, error) for one in waiting]
    except Exception as error:
        if len(waiting) == 1:
            return [(waiting[0], error)]
    parts = [list(group) for group in groups.values()] if len(groups) > 1 else [[one] for one in waiting]
    return await _in_turn(parts, transaction)


async def _in_turn(parts: Sequence[Sequence[Waiting]], transaction: Transaction) -> list[Answer]:
    """A transaction for each part. Those after one for which the database was away are not tried: see above."""
    answers: list[Answer] = []
    for at, part in enumerate(parts):
        answers += await commit(part, transaction)
        if isinstance(error := answers[-1][1], DatabaseError):
            return answers + [(one, error) for later in parts[at + 1 :] for one in later]
    return answers


async def _run(tx: Tx, groups: list[tuple[Batch[Any, Any], list[Waiting]]]) -> list[Answer]:
    answers: list[Answer] = []
    for batch, group in groups:
        results = await batch(tx, [one.item for one in group])
        answers += zip(group, results, strict=True)
    return answers


def resolve(answers: Sequence[Answer]) -> None:
    """Gives every caller its result. Runs in the event loop."""
    for one, result in answers:
        if one.done.done():
            continue  # the caller was cancelled; its write stands
        if isinstance(result, BaseException):
            one.done.set_exception(result)
        else:
            one.done.set_result(result)


class Wakes:
    """Who wants to be woken for what, in this process."""

    def __init__(self) -> None:
        self._calls: dict[str, list[Callable[[], None]]] = {}

    def add(self, name: str, call: Callable[[], None]) -> None:
        self._calls.setdefault(name, []).append(call)

    def fire(self, names: set[str]) -> None:
        for name in names:
            for call in self._calls.get(name, ()):
                call()

    def here(self, name: str) -> bool:
        return name in self._calls

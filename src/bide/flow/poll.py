"""poll: what a caller may see of its tasks. Free, and the most frequent thing the gateway does.

A finished document never changes, so its bytes are kept for a moment and answered without being decoded.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec

from bide.catalog import shape
from bide.flow import results
from bide.gateway import Gateway
from bide.tasks import search, store
from bide.tasks.public import document
from bide.tasks.search import Filter
from bide.tasks.store import Record

NOTHING = b"{}"
FEW = 8
"""Documents of a batch that are read at once; after large ones, one at a time."""
SMALL_BYTES = 256 * 1024
"""A batch up to this size is one body; a larger one is sent while it is read, and is never whole in memory."""


@dataclass(frozen=True, slots=True)
class _Kept:
    until: float
    user_id: str
    service: str
    body: bytes


class Documents:
    """Finished documents in memory, bounded in bytes and in time: what is deleted is soon gone here too."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max, self._bytes = bytes_max, 0
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self.deletions = 0
        """Whoever reads a task remembers this number; what was read before a deletion is not kept after it."""

    def get(self, task_id: str, user_id: str, service: str, now: float) -> bytes | None:
        kept = self._kept.get(task_id)
        if kept is None:
            return None
        if kept.until < now:
            self._drop(task_id)
            return None
        return kept.body if kept.user_id == user_id and kept.service == service else None

    def put(self, record: Record, body: bytes, until: float, deletions: int = 0) -> None:
        if len(body) > self._bytes_max // 16 or deletions != self.deletions:
            return
        self._drop(record.id)
        self._kept[record.id] = _Kept(until, record.user_id, record.service, body)
        self._bytes += len(body)
        while self._bytes > self._bytes_max:
            self._drop(next(iter(self._kept)))

    def forget(self, task_ids: list[str]) -> None:
        """Forgets tasks that were deleted."""
        self.deletions += 1
        for task_id in task_ids:
            self._drop(task_id)

    def _drop(self, task_id: str) -> None:
        kept = self._kept.pop(task_id, None)
        if kept is not None:
            self._bytes -= len(kept.body)


@dataclass(frozen=True, slots=True)
class Base64:
    """A document whose pictures are to be filled in from their files while it is sent."""

    record: Record
    body: bytes


async def retrieve(
    gateway: Gateway, documents: Documents, user_id: str, service: str, task_id: str, trace_id: str
) -> bytes | Base64:
    """One document; `{}` when there is none that this caller may see. A trace id wins over an id."""
    if trace_id:
        task_id = await search.newest(gateway.db, user_id, service, trace_id) or ""
    now = gateway.clock.monotonic()
    kept = documents.get(task_id, user_id, service, now)
    if kept is not None:
        return kept
    deletions = documents.deletions
    record = await store.own_record(gateway.db, task_id, user_id)
    if record is None or record.service != service or not record.visible:
        return NOTHING
    body = _document(gateway, record)
    if record.b64:
        return Base64(record, body)
    if record.finished_at is not None:
        documents.put(record, body, now + gateway.settings.cache_s, deletions)
    return body


@dataclass(frozen=True, slots=True)
class Parts:
    """A body of unknown size, to be sent in pieces."""

    parts: AsyncIterator[bytes]


async def retrieve_batch(gateway: Gateway, wanted: Filter, offset: int, limit: int) -> bytes | Parts:
    """`{"items": […], "count": total}`, newest first. Pictures asked for as base64 are given by URL here.

    A task that is deleted while the batch is read is left out.
    """
    ids = await search.page(gateway.db, wanted, offset, limit)
    total = await search.total(gateway.db, wanted)
    items = _items(gateway, ids)
    first, size = list[bytes](), 0
    async for item in items:
        first.append(item)
        size += len(item)
        if size > SMALL_BYTES:
            return Parts(_spliced(first, items, _end(gateway, wanted.service, total)))
    return b'{"items":[' + b",".join(first) + _end(gateway, wanted.service, total)


async def _items(gateway: Gateway, ids: list[str]) -> AsyncIterator[bytes]:
    """The documents of `ids` in their order. Never more than a few are in memory."""
    at, few = 0, FEW
    while at < len(ids):
        group = ids[at : at + few]
        at += len(group)
        records = {record.id: record for record in await store.records(gateway.db, group)}
        size = 0
        for task_id in group:
            record = records.pop(task_id, None)
            if record is not None:
                item = _document(gateway, record)
                size += len(item)
                yield item
        few = FEW if size <= SMALL_BYTES else 1


async def _spliced(first: list[bytes], items: AsyncIterator[bytes], end: bytes) -> AsyncIterator[bytes]:
    """The same JSON in pieces: what was read already, then one document after another."""
    yield b'{"items":[' + b",".join(first)
    first.clear()
    async for item in items:
        yield b"," + item
    yield end


def _end(gateway: Gateway, service: str, total: int) -> bytes:
    """`],"count": total}`, and `total` itself where clients of the service look for it."""
    again = any(one.entry.status_in for one in gateway.catalog.services[service].operations.values())
    return b'],"count":%d%s}' % (total, b',"total":%d' % total if again else b"")


def _document(gateway: Gateway, record: Record) -> bytes:
    service = gateway.catalog.services.get(record.service)
    operation = service.operations.get(record.operation) if service else None
    if operation is None:
        return document(record, "")  # not in the catalogue any more
    top: dict[str, Any] = {}
    if operation.entry.status_in or (operation.entry.top and record.finished_at is not None):
        response = msgspec.json.decode(record.response or b"{}")
        finished_s = None if record.finished_at is None else record.finished_at / 1000
        top = shape.repeated(operation, record.id, finished_s, response)
    return document(record, operation.entry.api_id, top)


async def filled(gateway: Gateway, wanted: Base64) -> results.Body:
    """The document with `b64_json` beside each `url`, to be sent in pieces."""
    document = msgspec.json.decode(wanted.body)
    document["response"] = await results.with_base64(gateway, document["response"], keep_url=True)
    return results.fill(gateway, msgspec.json.encode(document))

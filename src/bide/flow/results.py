"""What a task produced: files in our own storage before it counts as done, and the public response.

The bytes of a picture are never in a row, a log line or a callback. A caller that asked for base64 gets it
spliced into its answer from the file, in pieces, while it is sent.
"""

import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pybase64

from bide.catalog import shape
from bide.catalog.load import Operation
from bide.catalog.template import Made, times
from bide.gateway import Gateway
from bide.providers.base import Asset, Item, Sink, Stored, Succeeded
from bide.tasks.items import ItemFile, ItemRow
from bide.tasks.store import Task

FILES = "/files/"
SPOOL = "spool/"
TEMPLATE = "template"

_MARK = secrets.token_hex(8)
"""No text of a caller can hold it: drawn anew by every process."""
_PLACE = re.compile(rf"bide-{_MARK}:([0-9]+):([a-z0-9/.-]+)".encode())


class Files:
    """The files one outcome brought, so that what does not end in a result is deleted again."""

    def __init__(self, gateway: Gateway, *, spooled: bool) -> None:
        self._gateway, self.spooled = gateway, spooled
        self._closed: list[Stored] = []

    def sink(self) -> Sink:
        bytes_max = self._gateway.settings.file_bytes_max
        inner = self._gateway.spool.sink(bytes_max) if self.spooled else self._gateway.storage.sink(bytes_max)
        return _Watched(inner, self._closed)

    def keep(self, files: Sequence[Stored]) -> None:
        self._closed = [one for one in self._closed if one not in files]

    async def discard_unused(self) -> None:
        unused, self._closed = self._closed, []
        await self.discard(unused)

    async def discard(self, files: Sequence[Stored]) -> None:
        if not files:
            return
        if self.spooled:
            for one in files:
                self._gateway.spool.drop(one.name)
        else:
            await self._gateway.storage.delete([one.name for one in files])


class _Watched:
    """A sink that tells which file it became."""

    def __init__(self, inner: Sink, closed: list[Stored]) -> None:
        self._inner, self._closed = inner, closed
        self.write = inner.write
        self.abort = inner.abort

    async def close(self) -> Stored:
        stored = await self._inner.close()
        self._closed.append(stored)
        return stored


def assets(done: Succeeded) -> list[Asset]:
    """All files of a result, those of its items too."""
    return [*done.assets, *(asset for item in done.items for asset in item.assets)]


def stored(done: Succeeded) -> tuple[Stored, ...]:
    """All files of a result."""
    return tuple(asset.stored for asset in assets(done) if asset.stored is not None)


# -- the public response


@dataclass(frozen=True, slots=True)
class MadeItem:
    """A produced item with its public id."""

    id: str
    item: Item


def response(
    operation: Operation, task: Task, values: Mapping[str, Any], done: Succeeded, made: Sequence[MadeItem],
    files: Files, now_ms: int,
) -> dict[str, Any]:  # fmt: skip
    """The response of a task, without the bytes of any file."""
    if operation.entry.shape == TEMPLATE:
        answer = shape.from_template(
            operation, values, done.response, [_shown(one, number, task) for number, one in enumerate(made, 1)],
            task={"id": task.id, "trace_id": task.trace_id}, time=times(task.created_at, now_ms),
        )  # fmt: skip
        return shape.task_response(task.id, task.trace_id, answer)
    items: list[dict[str, Any]] = []
    for asset in done.assets:
        assert asset.stored is not None
        at = place(asset.stored) if files.spooled else _url(task, asset.stored)
        items.append({"b64_json" if files.spooled else "url": at, **asset.about})
    answer = shape.answer(operation, values, done.response, items, now_s=now_ms // 1000)
    return shape.task_response(task.id, task.trace_id, answer)


def made(gateway: Gateway, operation: Operation, task: Task, done: Succeeded) -> list[MadeItem]:
    """The items of a result; a file of no item is one by itself. Only where the answer speaks of items."""
    if operation.entry.shape != TEMPLATE:
        return []
    items = done.items or tuple(Item((asset,), asset.about) for asset in done.assets)
    now = gateway.clock.now_ms()
    if operation.entry.ids == "task" and len(items) == 1:
        return [MadeItem(task.id, items[0])]
    return [MadeItem(one.same_as or _new_id(gateway, operation, now), one) for one in items]


def _new_id(gateway: Gateway, operation: Operation, now_ms: int) -> str:
    """An id that nothing else has; digits are those of the same number."""
    made = gateway.clock.new_id(now_ms)
    return str(int(made.replace("-", ""), 16)) if operation.entry.ids == "digits" else made


def rows(operation: Operation, task: Task, channel: str, made: Sequence[MadeItem]) -> tuple[ItemRow, ...]:
    """What later requests may name."""
    if not operation.entry.makes:
        return ()
    return tuple(
        ItemRow(
            one.id, task.id, task.user_id, task.service, task.operation, operation.entry.makes, channel, position,
            dict(one.item.about),
            tuple(ItemFile(role_of(asset), file.name, file.content_type, file.size)
                  for asset in one.item.assets if (file := asset.stored) is not None),
        )
        for position, one in enumerate(made) if not one.item.same_as
    )  # fmt: skip


def _shown(made: MadeItem, number: int, task: Task) -> Made:
    """An item as the template of an answer sees it."""
    return seen(made.item, task.base_url, id=made.id, number=number)


def seen(item: Item, base_url: str, **more: Any) -> Made:
    """An item as templates see it; one that is not finished has no id."""
    assets: dict[str, list[str]] = {}
    for asset in item.assets:
        assert asset.stored is not None
        assets.setdefault(role_of(asset), []).append(f"{base_url}{FILES}{asset.stored.name}")
    first = {role: urls[0] for role, urls in assets.items()}
    return Made({**item.fields, **more}, first, assets)


def role_of(asset: Asset) -> str:
    """The role of a file; of one that was given none: `image`, `video` or `audio`."""
    return asset.role or (asset.stored.content_type.partition("/")[0] if asset.stored else "")


def _url(task: Task, file: Stored) -> str:
    return f"{task.base_url}{FILES}{file.name}"


def wants_base64(values: Mapping[str, Any]) -> bool:
    return values.get("response_format") == "b64_json"


# -- answers with base64 in them


@dataclass(frozen=True, slots=True)
class Body:
    """A body that is sent in pieces: its exact size, and the pieces."""

    size: int
    parts: AsyncIterator[bytes]


def place(file: Stored) -> str:
    """Stands for the base64 of a file in a body that is still to be sent."""
    return f"bide-{_MARK}:{file.size}:{file.name}"


def release(gateway: Gateway, response: Mapping[str, Any]) -> None:
    """Forgets the spooled files of a response that was sent."""
    for item in response.get("data", ()):
        gateway.spool.drop(str(item.get("b64_json", "")).rpartition(":")[2])


def fill(gateway: Gateway, body: bytes) -> Body:
    """A body in which every `place` becomes the base64 of its file."""
    pieces = _PLACE.split(body)  # text, size, name, text, size, name, …, text
    size = sum(map(len, pieces[::3])) + sum(-(-int(one) // 3) * 4 for one in pieces[1::3])
    return Body(size, _parts(gateway, pieces))


async def with_base64(gateway: Gateway, response: dict[str, Any], *, keep_url: bool) -> dict[str, Any]:
    """A stored response with places for the base64 of the pictures its URLs name."""
    items = []
    for item in response.get("data", ()):
        if "b64_json" in item:  # spooled: the place is there already
            items.append(item)
            continue
        opened = await gateway.storage.open(item.get("url", "").partition(FILES)[2])
        if opened is not None:
            file = Stored(opened.name, opened.size, opened.content_type)
            rest = item if keep_url else {name: value for name, value in item.items() if name != "url"}
            item = {**rest, "b64_json": place(file)}
        items.append(item)
    return {**response, "data": items} if items else response


async def _parts(gateway: Gateway, pieces: list[bytes]) -> AsyncIterator[bytes]:
    yield pieces[0]
    for name, text in zip(pieces[2::3], pieces[3::3], strict=True):
        async for chunk in _in_threes(gateway, name.decode()):
            yield pybase64.b64encode(chunk)
        yield text


async def _in_threes(gateway: Gateway, name: str) -> AsyncIterator[bytes]:
    """A file in chunks whose base64 joins without padding."""
    if name.startswith(SPOOL):
        async for chunk in gateway.spool.chunks(name):
            yield chunk
        return
    opened = await gateway.storage.open(name)
    if opened is None:
        raise OSError(f"{name} went away while it was sent")
    held = b""
    async for chunk in opened.chunks(0, opened.size):
        held += chunk
        whole = len(held) - len(held) % 3
        yield held[:whole]
        held = held[whole:]
    if held:
        yield held

"""references: the earlier items that a request names, and the channel that made them.

Looked up before a task is accepted, and once more when it is worked on: its owner may have deleted the source since.
A follow-up goes to the channel that made its source and to no other, for no other upstream knows it.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bide.catalog.load import Operation
from bide.catalog.sentences import shown
from bide.errors import BadRequest, NotImplementedHere
from bide.gateway import Gateway
from bide.providers.base import ALLOWS, Input, Source
from bide.tasks import items
from bide.tasks.items import ItemFile, ItemRow

BOUND = "Only the channel that made the source can do this."
"""Said with a failure after which another channel would have been asked."""

Sources = Mapping[str, tuple[Source, ...]]


@dataclass(frozen=True, slots=True)
class References:
    """The sources of a request by field, and the channel that made them; None: it names none."""

    sources: Sources = field(default_factory=dict)
    channel: str | None = None


NONE = References()


async def find(
    gateway: Gateway, operation: Operation, user_id: str, values: Mapping[str, Any]
) -> References:
    """Raises `BadRequest` for an item the user does not have, or that the field does not take."""
    if not operation.items:
        return NONE
    sources: dict[str, tuple[Source, ...]] = {}
    channels: set[str] = set()
    for name in operation.items:
        value = values.get(name)
        rows = [await _row(gateway, operation, user_id, name, one) for one in
                (value if isinstance(value, list) else [] if value is None else [value])]  # fmt: skip
        for row in rows:
            _check_allowed(name, row, values)
        channels |= {row.channel for row in rows}
        if rows:
            sources[name] = tuple(_source(gateway, row) for row in rows)
    if len(channels) > 1:
        raise BadRequest("The sources of this request were made by different channels, so none knows all of them.")
    return References(sources, next(iter(channels), None))


async def _row(gateway: Gateway, operation: Operation, user_id: str, name: str, item_id: str) -> ItemRow:
    wanted = operation.fields[name]
    row = await items.own(gateway.db, item_id, user_id, operation.service)
    if row is None:
        raise BadRequest(f"`{name}`: there is no {wanted.kind} with this id.")
    if row.kind != wanted.kind:
        raise BadRequest(f"`{name}` names something of the kind {row.kind}; it must be of the kind {wanted.kind}.")
    if wanted.of and row.operation not in wanted.of:
        allowed = " or ".join(f"`{operation.service}/{path}`" for path in wanted.of)
        raise BadRequest(
            f"`{name}` names something made by `{operation.service}/{row.operation}`; it must be made by {allowed}."
        )
    return row


def _check_allowed(name: str, row: ItemRow, values: Mapping[str, Any]) -> None:
    """What made it may have said what can be done with it (`ALLOWS`)."""
    for other, allowed in row.about.get(ALLOWS, {}).items():
        value = values.get(other)
        if value is None or value in allowed:
            continue
        listed = [shown(one) for one in allowed]
        words = f"{', '.join(listed[:-1])} or {listed[-1]}" if len(listed) > 1 else "".join(listed)
        can = f"with this `{name}` it must be {words}" if listed else f"nothing of the kind can follow this `{name}`"
        raise BadRequest(f"`{other}` is {shown(value)}; {can}.")


def require(
    gateway: Gateway, operation: Operation, values: Mapping[str, Any], found: References, application_id: str
) -> None:
    """Raises `NotImplementedHere` when nobody could ever do the request."""
    capability = operation.capability_for(values)
    if found.channel is None:
        gateway.channels.require(capability, operation.model(values), application_id)
        return
    channel = gateway.channels.taking_named(found.channel)
    if channel is None or capability not in channel.capabilities:
        raise NotImplementedHere(f"The channel that made the source does not offer {capability}. {BOUND}")


def _source(gateway: Gateway, row: ItemRow) -> Source:
    return Source(row.id, row.operation, row.kind, row.about, tuple(_file(gateway, one) for one in row.files))


def _file(gateway: Gateway, file: ItemFile) -> Input:
    return Input(file.role, file.name.rpartition("/")[2], file.content_type, file.size,
                 partial(_chunks, gateway, file.name))  # fmt: skip


async def _chunks(gateway: Gateway, name: str) -> AsyncIterator[bytes]:
    opened = await gateway.storage.open(name)
    if opened is None:
        raise OSError(f"{name} is not in storage any more")
    async for chunk in opened.chunks(0, opened.size):
        yield chunk

"""What a task was given: its values, and the pictures and sounds it names, brought to where a provider can read them.

Done before the attempt is opened, so a picture that cannot be fetched is a refusal, not an unknown outcome.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import pybase64

from bide.catalog.load import Operation
from bide.gateway import Gateway
from bide.outbound.fetch import FetchError, fetch
from bide.providers.base import Failed, FileTooLarge, Input, NotMedia, Stored
from bide.storage.pictures import BadPicture, inspect_soon
from bide.tasks.store import Task, Upload

FETCH_S = 60.0

_DATA_URL = re.compile(r"data:image/[a-z+.-]+;base64,")


def values(operation: Operation, task: Task) -> dict[str, Any]:
    """The typed values of a stored request, with defaults."""
    return dict(operation.check(msgspec.json.decode(task.request), form=task.uploads is not None))


def urls(operation: Operation, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Field and URL of every picture of a request that is to be fetched."""
    return _addresses(operation.pictures, values)


def addresses(operation: Operation, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Field and URL of everything a request names for somebody to fetch: us, or an upstream."""
    named = _addresses(operation.addresses, values)
    return [(name, one) for name, one in named if is_address(one)]


def is_address(text: str) -> bool:
    """What a text is that may be an address or a picture in base64."""
    return text[:8].lower().startswith(("http://", "https://"))


def _addresses(names: tuple[str, ...], values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, one) for name in names for one in _listed(values.get(name)) if isinstance(one, str)]


async def prepare(
    gateway: Gateway, operation: Operation, task: Task, values: dict[str, Any]
) -> tuple[Input, ...] | Failed:
    """Every picture of the request, uploaded or fetched, in the caller's order."""
    found: list[Input] = []
    try:
        failed = await _prepare(gateway, operation, task, values, found)
    except BaseException:
        release(gateway, tuple(found))
        raise
    if failed is not None:
        release(gateway, tuple(found))
        return failed
    return tuple(found)


async def _prepare(
    gateway: Gateway, operation: Operation, task: Task, values: dict[str, Any], found: list[Input]
) -> Failed | None:
    uploads = {name: [one for one in task.uploads or () if one.field == name] for name in operation.pictures}
    for name in operation.pictures:
        for number, one in enumerate(_listed(values.get(name))):
            if isinstance(one, str) and not is_address(one):
                got = await _written(gateway, name, one)
            elif isinstance(one, str):
                what = "picture" if operation.fields[name].is_picture else "sound"
                got = await _fetched(gateway, name, number, one, what)
            else:
                got = await _uploaded(gateway, uploads[name].pop(0))
            if isinstance(got, Failed):
                return got
            found.append(replace(got, field=operation.entry.becomes.get(name, name)))
    return None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


async def _uploaded(gateway: Gateway, upload: Upload) -> Input | Failed:
    opened = await gateway.storage.open(upload.name)
    if opened is None:
        return Failed("api_error", "An uploaded picture is not in storage any more.")
    return Input(upload.field, upload.filename, upload.content_type, upload.size,
                 partial(opened.chunks, 0, opened.size))  # fmt: skip


async def _fetched(gateway: Gateway, name: str, number: int, url: str, what: str) -> Input | Failed:
    """A picture from its address, spooled here and checked before anything decodes it; or a sound."""
    limits = gateway.settings
    try:
        stored = await fetch(
            gateway.outbound.fetches, url, gateway.spool.sink(limits.upload_file_bytes_max),
            ranges=gateway.outbound.ranges, bytes_max=limits.upload_file_bytes_max, timeout_s=FETCH_S,
        )  # fmt: skip
    except FetchError as error:
        return Failed("bad_request", f"`{name}`: {error}", scope="task", retryable=error.retryable)
    except FileTooLarge:
        return Failed("bad_request", f"`{name}`: the {what} has more than {limits.upload_file_bytes_max:,} bytes.")
    except NotMedia:
        return Failed("bad_request", f"`{name}`: what the URL answers is not a {what}.")
    if what == "sound":
        return _sound(gateway, name, number, stored)
    return await _inspected(gateway, name, number, stored)


async def _written(gateway: Gateway, name: str, text: str) -> Input | Failed:
    """A picture that is in the request itself, in base64."""
    sink = gateway.spool.sink(gateway.settings.upload_file_bytes_max)
    try:
        await sink.write(pybase64.b64decode(_DATA_URL.sub("", text, count=1), validate=True))
        stored = await sink.close()
    except (ValueError, NotMedia, FileTooLarge):
        await sink.abort()
        return Failed("bad_request", f"`{name}` is neither an address nor a picture in base64.")
    except BaseException:
        await sink.abort()
        raise
    return await _inspected(gateway, name, 0, stored)


async def _inspected(gateway: Gateway, name: str, number: int, stored: Stored) -> Input | Failed:
    """A spooled picture, if it is one that we take."""
    limits = gateway.settings
    try:
        picture = await inspect_soon(gateway.spool.source(stored.name), bytes_max=limits.upload_file_bytes_max,
                                     pixels_max=limits.upload_pixels_max)  # fmt: skip
    except BadPicture as error:
        gateway.spool.drop(stored.name)
        return Failed("bad_request", f"`{name}`: {error}")
    except BaseException:
        gateway.spool.drop(stored.name)
        raise
    extension = stored.name.rpartition(".")[2]
    return Input(name, f"{name}-{number}.{extension}", picture.content_type, stored.size,
                 partial(gateway.spool.chunks, stored.name))  # fmt: skip


def _sound(gateway: Gateway, name: str, number: int, stored: Stored) -> Input | Failed:
    """A fetched sound: what its first bytes show is one."""
    if not stored.content_type.startswith("audio/"):
        gateway.spool.drop(stored.name)
        return Failed("bad_request", f"`{name}`: what the URL answers is not a sound.")
    return Input(name, f"{name}-{number}.{stored.name.rpartition('.')[2]}", stored.content_type, stored.size,
                 partial(gateway.spool.chunks, stored.name))  # fmt: skip


def release(gateway: Gateway, inputs: tuple[Input, ...]) -> None:
    """Forgets fetched pictures; uploads stay until their time."""
    for one in inputs:
        if isinstance(one.chunks, partial) and one.chunks.func == gateway.spool.chunks:
            gateway.spool.drop(one.chunks.args[0])

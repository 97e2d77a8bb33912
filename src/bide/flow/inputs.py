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

from bide.catalog.fields import Field
from bide.catalog.load import Operation
from bide.catalog.places import Named, named
from bide.gateway import Gateway
from bide.outbound.fetch import FetchError, fetch
from bide.providers.base import Failed, FileTooLarge, Input, NotMedia, Stored
from bide.storage.pictures import BadPicture, inspect_soon
from bide.tasks.store import Task, Upload

FETCH_S = 60.0

_DATA_URL = re.compile(r"data:image/[a-z0-9+.-]+;base64,")


def values(operation: Operation, task: Task) -> dict[str, Any]:
    """The typed values of a stored request, with defaults."""
    return dict(operation.check(msgspec.json.decode(task.request), form=task.uploads is not None))


def urls(operation: Operation, values: Mapping[str, Any]) -> list[Named]:
    """Every picture and sound of a request that is to be fetched, or is in it in base64."""
    return [one for one in _named(operation, operation.pictures, values) if one.fetch != "upstream"]


def addresses(operation: Operation, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Place and URL of everything a request names for somebody to fetch: us, or an upstream. The place is a field, or
    inside one: `content[1].image_url.url`."""
    return [(one.where, one.text) for one in _named(operation, operation.addresses, values) if is_address(one.text)]


def is_address(text: str) -> bool:
    """What a text is that may be an address or a picture in base64."""
    return text[:8].lower().startswith(("http://", "https://"))


def _named(operation: Operation, names: tuple[str, ...], values: Mapping[str, Any]) -> list[Named]:
    return [one for name in names for one in _of_field(operation.fields[name], name, values.get(name))]


def _of_field(field: Field, name: str, value: Any) -> list[Named]:
    """What a checked value names; files of a form are left out."""
    if value is None:
        return []
    if field.is_deep:
        return named(name, value, field.places or ())
    fetch = "picture" if field.is_picture else field.fetch or "upstream"
    return [Named(name, name, one, fetch) for one in _listed(value) if isinstance(one, str)]


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
        for number, one in enumerate(_given(operation.fields[name], name, values.get(name))):
            if not isinstance(one, Named):
                got = await _uploaded(gateway, uploads[name].pop(0))
            elif is_address(one.text):
                got = await _fetched(gateway, one, number)
            else:
                got = await _written(gateway, one, number)
            if isinstance(got, Failed):
                return got
            found.append(replace(got, field=operation.entry.becomes.get(name, name)))
    return None


def _given(field: Field, name: str, value: Any) -> list[Any]:
    """What is brought here: addresses and pictures in base64, or the files of a form."""
    if field.is_deep:
        return [one for one in _of_field(field, name, value) if one.fetch != "upstream"]
    return [_of_field(field, name, one)[0] if isinstance(one, str) else one for one in _listed(value)]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


async def _uploaded(gateway: Gateway, upload: Upload) -> Input | Failed:
    opened = await gateway.storage.open(upload.name)
    if opened is None:
        return Failed("api_error", "An uploaded picture is not in storage any more.")
    return Input(upload.field, upload.filename, upload.content_type, upload.size,
                 partial(opened.chunks, 0, opened.size))  # fmt: skip


async def _fetched(gateway: Gateway, one: Named, number: int) -> Input | Failed:
    """A picture from its address, spooled here and checked before anything decodes it; or a sound."""
    limits, what = gateway.settings, "sound" if one.fetch == "audio" else "picture"
    try:
        stored = await fetch(
            gateway.outbound.fetches, one.text, gateway.spool.sink(limits.upload_file_bytes_max),
            ranges=gateway.outbound.ranges, bytes_max=limits.upload_file_bytes_max, timeout_s=FETCH_S,
        )  # fmt: skip
    except FetchError as error:
        return Failed("bad_request", f"`{one.where}`: {error}", scope="task", retryable=error.retryable)
    except FileTooLarge:
        most = limits.upload_file_bytes_max
        return Failed("bad_request", f"`{one.where}`: the {what} has more than {most:,} bytes.")
    except NotMedia:
        return Failed("bad_request", f"`{one.where}`: what the URL answers is not a {what}.")
    if what == "sound":
        return _sound(gateway, one, number, stored)
    return await _inspected(gateway, one, number, stored)


async def _written(gateway: Gateway, one: Named, number: int) -> Input | Failed:
    """A picture that is in the request itself, in base64."""
    sink = gateway.spool.sink(gateway.settings.upload_file_bytes_max)
    try:
        await sink.write(pybase64.b64decode(_DATA_URL.sub("", one.text, count=1), validate=True))
        stored = await sink.close()
    except (ValueError, NotMedia, FileTooLarge):
        await sink.abort()
        return Failed("bad_request", f"`{one.where}` is neither an address nor a picture in base64.")
    except BaseException:
        await sink.abort()
        raise
    return await _inspected(gateway, one, number, stored)


async def _inspected(gateway: Gateway, one: Named, number: int, stored: Stored) -> Input | Failed:
    """A spooled picture, if it is one that we take."""
    limits = gateway.settings
    try:
        picture = await inspect_soon(gateway.spool.source(stored.name), bytes_max=limits.upload_file_bytes_max,
                                     pixels_max=limits.upload_pixels_max)  # fmt: skip
    except BadPicture as error:
        gateway.spool.drop(stored.name)
        return Failed("bad_request", f"`{one.where}`: {error}")
    except BaseException:
        gateway.spool.drop(stored.name)
        raise
    extension = stored.name.rpartition(".")[2]
    return Input(one.field, f"{one.field}-{number}.{extension}", picture.content_type, stored.size,
                 partial(gateway.spool.chunks, stored.name))  # fmt: skip


def _sound(gateway: Gateway, one: Named, number: int, stored: Stored) -> Input | Failed:
    """A fetched sound: what its first bytes show is one."""
    if not stored.content_type.startswith("audio/"):
        gateway.spool.drop(stored.name)
        return Failed("bad_request", f"`{one.where}`: what the URL answers is not a sound.")
    extension = stored.name.rpartition(".")[2]
    return Input(one.field, f"{one.field}-{number}.{extension}", stored.content_type, stored.size,
                 partial(gateway.spool.chunks, stored.name))  # fmt: skip


def release(gateway: Gateway, inputs: tuple[Input, ...]) -> None:
    """Forgets fetched pictures; uploads stay until their time."""
    for one in inputs:
        if isinstance(one.chunks, partial) and one.chunks.func == gateway.spool.chunks:
            gateway.spool.drop(one.chunks.args[0])

"""Reads an upstream's answer while it arrives, its pictures straight into storage.

    async with Pictures(call.sink) as pictures:
        document = await read_json(Body(response, call.answer_bytes_max), pictures)
        stored = await pictures.keep(0)

Whatever was not kept is gone at the end of the block, whichever way it is left. At most about
`WRITE_BYTES` of each picture are in memory at once.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp

from bide.providers.base import FileTooLarge, NotMedia, Sink, Stored
from bide.providers.split import PICTURE_KEYS, JsonSplit, Part

WRITE_BYTES = 512 * 1024
"""A sink is written in pieces of about this size. A write may cost a thread hop, so not in smaller ones; blocks
of 1 MiB are given back to the system each time and cost four times as much to copy together."""
ERROR_BYTES_MAX = 64 * 1024
"""Bytes of an error's body that are read."""


class CutOff(Exception):
    """The connection broke, or time ran out, in the middle of an answer."""


class AnswerTooLarge(Exception):
    """The answer is longer than `answer_bytes_max`."""


class Body:
    """The body of a response as it arrives, bounded. Only what goes wrong on the wire becomes `CutOff`."""

    def __init__(self, response: aiohttp.ClientResponse, bytes_max: int) -> None:
        self._content = response.content
        self._bytes_max = bytes_max
        self._bytes = 0

    async def next(self) -> bytes:
        """Whatever has arrived; empty at the end. Raises `CutOff` and `AnswerTooLarge`."""
        try:
            chunk = await self._content.readany()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise CutOff(repr(error)) from error
        self._bytes += len(chunk)
        if self._bytes > self._bytes_max:
            raise AnswerTooLarge(f"more than {self._bytes_max} bytes")
        return chunk


async def read_json(body: Body, pictures: "Pictures", keys: tuple[str, ...] = PICTURE_KEYS) -> Any:
    """The JSON document of a response, each base64 text under one of `keys` replaced by its number in `pictures`.

    Raises `CutOff`, `AnswerTooLarge`, `bide.providers.split.Malformed` and what a sink raises that is not
    about the file.
    """
    split = JsonSplit(keys=keys)
    while chunk := await body.next():
        for part in split.feed(chunk):
            await pictures.write(part)
    return split.close()


async def read_error(response: aiohttp.ClientResponse) -> bytes:
    """The beginning of an error's body, or what came of it before the connection broke."""
    body = Body(response, sys.maxsize)
    read = bytearray()
    with suppress(CutOff):
        while len(read) < ERROR_BYTES_MAX and (chunk := await body.next()):
            read += chunk
    return bytes(read[:ERROR_BYTES_MAX])


@dataclass(slots=True)
class _Picture:
    sink: Sink | None = None
    waiting: list[bytes] = field(default_factory=list)
    waiting_bytes: int = 0
    fault: str = ""


class Pictures:
    """The pictures of one answer, by number, each in an open sink until it is kept."""

    def __init__(self, open_sink: Callable[[], Sink]) -> None:
        self._open_sink = open_sink
        self._pictures: dict[int, _Picture] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for picture in self._pictures.values():
            await _abort(picture)

    async def write(self, part: Part) -> None:
        """Takes the next bytes of a picture. A picture that is too large is dropped; the others go on."""
        picture = self._pictures.setdefault(part.number, _Picture())
        if picture.fault:
            return
        picture.waiting += part.pieces
        picture.waiting_bytes += sum(map(len, part.pieces))
        if picture.waiting_bytes >= WRITE_BYTES or (part.ended and picture.waiting_bytes):
            await self._flush(picture)

    async def keep(self, number: int) -> Stored | None:
        """The stored file of a picture; None if it is empty or cannot be used (then `faults` says why)."""
        picture = self._pictures.get(number)
        if picture is None or picture.sink is None:
            return None
        try:
            stored = await picture.sink.close()
        except NotMedia:
            picture.fault = "The upstream answered with bytes that are not a picture."
            await _abort(picture)
            return None
        except FileTooLarge:
            await _too_large(picture)
            return None
        picture.sink = None
        return stored

    @property
    def faults(self) -> list[str]:
        """Why pictures could not be used, in words fit for a caller."""
        return [picture.fault for picture in self._pictures.values() if picture.fault]

    async def _flush(self, picture: _Picture) -> None:
        waiting, picture.waiting, picture.waiting_bytes = picture.waiting, [], 0
        if picture.sink is None:
            picture.sink = self._open_sink()
        try:
            await picture.sink.write(waiting[0] if len(waiting) == 1 else b"".join(waiting))
        except FileTooLarge:
            await _too_large(picture)


async def _too_large(picture: _Picture) -> None:
    picture.fault = "The upstream's picture is larger than this gateway stores."
    await _abort(picture)


async def _abort(picture: _Picture) -> None:
    sink, picture.sink = picture.sink, None
    picture.waiting = []
    if sink is not None:
        await sink.abort()

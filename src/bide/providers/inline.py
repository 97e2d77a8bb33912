"""JSON that has whole files in it as base64, both ways, without a file in memory.

    body = FilledJson({"image": {"bytes": InBase64(picture)}})                  read while it is sent
    async with Pictures(call.sink) as files:
        told = await ask_json(call, "jobs/1", read=reader(files, "bytes"))      decoded while it arrives
        stored = await files.keep(int(told.document["bytes"]))

The keys whose texts are files differ between upstreams; each such text is replaced by a number of `files`.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import msgspec
import pybase64
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from bide.providers.answers import Body, Pictures, read_json
from bide.providers.base import Input, Stored


class InBase64:
    """Stands in a document for the base64 of a file; with `data_url` as `data:image/png;base64,…`. (Not a dataclass:
    msgspec would encode its fields.)"""

    __slots__ = ("given", "head")

    def __init__(self, given: Input, *, data_url: bool = False) -> None:
        self.given = given
        self.head = f"data:{given.content_type};base64,".encode() if data_url else b""


class FilledJson(Payload):
    """A JSON document with files in it; `sent` once all of it was handed to the connection."""

    sent = False

    def __init__(self, fields: Mapping[str, Any]) -> None:
        super().__init__(fields, content_type="application/json")
        mark, self._files = secrets.token_hex(16), list[InBase64]()

        def place(value: Any) -> str:
            if not isinstance(value, InBase64):
                raise TypeError(f"{type(value).__name__} is not JSON")
            self._files.append(value)
            return mark

        self._texts = msgspec.json.encode(fields, enc_hook=place).split(mark.encode())
        self._size = sum(map(len, self._texts)) + sum(
            len(one.head) + -(-one.given.size // 3) * 4 for one in self._files
        )

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("files are streamed, not decoded")

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Raises `ValueError`, which breaks the connection, if a file is not as long as it was said to be."""
        await writer.write(self._texts[0])
        for file, text in zip(self._files, self._texts[1:], strict=True):
            await _write_file(writer, file)
            await writer.write(text)
        self.sent = True


async def _write_file(writer: AbstractStreamWriter, file: InBase64) -> None:
    if file.head:
        await writer.write(file.head)
    missing, held = file.given.size, b""
    async for chunk in file.given.chunks():
        missing -= len(chunk)
        if missing < 0:
            break
        held += chunk
        whole = len(held) - len(held) % 3
        if whole:
            await writer.write(pybase64.b64encode(held[:whole]))
            held = held[whole:]
    if missing:
        raise ValueError("an input file has changed while it was sent")
    if held:
        await writer.write(pybase64.b64encode(held))


def reader(files: Pictures, *keys: str) -> Callable[[Body], Awaitable[Any]]:
    """Reads a document whose texts under `keys` are base64: they go into `files`, each replaced by its number.

    Raises what `bide.providers.answers.read_json` raises.
    """
    return partial(read_json, pictures=files, keys=keys)


async def kept(files: Pictures, number: Any) -> Stored | None:
    """The stored file of what stands in a document in place of a file, if it can be used."""
    return await files.keep(int(number)) if isinstance(number, str) and number.isdecimal() else None

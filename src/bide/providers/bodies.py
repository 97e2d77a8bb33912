"""Request bodies that know whether they were sent.

An upstream that never received a whole request has not begun to work on it: whether asking again is
harmless depends on nothing else. aiohttp tells the two apart only by the kind of its exception, and not
always (a total time-out looks the same in the pool, in a handshake and after the last byte), so the body
itself remembers. Sizes are known beforehand: files are streamed, yet sent with a Content-Length, which
more servers take than a chunked body.
"""

import re
from collections.abc import Iterable

from aiohttp import hdrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.multipart import MultipartWriter
from aiohttp.payload import BytesPayload, Payload

from bide.providers.base import Input

_SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "image/gif": ".gif"}
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_STEM_MAX = 64


class JsonBody(BytesPayload):
    """A JSON document; `sent` once all of it was handed to the connection."""

    sent = False

    def __init__(self, document: bytes) -> None:
        super().__init__(document, content_type="application/json")

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        await super().write_with_length(writer, content_length)
        self.sent = True


class FormBody(MultipartWriter):
    """A multipart form; `sent` once all of it was handed to the connection."""

    sent = False

    def __init__(self, fields: Iterable[tuple[str, str]], files: Iterable[tuple[str, Input]]) -> None:
        super().__init__("form-data")
        for name, text in fields:
            part = BytesPayload(text.encode("utf-8", "replace"), content_type="text/plain; charset=utf-8")
            part.set_content_disposition("form-data", name=name)
            self.append_payload(part)
        for name, given in files:
            self.append_payload(_File(name, given))

    async def write(self, writer: AbstractStreamWriter, close_boundary: bool = True) -> None:
        await super().write(writer, close_boundary)
        self.sent = True


class _File(Payload):
    """One picture of the caller, read while it is sent."""

    def __init__(self, name: str, given: Input) -> None:
        suffix = _SUFFIXES.get(given.content_type)
        kind = given.content_type if suffix else "application/octet-stream"
        super().__init__(given, content_type=kind)
        self._size = given.size
        self.headers[hdrs.CONTENT_TYPE] = kind
        stem = _UNSAFE.sub("_", given.filename.rpartition("/")[2].rpartition(".")[0]).strip("_")[:_STEM_MAX]
        self.set_content_disposition("form-data", name=name, filename=(stem or given.field) + (suffix or ".bin"))

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a file is streamed, not decoded")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Raises `ValueError`, which breaks the connection, if the file is not as long as it was said to be."""
        missing = self._value.size
        async for chunk in self._value.chunks():
            missing -= len(chunk)
            if missing < 0:
                break
            await writer.write(chunk)
        if missing:
            raise ValueError("an input file has changed while it was sent")

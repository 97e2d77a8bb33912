"""multipart/form-data: text parts as they came, pictures checked by their header and put into storage.

A picture is looked at before anything decodes it, and stored before the task is accepted, so any worker can
read it. What is not taken in the end is deleted again.
"""

import hashlib
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers as StarletteHeaders
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from bide.api.answers import Headers, Receive
from bide.api.read import Disconnected, content_length, header
from bide.errors import BadRequest, RequestTooLarge
from bide.gateway import Gateway
from bide.providers.base import Stored
from bide.storage.pictures import BadPicture, Picture, inspect_soon
from bide.tasks.store import Upload

FILES_MAX = 17  # sixteen pictures and a mask
TEXTS_MAX = 100
TEXT_BYTES_MAX = 256 * 1024
NAME_MAX = 200
CHUNK = 1024 * 1024
_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"\\]{1,200})"|([^\s";,\\]{1,200}))\s*(?=;|\Z)', re.IGNORECASE)


@dataclass(slots=True)
class Form:
    """A parsed form: `body` has texts and `{"filename", "content_type", "size"}` of files."""

    body: dict[str, Any]
    files: list[tuple[str, UploadFile]]
    uploads: list[Upload] = field(default_factory=list)
    digest: "hashlib._Hash | None" = None
    """Of the bytes of all pictures in order, once they are stored; None: nobody asks for it."""

    async def close(self) -> None:
        for _, file in self.files:
            await file.close()


class _Parser(MultiPartParser):
    """Starlette's parser, which bounds each part, with a bound on all text parts and part headers together.

    They are kept in memory, and on the task: they may be as large as a JSON body.
    """

    texts_max = 0
    texts = 0

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        super().on_header_field(data, start, end)

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        super().on_header_value(data, start, end)

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._current_part.file is None:
            self._count(end - start)
        super().on_part_data(data, start, end)

    def _count(self, size: int) -> None:
        self.texts += size
        if self.texts > self.texts_max:
            raise RequestTooLarge(f"The text parts of the form have more than {self.texts_max:,} bytes together.")


def _content_type(headers: Headers) -> bytes:
    """The header as the parser gets it: the boundary alone. It would decode by any `charset` a caller names.

    Python knows charsets that take the square of the length; texts of a form are UTF-8 (RFC 7578, 5.1.2).
    """
    found = _BOUNDARY.search(header(headers, b"content-type").decode("latin-1"))
    if found is None:
        raise BadRequest("The form cannot be read: its content type names no boundary.")
    return f'multipart/form-data; boundary="{found[1] or found[2]}"'.encode("latin-1")


async def read_form(gateway: Gateway, receive: Receive, headers: Headers) -> Form:
    """Reads a form into temporary files. Raises `BadRequest`, `RequestTooLarge`."""
    bytes_max = gateway.settings.upload_bytes_max
    length = content_length(headers)
    if length is not None and length > bytes_max:
        raise RequestTooLarge(f"The body has {length:,} bytes; at most {bytes_max:,} are accepted.")
    parser = _Parser(
        StarletteHeaders(raw=[(b"content-type", _content_type(headers))]), _stream(receive, bytes_max),
        max_files=FILES_MAX, max_fields=TEXTS_MAX, max_part_size=TEXT_BYTES_MAX,
    )  # fmt: skip
    parser.texts_max = gateway.settings.json_bytes_max
    try:
        parts = await parser.parse()
    except MultiPartException as error:
        raise BadRequest(f"The form cannot be read: {error.message}") from None
    except (KeyError, ValueError, AssertionError, UnicodeError, LookupError):
        raise BadRequest("The form cannot be read: it is not valid multipart/form-data.") from None
    form = Form({}, [])
    for name, value in parts.multi_items():
        _add(form, name, value)
    return form


async def _stream(receive: Receive, bytes_max: int) -> AsyncGenerator[bytes, None]:
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > bytes_max:
            raise RequestTooLarge(f"The body has more than {bytes_max:,} bytes.")
        more = message.get("more_body", False)
        yield chunk
    yield b""


def _add(form: Form, name: str, value: UploadFile | str) -> None:
    """One part: repeated names become a list."""
    if isinstance(value, UploadFile):
        form.files.append((name.removesuffix("[]"), value))
        shown: Any = {
            "filename": (value.filename or "")[:NAME_MAX],
            "content_type": (value.content_type or "")[:NAME_MAX],
            "size": value.size or 0,
        }
    else:
        shown = value
    if name not in form.body:
        form.body[name] = shown
    elif isinstance(form.body[name], list):
        form.body[name].append(shown)
    else:
        form.body[name] = [form.body[name], shown]


async def check_pictures(gateway: Gateway, form: Form) -> list[Picture]:
    """Looks at every picture's header. Raises `BadRequest` for one that is none, too large, or a bomb."""
    limits = gateway.settings
    found: list[tuple[str, Picture]] = []
    for name, file in form.files:
        try:
            picture = await inspect_soon(file.file, bytes_max=limits.upload_file_bytes_max,
                                         pixels_max=limits.upload_pixels_max)  # fmt: skip
        except BadPicture as error:
            raise BadRequest(f"`{name}`: {error}") from None
        found.append((name, picture))
    _check_mask([one for name, one in found if name == "image"], [one for name, one in found if name == "mask"])
    return [picture for _, picture in found]


def _check_mask(images: list[Picture], masks: list[Picture]) -> None:
    """A mask is a PNG with transparency, as large as the first picture (protocol: openai, images/edits)."""
    if not masks:
        return
    mask = masks[0]
    if not images:
        raise BadRequest("`mask` goes with uploaded pictures: `image` is a URL here.")
    if mask.content_type != "image/png" or not mask.has_alpha:
        raise BadRequest("`mask` must be a PNG with transparency.")
    if (mask.width, mask.height) != (images[0].width, images[0].height):
        raise BadRequest(
            f"`mask` is {mask.width}x{mask.height} pixels; it must be as large as the first picture,"
            f" {images[0].width}x{images[0].height}."
        )


async def store_pictures(gateway: Gateway, form: Form, pictures: list[Picture]) -> None:
    """Puts every picture into private storage: `form.uploads` is what is there, also when this fails half-way."""
    for (name, file), picture in zip(form.files, pictures, strict=True):
        stored = await _store(gateway, file, form.digest)
        filename = (file.filename or "")[:NAME_MAX]
        form.uploads.append(Upload(name, stored.name, filename, picture.content_type, stored.size))


async def _store(gateway: Gateway, file: UploadFile, digest: "hashlib._Hash | None") -> Stored:
    sink = gateway.storage.sink(gateway.settings.upload_file_bytes_max, private=True)
    try:
        while chunk := await file.read(CHUNK):
            if digest is not None:
                digest.update(chunk)
            await sink.write(chunk)
        return await sink.close()
    except BaseException:
        await sink.abort()
        raise


async def discard(gateway: Gateway, form: Form) -> None:
    """Deletes what was stored for a request that was not accepted after all."""
    await gateway.storage.delete([upload.name for upload in form.uploads])

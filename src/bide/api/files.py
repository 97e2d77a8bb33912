"""`GET /files/<name>`: stored results, the same way from a directory and from a bucket.

A file never changes under its name, so it may be cached for ever and its name is its ETag. Its type is the one
its content showed; `nosniff` and a sandboxed content policy keep a browser from making more of it. Conditions and
ranges are those of RFC 9110 (13 and 14): one range of bytes is answered with 206, several with the whole file.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, suppress
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bide.errors import NotFound
from bide.storage import Opened, Storage, is_public
from bide.storage.base import token_of

STALL_S = 60.0
"""Seconds a reader may take nothing before it is given up."""

_SEND = 64 * 1024
"""Bytes handed to the server at a time: what a stalled reader costs."""

_RANGE = re.compile(r"bytes\s*=\s*([0-9]{0,18})-([0-9]{0,18})\s*", re.IGNORECASE)
_ALWAYS = {
    "accept-ranges": "bytes",
    "cache-control": "public, max-age=31536000, immutable",
    "content-security-policy": "sandbox; default-src 'none'",
    "cross-origin-resource-policy": "cross-origin",
    "x-content-type-options": "nosniff",
}

log = structlog.get_logger("bide.files")


async def file(request: Request) -> Response:
    """`{name:path}` of `GET` and `HEAD /files/…`. Raises `NotFound` for all that is not a result of ours."""
    name = request.path_params["name"]
    if not is_public(name):
        raise NotFound("There is no such file, or no longer.")
    storage: Storage = request.app.state.gateway.storage
    opened = await storage.open(name)
    if opened is None:
        raise NotFound("There is no such file, or no longer.")
    return answer(opened, request.method, request.headers)


def answer(opened: Opened, method: str, asked: Mapping[str, str], *, stall_s: float = STALL_S) -> Response:
    """200, 206, 304 or 416, from the headers of the request (any case-insensitive mapping)."""
    etag = f'"{token_of(opened.name)}"'
    modified = formatdate(opened.modified, usegmt=True)
    headers = {**_ALWAYS, "etag": etag, "last-modified": modified}
    if _is_unchanged(asked, etag, opened.modified):
        return Response(status_code=304, headers=headers)
    headers["content-type"] = opened.content_type
    headers["content-disposition"] = f'inline; filename="{opened.name.rpartition("/")[2]}"'
    start, end, status = 0, opened.size, 200
    # a range is defined for GET alone; an If-Range that does not match asks for the whole file
    if method == "GET" and asked.get("if-range", etag) in (etag, modified):
        part = _part(asked.get("range"), opened.size)
        if part == (0, 0):
            headers.update({"content-range": f"bytes */{opened.size}", "cache-control": "no-store"})
            return Response(status_code=416, headers=headers)
        if part is not None:
            (start, end), status = part, 206
            headers["content-range"] = f"bytes {start}-{end - 1}/{opened.size}"
    headers["content-length"] = str(end - start)
    if method == "HEAD":
        return Response(status_code=status, headers=headers)
    return _Streamed(opened, start, end, status, headers, stall_s)


def _is_unchanged(asked: Mapping[str, str], etag: str, modified: float) -> bool:
    known = asked.get("if-none-match")
    if known is not None:
        return known.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in known.split(","))
    since = asked.get("if-modified-since")
    if since is not None:
        with suppress(ValueError, OverflowError):
            at = parsedate_to_datetime(since)
            return int(modified) <= (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    return False


def _part(asked: str | None, size: int) -> tuple[int, int] | None:
    """The bytes [start, end) of a single range; None: the whole file; (0, 0): cannot be satisfied."""
    found = _RANGE.fullmatch(asked) if asked else None
    if found is None or found[1] == found[2] == "":
        return None
    if not found[1]:
        length = min(int(found[2]), size)
        return (size - length, size) if length else (0, 0)
    start = int(found[1])
    end = min(int(found[2]) + 1, size) if found[2] else size
    if found[2] and int(found[2]) < start:
        return None  # RFC 9110, 14.1.1: not valid, so it is ignored
    return (start, end) if start < size else (0, 0)


class _Streamed(Response):
    """Sends a part of a file as fast as its reader takes it."""

    def __init__(
        self, opened: Opened, start: int, end: int, status: int, headers: Mapping[str, str], stall_s: float
    ) -> None:
        self.status_code = status
        self.background = None
        self.init_headers(headers)
        self._opened = opened
        self._range = (start, end)
        self._stall_s = stall_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stops short, so that the server cuts the connection, when the reader stalls or the store fails.

        The status is sent with the first bytes at hand: a store that fails before raises `OSError`.
        """
        start, end = self._range
        gone = asyncio.ensure_future(_gone(receive)) if end - start > _SEND else None
        try:
            async with aclosing(self._opened.chunks(start, end)) as chunks:
                first = await anext(chunks)
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                await self._send_all(send, first, chunks, gone)
        finally:
            if gone is not None:
                gone.cancel()
                with suppress(asyncio.CancelledError):
                    await gone

    async def _send_all(
        self, send: Send, chunk: bytes, more: AsyncIterator[bytes], gone: "asyncio.Future[None] | None"
    ) -> None:
        left = self._range[1] - self._range[0]
        while await self._sent(send, chunk, left, gone):
            left -= len(chunk)
            if not left:
                return
            try:
                chunk = await anext(more)
            except OSError as error:
                log.warning("file_read_failed", error=type(error).__name__)
                return

    async def _sent(self, send: Send, chunk: bytes, left: int, gone: "asyncio.Future[None] | None") -> bool:
        """False: the reader is gone, or has taken nothing for too long."""
        for at in range(0, len(chunk), _SEND):
            if gone is not None and gone.done():
                return False
            piece = chunk[at : at + _SEND]
            left -= len(piece)
            try:
                async with asyncio.timeout(self._stall_s):
                    await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
            except TimeoutError:
                log.info("file_reader_stalled", stall_s=self._stall_s)
                return False
        return True


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

"""Results in a bucket of an S3-compatible object store, through obstore.

A file is taken in whole (in memory, or in a temporary file above 1 MiB) before the first byte goes out, so what is
refused, too large or cut off never reaches the bucket. A put is atomic: an object is there whole or not at all.
Only a process that dies in the middle of a multipart upload leaves parts behind; a lifecycle rule of the
bucket removes those (`AbortIncompleteMultipartUpload`).
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from bide.clock import Clock
from bide.providers.base import Stored
from bide.settings import Settings, SettingsError
from bide.storage.base import PRIVATE, Opened, is_day, is_name, new_name, type_of
from bide.storage.intake import BLOCK, Hops
from bide.storage.spool import Spool, SpoolSink

_PART = 5 * 1024 * 1024
"""Bytes of one part: the smallest that S3 accepts. Smaller files go in one request."""
_READ = 2 * 1024 * 1024
"""Bytes of one ranged read. Each read is a whole request, so a slow reader holds no connection to the store."""
_RETRIES = 3
_RETRY_S = 30.0
_REQUEST_S = 30.0
_SMALL_UPLOADS = 32
_LARGE_UPLOADS = 8


class S3Storage:
    """See `bide.storage.Storage`."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._store = _store(settings)
        self._spool = Spool(Path(settings.data_dir) / "spool", self._clock)
        self._small = asyncio.Semaphore(_SMALL_UPLOADS)
        self._large = asyncio.Semaphore(_LARGE_UPLOADS)

    def sink(self, bytes_max: int, *, private: bool = False) -> "S3Sink":
        return S3Sink(self, self._spool.sink(bytes_max), private=private)

    async def open(self, name: str) -> Opened | None:
        if not is_name(name):
            return None
        try:
            with _failures():
                about = await obstore.head_async(self._store, name)
        except FileNotFoundError:
            return None
        modified = about["last_modified"].timestamp()
        return Opened(name, about["size"], type_of(name), modified, lambda start, end: self._chunks(name, start, end))

    async def delete(self, names: Sequence[str]) -> None:
        keys = [name for name in names if is_name(name)]
        if keys:
            with _failures():
                await obstore.delete_async(self._store, keys)

    async def delete_days(self, before: str) -> None:
        with _failures():
            for above in ("", PRIVATE):
                found = await obstore.list_with_delimiter_async(self._store, above or None)
                for folder in found["common_prefixes"]:
                    day = folder.rstrip("/").rpartition("/")[2]
                    if is_day(day) and day < before:
                        await self._delete_folder(folder)

    async def _delete_folder(self, folder: str) -> None:
        async for objects in obstore.list(self._store, folder.rstrip("/") + "/"):
            await obstore.delete_async(self._store, [one["path"] for one in objects])

    async def close(self) -> None:
        await self._spool.close()

    async def _chunks(self, name: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        while start < end:
            upto = min(start + _READ, end)
            with _failures():
                data = bytes(await obstore.get_range_async(self._store, name, start=start, end=upto))
            if not data:
                raise OSError("The object is shorter than it was.")
            start += len(data)
            yield data

    async def _put(self, name: str, content_type: str, size: int, chunks: AsyncGenerator[bytes, None]) -> None:
        attributes = {"Content-Type": content_type}
        if size <= _PART:
            async with self._small:
                whole = b"".join([chunk async for chunk in chunks])
                with _failures():
                    await obstore.put_async(self._store, name, whole, attributes=attributes, use_multipart=False)
            return
        async with self._large:
            with _failures():
                await obstore.put_async(
                    self._store, name, chunks, attributes=attributes, chunk_size=_PART, max_concurrency=2
                )


class S3Sink:
    """See `bide.providers.base.Sink`."""

    def __init__(self, storage: S3Storage, spooled: SpoolSink, *, private: bool) -> None:
        self._storage = storage
        self._spooled = spooled
        self._private = private
        self._hops = Hops()
        self._name: str | None = None
        self._is_cut = False

    async def write(self, data: bytes) -> None:
        await self._spooled.write(data)

    async def close(self) -> Stored:
        taken = await self._spooled.close()
        self._name = new_name(self._storage._clock, taken.content_type, private=self._private)
        await self._hops.wait(asyncio.ensure_future(self._upload(taken, self._name)))
        name, self._name = self._name, None
        return Stored(name, taken.size, taken.content_type)

    async def abort(self) -> None:
        """An upload whose `close` was cancelled is stopped; if it had arrived already, it is removed."""
        self._is_cut = True
        await self._hops.settled()
        await self._spooled.abort()
        if self._name is not None:
            name, self._name = self._name, None
            with suppress(OSError):
                await self._storage.delete([name])

    async def _upload(self, taken: Stored, name: str) -> None:
        try:
            await self._storage._put(name, taken.content_type, taken.size, self._chunks(taken.name))
        finally:
            self._storage._spool.drop(taken.name)

    async def _chunks(self, name: str) -> AsyncGenerator[bytes, None]:
        """obstore removes the parts it has sent when its source fails, but not when it is cancelled itself."""
        async for chunk in self._storage._spool.chunks(name, size=BLOCK):
            if self._is_cut:
                raise OSError("The upload was given up.")
            yield chunk


@contextmanager
def _failures() -> Iterator[None]:
    """A store's failure as `OSError`, which some of obstore's errors are already."""
    try:
        yield
    except BaseError as error:
        raise OSError(f"The object store failed: {error}") from error


def _store(settings: Settings) -> S3Store:
    url = urlsplit(settings.storage_url)
    if url.scheme != "s3" or not url.netloc:
        raise SettingsError(f"BIDE_STORAGE_URL: {settings.storage_url!r} is not of the form s3://bucket/prefix")
    options: dict[str, str] = {"region": settings.s3_region}
    if settings.s3_endpoint:
        options["endpoint"] = settings.s3_endpoint
    if settings.s3_access_key_id:
        options["access_key_id"] = settings.s3_access_key_id
        options["secret_access_key"] = settings.s3_secret_access_key
    return S3Store(
        url.netloc,
        prefix=url.path.strip("/") or None,
        config=options,  # type: ignore[arg-type]
        client_options={
            "allow_http": settings.s3_endpoint.startswith("http://"),
            "timeout": timedelta(seconds=_REQUEST_S),
        },
        retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_S)},
    )

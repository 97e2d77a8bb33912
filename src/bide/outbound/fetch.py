"""Copy the file behind a URL into our storage, while it arrives.

The URL is a caller's (a picture to edit) or an upstream's (a result), a stranger's either way: it is judged,
each redirect is judged again and followed by hand, and size and time are bounded.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from bide.outbound.address import ForbiddenAddress, Ranges, check_url
from bide.outbound.client import Refused

FETCH_URL_LENGTH_MAX = 8192
"""Characters of a URL that is fetched: signed addresses of upstreams are longer than what callers may send."""

_EVERYTHING = Ranges(everything=True)
_HEADERS = {"Accept-Encoding": "identity"}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RETRYABLE = frozenset({408, 425, 429})

Stored = TypeVar("Stored", covariant=True)


class Sink(Protocol[Stored]):
    """Where the bytes go; `bide.providers.base.Sink` is one. Exactly one of `close` and `abort` ends it."""

    async def write(self, data: bytes) -> None: ...
    async def close(self) -> Stored: ...
    async def abort(self) -> None: ...


class FetchError(Exception):
    """The file could not be copied. The message is one sentence fit for a caller and names no address;
    `retryable` is True where the same URL may work later; `status` is that of an answer that was none of 200."""

    def __init__(self, message: str, *, retryable: bool, status: int | None = None) -> None:
        super().__init__(message)
        self.retryable, self.status = retryable, status


async def fetch(
    session: aiohttp.ClientSession, url: str, sink: Sink[Stored], *,
    ranges: Ranges, bytes_max: int, timeout_s: float, redirects_max: int = 3,
    vouched: aiohttp.ClientSession | None = None, headers: Mapping[str, str] | None = None,
) -> Stored:  # fmt: skip
    """GET `url` on a guarded session and write the body to `sink`; the sink's `close` is the answer.

    `timeout_s` bounds the whole exchange with all redirects. `vouched` is the session of a channel whose own
    host `url` is at (the caller has made sure of that): it is used, with its key and without judging the
    address, as long as redirects stay at the origin of `url`; elsewhere the guarded session goes on. `headers` go
    where that session goes and nowhere else; one whose value is empty is left out, also if it is the session's own.
    Raises `FetchError`; what the sink raises passes through. The sink is aborted on any failure and on
    cancellation.
    """
    try:
        try:
            async with asyncio.timeout(timeout_s):
                await _follow(_Route(session, ranges, vouched, headers or {}), url, sink, bytes_max, redirects_max)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _explained(error) from error
        return await sink.close()
    except BaseException:
        await sink.abort()
        raise


@dataclass(slots=True)
class _Route:
    """By which session the next URL is asked."""

    guarded: aiohttp.ClientSession
    ranges: Ranges
    vouched: aiohttp.ClientSession | None
    headers: Mapping[str, str] = field(default_factory=dict)
    """For where the vouched session is used."""
    origin: URL | None = None
    """Of the first URL, where that is vouched for."""

    def next(self, url: str) -> tuple[aiohttp.ClientSession, URL, Mapping[str, str]]:
        """The session, the address and further headers. Raises `FetchError` if the URL may not be asked."""
        try:
            if self.vouched is not None:
                target = check_url(url, _EVERYTHING, length_max=FETCH_URL_LENGTH_MAX)
                self.origin = self.origin or target.url.origin()
                if target.url.origin() == self.origin:
                    return self.vouched, target.url, self.headers
            return self.guarded, check_url(url, self.ranges, length_max=FETCH_URL_LENGTH_MAX).url, {}
        except ForbiddenAddress as error:
            raise FetchError(str(error), retryable=False) from None


async def _follow(route: _Route, url: str, sink: Sink[object], bytes_max: int, redirects_max: int) -> None:
    for _ in range(redirects_max + 1):
        session, target, headers = route.next(url)
        async with session.get(
            target, allow_redirects=False, headers={**_HEADERS, **headers},
            middlewares=(_without_empty_headers,) if headers else None,
        ) as answer:  # fmt: skip
            location = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or location is None:
                return await _copy(answer, sink, bytes_max)
            answer.close()  # its body is of no interest
        try:
            url = urljoin(str(target), location)
        except ValueError:
            raise FetchError("The URL redirects to an address that is not valid.", retryable=False) from None
    raise FetchError(f"The URL redirects more than {redirects_max} times.", retryable=False)


async def _without_empty_headers(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """A session's own header can be replaced by a request's, but not be taken away in another way."""
    for name in [name for name, value in request.headers.items() if not value]:
        del request.headers[name]
    return await handler(request)


async def _copy(answer: aiohttp.ClientResponse, sink: Sink[object], bytes_max: int) -> None:
    status = answer.status
    if status != 200:
        retryable = status >= 500 or status in _RETRYABLE
        raise FetchError(f"The URL answered with status {status}.", retryable=retryable, status=status)
    # Compression was not asked for; a compressed answer could grow to any size when it is unpacked.
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise FetchError("The URL answered with a compressed body.", retryable=False)
    too_large = FetchError(f"The file behind the URL is larger than {bytes_max:,} bytes.", retryable=False)
    if (answer.content_length or 0) > bytes_max:
        raise too_large
    size = 0
    async for data in answer.content.iter_any():
        size += len(data)
        if size > bytes_max:
            raise too_large
        await sink.write(data)


def _explained(error: Exception) -> FetchError:
    """What the client met, for a caller. The client's own text stays in `__cause__`: it names addresses."""
    if isinstance(error, TimeoutError):
        return FetchError("The URL did not answer in time.", retryable=True)
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, Refused):
            return FetchError("The URL leads to an address that is not public.", retryable=False)
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return FetchError("The URL's host name could not be resolved.", retryable=True)
        return FetchError("The URL's host could not be connected to.", retryable=True)
    if isinstance(error, aiohttp.ClientSSLError):
        return FetchError("The URL's host has no valid certificate.", retryable=False)
    if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError):
        return FetchError("The connection to the URL's host broke before the file was complete.", retryable=True)
    return FetchError("The URL's host did not answer in proper HTTP.", retryable=False)

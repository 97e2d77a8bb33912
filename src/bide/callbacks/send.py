"""One POST of a callback, and what became of it.

A receiver is a stranger: it may be slow, endless, broken or hostile. So the whole exchange has one bound
(aiohttp's own time-outs begin anew with each 1xx answer and each byte), little of the answer is read, no
redirect is followed, and the address is judged again for this very attempt.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import aiohttp

from bide.callbacks.schedule import delivered
from bide.clock import Clock
from bide.outbound.address import ForbiddenAddress, Ranges, check_url
from bide.outbound.client import Refused

ANSWER_BYTES_MAX = 64 * 1024
ANSWER_S_MAX = 1.0
"""How long the rest of an answer is read whose status is known: it decides nothing, and holds a place."""

ERROR_CLASSES = (
    "",           # delivered
    "address",    # the URL is not, or no longer, one we may post to
    "dns",        # the name has no address, or no answer came
    "connect",    # refused, unreachable, or not connected in time
    "tls",        # no valid certificate, or no TLS
    "timeout",    # no answer within the bound of the exchange
    "reset",      # the connection broke before an answer
    "protocol",   # the answer is not HTTP
    "redirect",   # 3xx
    "status",     # any other status that is not 2xx
    "too_large",  # the head of the answer is larger than the client takes
)  # fmt: skip

_DIGITS = re.compile(r"[0-9]+")
_RETRY_AFTER_MAX_S = 86_400.0
_CLOCK = Clock()


@dataclass(frozen=True, slots=True)
class Sent:
    """One attempt: the status if an answer came, milliseconds until then (or until it failed), an error class
    of `ERROR_CLASSES`, and the seconds the receiver asked us to wait (0 to a day), if it did."""

    status: int | None
    latency_ms: int
    error: str
    retry_after_s: float | None = None


async def post(
    session: aiohttp.ClientSession, url: str, body: bytes, headers: Mapping[str, str], *,
    timeout_s: float, connect_s: float, ranges: Ranges, clock: Clock = _CLOCK,
) -> Sent:  # fmt: skip
    """POST `body` to `url` once, on a guarded session. Never raises, except on cancellation.

    A 2xx is a success whatever happens to the rest of the answer: it is read, up to 64 KiB and a second, only
    so that the connection can be used again.
    """
    started = clock.monotonic()
    status: int | None = None
    latency_ms = 0
    retry_after_s: float | None = None
    error = ""
    try:
        target = check_url(url, ranges)
        async with (
            asyncio.timeout(timeout_s),
            session.post(
                target.url, data=body, headers=headers, allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_s),
            ) as answer,
        ):  # fmt: skip
            status = answer.status
            latency_ms = _ms_since(started, clock)
            retry_after_s = retry_after(answer.headers.get("Retry-After"), clock.now_ms() / 1000)
            await _drain(answer)
    except (ForbiddenAddress, aiohttp.ClientError, OSError, ValueError, RuntimeError) as failure:
        error = _class_of(failure)
    if status is None:
        return Sent(None, _ms_since(started, clock), error)
    return Sent(status, latency_ms, _class_of_status(status), retry_after_s)


def retry_after(value: str | None, now_s: float) -> float | None:
    """Seconds of a `Retry-After` (RFC 9110, 10.2.3: seconds or a date), at most a day; None if it says nothing."""
    if value is None:
        return None
    value = value.strip()
    if _DIGITS.fullmatch(value):
        seconds = float(value)
    else:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now_s
        except (ValueError, OverflowError, OSError):
            return None
    return min(max(seconds, 0.0), _RETRY_AFTER_MAX_S)


async def _drain(answer: aiohttp.ClientResponse) -> None:
    size = 0
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            async for data in answer.content.iter_any():
                size += len(data)
                if size > ANSWER_BYTES_MAX:
                    answer.close()
                    return
    except TimeoutError:
        answer.close()


def _ms_since(started: float, clock: Clock) -> int:
    return round((clock.monotonic() - started) * 1000)


def _class_of_status(status: int) -> str:
    if delivered(status):
        return ""
    return "redirect" if 300 <= status <= 399 else "status"


def _class_of(failure: Exception) -> str:
    """The error class of an exchange that brought no answer. The order matters: the client's exceptions are
    subclasses of each other and of the system's."""
    match failure:
        case ForbiddenAddress():
            return "address"
        case aiohttp.ClientSSLError():
            return "tls"
        case aiohttp.ClientConnectorError(os_error=Refused()):
            return "address"
        case aiohttp.ClientConnectorDNSError():
            return "dns"
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            return "connect"
        case TimeoutError():
            return "timeout"
        case aiohttp.ClientConnectionError() | aiohttp.ClientPayloadError():
            return "reset"
        case aiohttp.ClientResponseError(message=str(message)) if message.startswith("Got more than"):
            return "too_large"
        case aiohttp.ClientError() | ValueError():
            return "protocol"
        case _:
            return "reset"

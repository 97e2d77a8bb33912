"""HTTP to the outside: three kinds of sessions, and the gate that sees every address they dial.

    callbacks   POSTs to addresses that callers named        guarded
    fetches     GETs of pictures that callers or upstreams named   guarded
    channels    the upstreams the operator configured        not guarded: the operator's word is enough

aiohttp asks a resolver for every name and a socket factory for every connection. The resolver refuses a name
with any address that is not permitted; the socket factory judges the address that is really dialled, so it
covers what never saw the resolver (literal addresses), too. Neither trusts a check made earlier.

No session uses proxies or credentials of the environment, keeps cookies or bounds its connections: whoever
sends bounds what is under way. Certificates are checked against the system's store (`SSL_CERT_FILE` is
honoured): aiohttp builds that context once per process and all connectors share it.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import AddrInfoType

from bide import __version__
from bide.clock import Clock
from bide.outbound.address import Checker, Ranges, permitted
from bide.settings import Settings, SettingsError, variable

USER_AGENT = f"bide/{__version__}"

KEEP_ALIVE_S = 4.0
"""A POST is never sent twice by the client, so it must not meet a connection its receiver is about to close:
servers commonly close idle ones after 5 s."""

CONNECT_S = 10.0
"""Seconds to connect to a channel or a picture's host."""

CALLBACK_BUFFER_BYTES = 16 * 1024
"""Small: there may be thousands at once, each with a receiver that never stops talking."""
FETCH_BUFFER_BYTES = 256 * 1024
CHANNEL_BUFFER_BYTES = 1024 * 1024

Lookup = Callable[[str], tuple[str, ...]]
"""Asks the name service, blocking. Raises `OSError` or `UnicodeError` when there is no answer."""


class Refused(OSError):
    """The gate did not let a connection be made. The text names no address: it may reach a caller."""

    def __init__(self) -> None:
        super().__init__("the address is not permitted")


def system_lookup(host: str) -> tuple[str, ...]:
    """All addresses of a name by the system's resolver, each once, the preferred one first."""
    # Bytes, because text would go through the old IDNA codec; the host is ASCII already.
    # A machine without a network has no configured family but still has its own name.
    flags = 0 if host == "localhost" else socket.AI_ADDRCONFIG
    found = socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM, flags=flags)
    return tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


@dataclass(slots=True)
class _Asking:
    """A lookup under way and how many wait for it."""

    task: "asyncio.Task[tuple[str, ...]]"
    waiting: int = 0
    started: bool = False


class Names:
    """Names to addresses, so that one name that hangs delays no other.

    A lookup blocks a thread for as long as the system's resolver likes (often 10 s and more) and cannot be
    stopped. So names that answered before have places of their own beside those never heard of; the same
    name is asked for once, however many wait; a lookup nobody waits for any more is not begun; and answers
    are kept for `ttl_s` seconds, failures for `failure_ttl_s`. The threads are daemons: they hold up no exit.
    """

    def __init__(
        self, monotonic: Callable[[], float], lookup: Lookup = system_lookup, *,
        known_max: int = 32, unknown_max: int = 64, ttl_s: float = 30.0, failure_ttl_s: float = 2.0,
        wait_s: float = 5.0, names_max: int = 4096,
    ) -> None:  # fmt: skip
        self._monotonic, self._lookup = monotonic, lookup
        self._ttl_s, self._failure_ttl_s, self._wait_s, self._names_max = ttl_s, failure_ttl_s, wait_s, names_max
        self._known, self._unknown = asyncio.Semaphore(known_max), asyncio.Semaphore(unknown_max)
        self._answers: dict[str, tuple[tuple[str, ...], float]] = {}
        self._asking: dict[str, _Asking] = {}

    async def addresses(self, host: str) -> tuple[str, ...]:
        """At least one address. Raises `OSError` if there is none, or no answer within `wait_s` seconds."""
        found, until = self._answers.get(host, ((), 0.0))
        if self._monotonic() >= until:
            try:
                async with asyncio.timeout(self._wait_s):
                    found = await self._ask(host)
            except TimeoutError:
                raise socket.gaierror(socket.EAI_AGAIN, "the name service did not answer in time") from None
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        return found

    def close(self) -> None:
        for asking in list(self._asking.values()):
            asking.task.cancel()

    async def _ask(self, host: str) -> tuple[str, ...]:
        asking = self._asking.get(host)
        if asking is None:
            asking = self._asking[host] = _Asking(asyncio.create_task(self._look_up(host)))
        asking.waiting += 1
        try:
            return await asyncio.shield(asking.task)
        finally:
            asking.waiting -= 1
            if not asking.waiting and not asking.started:
                asking.task.cancel()
                if self._asking.get(host) is asking:
                    del self._asking[host]

    async def _look_up(self, host: str) -> tuple[str, ...]:
        places = self._known if self._answers.get(host, ((),))[0] else self._unknown
        try:
            async with places:
                self._asking[host].started = True
                found = await _in_thread(self._lookup, host)
            self._remember(host, found)
            return found
        finally:
            if self._asking.get(host) is not None and self._asking[host].task is asyncio.current_task():
                del self._asking[host]

    def _remember(self, host: str, found: tuple[str, ...]) -> None:
        self._answers.pop(host, None)  # to the end of the order
        while len(self._answers) >= self._names_max:
            del self._answers[next(iter(self._answers))]
        self._answers[host] = found, self._monotonic() + (self._ttl_s if found else self._failure_ttl_s)


async def _in_thread(lookup: Lookup, host: str) -> tuple[str, ...]:
    """The answer of a blocking lookup, `()` if there is none, from a daemon thread of its own."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[tuple[str, ...]] = loop.create_future()

    def work() -> None:
        found: tuple[str, ...] = ()
        try:
            with contextlib.suppress(OSError, UnicodeError):
                found = lookup(host)
        finally:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(_set, answer, found)

    threading.Thread(target=work, name="bide-names", daemon=True).start()
    return await answer


def _set(answer: "asyncio.Future[tuple[str, ...]]", found: tuple[str, ...]) -> None:
    if not answer.done():
        answer.set_result(found)


class Resolver(AbstractResolver):
    """aiohttp's way to `Names`. With `ranges` it refuses a name with any address that is not permitted."""

    def __init__(self, names: Names, ranges: Ranges | None) -> None:
        self._names, self._ranges = names, ranges

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = await self._names.addresses(host)
        if self._ranges is not None and not all(permitted(address, self._ranges) for address in addresses):
            raise Refused
        return [
            ResolveResult(
                hostname=host, host=address, port=port, proto=socket.IPPROTO_TCP, flags=socket.AI_NUMERICHOST,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
            )
            for address in addresses
        ]  # fmt: skip

    async def close(self) -> None:
        """Nothing to close: the names belong to `Outbound`."""


def gate(ranges: Ranges) -> Callable[[AddrInfoType], socket.socket]:
    """The socket factory that is the last word: it makes no socket for an address that is not permitted."""

    def guarded(info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, sockaddr = info
        if not permitted(str(sockaddr[0]), ranges):
            raise Refused
        return socket.socket(family=family, type=kind, proto=protocol)

    return guarded


def guarded_connector(
    resolver: AbstractResolver, ranges: Ranges, *, keep_alive_s: float = KEEP_ALIVE_S
) -> aiohttp.TCPConnector:
    """A connector without bounds of its own. `Names` keeps the answers, so aiohttp's cache is off."""
    return aiohttp.TCPConnector(
        resolver=resolver, socket_factory=gate(ranges), use_dns_cache=False, limit=0, keepalive_timeout=keep_alive_s
    )


class Outbound:
    """All sessions of one process. Made inside the running loop; `close` ends them, the channels' too.

    `callbacks` and `fetches` are guarded and must be used with `allow_redirects=False`; `checker` judges the
    URLs of callers at submit; `ranges` is what the operator opened. Raises `SettingsError` if that is wrong.
    """

    def __init__(self, settings: Settings, clock: Clock | None = None, *, lookup: Lookup = system_lookup) -> None:
        monotonic = (clock or Clock()).monotonic
        try:
            self.ranges = Ranges.parse(settings.callback_allow_private)
        except ValueError as error:
            raise SettingsError(f"{variable('callback_allow_private')}: {error}") from None
        self._names = Names(monotonic, lookup)
        self.checker = Checker(self.ranges, self._names.addresses, monotonic)
        resolver = Resolver(self._names, self.ranges)
        self.callbacks = aiohttp.ClientSession(
            connector=guarded_connector(resolver, self.ranges),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=settings.callback_timeout_s, sock_connect=settings.callback_connect_s
            ),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
            read_bufsize=CALLBACK_BUFFER_BYTES,
        )
        self.fetches = aiohttp.ClientSession(
            connector=guarded_connector(resolver, self.ranges),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
            read_bufsize=FETCH_BUFFER_BYTES,
        )
        self._channels: list[aiohttp.ClientSession] = []

    def channel_session(
        self, base_url: str, key: str, timeout_s: float, *, connect_s: float = CONNECT_S, proxy: str = ""
    ) -> aiohttp.ClientSession:
        """A session for an upstream of the operator's, with paths relative to `base_url` (empty: none), through an
        HTTP proxy if one is given.

        One per channel, until `release` or for the life of the process. Raises `ValueError` if `base_url` is no URL.
        """
        headers = {"User-Agent": USER_AGENT}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        session = aiohttp.ClientSession(
            base_url=f"{base_url.rstrip('/')}/" if base_url else None,
            connector=aiohttp.TCPConnector(
                resolver=Resolver(self._names, None), use_dns_cache=False, limit=0, keepalive_timeout=KEEP_ALIVE_S
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=connect_s),
            headers=headers,
            trust_env=False,
            read_bufsize=CHANNEL_BUFFER_BYTES,
            proxy=proxy or None,
        )
        self._channels.append(session)
        return session

    async def release(self, session: aiohttp.ClientSession) -> None:
        """Closes the session of a channel that nobody uses any more."""
        await session.close()
        if session in self._channels:
            self._channels.remove(session)

    async def close(self) -> None:
        """Closes every session; what is under way on them fails."""
        for session in (self.callbacks, self.fetches, *self._channels):
            await session.close()
        self._names.close()

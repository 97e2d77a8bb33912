"""May the gateway connect to this address? Pure judgement, and the one place where it is made.

Callback and picture URLs come from strangers, so what they name must be a public host: anything else would
let a caller reach the machine itself, its private network or its cloud's metadata service. It is judged
three times by the same rules: `check_url` reads the text (at submit and before each attempt), `Checker`
asks the name service at submit, and `bide.outbound.client` judges the address that is really dialled.

`ipaddress.is_global` is not used: CPython 3.11 calls NAT64, 6to4, IPv4-compatible, site-local and all
multicast addresses global. The lists below follow the IANA special-purpose registries (RFC 6890 and its
successors); IPv6 is refused outside 2000::/3, the only block that is handed out for public use.
"""

import asyncio
import ipaddress
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import quote, unquote

from yarl import URL

Address = IPv4Address | IPv6Address
Resolve = Callable[[str], Awaitable[Iterable[str]]]
"""A name to its addresses as text. Raises `OSError` when there are none."""

URL_LENGTH_MAX = 2048
"""Characters of a caller's URL (protocol: callbacks, validation at submit)."""

NOT_PUBLIC = "The URL's host is not a public address; this gateway does not connect to it."
_BAD_HOST = "The URL's host is not a valid name or address."

_REFUSED_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",           # this network, and the unspecified address
        "10.0.0.0/8",          # private
        "100.64.0.0/10",       # shared by carrier-grade NAT; a cloud's metadata service is in it
        "127.0.0.0/8",         # loopback
        "168.63.129.16/32",    # a cloud's host service on a public-looking address
        "169.254.0.0/16",      # link-local, the usual place of metadata services
        "172.16.0.0/12",       # private
        "192.0.0.0/24",        # protocol assignments; a cloud's metadata service is in it
        "192.0.2.0/24",        # documentation
        "192.88.99.0/24",      # 6to4 relays, withdrawn
        "192.168.0.0/16",      # private
        "198.18.0.0/15",       # benchmarks
        "198.51.100.0/24",     # documentation
        "203.0.113.0/24",      # documentation
        "224.0.0.0/4",         # multicast
        "240.0.0.0/4",         # reserved, and broadcast
    )
)  # fmt: skip

_PUBLIC_V6 = IPv6Network("2000::/3")
_REFUSED_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",           # protocol assignments: Teredo, benchmarks, ORCHID, …
        "2001:db8::/32",       # documentation
        "2002::/16",           # 6to4
        "3ffe::/16",           # the former test network
        "3fff::/20",           # documentation
    )
)  # fmt: skip
# Outside 2000::/3, so refused without a line of their own: ::/8 (unspecified, loopback, IPv4-compatible and
# -translated, NAT64), 100::/64 (discard), 5f00::/16 (segment routing), fc00::/7 (unique local), fe80::/10
# (link-local), fec0::/10 (site-local), ff00::/8 (multicast).

_MAPPED = IPv6Network("::ffff:0:0/96")

_LOCALHOST = (".localhost",)
_PRIVATE_NAMES = (".local", ".internal", ".home.arpa", ".localdomain")
"""Endings that never name a public host (RFC 6762, RFC 8375, ICANN 2024)."""

_UNCLEAN = re.compile(r"[\s\x00-\x20\x7f-\x9f\\]")
_URL = re.compile(r"(https?)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#.*)?", re.IGNORECASE)
_AUTHORITY = re.compile(r"(?:\[([^\[\]]*)\]|([^:\[\]]*))(?::([0-9]*))?")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_NAME = re.compile(r"(?!.{254})[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_KEPT = "%/:?[]@!$&'()*+,;=~"
"""Characters of a path or query that are sent as they came; others are percent-encoded."""

_PORTS = {"http": 80, "https": 443}


class ForbiddenAddress(ValueError):
    """A URL the gateway does not connect to. The message is one sentence that is fit for a caller: it tells
    nothing of what a name resolved to."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """What the operator opened beside the public addresses (setting `callback_allow_private`)."""

    everything: bool = False
    v4: tuple[IPv4Network, ...] = ()
    v6: tuple[IPv6Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Ranges":
        """`""` or `false` opens nothing, `true` everything, `10.0.0.0/8,fd00::/8` these ranges.

        Raises `ValueError` with a sentence that names the wrong part.
        """
        text = text.strip()
        if text.lower() in ("", "false"):
            return cls()
        if text.lower() == "true":
            return cls(everything=True)
        v4: list[IPv4Network] = []
        v6: list[IPv6Network] = []
        for part in (part.strip() for part in text.split(",")):
            try:
                network = ipaddress.ip_network(part)
            except ValueError:
                raise ValueError(
                    f"{part!r} is neither `true` nor an address range such as 10.0.0.0/8 or fd00::/8."
                ) from None
            if isinstance(network, IPv4Network):
                v4.append(network)
            elif network.subnet_of(_MAPPED):
                v4.append(IPv4Network((int(network.network_address) & 0xFFFF_FFFF, network.prefixlen - 96)))
            else:
                v6.append(network)
        return cls(v4=tuple(v4), v6=tuple(v6))

    @property
    def nothing(self) -> bool:
        return not (self.everything or self.v4 or self.v6)

    def has(self, address: Address) -> bool:
        """Was this address opened? An IPv4-mapped address must have been turned into its IPv4 form."""
        if self.everything:
            return True
        if isinstance(address, IPv4Address):
            return any(address in network for network in self.v4)
        return any(address in network for network in self.v6)


PUBLIC_ONLY = Ranges()


def permitted(address: str | Address, ranges: Ranges = PUBLIC_ONLY) -> bool:
    """True if `address` is public or was opened. Text that is not an address is not permitted.

    An IPv4-mapped address is the IPv4 address: the system dials that. The other forms that carry an IPv4
    address (IPv4-compatible, NAT64, 6to4, Teredo) lead through a gateway to it, so both the form itself
    must have been opened and each address inside be permitted: opening `64:ff9b::/96` lets a host behind
    NAT64 reach the public internet, not the private network behind the translator.
    """
    if ranges.everything:
        return True
    if isinstance(address, str):
        try:
            address = ipaddress.ip_address(address)
        except ValueError:
            return False
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return permitted(address.ipv4_mapped, ranges)
        if ranges.has(address):
            return all(permitted(inner, ranges) for inner in embedded(address))
        return address in _PUBLIC_V6 and not any(address in network for network in _REFUSED_V6)
    return ranges.has(address) or not any(address in network for network in _REFUSED_V4)


def embedded(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses inside a transition address; empty for any other."""
    value = int(address)
    low = IPv4Address(value & 0xFFFF_FFFF)
    if value >> 32 == 0:  # ::/96, IPv4-compatible (RFC 4291); :: and ::1 are themselves
        return (low,) if value > 1 else ()
    if value >> 32 == 0xFFFF_0000:  # ::ffff:0:0:0/96, IPv4-translated (RFC 2765)
        return (low,)
    if value >> 32 == 0x0064_FF9B << 64 or value >> 80 == 0x0064_FF9B_0001:  # NAT64 (RFC 6052, RFC 8215)
        return (low,)
    if value >> 112 == 0x2002:  # 6to4 (RFC 3056)
        return (IPv4Address(value >> 80 & 0xFFFF_FFFF),)
    if value >> 96 == 0x2001_0000:  # Teredo (RFC 4380): its server, and the client with all bits inverted
        return IPv4Address(value >> 64 & 0xFFFF_FFFF), IPv4Address(~value & 0xFFFF_FFFF)
    return ()


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that was read and judged."""

    scheme: str
    host: str
    """A lower-case ASCII name without a dot at the end, or an address in its usual spelling."""
    port: int
    address: Address | None
    """The host, where it is an address in any spelling; None for a name, which is judged when it resolves."""
    path: str
    query: str | None

    @property
    def url(self) -> URL:
        """The URL rebuilt from the parts that were judged, so no other reader of the same text can find another
        host in it. Path and query are the caller's: what may stand in a URL is left as it came (a signed query
        stays valid), what may not is percent-encoded, the fragment is dropped."""
        text = f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}"
        text += "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        text += quote(self.path or "/", safe=_KEPT)
        text += f"?{quote(self.query, safe=_KEPT)}" if self.query else ""
        return URL(text, encoded=True)


def check_url(url: str, ranges: Ranges = PUBLIC_ONLY, *, length_max: int = URL_LENGTH_MAX) -> Target:
    """Read and judge a URL without asking any name service. Raises `ForbiddenAddress`."""
    if len(url) > length_max:
        raise ForbiddenAddress(f"The URL is longer than {length_max:,} characters.")
    if _UNCLEAN.search(url) or not _encodable(url):
        raise ForbiddenAddress("The URL contains white space, a control character or a backslash.")
    parts = _URL.fullmatch(url)
    if parts is None:
        raise ForbiddenAddress("The URL is not an absolute http or https URL.")
    scheme = parts[1].lower()
    host, port, address = _judged(scheme, parts[2], ranges)
    return Target(scheme, host, port, address, parts[3], parts[4])


@lru_cache(maxsize=4096)
def _judged(scheme: str, authority: str, ranges: Ranges) -> tuple[str, int, Address | None]:
    """Host, port and address of an authority that may be connected to, as far as its text tells; else it raises.

    Remembered, because the same few receivers are named by every submit."""
    if "@" in authority:
        raise ForbiddenAddress("The URL contains a user name or password.")
    host_port = _AUTHORITY.fullmatch(authority)
    if host_port is None:
        raise ForbiddenAddress(_BAD_HOST)
    digits = host_port[3] or str(_PORTS[scheme])
    port = int(digits) if len(digits) <= 5 else 0
    if not 1 <= port <= 65535:
        raise ForbiddenAddress("The URL's port is not between 1 and 65535.")
    address, host = _read_host(host_port[1], host_port[2])
    if not (_name_permitted(host, ranges) if address is None else permitted(address, ranges)):
        raise ForbiddenAddress(NOT_PUBLIC)
    return host, port, address


def _encodable(text: str) -> bool:
    """False for lone surrogates, which no byte on the wire stands for."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_host(bracketed: str | None, plain: str) -> tuple[Address | None, str]:
    """The address and its usual spelling, or None and the name in ASCII. Raises `ForbiddenAddress`."""
    if bracketed is not None:
        # A zone (`%eth0`) names an interface of this machine: no caller can mean one.
        try:
            address = IPv6Address(bracketed if "%" not in bracketed else "")
        except ValueError:
            raise ForbiddenAddress(_BAD_HOST) from None
        return address, str(address)
    name = _plain_name(plain)
    number = _read_number(name)
    if number is not None:
        return number, str(number)
    if not _NAME.fullmatch(name):
        raise ForbiddenAddress(_BAD_HOST)
    return None, name


def _plain_name(host: str) -> str:
    """Percent-encoding, other scripts' digits and dots (IDNA, UTS 46), case and the root's dot undone."""
    if not host:
        raise ForbiddenAddress("The URL has no host.")
    try:
        if "%" in host:
            host = unquote(host, errors="strict")
        if not host.isascii():
            # Characters such as ℀ that would become part of another component raise as well.
            host = URL.build(scheme="http", host=host).raw_host or ""
    except ValueError:
        raise ForbiddenAddress(_BAD_HOST) from None
    return host.lower().removesuffix(".")


def _read_number(host: str) -> IPv4Address | None:
    """The address that system libraries read from a host whose last part is a number: one to four decimal,
    octal (`0…`) or hexadecimal (`0x…`) parts, the last one filling what is left (WHATWG URL, inet_aton).

    None if the last part is no number; raises `ForbiddenAddress` if it is one and the whole is no address.
    """
    parts = host.split(".")
    if not _NUMBER.fullmatch(parts[-1]):
        return None
    if len(parts) > 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        raise ForbiddenAddress(_BAD_HOST)
    try:
        *first, last = [_number(part) for part in parts]
    except ValueError:  # an 8 or 9 in an octal number
        raise ForbiddenAddress(_BAD_HOST) from None
    if any(value > 255 for value in first) or last >= 256 ** (4 - len(first)):
        raise ForbiddenAddress(_BAD_HOST)
    return IPv4Address(sum(value << 8 * (3 - place) for place, value in enumerate(first)) + last)


def _number(text: str) -> int:
    if text.startswith("0x"):
        return int(text[2:] or "0", 16)
    return int(text, 8 if text.startswith("0") else 10)


def _name_permitted(name: str, ranges: Ranges) -> bool:
    """Names that are private whatever a name service says of them; all others are judged by their addresses."""
    dotted = f".{name}"
    if dotted.endswith(_LOCALHOST):
        return permitted("127.0.0.1", ranges) or permitted("::1", ranges)
    return not (ranges.nothing and dotted.endswith(_PRIVATE_NAMES))


async def check_resolved(url: str, ranges: Ranges, resolve: Resolve, *, wait_s: float = 1.0) -> None:
    """`check_url`, and a name must not resolve to any address that is not permitted. Raises `ForbiddenAddress`.

    A name that does not resolve, or not within `wait_s`, passes: each attempt judges it again.
    """
    target = check_url(url, ranges)
    if target.address is None and not await _resolves_well(target.host, ranges, resolve, wait_s):
        raise ForbiddenAddress(NOT_PUBLIC)


async def _resolves_well(name: str, ranges: Ranges, resolve: Resolve, wait_s: float) -> bool:
    if ranges.everything:
        return True
    try:
        async with asyncio.timeout(wait_s):
            return all(permitted(address, ranges) for address in await resolve(name))
    except OSError:  # `TimeoutError` is one
        return True


class Checker:
    """`check_resolved` for a caller's URL at submit, with a memory of names: a name is asked for at most once
    in `ttl_s` seconds, a slow one too, and no more than `names_max` are remembered."""

    def __init__(
        self, ranges: Ranges, resolve: Resolve, monotonic: Callable[[], float],
        *, wait_s: float = 1.0, ttl_s: float = 30.0, names_max: int = 4096,
    ) -> None:  # fmt: skip
        self._ranges, self._resolve, self._monotonic = ranges, resolve, monotonic
        self._wait_s, self._ttl_s, self._names_max = wait_s, ttl_s, names_max
        self._verdicts: dict[str, tuple[bool, float]] = {}

    async def check(self, url: str) -> Target:
        """The URL, read and judged. Raises `ForbiddenAddress`."""
        target = check_url(url, self._ranges)
        if target.address is None and not self._ranges.everything and not await self._verdict(target.host):
            raise ForbiddenAddress(NOT_PUBLIC)
        return target

    async def _verdict(self, name: str) -> bool:
        good, until = self._verdicts.get(name, (False, 0.0))
        if self._monotonic() < until:
            return good
        good = await _resolves_well(name, self._ranges, self._resolve, self._wait_s)
        self._verdicts.pop(name, None)  # to the end of the order
        while len(self._verdicts) >= self._names_max:
            del self._verdicts[next(iter(self._verdicts))]
        self._verdicts[name] = good, self._monotonic() + self._ttl_s
        return good

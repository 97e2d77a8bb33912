"""Who is calling: the bearer token, looked up at most once every `cache_s` seconds.

Order of checks (protocol: gateway, section 5): token present, token known, not expired, not switched off, for
this service, this operation and this host, not too often. A token of the management API is unknown here.
"""

from collections import OrderedDict

from bide.accounts import store
from bide.accounts.store import Caller
from bide.accounts.tokens import LONGEST, PLATFORM_PREFIX
from bide.api.answers import Headers
from bide.api.read import header
from bide.catalog.load import Operation, Service
from bide.clock import Clock
from bide.db import Database
from bide.errors import Disabled, InvalidToken, NoToken, TokenExpired, TokenMismatched

CACHED_MAX = 10_000


class Callers:
    """Credentials by token, kept for a moment: a revoked one works at most that much longer."""

    def __init__(self, db: Database, clock: Clock, cache_s: float) -> None:
        self._db, self._clock, self._cache_s = db, clock, cache_s
        self._known: OrderedDict[str, tuple[float, Caller]] = OrderedDict()

    async def authenticate(self, headers: Headers, service: Service, operation: Operation | None = None) -> Caller:
        """Raises one of the 400, 401 and 403 errors of a token. Without `operation`: for the tasks of a service."""
        caller = await self.caller(bearer(headers))
        if caller.expires_at is not None and caller.expires_at <= self._clock.now_ms():
            raise TokenExpired
        if caller.disabled:
            raise Disabled
        if caller.service is not None and caller.service != service.name:
            raise TokenMismatched
        if caller.api_ids and not _may(caller, service, operation):
            raise TokenMismatched("The token is valid, but for other operations.")
        if caller.host is not None and caller.host != _host(headers):
            raise TokenMismatched("The token is valid, but for another host.")
        return caller

    async def caller(self, token: str) -> Caller:
        """Only what was found is kept: a flood of wrong tokens fills nothing."""
        now = self._clock.monotonic()
        known = self._known.get(token)
        if known is not None and known[0] > now:
            return known[1]
        found = None if token.startswith(PLATFORM_PREFIX) else await store.caller(self._db, token)
        if found is None:
            self._known.pop(token, None)
            raise InvalidToken
        self._known[token] = (now + self._cache_s, found)
        if len(self._known) > CACHED_MAX:
            self._known.popitem(last=False)
        return found


def _may(caller: Caller, service: Service, operation: Operation | None) -> bool:
    """The tasks of a service may be seen by whoever may use one of its operations."""
    operations = service.operations.values() if operation is None else (operation,)
    return any(one.entry.api_id in caller.api_ids for one in operations)


def _host(headers: Headers) -> str:
    """The host a request was sent to, without its port."""
    host = header(headers, b"host").decode("latin-1").lower()
    return host if host.endswith("]") else host.rpartition(":")[0] or host


def bearer(headers: Headers) -> str:
    """The token of the `Authorization` header."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            token = token.strip()
            if scheme.lower() != "bearer" or not token:
                raise NoToken
            if len(token) > LONGEST:
                raise InvalidToken
            return token
    raise NoToken

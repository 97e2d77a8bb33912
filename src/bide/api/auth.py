"""Who is calling: the bearer token, looked up at most once every `cache_s` seconds.

Order of checks (protocol: gateway, section 5): token present, token known, not expired, not switched off, for
this service. A token of the management API is unknown here.
"""

from collections import OrderedDict

from bide.accounts import store
from bide.accounts.store import Caller
from bide.accounts.tokens import LONGEST, PLATFORM_PREFIX
from bide.api.answers import Headers
from bide.clock import Clock
from bide.db import Database
from bide.errors import Disabled, InvalidToken, NoToken, TokenExpired, TokenMismatched

CACHED_MAX = 10_000


class Callers:
    """Credentials by token, kept for a moment: a revoked one works at most that much longer."""

    def __init__(self, db: Database, clock: Clock, cache_s: float) -> None:
        self._db, self._clock, self._cache_s = db, clock, cache_s
        self._known: OrderedDict[str, tuple[float, Caller]] = OrderedDict()

    async def authenticate(self, headers: Headers, service: str) -> Caller:
        """Raises one of the 400, 401 and 403 errors of a token."""
        caller = await self.caller(bearer(headers))
        if caller.expires_at is not None and caller.expires_at <= self._clock.now_ms():
            raise TokenExpired
        if caller.disabled:
            raise Disabled
        if caller.service is not None and caller.service != service:
            raise TokenMismatched
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

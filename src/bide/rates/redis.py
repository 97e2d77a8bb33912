"""Rates of all machines, counted in Redis or Valkey (6 or newer, one server: not a cluster's client).

The rule of `bide.rates.gcra` as a script that the server runs, by the server's clock in microseconds, so the clocks
of the nodes do not matter. A key lives as long as its TAT is ahead, so memory is that of the keys in use.

One call is under way at a time; whatever is asked meanwhile goes together into the next. When the server does
not answer within `rates_timeout_s`, or answers with an error, those who asked are counted on this machine instead
(this node's part of the rate), and so is everybody for `AWAY_S`; then one call is tried again.
"""

import asyncio
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from bide.clock import Clock
from bide.log import log
from bide.rates.gcra import Rate, steps
from bide.rates.local import LocalRates
from bide.settings import SettingsError

SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
MICROSECONDS = 1_000_000
PREFIX = "bide:rate:"
CALL_KEYS_MAX = 500
AWAY_S = 1.0
WARN_S = 60.0

SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local waits = {}
for i, key in ipairs(KEYS) do
  local interval, burst = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local reach = interval * burst
  local tat = tonumber(redis.call('GET', key) or now)
  if not (tat and tat > now and tat <= now + reach) then tat = now end
  local wait = tat + interval - reach - now
  if wait <= 0 then
    wait, tat = 0, tat + interval
    redis.call('SET', key, string.format('%.0f', tat), 'PX', math.ceil((tat - now) / 1000))
  end
  waits[i] = wait
end
return waits
"""

Asked = tuple[str, int, int, "asyncio.Future[int | None]"]


async def connect(url: str, local: LocalRates, clock: Clock, call_s: float) -> "RedisRates":
    """The rates kept at `redis://…` or `rediss://…` (TLS). A server that is away is tried again later.

    A call may take `call_s` seconds. A caller may wait for the one under way and for its own: at most twice that.

    Raises `SettingsError` when the address cannot be one.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES or not urlsplit(url).netloc:
        raise SettingsError("BIDE_RATES_URL: use redis://host:6379/0, or rediss:// for TLS")
    try:
        client = Redis.from_url(
            f"{SCHEMES[scheme]}://{rest}", protocol=2, socket_timeout=call_s, socket_connect_timeout=call_s,
            retry=Retry(NoBackoff(), 1),
        )  # fmt: skip
    except ValueError as error:
        raise SettingsError(f"BIDE_RATES_URL: {error}") from None
    rates = RedisRates(client, local, clock, call_s)
    await rates.ask([])
    return rates


class RedisRates:
    """`bide.rates.Rates` of all nodes."""

    def __init__(self, client: Any, local: LocalRates, clock: Clock, call_s: float) -> None:
        self._client, self._local, self._clock, self._call_s = client, local, clock, call_s
        self._script = client.register_script(SCRIPT)
        self._asked: list[Asked] = []
        self._sender: asyncio.Task[None] | None = None
        self._away_until, self._warn_at = 0.0, 0.0

    async def take(self, key: str, rate: Rate) -> float:
        if not rate.per_s > 0:
            return 0.0
        if self._clock.monotonic() < self._away_until:
            return await self._local.take(key, rate)
        answer: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._asked.append((PREFIX + key, *steps(rate, MICROSECONDS), answer))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        wait = await answer
        return await self._local.take(key, rate) if wait is None else wait / MICROSECONDS

    async def close(self) -> None:
        """Ends the call under way; who waits for it is counted on this machine."""
        self._away_until = float("inf")
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.wait([self._sender])
        self._leave_to_local(self._asked)  # a call that was cancelled before its first step asked nobody
        await self._client.aclose()
        await self._local.close()

    async def _send(self) -> None:
        """Asks for everything that waits, in as few calls as possible, and ends."""
        batch: list[Asked] = []
        try:
            while self._asked:
                batch, self._asked = self._asked[:CALL_KEYS_MAX], self._asked[CALL_KEYS_MAX:]
                waits = await self.ask(batch)
                if waits is None:
                    break
                for (*_, answer), wait in zip(batch, waits, strict=True):
                    if not answer.done():
                        answer.set_result(wait)
        finally:
            self._sender = None
            rest, self._asked = batch + self._asked, []
            self._leave_to_local(rest)

    def _leave_to_local(self, asked: list[Asked]) -> None:
        for *_, answer in asked:
            if not answer.done():
                answer.set_result(None)

    async def ask(self, batch: list[Asked]) -> list[int] | None:
        """The waits in microseconds, 0 for those admitted; None when the server does not say."""
        if self._away_until:  # nobody else waits for the call that finds out whether it is back
            self._away_until = max(self._away_until, self._clock.monotonic() + AWAY_S)
        try:
            async with asyncio.timeout(self._call_s):
                waits: list[int] = await self._script(
                    keys=[key for key, *_ in batch],
                    args=[number for _, interval, burst, _ in batch for number in (interval, burst)],
                )
        except (RedisError, OSError, TimeoutError) as error:
            self._away(error)
            return None
        if self._away_until and self._away_until != float("inf"):
            self._away_until = 0.0
            log.info("rates are shared again")
        return waits

    def _away(self, error: Exception) -> None:
        now = self._clock.monotonic()
        self._away_until = max(self._away_until, now + AWAY_S)
        if now >= self._warn_at:
            self._warn_at = now + WARN_S
            reason = f"{type(error).__name__}: {error}"[:200]
            log.warning("rates are counted per node: Redis does not answer", error=reason)

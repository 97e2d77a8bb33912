"""How often something may be done: so many times a second for each key, counted over all processes.

A key is any text, such as `s/<credential id>/openai/default`. `take` either takes one of what is there and
answers 0.0, or takes nothing and answers the seconds after which there is one: the `Retry-After` of a 429.

Who shares a count (`docs/decisions/0016-rates.md`):

- the processes of one machine, through a file in the data directory (`bide.rates.local`);
- all machines, through Redis or Valkey, when `BIDE_RATES_URL` is set (`bide.rates.redis`);
- machines without it do not: each gives its part, one of `BIDE_NODES`.

No failure of the file or of Redis reaches a caller: counting goes on with what is left, and says so in the log.
"""

from importlib import import_module
from pathlib import Path
from typing import Protocol

from bide.clock import Clock
from bide.rates.gcra import Rate, rate
from bide.rates.local import LocalRates
from bide.settings import Settings, SettingsError

__all__ = ["Rate", "Rates", "open_rates", "rate"]


class Rates(Protocol):
    async def take(self, key: str, rate: Rate) -> float:
        """0.0: admitted; else the seconds after which it would be (nothing is taken)."""
        ...

    async def close(self) -> None: ...


async def open_rates(settings: Settings, clock: Clock) -> Rates:
    """The counts of the settings. Raises `SettingsError` when `rates_url` cannot be used.

    A Redis that is not there (yet) is no error: see `bide.rates.redis`.
    """
    local = LocalRates(Path(settings.data_dir), settings.nodes, clock)
    if not settings.rates_url:
        return local
    try:
        module = import_module("bide.rates.redis")  # only where it is used: the package is an extra
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        raise SettingsError("BIDE_RATES_URL needs the package 'redis': pip install 'bide[redis]'") from None
    shared: Rates = await module.connect(settings.rates_url, local, clock, settings.rates_timeout_s)
    return shared

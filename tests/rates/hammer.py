"""A process that asks for one key as fast as it can, so many seconds long, and says what it was given.

    python -m tests.rates.hammer <data directory> <rates_url or ""> <per_s> <seconds>

It prints `ready`, waits for a line on its input, and ends with one line of JSON: how many were admitted, how many
asked, and the times (of the system's monotonic clock) before the first and after the last.
"""

import asyncio
import json
import sys

from bide.clock import Clock
from bide.rates import open_rates, rate
from bide.settings import Settings

KEY = "s/0191c7b0-0000-7000-8000-000000000000/openai/default"
AT_ONCE = 8


async def main(directory: str, url: str, per_s: float, seconds: float) -> None:
    clock = Clock()
    rates = await open_rates(Settings(data_dir=directory, rates_url=url, rates_timeout_s=30), clock)
    print("ready", flush=True)
    sys.stdin.readline()
    admitted = asked = 0
    first = last = clock.monotonic()
    while last < first + seconds:
        waits = await asyncio.gather(*(rates.take(KEY, rate(per_s)) for _ in range(AT_ONCE)))
        admitted += waits.count(0.0)
        asked += AT_ONCE
        last = clock.monotonic()
    await rates.close()
    print(json.dumps({"admitted": admitted, "asked": asked, "first": first, "last": last}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))

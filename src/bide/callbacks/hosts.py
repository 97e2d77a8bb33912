"""Fairness between receivers: how many callbacks may be open at once, to one host and in all. Pure.

A receiver that hangs holds what it was given for the whole time-out, so no host may take more than a quarter
of what is free: there is always room for the next one. A host that let a callback time out is on probation
until it answers one.
"""

from collections import Counter
from urllib.parse import urlsplit

PROBATION_MAX = 8
SHARE = 4


def host_of(url: str) -> str:
    """The receiver of a URL that was checked at submit: `scheme://name:port`."""
    parts = urlsplit(url)
    return f"{parts.scheme.lower()}://{parts.netloc.lower()}"


class Hosts:
    """What is open to whom. A host is `scheme://name:port`."""

    def __init__(self, open_max: int) -> None:
        self._open_max = open_max
        self._open: Counter[str] = Counter()
        self._total = 0
        self._probation: set[str] = set()

    @property
    def free(self) -> int:
        return self._open_max - self._total

    def may_start(self, host: str) -> bool:
        """Whether one more callback to this host may be opened now."""
        bound = max(1, self.free // SHARE)
        if host in self._probation:
            bound = min(bound, PROBATION_MAX)
        return self.free > 0 and self._open[host] < bound

    def busy(self) -> tuple[str, ...]:
        """Hosts that get nothing more for now."""
        return tuple(host for host in self._open if not self.may_start(host))

    def start(self, host: str) -> None:
        self._open[host] += 1
        self._total += 1

    def end(self, host: str, *, timed_out: bool) -> None:
        self._open[host] -= 1
        self._total -= 1
        if not self._open[host]:
            del self._open[host]
        if timed_out:
            self._probation.add(host)
        else:
            self._probation.discard(host)

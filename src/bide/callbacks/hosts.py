"""Fairness between receivers: how many callbacks may be open at once, to one host, of one owner and in all. Pure.

A receiver that hangs holds what it was given for the whole time-out, so no host may take more than a quarter
of what is free: there is always room for the next one. A host that let a callback time out is on probation
until it answers one. Names of hosts cost nothing to who has a domain, so what one owner (the application or
the user whose task it was) has open, over all hosts, is at most half of the whole.
"""

from collections import Counter, OrderedDict
from urllib.parse import urlsplit

PROBATION_MAX = 8
SHARE = 4
OWNER_SHARE = 2
PUT_OFF_MS, SLOW_PUT_OFF_MS = 400, 5_000
OWNER_MIN = 8
REMEMBERED_MAX = 10_000
"""Slow hosts that are remembered; the one whose time-out is the longest ago is forgotten first."""


def host_of(url: str) -> str:
    """The receiver of a URL that was checked at submit: `scheme://name:port`."""
    parts = urlsplit(url)
    return f"{parts.scheme.lower()}://{parts.netloc.lower()}"


class Hosts:
    """What is open to whom. A host is `scheme://name:port`; an owner is an id, or empty where none is known."""

    def __init__(self, open_max: int) -> None:
        self._open_max = open_max
        self._owner_max = max(OWNER_MIN, open_max // OWNER_SHARE)
        self._open: Counter[str] = Counter()
        self._owned: Counter[str] = Counter()
        self._total = 0
        self._probation: OrderedDict[str, None] = OrderedDict()

    @property
    def free(self) -> int:
        return self._open_max - self._total

    def room(self, host: str, owner: str = "") -> int:
        """How many more callbacks of this owner may be opened to this host now, one after the other."""
        held = self._open[host]
        # Each start leaves one less free, so the n-th may follow while SHARE * (held + n) <= free - (n - 1).
        more = (self.free - SHARE * held + 1) // (SHARE + 1)
        if not held:
            more = max(more, 1)
        if host in self._probation:
            more = min(more, PROBATION_MAX - held)
        if owner:
            more = min(more, self._owner_max - self._owned[owner])
        return max(0, min(more, self.free))

    def put_off_ms(self, host: str) -> int:
        """How long callbacks wait that find no room: a moment, for it may come any time; longer for a slow host."""
        return SLOW_PUT_OFF_MS if host in self._probation else PUT_OFF_MS

    def may_start(self, host: str, owner: str = "") -> bool:
        """Whether one more callback may be opened now."""
        return self.room(host, owner) > 0

    def start(self, host: str, owner: str = "") -> None:
        self._open[host] += 1
        self._total += 1
        if owner:
            self._owned[owner] += 1

    def end(self, host: str, owner: str = "", *, timed_out: bool) -> None:
        self._total -= 1
        _less(self._open, host)
        if owner:
            _less(self._owned, owner)
        self._probation.pop(host, None)
        if timed_out:
            self._probation[host] = None
            if len(self._probation) > REMEMBERED_MAX:
                self._probation.popitem(last=False)


def _less(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]

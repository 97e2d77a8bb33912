"""Rates of all processes of one machine: a table of fixed size in the file `rates` of the data directory.

    65,536 slots in 4,096 groups; a group is 16 digests of keys (16 bytes each), then their 16 TATs (64-bit
    nanoseconds of the system's monotonic clock, which all processes share), 384 bytes. A key may be in any
    slot of the one group its digest names.

**Whatever the file holds is a table.** A slot whose TAT is past, or too far ahead to be real, is free; bytes that
are missing read as zero. So there is no header, nothing to make or to mend, and a file that is cut, emptied,
overwritten or left by an earlier start of the machine only forgets. It is read and written with `pread` and
`pwrite`, not mapped: touching a mapped page that was cut off, or that a full disk has no room for, ends the process.

**Exclusion** is a record lock on the group, which the kernel gives back when its holder dies. It is only ever tried:
a holder that was stopped, or put off by a busy machine, must not hold up the event loops of the others. Who
does not get it in a quarter of a second counts this once in its own memory, as everybody does while the file cannot
be used. To be refused needs no lock, since a TAT only ever moves ahead: a key that was refused, or whose group
somebody had, is looked at first, so however many ask, a process tries for a lock hardly more often than there is
something to be had.

Everything here happens between two awaits, so one event loop needs no lock of its own.
"""

import fcntl
import hashlib
import os
import struct
from functools import lru_cache
from pathlib import Path

from bide.clock import Clock
from bide.log import log
from bide.rates.gcra import Rate, decide, steps

SECOND = 1_000_000_000
GROUPS, SLOTS, DIGEST = 4_096, 16, 16
DIGESTS = SLOTS * DIGEST
GROUP = DIGESTS + SLOTS * 8
NOTHING = bytes(GROUP)
KEYS_KNOWN = 10_000
"""Places of keys kept in memory: hashing costs more than the rest of the arithmetic."""

AHEAD_MAX = 3_600 * SECOND
"""A TAT further ahead than an hour does not keep its slot from another key."""

TRIES = 16
PAUSES_S = (0.0, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128)
"""The lock of a group is held for microseconds: it is tried so often at once, and again after each pause."""

LOOK_S = 1.0
"""How often the file is looked for: whether it is still the one that is open, or can be opened again."""
WARN_S = 60.0

TRY, UNLOCK = fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_UN
_one, _all = struct.Struct("<q"), struct.Struct(f"<{SLOTS}q")


class LocalRates:
    """`bide.rates.Rates` of one machine, which gives one of `nodes` equal parts of every rate."""

    def __init__(self, directory: Path, nodes: int, clock: Clock) -> None:
        self._path, self._nodes, self._clock = directory / "rates", nodes, clock
        self._fd, self._look_at, self._warn_at = -1, 0.0, 0.0
        self._own = OwnRates()
        self._scarce: set[str] = set()
        """Keys to look at before their lock is tried. For all others that would be a call of the system too many."""
        self._place = lru_cache(KEYS_KNOWN)(place)
        self._look(clock.monotonic())

    async def take(self, key: str, rate: Rate) -> float:
        if not rate.per_s > 0:
            return 0.0
        interval, burst = steps(rate, SECOND, self._nodes)
        for pause_s in PAUSES_S:
            for _ in range(TRIES):
                wait = self._take(key, interval, burst)
                if wait is not None:
                    return seconds(wait)
            await self._clock.sleep(pause_s)
        return seconds(self._own.take(key, self._now(), interval, burst))

    async def close(self) -> None:
        self._close()
        self._look_at = float("inf")

    def _now(self) -> int:
        return int(self._clock.monotonic() * SECOND)

    def _take(self, key: str, interval: int, burst: int) -> int | None:
        """The wait in nanoseconds, or None while another process has the group."""
        now_s = self._clock.monotonic()
        if now_s >= self._look_at:
            self._look(now_s)
        fd = self._fd
        if fd < 0:
            return self._own.take(key, self._now(), interval, burst)
        digest, at = self._place(key)
        try:
            if key in self._scarce:
                wait = self._count(digest, at, interval, burst, write=False)
                if wait:
                    return wait
            fcntl.lockf(fd, TRY, GROUP, at)
            try:
                wait = self._count(digest, at, interval, burst, write=True)
            finally:
                fcntl.lockf(fd, UNLOCK, GROUP, at)
            self._remember(key, scarce=wait > 0)
            return wait
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as the system likes: somebody has it
            self._remember(key, scarce=True)
            return None
        except OSError as error:
            self._lost(error)
            return self._own.take(key, self._now(), interval, burst)

    def _remember(self, key: str, *, scarce: bool) -> None:
        if not scarce:
            self._scarce.discard(key)
            return
        if len(self._scarce) >= KEYS_KNOWN:
            self._scarce.clear()
        self._scarce.add(key)

    def _count(self, digest: bytes, at: int, interval: int, burst: int, *, write: bool) -> int:
        """The decision on a key of the group at an offset, written down if it is to be: the group is locked then.

        The clock is read after the TAT, so that no TAT of another process is ahead of it by more than a bucket.
        """
        group = os.pread(self._fd, GROUP, at)
        if len(group) < GROUP:
            group += NOTHING[len(group) :]
        now, slot = self._now(), find(group, digest)
        known = slot >= 0
        if not known:
            if not write:
                return 0
            slot = free(_all.unpack_from(group, DIGESTS), now)
        tat, wait = decide(_one.unpack_from(group, DIGESTS + 8 * slot)[0] if known else now, now, interval, burst)
        if write and not wait:
            if not known:
                os.pwrite(self._fd, digest, at + DIGEST * slot)
            os.pwrite(self._fd, _one.pack(tat), at + DIGESTS + 8 * slot)
        return wait

    def _look(self, now_s: float) -> None:
        """Opens the file when it is not open, or no longer the one of that name."""
        self._look_at = now_s + LOOK_S
        try:
            if self._fd >= 0:
                mine, there = os.fstat(self._fd), self._path.stat()
                if (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino):
                    return
        except OSError:
            pass  # gone: made again
        self._close()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o600)
            os.pread(self._fd, 1, 0)  # what cannot be read at a place is no file
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        self._close()
        now_s = self._clock.monotonic()
        if now_s >= self._warn_at:
            self._warn_at = now_s + WARN_S
            reason = f"{self._path}: {error.strerror}"
            log.warning("rates are counted per process: their file cannot be used", error=reason)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class OwnRates:
    """Counts of this process alone: what is left without a file. Of a bounded number of keys."""

    KEYS_MAX = GROUPS * SLOTS

    def __init__(self) -> None:
        self._tats: dict[str, int] = {}

    def take(self, key: str, now: int, interval: int, burst: int) -> int:
        """The wait in nanoseconds; 0: admitted."""
        tat, wait = decide(self._tats.get(key, now), now, interval, burst)
        if not wait:
            if key not in self._tats and len(self._tats) >= self.KEYS_MAX:
                self._forget(now)
            self._tats[key] = tat
        return wait

    def _forget(self, now: int) -> None:
        """What is past, which loses nothing; and if that is little, also those that are past first."""
        kept = sorted((tat, key) for key, tat in self._tats.items() if tat > now)
        self._tats = {key: tat for tat, key in kept[-self.KEYS_MAX // 2 :]}


def place(key: str) -> tuple[bytes, int]:
    """The digest of a key, and where its group is in the file."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=DIGEST).digest()
    return digest, int.from_bytes(digest[:8], "little") % GROUPS * GROUP


def find(group: bytes, digest: bytes) -> int:
    """The slot of a digest in its group, or -1."""
    at = group.find(digest, 0, DIGESTS)
    while at > 0 and at % DIGEST:
        at = group.find(digest, at + 1, DIGESTS)
    return at // DIGEST


def free(tats: tuple[int, ...], now: int) -> int:
    """The slot for a new key: one that is free, else the one that will be first, whose loss is the least."""
    return min(range(SLOTS), key=lambda slot: tats[slot] if now < tats[slot] <= now + AHEAD_MAX else 0)


def seconds(wait: int) -> float:
    """A wait in seconds, up to a microsecond longer: asked after it, nobody is early by a rounding."""
    return (wait // 1_000 + 1) / 1_000_000 if wait else 0.0

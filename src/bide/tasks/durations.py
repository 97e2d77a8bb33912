"""How long work takes, learned from what succeeded: a moving mean and mean deviation per service, operation, model.

What a process sees is added up in memory and written now and then, in one transaction; what all of them learned is
read again after that. A model is a word of the caller's, so the number of rows has a bound.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bide.db import Database, Tx

Key = tuple[str, str, str]
"""Service, operation, model; an empty model: the operation has none."""

WEIGHT_MIN = 0.1
"""What the latest ending counts for: one of ten, and more while there are few."""
KEYS_MAX = 1_000
SAMPLES_MAX = 200
"""Of one key between two writes; the rest is not counted."""
MODEL_MAX = 200


@dataclass(frozen=True, slots=True)
class Duration:
    """Of `n` endings, in milliseconds."""

    n: int
    mean_ms: float
    dev_ms: float

    def after(self, ms: int) -> "Duration":
        """With one more ending."""
        n = self.n + 1
        weight = max(WEIGHT_MIN, 1 / n)
        off = abs(ms - self.mean_ms) if self.n else 0.0
        return Duration(n, self.mean_ms + weight * (ms - self.mean_ms), self.dev_ms + weight * (off - self.dev_ms))


NOTHING = Duration(0, 0.0, 0.0)


class Durations:
    """What this process knows, and what it has seen since it wrote."""

    def __init__(self) -> None:
        self.known: Mapping[Key, Duration] = {}
        self._seen: dict[Key, list[int]] = {}

    def see(self, key: Key, ms: int) -> None:
        if len(key[2]) > MODEL_MAX or (key not in self._seen and len(self._seen) >= KEYS_MAX):
            return
        samples = self._seen.setdefault(key, [])
        if len(samples) < SAMPLES_MAX:
            samples.append(max(ms, 0))

    def take(self) -> dict[Key, list[int]]:
        """What was seen since the last time."""
        seen, self._seen = self._seen, {}
        return seen


async def add(tx: Tx, items: Sequence[tuple[dict[Key, list[int]], int]]) -> list[None]:
    """What was seen, by key, and the time it is now."""
    for seen, now_ms in items:
        rows = []
        for key, samples in sorted(seen.items()):
            found = await tx.rows(
                "SELECT n, mean_ms, dev_ms FROM durations WHERE service = $1 AND operation = $2 AND model = $3", *key
            )
            duration = Duration(*found[0]) if found else NOTHING
            for ms in samples:
                duration = duration.after(ms)
            rows.append((*key, duration.n, round(duration.mean_ms), round(duration.dev_ms), now_ms))
        await tx.each(
            "INSERT INTO durations (service, operation, model, n, mean_ms, dev_ms, updated_at)"
            " VALUES ($1,$2,$3,$4,$5,$6,$7) ON CONFLICT (service, operation, model) DO UPDATE SET n = excluded.n,"
            " mean_ms = excluded.mean_ms, dev_ms = excluded.dev_ms, updated_at = excluded.updated_at",
            rows,
        )
        # Names that came up once and never again make room.
        await tx.run(
            "DELETE FROM durations WHERE (service, operation, model) IN (SELECT service, operation, model"
            " FROM durations ORDER BY updated_at DESC LIMIT 1000000 OFFSET $1)", KEYS_MAX,
        )  # fmt: skip
    return [None] * len(items)


async def all_known(db: Database) -> dict[Key, Duration]:
    rows = await db.rows(
        "SELECT service, operation, model, n, mean_ms, dev_ms FROM durations ORDER BY updated_at DESC"
        " LIMIT $1", KEYS_MAX,
    )
    return {(row[0], row[1], row[2]): Duration(row[3], row[4], row[5]) for row in rows}

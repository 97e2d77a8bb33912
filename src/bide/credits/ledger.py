"""The books: `ledger`, and its sums in `balances` and `spending`. Amounts are integer micro-credits.

A ledger row moves an amount from one account to another; rows are added and never changed:

    grant      from nowhere      to the balance     credit that was added
    hold       from the balance  to what is held    a task was accepted
    charge     from what is held to us              it succeeded, for the units that did
    release    from what is held to the balance     the rest of a hold, or all of it

A movement is known by what it is about (`ref`: a task or a grant), its kind and its part: the application's own
balance or the general one. That is the key of the table, so no task can be held for, charged or released twice.

`balances` and `spending` are those movements summed, by application and by credential. Whoever takes from a
balance holds the lock of its application (`bide.accounts.store.lock`) from before it reads the sum until its
commit, so two that meet cannot both spend the same credit. Whoever gives back needs no lock, and writes to a
slot of its own: a sum over slots can only have grown meanwhile.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bide.db import Database, Row, Tx

OWN, GENERAL = 0, 1

MOVES = {"grant": (1, 0, 0), "hold": (0, 0, 1), "charge": (0, 1, -1), "release": (0, 0, -1)}
"""What a movement adds to `granted`, `used` and `held`. A balance has `granted - used - held` left."""


@dataclass(frozen=True, slots=True)
class Hold:
    """What a task may cost at most, and who pays: the application, then the general balance if there is one."""

    task_id: str
    application_id: str
    general_id: str | None
    credential_id: str
    cap: int | None
    """What the credential may spend in all; None: as much as there is."""
    amount: int
    at: int


@dataclass(frozen=True, slots=True)
class Held:
    """How a hold was split."""

    own: int = 0
    general: int = 0


@dataclass(slots=True)
class Funds:
    """What may still be spent, read under the locks of the applications. `take` keeps count."""

    left: dict[str, int] = field(default_factory=dict)
    """By application."""
    spent: dict[str, int] = field(default_factory=dict)
    """Used and held, by credential: of those with a cap."""

    def take(self, hold: Hold) -> Held | None:
        """Takes the amount, the application's own first. None, and nothing is taken, when it is not there."""
        if not hold.amount:
            return Held()
        spent = self.spent.get(hold.credential_id, 0)
        if hold.cap is not None and spent + hold.amount > hold.cap:
            return None
        own = min(hold.amount, max(self.left.get(hold.application_id, 0), 0))
        rest = hold.amount - own
        if rest and (hold.general_id is None or self.left.get(hold.general_id, 0) < rest):
            return None
        self.spent[hold.credential_id] = spent + hold.amount
        self.left[hold.application_id] = self.left.get(hold.application_id, 0) - own
        if rest and hold.general_id is not None:
            self.left[hold.general_id] -= rest
        return Held(own, rest)


async def funds(tx: Tx | Database, holds: Sequence[Hold]) -> Funds:
    """What the payers of some holds have. Whoever is about to take it has the locks of `applications(holds)`."""
    paid = [one for one in holds if one.amount]
    if not paid:
        return Funds()
    left = await tx.rows(
        "SELECT application_id, cast(sum(granted - used - held) AS BIGINT) FROM balances"
        " WHERE application_id = ANY($1) GROUP BY application_id", applications(paid),
    )  # fmt: skip
    capped = sorted({one.credential_id for one in paid if one.cap is not None})
    spent = await tx.rows(
        "SELECT credential_id, cast(sum(used + held) AS BIGINT) FROM spending WHERE credential_id = ANY($1)"
        " GROUP BY credential_id", capped,
    ) if capped else []  # fmt: skip
    return Funds({row[0]: row[1] for row in left}, {row[0]: row[1] for row in spent})


def applications(holds: Iterable[Hold]) -> list[str]:
    """Whose balances some holds may take from, in the order in which they are locked."""
    found = {one.application_id for one in holds} | {one.general_id for one in holds if one.general_id is not None}
    return sorted(found)


async def add_holds(tx: Tx, items: Sequence[tuple[Hold, Held]]) -> None:
    """Writes down what was taken."""
    moves = _Moves()
    for hold, held in items:
        moves.add(hold.task_id, "hold", OWN, hold.application_id, held.own, hold.at)
        moves.add(hold.task_id, "hold", GENERAL, hold.general_id, held.general, hold.at)
        moves.spend(hold.credential_id, 0, held.own + held.general)
    await moves.write(tx)


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of a hold: `charge` of it is ours, the rest goes back."""

    task_id: str
    application_id: str
    general_id: str | None
    credential_id: str
    held: Held
    charge: int
    at: int

    @property
    def charged(self) -> Held:
        """How the charge is split: the application's own balance pays first. Never more than was held."""
        own = min(self.charge, self.held.own)
        return Held(own, min(self.charge - own, self.held.general))


async def settle(tx: Tx, items: Sequence[Settlement]) -> None:
    """Charges and releases. Once for each task: the caller took it out of the queue in this transaction."""
    moves = _Moves()
    for one in items:
        held, charged = one.held, one.charged
        for part, payer, before, after in (
            (OWN, one.application_id, held.own, charged.own), (GENERAL, one.general_id, held.general, charged.general)
        ):
            moves.add(one.task_id, "charge", part, payer, after, one.at)
            moves.add(one.task_id, "release", part, payer, before - after, one.at)
        moves.spend(one.credential_id, charged.own + charged.general, -held.own - held.general)
    await moves.write(tx)


async def grant(tx: Tx, grant_id: str, application_id: str, amount: int, at: int, memo: str) -> bool:
    """Adds credit to an application. False, and nothing is written, when there was a grant with that id.

    A negative amount takes credit away; it is for the caller to see that so much is left.
    """
    if await tx.rows("SELECT 1 FROM ledger WHERE ref = $1 AND kind = 'grant'", grant_id):
        return False
    moves = _Moves()
    moves.add(grant_id, "grant", OWN, application_id, amount, at, memo)
    await moves.write(tx)
    return True


class _Moves:
    """Movements to be written, with what they add to the sums."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, int, str, int, int, str | None]] = []
        self._balances: dict[str, list[int]] = {}
        self._used: Counter[str] = Counter()
        self._held: Counter[str] = Counter()

    def add(
        self, ref: str, kind: str, part: int, application_id: str | None, amount: int, at: int,
        memo: str | None = None,
    ) -> None:  # fmt: skip
        if not amount or application_id is None:
            return
        self._rows.append((ref, kind, part, application_id, amount, at, memo))
        sums = self._balances.setdefault(application_id, [0, 0, 0])
        for position, sign in enumerate(MOVES[kind]):
            sums[position] += sign * amount

    def spend(self, credential_id: str, used: int, held: int) -> None:
        if used or held:
            self._used[credential_id] += used
            self._held[credential_id] += held

    async def write(self, tx: Tx) -> None:
        if not self._rows:
            return
        await tx.each(
            "INSERT INTO ledger (ref, kind, part, application_id, amount, at, memo) VALUES ($1,$2,$3,$4,$5,$6,$7)",
            self._rows,
        )
        # In order, so that two writers that meet in a slot lock its rows in the same order.
        await tx.each(
            "INSERT INTO balances (application_id, slot, granted, used, held) VALUES ($1,$2,$3,$4,$5)"
            " ON CONFLICT (application_id, slot) DO UPDATE SET granted = balances.granted + excluded.granted,"
            " used = balances.used + excluded.used, held = balances.held + excluded.held",
            [(one, tx.slot, *sums) for one, sums in sorted(self._balances.items())],
        )
        await tx.each(
            "INSERT INTO spending (credential_id, slot, used, held) VALUES ($1,$2,$3,$4)"
            " ON CONFLICT (credential_id, slot) DO UPDATE SET used = spending.used + excluded.used,"
            " held = spending.held + excluded.held",
            [(one, tx.slot, used, self._held[one]) for one, used in sorted(self._used.items())],
        )


# -- reads


@dataclass(frozen=True, slots=True)
class Balance:
    """The sums of one application."""

    granted: int = 0
    used: int = 0
    held: int = 0

    @property
    def remaining(self) -> int:
        """What was granted and not used; some of it may be held."""
        return self.granted - self.used

    @property
    def left(self) -> int:
        """What may be spent now."""
        return self.granted - self.used - self.held


_BALANCES = (
    "SELECT application_id, cast(sum(granted) AS BIGINT), cast(sum(used) AS BIGINT), cast(sum(held) AS BIGINT)"
    " FROM balances WHERE application_id = ANY($1) GROUP BY application_id"
)


async def balances(source: Database | Tx, ids: list[str]) -> defaultdict[str, Balance]:
    """The balances of some applications by id; where nothing was ever moved there is none, which reads as nothing."""
    return defaultdict(Balance, {row[0]: Balance(*row[1:]) for row in await source.rows(_BALANCES, ids)})


async def spent(db: Database, credential_ids: list[str]) -> dict[str, tuple[int, int]]:
    """Used and held, by credential."""
    rows = await db.rows(
        "SELECT credential_id, cast(sum(used) AS BIGINT), cast(sum(held) AS BIGINT) FROM spending"
        " WHERE credential_id = ANY($1) GROUP BY credential_id", credential_ids,
    )  # fmt: skip
    return {row[0]: (row[1], row[2]) for row in rows}


async def movements(db: Database, ref: str) -> list[Row]:
    """(kind, part, application id, amount, time, memo) of one task or grant."""
    return await db.rows(
        "SELECT kind, part, application_id, amount, at, memo FROM ledger WHERE ref = $1 ORDER BY kind, part", ref
    )

"""Credit that is added by hand, or once for a new subscriber. Amounts are integer micro-credits.

Every grant has a name in the ledger, so that none is ever made twice:

    free/USER/SERVICE          the free quota: once for a user and a service, for ever
    grant/APPLICATION/ID       a top-up; the id is whoever asks's own word, or made here
"""

from dataclasses import dataclass
from decimal import Decimal

from bide.accounts.store import lock
from bide.accounts.users import is_line
from bide.clock import Clock
from bide.credits import ledger
from bide.credits.pricing import CREDITS_MAX, MICRO, micro, shown
from bide.db import Database, Tx
from bide.errors import BadRequest

FREE = "free/"
ID_MAX, MEMO_MAX = 100, 200


@dataclass(frozen=True, slots=True)
class TopUp:
    """Credit to be added to an application; a negative amount takes some away."""

    application_id: str
    amount: int
    why: str
    who: str
    """The id of the user who does it, or `command line`."""
    id: str
    """The same id twice for one application is one top-up."""


def amount_of(name: str, value: float | int | str) -> int:
    """Micro-credits of an amount in credits, exactly. Raises `BadRequest` with a sentence."""
    try:
        exact = Decimal(str(value).strip())
        found = micro(exact)
    except (ArithmeticError, ValueError):
        raise BadRequest(f"`{name}` must be a number of credits, at most {CREDITS_MAX:,}.") from None
    if Decimal(found).scaleb(-6) != exact:
        raise BadRequest(f"`{name}` must not have more than six decimals.")
    return found


def new_top_up(
    clock: Clock, application_id: str, amount: int, who: str, why: str | None = None, id: str | None = None
) -> TopUp:
    """A checked top-up. Raises `BadRequest` with a sentence."""
    if not amount:
        raise BadRequest("`amount` must not be 0.")
    if why is not None and not is_line(why, MEMO_MAX):
        raise BadRequest(f"`memo` must be one line of at most {MEMO_MAX} characters.")
    if id is not None and not (id and is_line(id, ID_MAX)):
        raise BadRequest(f"`id` must be one line of 1 to {ID_MAX} characters.")
    return TopUp(application_id, amount, why or "a top-up", who, id or clock.new_id(clock.now_ms()))


async def top_up(tx: Tx, at_ms: int, wanted: TopUp) -> bool:
    """Adds the credit, and takes away no more than is left. False: it was added before, under the same id.

    Raises `BadRequest` with a sentence. The application must be there.
    """
    await lock(tx, [wanted.application_id])
    ref = f"grant/{wanted.application_id}/{wanted.id}"
    before = await tx.rows("SELECT amount FROM ledger WHERE ref = $1 AND kind = 'grant'", ref)
    if before:
        if before[0][0] != wanted.amount:
            raise BadRequest("`id` was used before, with another amount.")
        return False
    balance = (await ledger.balances(tx, [wanted.application_id]))[wanted.application_id]
    if wanted.amount < 0 and balance.left + wanted.amount < 0:
        raise BadRequest(f"`amount`: no more than {shown(max(balance.left, 0))} credits can be taken away.")
    if balance.granted + wanted.amount > CREDITS_MAX * MICRO:
        raise BadRequest(f"`amount`: an application may be granted {CREDITS_MAX:,} credits in all.")
    memo = f"{wanted.why} (by {wanted.who})"
    return await ledger.grant(tx, ref, wanted.application_id, wanted.amount, at_ms, memo)


async def free(tx: Tx, application_id: str, user_id: str, service: str, amount: int, at_ms: int) -> bool:
    """The free quota of a service. False: the user had it before. Whoever asks holds the lock of the user."""
    return await ledger.grant(tx, f"{FREE}{user_id}/{service}", application_id, amount, at_ms, "the free quota")


PAID = (
    "SELECT DISTINCT application_id FROM ledger WHERE application_id = ANY($1) AND kind = 'grant' AND amount > 0"
    f" AND ref NOT LIKE '{FREE}%'"
)


async def paid(db: Database, ids: list[str]) -> set[str]:
    """Which of some applications had credit other than the free quota."""
    return {row[0] for row in await db.rows(PAID, ids)}

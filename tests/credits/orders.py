"""Tenants with exact balances and orders at exact prices, for tests about money. Amounts are micro-credits."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import msgspec

from bide.accounts.store import Caller
from bide.credits import ledger
from bide.credits.pricing import Price
from bide.db import write_one
from bide.flow import submit
from bide.flow.submit import Accepted, Submission
from bide.providers.base import Call, Outcome, Succeeded
from tests.world import CALLER, World, picture


async def tenant(world: World, name: str, own: int, general: int | None = None, cap: int | None = None) -> Caller:
    """A caller whose application `name` has `own`; with `general` the application `NAME-general` pays the rest."""
    whole = replace(CALLER, application_id=f"{name}-general", credential_id=f"{name}-general-c")
    caller = replace(CALLER, application_id=name, credential_id=f"{name}-c", cap=cap)
    await world.seed(caller, own)
    if general is None:
        return caller
    await world.seed(whole, general)
    return replace(caller, general_id=whole.application_id)


async def order(
    world: World, caller: Caller, price: int = 10, units: int = 1, *, key: str | None = None, waits: bool = False,
    body_hash: str = "the body",
) -> Accepted:  # fmt: skip
    """Submits a task of so many units at a price for each."""
    found = world.gateway.catalog.operation("openai", "images/generations")
    body = {"prompt": "a paper boat"}
    return await submit.submit(world.gateway, Submission(
        caller=caller, operation=replace(found, pricing=lambda values: Price(price, units, "Count")),
        values=dict(found.check(body)), request=msgspec.json.encode(body), uploads=None, trace_id="a-trace",
        base_url="http://gateway.test", waits=waits, idempotency_key=key, body_hash=body_hash,
    ))  # fmt: skip


def makes(units: int) -> Callable[[Call], Awaitable[Outcome]]:
    """An upstream's answer: so many units were made."""

    async def answer(call: Call) -> Outcome:
        return Succeeded((await picture(call),), units=units)

    return answer


async def balance(world: World, application_id: str) -> tuple[int, int, int]:
    """Granted, used and held."""
    found = await ledger.balances(world.gateway.db, [application_id])
    one = found.get(application_id, ledger.Balance())
    return one.granted, one.used, one.held


async def spent(world: World, credential_id: str) -> tuple[int, int]:
    """Used and held by a credential."""
    return (await ledger.spent(world.gateway.db, [credential_id])).get(credential_id, (0, 0))


async def moves(world: World, task_id: str) -> list[tuple[str, int, str, int]]:
    """Kind, part, application and amount of every row of the ledger about a task."""
    return [(row[0], row[1], row[2], row[3]) for row in await ledger.movements(world.gateway.db, task_id)]


async def top_up(world: World, application_id: str, amount: int) -> None:
    ref, now = f"grant/{world.clock.new_id(world.clock.now)}", world.clock.now
    assert await write_one(
        world.gateway.db, lambda tx: ledger.grant(tx, ref, application_id, amount, now, "a top-up")
    )


async def rows(world: World, *tables: str) -> dict[str, int]:
    """How many rows there are."""
    found = {one: await world.gateway.db.rows(f"SELECT count(*) FROM {one}") for one in tables}
    return {one: count[0][0] for one, count in found.items()}

"""`bide user erase`: the operator's way to forget a person."""

import asyncio
import json

from bide.accounts.erasure import canonical
from bide.settings import Settings
from tests.cli.program import bide, output, parsed, refusal
from tests.world import CALLER, Scripted, opened


def used(settings: Settings) -> None:
    """A user with an open task."""

    async def inside() -> None:
        async with opened(settings, Scripted()) as world:
            await world.submit()

    asyncio.run(inside())


def test_a_user_is_erased_and_asking_again_prints_the_same_receipt(on_both: Settings) -> None:
    used(on_both)
    receipt = parsed(on_both, "user", "erase", CALLER.user_id, "--yes")
    assert receipt["user_id"] == CALLER.user_id
    assert receipt["deleted"]["tasks"] == 1
    assert parsed(on_both, "user", "erase", CALLER.user_id, "--yes") == receipt
    (row,) = [one for one in parsed(on_both, "user", "list") if one["id"] == CALLER.user_id]
    assert row["name"] == f"erased-{CALLER.user_id}"
    assert row["erased_at"] is not None
    said = output(on_both, "user", "erase", CALLER.user_id, "--yes")
    assert f"sha256   {receipt['sha256']}" in said
    assert "deleted  1 tasks, 0 files with 0 bytes, 0 callbacks" in said
    assert json.loads(canonical(receipt)) == receipt


def test_nothing_happens_before_somebody_said_yes(on_sqlite: Settings) -> None:
    used(on_sqlite)
    found = bide(on_sqlite, "user", "erase", CALLER.user_id, code=1)
    assert "Aborted" in found.output
    (row,) = [one for one in parsed(on_sqlite, "user", "list") if one["id"] == CALLER.user_id]
    assert row["erased_at"] is None


def test_the_owner_and_an_unknown_user_are_refused_in_a_sentence(on_sqlite: Settings) -> None:
    output(on_sqlite, "credential", "create", "--quiet")
    assert refusal(on_sqlite, "user", "erase", "owner", "--yes") == "The owner of the gateway cannot be erased."
    assert refusal(on_sqlite, "user", "erase", "nobody", "--yes") == "there is no user 'nobody'"

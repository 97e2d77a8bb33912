"""Limits as one process applies them: what is counted together, what apart, and when to come back."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bide.accounts import applications
from bide.accounts.store import add_credential
from bide.api.answers import error_headers
from bide.api.limits import PAUSE_S
from bide.api.routes import Api
from bide.catalog.load import load
from bide.db import write_one
from bide.errors import ApiFailure, BadRequest, TooManyRequests
from bide.settings import Settings
from tests.api.admin.world import Answer, Client
from tests.world import CALLER, Held, Scripted, World, opened

CATALOG = """
name = "{name}"
title = "Drawings"
summary = "Another service."
polls_per_s = 2
free = true

[limits.fast]
submits_per_s = 2
concurrent = 0

[limits.slow]
submits_per_s = 0.5
concurrent = 2
"""
OPERATION = """
[operations."{path}"]
type = "{path}"
api_id = "00000000-0000-4000-8000-0000000000{number:02d}"
title = "Draw"
summary = "Draws."
capability = "image.generate"
shape = "openai_images"
inline = true
inline_stored = false
run_s_max = 900
expected_s = 60
limits = "{limits}"
shared = ["prompt", "model"]
"""
FIELDS = """
[fields.prompt]
type = "string"
required = true
description = "What to draw."

[fields.model]
type = "string"
default = "a-model"
description = "Who draws."
"""
FIRST, SECOND = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"


@dataclass(frozen=True)
class Gate:
    """The HTTP interface of a gateway that sells two more services, `drawings` and `sketches`, with two classes."""

    world: World
    app: Api

    async def post(self, path: str, token: str = FIRST, **body: Any) -> Answer:
        return await Client(self.app, token).request("POST", path, body, base="")

    async def draw(self, path: str, token: str = FIRST, **body: Any) -> Answer:
        return await self.post(path, token, prompt="a boat", **{"async": True, **body})

    async def admitted(self, path: str, token: str = FIRST, **body: Any) -> int:
        """How many are let in at this moment, twenty at most. A refusal takes `PAUSE_S`, so it is the last."""
        for number in range(20):
            answer = await self.draw(path, token, **body)
            if answer.status != 200:
                assert answer.code == "too_many_requests"
                return number
        return 20

    async def polls(self, path: str, token: str = FIRST) -> int:
        """As `admitted`, of looks for a task."""
        for number in range(20):
            if (await self.post(path, token, id="x")).status != 200:
                return number
        return 20

    async def limits(self, limits: Any) -> None:
        at = self.world.clock.now_ms()
        change = {"limits": limits}
        await write_one(self.world.gateway.db, lambda tx: applications.change(
            tx, at, CALLER.application_id, None, change))  # fmt: skip
        self.world.clock.pass_s(2.1)  # as long as a credential is kept


def gated(settings: Settings, test: Callable[[Gate], Awaitable[None]], *upstreams: Scripted) -> None:
    directory = Path(settings.data_dir).parent / "catalogue"
    directory.mkdir()
    for number, name in enumerate(("drawings", "sketches")):
        operations = (("quick", "fast"), ("quicker", "fast"), ("fine", "slow"))
        made = "".join(OPERATION.format(path=path, limits=limits, number=10 * number + at)
                       for at, (path, limits) in enumerate(operations))  # fmt: skip
        (directory / f"{name}.toml").write_text(CATALOG.format(name=name) + FIELDS + made)

    async def inside() -> None:
        async with opened(settings, *(upstreams or (Scripted(),))) as world:
            world.gateway = replace(world.gateway, catalog=load([directory]))
            await world.seed(CALLER)
            for token in (FIRST, SECOND):
                await write_one(world.gateway.db, lambda tx, token=token: add_credential(  # type: ignore[misc]
                    tx, world.clock, CALLER.application_id, CALLER.user_id, "hand-made", token))  # fmt: skip
            await test(Gate(world, Api(world.gateway)))

    asyncio.run(inside())


# -- what is counted together


def test_submits_are_counted_by_credential_service_and_class(on_sqlite: Settings) -> None:
    async def test(gate: Gate) -> None:
        assert await gate.admitted("/drawings/quick") == 2
        assert await gate.admitted("/v1/drawings/quicker") == 0, "operations of one class share"
        assert await gate.admitted("/drawings/fine") == 1, "another class"
        assert await gate.admitted("/sketches/quick") == 2, "another service"
        assert await gate.admitted("/drawings/quick", SECOND) == 2, "another credential of the same application"
        gate.world.clock.pass_s(0.1)  # and what the refusals took: more than half a second, less than a whole one
        assert await gate.admitted("/drawings/quicker") == 1
        gate.world.clock.pass_s(1_000)
        assert await gate.admitted("/drawings/quick") == 2, "a pause saves up no more than a second's worth"

    gated(on_sqlite, test)


def test_polls_are_counted_by_credential_and_service_and_apart_from_submits(on_sqlite: Settings) -> None:
    async def test(gate: Gate) -> None:
        assert await gate.polls("/drawings/tasks") == 2
        assert await gate.polls("/v1/drawings/tasks") == 0
        assert await gate.admitted("/drawings/quick") == 2
        assert await gate.polls("/sketches/tasks") == 2
        assert await gate.polls("/drawings/tasks", SECOND) == 2

    gated(on_sqlite, test)


def test_open_tasks_are_counted_by_credential_service_and_class(on_both: Settings) -> None:
    async def test(gate: Gate) -> None:
        await gate.limits({"*": {"submits_per_s": 0}})
        assert await gate.admitted("/drawings/fine") == 2
        assert await gate.admitted("/drawings/quick") == 20, "a class without a limit"
        assert await gate.admitted("/sketches/fine") == 2
        assert await gate.admitted("/drawings/fine", SECOND) == 2

    gated(on_both, test)


# -- tasks that end


@pytest.mark.parametrize("ends", ["succeeds", "fails"])
def test_a_task_counts_until_it_ends_however_that_is(on_both: Settings, ends: str) -> None:
    async def test(gate: Gate) -> None:
        await gate.limits({"*": {"submits_per_s": 0, "polls_per_s": 0}})
        assert await gate.admitted("/drawings/fine") == 2
        await gate.world.work()
        assert await gate.admitted("/drawings/fine") == 2

    upstream = Scripted() if ends == "succeeds" else Scripted(*(Exception("a defect") for _ in range(20)))
    gated(on_both, test, upstream)


def test_a_call_that_waits_counts_while_it_is_open(on_both: Settings) -> None:
    held = [Held(), Held()]

    async def test(gate: Gate) -> None:
        await gate.limits({"*": {"submits_per_s": 0}})
        calls = [asyncio.create_task(gate.draw("/drawings/fine", FIRST, **{"async": False})) for _ in held]
        for one in held:
            await one.asked.wait()
        assert await gate.admitted("/drawings/fine") == 0
        held[0].go.set()
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert await gate.admitted("/drawings/fine") == 1
        held[1].go.set()
        assert [(await call).status for call in calls] == [200, 200]

    gated(on_both, test, Scripted(*held))


def test_a_refused_request_holds_no_place_and_no_money(on_both: Settings) -> None:
    async def test(gate: Gate) -> None:
        await gate.limits({"*": {"submits_per_s": 0}})
        for _ in range(5):
            assert (await gate.post("/drawings/fine")).code == "bad_request"
        assert await gate.admitted("/drawings/fine", dry_run=True) == 20
        assert await gate.admitted("/drawings/fine") == 2
        assert await gate.admitted("/drawings/fine", dry_run=True) == 0, "a dry run is refused as the submit would be"

    gated(on_both, test)


# -- an application's own limits


def test_an_applications_own_limits_count_and_the_closest_of_them(on_both: Settings) -> None:
    async def test(gate: Gate) -> None:
        await gate.limits({
            "*": {"submits_per_s": 5}, "drawings": {"polls_per_s": 4}, "drawings/fast": {"concurrent": 3},
        })  # fmt: skip
        assert await gate.admitted("/drawings/quick") == 3
        assert await gate.admitted("/sketches/quick") == 5
        assert await gate.admitted("/sketches/fine") == 2
        assert await gate.polls("/drawings/tasks") == 4
        assert await gate.polls("/sketches/tasks") == 2
        await gate.limits({"*": {"submits_per_s": 0, "polls_per_s": 0, "concurrent": 0}})
        assert await gate.admitted("/drawings/quick") == await gate.polls("/drawings/tasks") == 20
        assert await gate.admitted("/sketches/fine") == 20

    gated(on_both, test)


# -- what is said


def test_a_refusal_says_the_limit_and_when_to_come_back(on_sqlite: Settings) -> None:
    async def test(gate: Gate) -> None:
        clock = gate.world.clock
        assert await gate.admitted("/drawings/fine") == 1
        rate = await gate.draw("/drawings/fine")
        assert (rate.code, rate.headers["retry-after"]) == ("too_many_requests", "2")
        assert rate.message == "Too many submits: 0.5 per second are allowed."
        clock.pass_s(0.801)
        assert (await gate.draw("/drawings/fine")).headers["retry-after"] == "1"
        clock.pass_s(1)
        assert (await gate.draw("/drawings/fine")).status == 200
        clock.pass_s(2)
        full = await gate.draw("/drawings/fine")
        assert full.message == "Too many tasks are open at once: at most 2 may be."
        assert full.headers["retry-after"] == "56", "the oldest is 4 s old and such tasks take 60"
        clock.pass_s(500)
        assert (await gate.draw("/drawings/fine")).headers["retry-after"] == "1"
        assert await gate.polls("/drawings/tasks") == 2
        polled = await gate.post("/drawings/tasks", id="x")
        assert (polled.message, polled.headers["retry-after"]) == (
            "Too many looks for tasks: 2 per second are allowed.", "1",
        )  # fmt: skip

    gated(on_sqlite, test)


def test_a_refusal_for_a_rate_keeps_its_caller_waiting_a_moment_and_no_one_else(on_sqlite: Settings) -> None:
    async def test(gate: Gate) -> None:
        slept = gate.world.clock.slept
        assert await gate.admitted("/drawings/quick") == 2
        assert slept == [PAUSE_S]
        assert await gate.admitted("/drawings/quick", SECOND) == 2
        assert slept == [PAUSE_S] * 2
        await gate.limits({"*": {"submits_per_s": 0}})
        assert await gate.admitted("/drawings/fine") == 2
        assert slept == [PAUSE_S] * 2, "a refusal for open tasks is not the end of a flood"

    gated(on_sqlite, test)


@pytest.mark.parametrize(("after_s", "said"), [
    (None, "1"), (0.0, "1"), (0.2, "1"), (1.0, "1"), (1.000001, "1"), (1.0005, "2"), (1.0001, "2"), (59.5, "60"),
    (3600.0, "3600"),
])  # fmt: skip
def test_retry_after_is_whole_seconds_rounded_up_and_at_least_one(after_s: float | None, said: str) -> None:
    assert error_headers(TooManyRequests(retry_after_s=after_s)) == {"retry-after": said}


def test_other_errors_say_when_to_come_back_only_if_they_know() -> None:
    assert error_headers(BadRequest("no")) == error_headers(ApiFailure()) == {}

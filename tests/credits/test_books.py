"""Any order of events, in several processes on one database: the books are right after every step.

A small model knows what every balance must be. It is told what was ordered and how a task ended, and says who may
order, and how much each balance has used and holds.
"""

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bide.accounts.store import Caller
from bide.db import write_one
from bide.errors import UsedUp
from bide.flow import sweep, work
from bide.flow.cancel import cancel
from bide.flow.submit import Accepted
from bide.providers.base import Call, Failed, Outcome, Pending, Unknown
from bide.settings import Settings
from bide.tasks import store
from tests.books import proved
from tests.credits.orders import balance, makes, order, spent, top_up
from tests.world import Answer, Held, Scripted, World, add_tenant, opened

OWN, BOTH, WHOLE, CAPPED = "own", "both", "whole", "capped"
"""Callers: with a balance of its own alone, with leave to use the general one, of the general one, with a cap."""
CREDIT = {OWN: 30, BOTH: 20, WHOLE: 60, CAPPED: 100}
CAP = 35

ANSWERS: dict[str, Answer | None] = {
    "made": None,
    "pending": Pending("up", 3.0),
    "refused": Failed("forbidden", "No."),
    "busy": Failed("too_many_requests", "Later.", scope="channel", retryable=True, after_s=2.0),
    "unknown": Unknown("The connection broke."),
    "raises": ValueError("a defect"),
}

OPENING: list[tuple[Any, ...]] = [
    ("order", 0, BOTH, 10, 4, 3), ("work", 1, "made"), ("order", 1, CAPPED, 10, 3, 1), ("rush", BOTH, 9, 8),
    ("order again", 1, 0),
]  # fmt: skip
"""What every history begins with: a hold that is split between two balances, and charged in part."""

WHO = st.sampled_from([OWN, BOTH, WHOLE, CAPPED])
NODE = st.integers(0, 1)
MOVES = st.one_of(
    st.tuples(st.just("order"), NODE, WHO, st.sampled_from([0, 1, 7, 10]), st.integers(1, 4), st.integers(0, 5)),
    st.tuples(st.just("order again"), NODE, st.integers(0, 9)),
    st.tuples(st.just("rush"), WHO, st.sampled_from([5, 9]), st.integers(2, 12)),
    st.tuples(st.just("work"), NODE, st.sampled_from(sorted(ANSWERS))),
    st.tuples(st.just("work"), NODE, st.just("made")),
    st.tuples(st.just("all work"), st.sampled_from(sorted(ANSWERS))),
    st.tuples(st.just("die"), NODE, st.sampled_from(["claimed", "asking"])),
    st.tuples(st.just("late"), NODE, st.sampled_from(sorted(ANSWERS))),
    st.tuples(st.just("cancel"), NODE, st.integers(0, 9)),
    st.tuples(st.just("top up"), NODE, WHO, st.sampled_from([1, 10, 40])),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 5.0, 61.0, 1_000.0])),
    st.tuples(st.just("sweep"), NODE),
)


@dataclass
class Task:
    """What the model knows of one."""

    who: str
    price: int
    units: int
    made: int
    own: int
    general: int
    state: str = "open"

    @property
    def charge(self) -> int:
        return self.price * min(self.made, self.units) if self.state == "succeeded" else 0


@dataclass
class Model:
    """The balances as they must be. Pure."""

    granted: dict[str, int] = field(default_factory=lambda: dict(CREDIT))
    tasks: dict[str, Task] = field(default_factory=dict)

    def sums(self) -> tuple[Counter[str], Counter[str], Counter[str], Counter[str]]:
        """Used and held by application, then by credential."""
        used, held, spends, holds = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
        for one in self.tasks.values():
            if one.state == "open":
                held[one.who] += one.own
                held[WHOLE] += one.general
                holds[one.who] += one.own + one.general
            else:
                own = min(one.charge, one.own)
                used[one.who] += own
                used[WHOLE] += one.charge - own
                spends[one.who] += one.charge
        return used, held, spends, holds

    def split(self, who: str, amount: int) -> tuple[int, int] | None:
        """How a hold would be split now; None: it is refused."""
        used, held, spends, holds = self.sums()
        left = {one: self.granted[one] - used[one] - held[one] for one in CREDIT}
        if not amount:
            return 0, 0
        if who == CAPPED and spends[who] + holds[who] + amount > CAP:
            return None
        own = min(amount, left[who])
        if amount > own and (who != BOTH or left[WHOLE] < amount - own):
            return None
        return own, amount - own


class Upstream(Scripted):
    """Makes as many units of a task as was said when it was ordered."""

    def __init__(self, *, takes_our_id: bool) -> None:
        super().__init__(takes_our_id=takes_our_id)
        self.made: dict[str, int] = {}
        self.next: list[Answer | None] = []

    async def submit(self, call: Call) -> Outcome:
        self._submit = [(self.next.pop() if self.next else None) or makes(self.made.get(call.task_id, 0))]
        return await super().submit(call)

    async def poll(self, call: Call, upstream_id: str) -> Outcome:
        self._poll = [makes(self.made.get(call.task_id, 0))]
        return await super().poll(call, upstream_id)


class Game:
    """One history of a gateway of two processes."""

    def __init__(self, nodes: tuple[World, ...], upstreams: tuple[Upstream, ...]) -> None:
        self.nodes, self.upstreams, self.model = nodes, upstreams, Model()
        self.clock, self.db = nodes[0].clock, nodes[0].gateway.db
        name = nodes[0].clock.new_id(nodes[0].clock.now)
        self.ids = {one: f"{one}-{name}" for one in CREDIT}
        self.keys: list[tuple[str, Caller, Task]] = []
        self.late: list[tuple[Held, asyncio.Task[Any]]] = []

    def caller(self, who: str) -> Caller:
        general = self.ids[WHOLE] if who == BOTH else None
        return replace(self.nodes[0].caller, application_id=self.ids[who], credential_id=f"{self.ids[who]}-c",
                       general_id=general, cap=CAP if who == CAPPED else None)  # fmt: skip

    async def begin(self) -> None:
        for who, credit in CREDIT.items():
            caller = self.caller(who)
            await write_one(self.db, partial(add_tenant, caller=caller, credit=credit))
            for node in self.nodes:
                node.seeded.add(caller.application_id)

    async def move(self, what: str, *how: Any) -> None:
        match what, how:
            case "order", (node, who, price, units, made):
                await self.order(node, who, price, units, made)
            case "order again", (node, number) if self.keys:
                await self.order_again(node, *self.keys[number % len(self.keys)])
            case "rush", (who, price, count):
                await self.rush(who, price, count)
            case "work", (node, answer):
                await self.work(node, answer, 1)
            case "all work", (answer,):
                await asyncio.gather(*(self.work(node, answer, 20) for node in range(len(self.nodes))))
            case "die", (node, "claimed"):
                for one in await work.work_once(self.nodes[node].gateway, 1):
                    self.nodes[node].gateway.task_leases.drop(one.task.id)
            case "die", (node, _):
                await self.start(node, "made", dies=True)
            case "late", (node, answer):
                await self.start(node, answer, dies=False)
            case "cancel", (node, number):
                is_open = [one for one, task in self.model.tasks.items() if task.state == "open"]
                if is_open:
                    assert await cancel(self.nodes[node].gateway, is_open[number % len(is_open)])
            case "top up", (node, who, amount):
                await top_up(self.nodes[node], self.ids[who], amount)
                self.model.granted[who] += amount
            case "wait", (seconds,):
                self.clock.pass_s(seconds)
                if seconds > 60:
                    await self.let_the_late_go_on()
            case "sweep", (node,):
                self.clock.pass_s(31 * 86_400)
                await sweep.sweep_once(self.nodes[node].gateway)
        await self.look()

    async def order(self, node: int, who: str, price: int, units: int, made: int) -> None:
        expected = self.model.split(who, price * units)
        key, caller = f"key-{len(self.keys)}", self.caller(who)
        try:
            accepted = await order(self.nodes[node], caller, price, units, key=key)
        except UsedUp:
            assert expected is None
            return
        assert expected is not None
        assert not accepted.known
        task = self.model.tasks[accepted.task_id] = Task(who, price, units, made, *expected)
        self.keys.append((key, caller, task))
        self.know(accepted.task_id, made)

    def know(self, task_id: str, made: int) -> None:
        for upstream in self.upstreams:
            upstream.made[task_id] = made

    async def order_again(self, node: int, key: str, caller: Caller, task: Task) -> None:
        """The same key: the same task, whatever has become of it, and no second hold."""
        task_id = next(one for one, found in self.model.tasks.items() if found is task)
        if await store.has_key(self.db, task_id):  # it goes with its task
            again = await order(self.nodes[node], caller, task.price, task.units, key=key)
            assert (again.known, again.task_id) == (True, task_id)

    async def rush(self, who: str, price: int, count: int) -> None:
        """So many equal orders at once, from all processes: as many are let in as one after the other."""
        caller = self.caller(who)
        orders = [order(self.nodes[n % len(self.nodes)], caller, price) for n in range(count)]
        answers = await asyncio.gather(*orders, return_exceptions=True)
        admitted = [one for one in answers if isinstance(one, Accepted)]
        assert all(isinstance(one, Accepted | UsedUp) for one in answers)
        model = replace(self.model, tasks=dict(self.model.tasks))
        while len(model.tasks) < len(self.model.tasks) + count and (found := model.split(who, price)) is not None:
            model.tasks[f"{len(model.tasks)}"] = Task(who, price, 1, 1, *found)
        assert len(admitted) == len(model.tasks) - len(self.model.tasks)
        for one in admitted:  # which of them was split is for the database to say: the sums are not
            row = await self.db.row("SELECT held, held_general FROM queue WHERE task_id = $1", one.task_id)
            assert row is not None
            self.model.tasks[one.task_id] = Task(who, price, 1, 1, row[0], row[1])
            self.know(one.task_id, 1)
        assert self.model.sums() == model.sums()

    async def work(self, node: int, answer: str, most: int) -> None:
        """A worker takes due tasks one step further."""
        claimed = await work.work_once(self.nodes[node].gateway, most)
        self.upstreams[node].next[:] = [ANSWERS[answer]] * len(claimed)
        await asyncio.gather(*(work.run(self.nodes[node].gateway, one) for one in claimed))
        self.upstreams[node].next.clear()

    async def start(self, node: int, answer: str, *, dies: bool) -> None:
        """A worker asks and is then held: it dies there, or comes back late."""
        gateway, upstream = self.nodes[node].gateway, self.upstreams[node]
        claimed = await work.work_once(gateway, 1)
        if not claimed:
            return
        (one,) = claimed
        held = Held(ANSWERS[answer] or makes(upstream.made.get(one.task.id, 0)))
        upstream.next[:] = [held]
        running = asyncio.create_task(work.run(gateway, one))
        asked = asyncio.create_task(held.asked.wait())
        await asyncio.wait({running, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        upstream.next.clear()
        if running.done():
            return  # it had nothing to ask: its task was polled, or ended
        gateway.task_leases.drop(one.task.id)
        if dies:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
        else:
            self.late.append((held, running))

    async def let_the_late_go_on(self) -> None:
        for held, running in self.late:
            held.go.set()
            await running
        self.late.clear()

    async def look(self) -> None:
        """The model hears what has ended; then everybody must agree."""
        for task_id, task in self.model.tasks.items():
            if task.state == "open" and (found := await store.ending(self.db, task_id)) is not None:
                task.state = found[0]
        used, held, spends, holds = self.model.sums()
        for who, application_id in self.ids.items():
            assert await balance(self.nodes[0], application_id) == (self.model.granted[who], used[who], held[who])
            assert await spent(self.nodes[0], f"{application_id}-c") == (spends[who], holds[who])
        await proved(self.db, self.clock.now)

    async def end(self) -> None:
        """Time passes and workers come: nothing is left open, and nothing is held."""
        for _ in range(10):
            self.clock.pass_s(61)
            await self.let_the_late_go_on()
            for node in range(len(self.nodes)):
                await self.work(node, "made", 100)
        await self.look()
        assert all(one.state != "open" for one in self.model.tasks.values())
        for who, application_id in self.ids.items():
            assert (await balance(self.nodes[0], application_id))[2] == 0, who


SHARED = [HealthCheck.function_scoped_fixture]
"""The examples share one database: the books must be right with whatever one has left there."""


@settings(max_examples=6, deadline=None, suppress_health_check=SHARED, derandomize=True)
@given(moves=st.lists(MOVES, min_size=10, max_size=40))
def test_whatever_happens_the_books_are_right_after_every_step(
    on_both: Settings, moves: list[tuple[Any, ...]]
) -> None:
    async def play() -> None:
        upstreams = (Upstream(takes_our_id=False), Upstream(takes_our_id=True))
        async with (
            opened(on_both, upstreams[0]) as one, opened(on_both, upstreams[1], clock=one.clock) as other,
        ):  # fmt: skip
            game = Game((one, other), upstreams)
            await game.begin()
            for what, *how in [*OPENING, *moves]:
                await game.move(what, *how)
            await game.end()

    asyncio.run(play())

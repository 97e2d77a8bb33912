"""Any order of events: submissions, answers, crashes, late workers, receivers that fail, time that passes.

Whatever happens in between, at the end every accepted task has ended exactly once, its callback has arrived, the
books are right, and no upstream that does not take our id was asked again after an outcome that nobody knows.
"""

import asyncio
import contextlib
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bide.callbacks import store as callbacks
from bide.flow import callback, work
from bide.providers.base import Call, Failed, Outcome, Pending, Unknown
from bide.settings import Settings
from tests.books import proved
from tests.world import Answer, Held, Receiver, Scripted, World, done, opened, receiving

ANSWERS: dict[str, Answer] = {
    "done": done,
    "pending": Pending("up", 3.0),
    "refused": Failed("forbidden", "No."),
    "busy": Failed("too_many_requests", "Later.", scope="channel", retryable=True, after_s=2.0),
    "unknown": Unknown("The connection broke."),
    "raises": ValueError("a defect"),
}
NOT_KNOWN = {"unknown", "raises"}

MOVES = st.one_of(
    st.tuples(st.just("submit"), st.sampled_from(["plain", "keyed"])),
    st.tuples(st.just("answer"), st.sampled_from(sorted(ANSWERS))),
    st.tuples(st.just("die"), st.sampled_from(["claimed", "asking"])),
    st.tuples(st.just("late"), st.sampled_from(sorted(ANSWERS))),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 5.0, 61.0])),
    st.tuples(st.just("deliver"), st.sampled_from(["200 OK", "500 Oops", "429 Slow\r\nRetry-After: 3"])),
    st.tuples(st.just("deliver and die"), st.sampled_from(["claimed", "sent"])),
)


class Upstream(Scripted):
    """Answers what the game says, and notices when it is asked for what it may have done already."""

    def __init__(self, name: str, *, takes_our_id: bool) -> None:
        super().__init__(name=name, takes_our_id=takes_our_id, models=(f"{name}-*",))
        self.unknown: set[str] = set()
        self.asked_again: list[str] = []
        self.next: list[tuple[str, Answer]] = []

    async def submit(self, call: Call) -> Outcome:
        if call.task_id in self.unknown and not self.TAKES_OUR_ID:
            self.asked_again.append(call.task_id)
        name, answer = self.next.pop() if self.next else ("done", done)
        if name in NOT_KNOWN:
            self.unknown.add(call.task_id)
        self._submit = [answer]
        return await super().submit(call)


class Game:
    """One history of the gateway."""

    def __init__(self, world: World, receiver: Receiver, upstreams: tuple[Upstream, ...]) -> None:
        self.world, self.receiver, self.upstreams = world, receiver, upstreams
        self.accepted: list[str] = []
        self.ended: dict[str, dict[str, Any]] = {}
        self.late: list[tuple[Held, asyncio.Task[Any]]] = []

    async def move(self, what: str, how: Any) -> None:
        match what:
            case "submit":
                self.accepted.append(await self.world.submit(self.receiver.url, model=f"{how}-1"))
            case "answer":
                await self.work(how, ANSWERS[how])
            case "die" if how == "claimed":
                for one in await work.work_once(self.world.gateway, 1):
                    self.world.gateway.task_leases.drop(one.task.id)
            case "die":
                await self.start("unknown", done, dies=True)
            case "late":
                await self.start(how, ANSWERS[how], dies=False)
            case "wait":
                self.world.clock.pass_s(how)
                if how > 60:
                    await self.let_the_late_go_on()
            case "deliver":
                self.receiver.answers[:] = [how]
                await self.world.deliver()
                self.receiver.answers.clear()
            case "deliver and die":
                for owed in await self.world.claim_deliveries():
                    if how == "sent":
                        await callback._post(self.world.gateway, owed)
        await self.look()

    async def work(self, name: str, answer: Answer) -> None:
        """A worker takes one due task one step further."""
        for upstream in self.upstreams:
            upstream.next[:] = [(name, answer)]
        for one in await work.work_once(self.world.gateway, 1):
            await work.run(self.world.gateway, one)
        for upstream in self.upstreams:
            upstream.next.clear()

    async def start(self, name: str, answer: Answer, *, dies: bool) -> None:
        """A worker asks and is then held: it dies there, or comes back late."""
        claimed = await work.work_once(self.world.gateway, 1)
        if not claimed:
            return
        held, (one,) = Held(answer), claimed
        for upstream in self.upstreams:
            upstream.next[:] = [(name, held)]
        running = asyncio.create_task(work.run(self.world.gateway, one))
        asked = asyncio.create_task(held.asked.wait())
        await asyncio.wait({running, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        for upstream in self.upstreams:
            upstream.next.clear()
        if running.done():
            return  # it had nothing to ask: its task was polled, or ended
        self.world.gateway.task_leases.drop(one.task.id)
        for upstream in self.upstreams:
            if upstream.submitted[-1:] == [one.task.id]:
                upstream.unknown.add(one.task.id)
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
        """What has ended stays as it is, for ever."""
        for task_id in self.accepted:
            document = await self.world.document(task_id)
            assert document["id"] == task_id
            if task_id in self.ended:
                assert document == self.ended[task_id]
            elif document["response"]:
                self.ended[task_id] = document

    async def end(self) -> None:
        """Time passes, workers come, receivers answer: everything must come to rest."""
        for _ in range(40):
            self.world.clock.pass_s(61)
            await self.let_the_late_go_on()
            while await self.world.work():
                pass
            while await self.world.deliver():
                pass
            await self.look()
            if len(self.ended) == len(self.accepted) and not await callbacks.owed(self.world.gateway.db):
                break
        assert set(self.ended) == set(self.accepted)
        arrived = {one.body["task_id"]: one.body["success"] for one in self.receiver.got}
        assert arrived == {one: document["response"]["success"] for one, document in self.ended.items()}
        assert len({one.headers["webhook-id"] for one in self.receiver.got}) == len(self.accepted)
        assert [one for upstream in self.upstreams for one in upstream.asked_again] == []
        for upstream in self.upstreams:
            assert all(upstream.submitted.count(one) <= 3 for one in self.accepted)
        await proved(self.world.gateway.db, self.world.clock.now)


SHARED = [HealthCheck.function_scoped_fixture]
"""The examples share one database: what one has left there must not matter to the next."""


@settings(max_examples=20, deadline=None, suppress_health_check=SHARED, derandomize=True)
@given(moves=st.lists(MOVES, min_size=5, max_size=40))
def test_whatever_happens_every_task_ends_once_and_its_callback_arrives(
    on_both: Settings, moves: list[tuple[str, Any]]
) -> None:
    async def play() -> None:
        upstreams = (Upstream("plain", takes_our_id=False), Upstream("keyed", takes_our_id=True))
        more = {"callback_schedule": (0.0,) * 99}
        async with receiving() as receiver, opened(on_both, *upstreams, **more) as world:
            game = Game(world, receiver, upstreams)
            for what, how in [("submit", "plain"), ("submit", "keyed"), *moves]:
                await game.move(what, how)
            await game.end()

    asyncio.run(play())

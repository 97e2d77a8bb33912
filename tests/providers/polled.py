"""A real upstream on the loopback for providers that submit once and look again: it plays recordings, in order.

    outcome, upstream = submitted(suno_proxy, answer({"code": "success", "data": "t-1"}), prompt="a boat")
    outcome, upstream = polled(suno_proxy, "t-1", answer({…}))
    outcome, upstream = reconciled(suno_proxy, answer([…]), asked_at=…)

Several replies are given to one request after the other, the last to all that follow. What is true of every outcome
is held here: no sink stays open, no file is left unless the work succeeded, and the key is in none of its texts.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aiohttp import web

from bide.clock import Clock
from bide.providers.base import Absent, Call, Input, Item, Outcome, Progress, Source, Succeeded

from .upstream import KEY, Reply, Upstream, run

TASK = "0199aaaa-0000-7000-8000-000000000001"
"""The id of our task in every call."""


class Polled(Upstream):
    """Answers each request with the next reply. `reports`: what was told of the progress."""

    def __init__(self, *replies: Reply, total_s: float = 20.0) -> None:
        super().__init__(total_s=total_s)
        self._replies = list(replies) or [Reply(404)]
        self.reports: list[Progress] = []
        self.queries: list[Mapping[str, str]] = []

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.queries.append(dict(request.query))
        self._reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        return await super()._answer(request)

    def asks(
        self, *, capability: str, model: str = "", inputs: tuple[Input, ...] = (),
        options: Mapping[str, Any] | None = None, sources: Mapping[str, tuple[Source, ...]] | None = None,
        callback_url: str = "", asked_s_ago: float | None = None, watched: bool = False,
        answer_bytes_max: int = 1024 * 1024, **request: Any,
    ) -> Call:  # fmt: skip
        """A call to this upstream; further arguments are the caller's request, nothing else is in it."""
        plain = self.call(capability=capability, model=model, inputs=inputs, options=options,
                          answer_bytes_max=answer_bytes_max)  # fmt: skip
        asked_at = 0 if asked_s_ago is None else Clock().now_ms() - round(asked_s_ago * 1000)
        return replace(plain, request=request, sources=sources or {}, callback_url=callback_url, asked_at=asked_at,
                       report=self._report if watched else None)  # fmt: skip

    async def _report(self, progress: Progress) -> None:
        self.reports.append(progress)


def source(about: Mapping[str, Any], *, kind: str = "image", operation: str = "imagine") -> Source:
    """An earlier item that a call follows up."""
    return Source("item-1", operation, kind, about)


def submitted(provider: Any, *replies: Reply, total_s: float = 20.0, **call: Any) -> tuple[Outcome, Polled]:
    return _played(lambda asked: provider.submit(asked), replies, total_s, call)


def polled(
    provider: Any, upstream_id: str, *replies: Reply, total_s: float = 20.0, **call: Any
) -> tuple[Outcome, Polled]:
    return _played(lambda asked: provider.poll(asked, upstream_id), replies, total_s, call)


def reconciled(
    provider: Any, *replies: Reply, total_s: float = 20.0, **call: Any
) -> tuple[Outcome | Absent, Polled]:
    return _played(lambda asked: provider.reconcile(asked), replies, total_s, call)


def _played(
    ask: Callable[[Call], Awaitable[Any]], replies: Sequence[Reply], total_s: float, call: Mapping[str, Any]
) -> tuple[Any, Polled]:
    async def work() -> tuple[Any, Polled]:
        async with Polled(*replies, total_s=total_s) as upstream:
            outcome = await ask(upstream.asks(**call))
            assert "open" not in upstream.store.states
            if not isinstance(outcome, Succeeded):
                assert "closed" not in upstream.store.states
            assert KEY not in repr(outcome)
            return outcome, upstream

    return run(work())


def the_item(outcome: Outcome) -> Item:
    """The one item of a success."""
    assert isinstance(outcome, Succeeded), outcome
    (item,) = outcome.items
    return item


def roles(item: Item) -> dict[str, list[str | None]]:
    """The addresses of an item by role."""
    found: dict[str, list[str | None]] = {}
    for asset in item.assets:
        found.setdefault(asset.role, []).append(asset.url)
    return found

"""What Prometheus reads: labels are few whatever callers send, and asking often costs nothing."""

import asyncio
from typing import Any

import pytest
from prometheus_client import REGISTRY, generate_latest
from starlette.applications import Starlette
from starlette.routing import Route

from bide import metrics
from bide.api import health
from bide.api.answers import Message
from bide.errors import ERRORS, InvalidToken, NoToken
from bide.settings import Settings
from tests.world import World, run


def labels(kind: str) -> set[str]:
    """The values of `code` under which tasks of this type are counted."""
    families = [family for family in REGISTRY.collect() if family.name == "bide_tasks"]
    return {one.labels["code"] for family in families for one in family.samples if one.labels["type"] == kind}


def test_only_known_error_codes_are_labels() -> None:
    for code in ("", *ERRORS, *(f"made-up-{n}" for n in range(1000)), "x" * 10_000, "\ud800"):
        metrics.task("a-kind", "failed", code, 1.0)
    assert labels("a-kind") == {"", "other", *ERRORS}
    assert b"made-up" not in generate_latest(REGISTRY)


async def ask(app: Starlette, *headers: tuple[bytes, bytes]) -> str:
    """The body of one `GET /metrics`."""
    parts: list[bytes] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        parts.append(message.get("body", b""))

    scope: dict[str, Any] = {
        "type": "http", "method": "GET", "path": "/metrics", "headers": [*headers], "query_string": b"",
    }  # fmt: skip
    await app(scope, receive, send)
    return b"".join(parts).decode()


def made(world: World) -> Starlette:
    app = Starlette(routes=[Route("/metrics", health.metrics)])
    app.state.gateway = world.gateway
    return app


def test_open_tasks_and_deliveries_are_counted(on_both: Settings) -> None:
    async def test(world: World) -> None:
        await world.submit()
        await world.submit("http://127.0.0.1:9/hook")
        before = await ask(made(world))
        await world.work()
        after = await ask(made(world))
        assert 'bide_open_tasks{state="waiting"} 2\nbide_open_tasks{state="leased"} 0\n' in before
        assert "bide_open_deliveries 0\n" in before
        assert 'bide_open_tasks{state="waiting"} 0\n' in after
        assert "bide_open_deliveries 1\n" in after

    run(on_both, test)


def test_a_token_is_asked_for_where_one_is_set(on_sqlite: Settings) -> None:
    async def test(world: World) -> None:
        app = made(world)
        assert "bide_open_tasks" in await ask(app, (b"authorization", b"Bearer metrics-secret"))
        for wrong in (b"Bearer other", b"Bearer \xff\xfe"):
            with pytest.raises(InvalidToken):
                await ask(app, (b"authorization", wrong))
        with pytest.raises(NoToken):
            await ask(app)

    run(on_sqlite, test, metrics_token="metrics-secret")


def test_an_answer_is_given_again_for_two_seconds(on_sqlite: Settings) -> None:
    async def test(world: World) -> None:
        app = made(world)
        first = await asyncio.gather(*(ask(app) for _ in range(100)))
        assert len(set(first)) == 1
        await world.submit()
        assert await ask(app) == first[0]
        world.clock.pass_s(health.KEPT_S)
        assert 'bide_open_tasks{state="waiting"} 1\n' in await ask(app)

    run(on_sqlite, test)

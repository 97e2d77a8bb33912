"""`/healthz`, `/readyz` and `/metrics`: for load balancers and Prometheus. Only `/metrics` may ask for a token."""

import asyncio
import os
from dataclasses import dataclass, field

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bide.accounts.tokens import hashed, same
from bide.api.auth import bearer
from bide.callbacks import store as callbacks
from bide.db.migrate import version
from bide.errors import InvalidToken, Unavailable
from bide.gateway import Gateway
from bide.tasks import inspect

KEPT_S = 2.0
"""Seconds for which one answer of `/metrics` is given again: it reads the queue, and files of all processes."""


@dataclass(slots=True)
class _Kept:
    """The last answer of `/metrics`; who asks while one is being made waits for it."""

    text: bytes = b""
    until: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


async def healthz(_request: Request) -> Response:
    """The process answers."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """The process can do its work: its database answers."""
    if not await version(request.app.state.gateway.db):
        raise Unavailable("The database is not prepared.")
    return JSONResponse({"status": "ready"})


async def metrics(request: Request) -> Response:
    """Counters of all processes of this node, and how much is open in the database, at most `KEPT_S` old."""
    state = request.app.state
    gateway: Gateway = state.gateway
    wanted = gateway.settings.metrics_token
    if wanted and not same(hashed(bearer(request.scope["headers"])), hashed(wanted)):
        raise InvalidToken
    if not hasattr(state, "metrics"):
        state.metrics = _Kept()
    kept: _Kept = state.metrics
    async with kept.lock:
        if gateway.clock.monotonic() >= kept.until:
            kept.text = _counted() + await _open(gateway)
            kept.until = gateway.clock.monotonic() + KEPT_S
    return Response(kept.text, media_type=CONTENT_TYPE_LATEST)


def _counted() -> bytes:
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


async def _open(gateway: Gateway) -> bytes:
    """Gauges that are read from the database when they are asked for, so they are the same on every node."""
    waiting, leased = await inspect.open_count(gateway.db)
    owed = await callbacks.owed(gateway.db)
    return (
        "# HELP bide_open_tasks Unfinished tasks.\n# TYPE bide_open_tasks gauge\n"
        f'bide_open_tasks{{state="waiting"}} {waiting}\nbide_open_tasks{{state="leased"}} {leased}\n'
        "# HELP bide_open_deliveries Callbacks that are owed.\n# TYPE bide_open_deliveries gauge\n"
        f"bide_open_deliveries {owed}\n"
    ).encode()

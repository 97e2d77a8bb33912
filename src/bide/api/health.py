"""`/healthz`, `/readyz` and `/metrics`: for load balancers and for Prometheus. No token needed."""

import os

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bide.callbacks import store as callbacks
from bide.db.migrate import version
from bide.errors import Unavailable
from bide.gateway import Gateway
from bide.tasks import store


async def healthz(_request: Request) -> Response:
    """The process answers."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """The process can do its work: its database answers."""
    if not await version(request.app.state.gateway.db):
        raise Unavailable("The database is not prepared.")
    return JSONResponse({"status": "ready"})


async def metrics(request: Request) -> Response:
    """Counters of all processes of this node, and how much is open in the database."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    text = generate_latest(registry) + await _open(request.app.state.gateway)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


async def _open(gateway: Gateway) -> bytes:
    """Gauges that are read from the database when they are asked for, so they are the same on every node."""
    waiting, leased = await store.open_count(gateway.db)
    owed = await callbacks.owed(gateway.db)
    return (
        "# HELP bide_open_tasks Unfinished tasks.\n# TYPE bide_open_tasks gauge\n"
        f'bide_open_tasks{{state="waiting"}} {waiting}\nbide_open_tasks{{state="leased"}} {leased}\n'
        "# HELP bide_open_deliveries Callbacks that are owed.\n# TYPE bide_open_deliveries gauge\n"
        f"bide_open_deliveries {owed}\n"
    ).encode()

"""`/cb/{token}`: where upstreams call back. The answer comes within a second whatever was sent, and nothing of it is
read: it only brings the next look at the work forward (`bide.flow.heard`)."""

import asyncio
import contextlib

from starlette.requests import Request
from starlette.responses import Response

from bide.api.read import Disconnected, read_body
from bide.db import DatabaseError
from bide.errors import GatewayError, NotFound
from bide.flow.heard import heard
from bide.gateway import Gateway
from bide.log import log

BODY_BYTES_MAX = 1024 * 1024
LOOK_S, BODY_S = 0.6, 0.2


async def answer(request: Request) -> Response:
    """200 with an empty body; 404 for a token that stands for no open work, such as what has ended."""
    gateway: Gateway = request.app.state.gateway
    known = True
    try:
        async with asyncio.timeout(LOOK_S):
            known = await heard(gateway, request.path_params["token"])
    except (TimeoutError, DatabaseError):
        log.warning("an upstream called back in vain: its work is looked at when that is due")
    if not known:
        raise NotFound
    # Read, so that the connection can be used again; one that sends too much or too slowly is closed.
    headers = {}
    with contextlib.suppress(Disconnected):
        try:
            async with asyncio.timeout(BODY_S):
                await read_body(request.receive, request.scope["headers"], BODY_BYTES_MAX)
        except (TimeoutError, GatewayError):
            headers["connection"] = "close"
    return Response(b"", headers=headers)

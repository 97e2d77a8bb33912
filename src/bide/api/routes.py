"""The HTTP interface as one ASGI callable.

The two hot endpoints, submit and tasks, are answered here by plain functions, before any router: a path is
looked up in a dict. Everything else goes through Starlette.
"""

import json
import time
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bide import __version__, metrics
from bide.api import admin, files, health, heard, limits, listed, submit, tasks
from bide.api.answers import Message, Receive, Scope, Send, envelope, error_headers, send_error
from bide.api.auth import Callers
from bide.api.openapi import document
from bide.api.pages_serve import pages
from bide.api.read import Disconnected
from bide.api.turns import Turns
from bide.catalog.load import Operation, Service
from bide.errors import ApiFailure, BadRequest, GatewayError, MethodNotAllowed, NoApi
from bide.flow.poll import Documents
from bide.gateway import Gateway
from bide.log import log


class Api:
    """The ASGI application of one process."""

    def __init__(self, gateway: Gateway) -> None:
        settings = gateway.settings
        self._gateway = gateway
        self._callers = Callers(gateway.db, gateway.clock, settings.cache_s)
        self._documents = Documents(settings.cache_bytes_max)
        self._operations, self._tasks = gateway.catalog.by_path, gateway.catalog.tasks_paths
        self._turns = Turns()
        self._rest = _rest(gateway, self._turns)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # the parts are opened and closed by `bide.app`, not by the server
        path, began = scope["path"], time.perf_counter()
        if (service := self._tasks.get(path)) is not None:
            route, status = "tasks", await self._answer(service, scope, receive, send)
        elif (operation := self._operations.get(path)) is not None:
            route, status = operation.key, await self._answer(operation, scope, receive, send)
        else:
            route, status = await self._other(scope, receive, send)
        metrics.request(route, status, time.perf_counter() - began)

    async def _answer(self, what: Service | Operation, scope: Scope, receive: Receive, send: Send) -> int:
        """One hot request; the one place where its errors become answers."""
        gateway, headers = self._gateway, scope["headers"]
        trace_id = gateway.clock.new_id(gateway.clock.now_ms())
        try:
            if isinstance(what, Operation) and what.listed.entries and scope["method"] in listed.METHODS:
                caller = await self._callers.authenticate(headers, gateway.catalog.services[what.service], what)
                await limits.check_poll(gateway, caller, gateway.catalog.services[what.service])
                return await listed.answer(gateway, what, caller.user_id, scope, send, trace_id)
            if scope["method"] != "POST":
                raise MethodNotAllowed(f"This path takes {_methods(what)} requests.")
            if isinstance(what, Service):
                caller = await self._callers.authenticate(headers, what)
                await limits.check_poll(gateway, caller, what)
                return await tasks.answer(
                    gateway, self._documents, self._turns, what, caller.user_id, headers, receive, send, trace_id
                )
            caller = await self._callers.authenticate(headers, gateway.catalog.services[what.service], what)
            await limits.check_submit(gateway, caller, what, headers)
            return await submit.answer(gateway, what, caller, scope, receive, send, trace_id)
        except Disconnected:
            return 499
        except GatewayError as error:
            await send_error(send, error, trace_id)
            return error.status
        except Exception:
            log.exception("request failed", path=scope["path"], trace_id=trace_id)
            await send_error(send, ApiFailure(), trace_id)
            return 500

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> tuple[str, int]:
        trace_id = self._gateway.clock.new_id(self._gateway.clock.now_ms())
        scope["state"]["trace_id"] = trace_id
        status = 500

        async def traced(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-trace-id", trace_id.encode())]
            await send(message)

        await self._rest(scope, receive, traced)
        route = scope.get("route")
        return (route.path if route is not None else "unknown"), status


def _rest(gateway: Gateway, turns: Turns) -> Starlette:
    """Everything that is not hot."""
    spec = json.dumps(document(gateway.catalog, gateway.settings, __version__)).encode()

    async def openapi(_request: Request) -> Response:
        return Response(spec, media_type="application/json")

    llms, docs = pages(gateway)
    app = Starlette(
        routes=[
            Route("/files/{name:path}", files.file, methods=["GET", "HEAD"]),
            Route("/cb/{token}", heard.answer, methods=["GET", "POST"]),
            Route("/healthz", health.healthz),
            Route("/readyz", health.readyz),
            Route("/metrics", health.metrics),
            Route("/openapi.json", openapi),
            Route("/llms.txt", llms.answer),
            Route("/docs", docs.answer),
            *admin.ROUTES,
        ],
        exception_handlers={GatewayError: _on_error, HTTPException: _on_error, Exception: _on_error},
    )
    app.router.redirect_slashes = False
    app.state.gateway, app.state.turns = gateway, turns
    return app


def _methods(what: Service | Operation) -> str:
    """Those its path takes, in words."""
    lists = isinstance(what, Operation) and what.listed.entries
    return f"{', '.join(listed.METHODS)} and POST" if lists else "POST"


async def _on_error(request: Request, error: Exception) -> Response:
    known = _known(error)
    if known is None:
        log.error("request failed", path=request.url.path, trace_id=request.state.trace_id, exc_info=error)
        known = ApiFailure()
    headers: dict[str, Any] = error_headers(known)
    if isinstance(error, HTTPException) and error.headers:
        headers |= error.headers  # `Allow` of a 405
    return Response(envelope(known, request.state.trace_id), known.status, headers, "application/json")


def _known(error: Exception) -> GatewayError | None:
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, HTTPException):
        refused = {404: NoApi, 405: MethodNotAllowed}.get(error.status_code, BadRequest)
        return refused()
    return None

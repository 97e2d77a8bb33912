"""`/services`, `/apis`, `/models/catalog`: what is sold and what it costs. Public: they take no token."""

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bide.api.admin.access import gateway_of, listing, page_of, routes
from bide.api.admin.filters import operations, texts
from bide.catalog.load import Operation, Service
from bide.credits.pricing import credits


async def _services(request: Request) -> Response:
    """What is sold, with its price rules and limits. Filters: `id`. No token is needed."""
    wanted, catalog = texts(request, "id"), gateway_of(request).catalog
    return _page(request, [_service(one) for one in catalog.services.values() if not wanted or one.name in wanted])


def _service(service: Service) -> dict[str, Any]:
    classes = {one.limit_class: one.limits for one in service.operations.values()}
    return {
        "id": service.name, "alias": service.name, "title": service.title, "summary": service.summary,
        "unit": "Credit", "free_amount": credits(service.free_amount), "cost": list(service.prices_shown),
        "packages": [],
        "limits": {
            "polls_per_s": service.polls_per_s,
            "classes": {
                name: {"submits_per_s": one.submits_per_s, "concurrent": one.concurrent}
                for name, one in classes.items()
            },
        },
        "apis": [_api(one) for one in service.operations.values()],
    }  # fmt: skip


def _api(operation: Operation) -> dict[str, Any]:
    entry = operation.entry
    return {
        "id": entry.api_id, "path": operation.paths[0], "title": entry.title, "summary": entry.summary,
        "type": entry.type, "limits": entry.limits, "expected_s": entry.expected_s, "inline": entry.inline,
        "accepts": list(entry.accepts),
    }  # fmt: skip


async def _apis(request: Request) -> Response:
    """The operations; `path` may be any public path of one."""
    wanted, catalog = texts(request, "path"), gateway_of(request).catalog
    found = [one for one in operations(catalog) if not wanted or not set(wanted).isdisjoint(one.paths)]
    return _page(request, [
        {**_api(one), "service_id": one.service, "paths": list(one.paths), "cost": list(one.prices_shown),
         "definition": {"$ref": f"/openapi.json#/paths/{_pointer(one.paths[0])}"}}
        for one in found
    ])  # fmt: skip


def _pointer(path: str) -> str:
    """A path as one step of a JSON pointer (RFC 6901)."""
    return path.replace("~", "~0").replace("/", "~1")


async def _models(request: Request) -> Response:
    """The models that the catalogue suggests, once for each operation that takes them. Others may be served too."""
    wanted = texts(request, "service_id")
    return _page(request, [
        _model(operation, str(model))
        for operation in operations(gateway_of(request).catalog) if not wanted or operation.service in wanted
        for model in (operation.fields["model"].suggest if "model" in operation.fields else ())
    ])  # fmt: skip


def _model(operation: Operation, model: str) -> dict[str, Any]:
    """`price`: credits for a request that leaves everything else as it is."""
    values = {name: field.default for name, field in operation.fields.items() if field.default is not None}
    price = operation.price({**values, "model": model})
    return {
        "id": model, "service_id": operation.service, "api_id": operation.entry.api_id, "path": operation.paths[0],
        "type": operation.type, "price": credits(price.total), "unit_price": credits(price.unit_price),
        "units": price.units, "unit": price.unit,
    }  # fmt: skip


def _page(request: Request, items: Sequence[dict[str, Any]]) -> Response:
    page = page_of(request)
    return listing(len(items), items[page.offset : page.offset + page.limit])


ROUTES: list[Route] = [
    *routes("/services", {"GET": _services}),
    *routes("/apis", {"GET": _apis}),
    *routes("/models/catalog", {"GET": _models}),
]

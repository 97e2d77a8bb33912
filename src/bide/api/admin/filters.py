"""What the lists of usage, tasks and the catalogue are filtered by, from the query of a request."""

from collections.abc import Iterator

from starlette.requests import Request

from bide.api.admin.access import time_of, whole_number
from bide.catalog.load import Catalog, Operation
from bide.errors import BadRequest

TEXT_MAX = 256
VALUES_MAX = 50
LATEST_MS = 200_000_000_000_000
"""A time beyond it (in the year 8307) is as good as none, and fits every calendar."""


def texts(request: Request, name: str) -> tuple[str, ...]:
    """The values of a parameter that may be repeated, each once. Empty ones do not count."""
    found = tuple(dict.fromkeys(one for one in request.query_params.getlist(name) if one))
    if len(found) > VALUES_MAX:
        raise BadRequest(f"`{name}` must not be given more than {VALUES_MAX} times.")
    if any(len(one) > TEXT_MAX for one in found):
        raise BadRequest(f"`{name}` must not have more than {TEXT_MAX} characters.")
    return found


def text(request: Request, name: str) -> str | None:
    """The value of a parameter that is given once."""
    found = texts(request, name)
    if len(found) > 1:
        raise BadRequest(f"`{name}` must be given once.")
    return found[0] if found else None


def choice(request: Request, name: str, *values: str) -> str | None:
    found = text(request, name)
    if found is not None and found not in values:
        raise BadRequest(f"`{name}` must be one of {', '.join(f'`{one}`' for one in values)}.")
    return found


def wholes(request: Request, name: str, least: int, most: int) -> tuple[int, ...]:
    """As `texts`, of whole numbers."""
    return tuple(whole_number(name, one, least, most) for one in texts(request, name))


def window(request: Request) -> tuple[int | None, int | None]:
    """`created_at_from` and `created_at_to`, both inclusive, as a time and the first that is too late."""
    begin, last = time_of(request, "created_at_from"), time_of(request, "created_at_to")
    return (None if begin is None else within(begin)), (None if last is None else within(last) + 1)


def within(at_ms: int) -> int:
    """A time that fits every calendar."""
    return min(max(at_ms, 0), LATEST_MS)


# -- operations by their public ids


def api_id(catalog: Catalog, service: str, path: str) -> str:
    """The id of an operation; of one that the catalogue has no longer its name, such as `openai/images/edits`."""
    found = catalog.services.get(service)
    operation = found.operations.get(path) if found is not None else None
    return f"{service}/{path}" if operation is None else operation.entry.api_id


def operations(catalog: Catalog) -> Iterator[Operation]:
    """All operations in the order of the catalogue."""
    for service in catalog.services.values():
        yield from service.operations.values()


def operations_of(catalog: Catalog, api_ids: tuple[str, ...]) -> tuple[tuple[str, str], ...] | None:
    """Service and path of the operations of some ids; None: of all."""
    if not api_ids:
        return None
    known = {one.entry.api_id: (one.service, one.path) for one in operations(catalog)}
    gone = {one: (service, path) for one in api_ids for service, _, path in [one.partition("/")] if path}
    return tuple(found for one in api_ids if (found := known.get(one) or gone.get(one)) is not None)

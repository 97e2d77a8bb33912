"""`POST /admin/api/v1/users/{id}/erase/`: a superuser has a person forgotten; answers the receipt."""

from starlette.requests import Request
from starlette.responses import Response

from bide.api.admin.access import gateway_of, routes, superuser_of
from bide.errors import NotFound
from bide.flow.erase import erase_user


async def erase(request: Request) -> Response:
    """Forgets a user and answers a receipt. For superusers. It may take a while; if the answer gets lost, ask again:
    the receipt is the same.
    """
    await superuser_of(request)
    user_id = request.path_params["id"]
    if not user_id.isprintable():  # which no database would take
        raise NotFound
    return Response(await erase_user(gateway_of(request), user_id), media_type="application/json")


ROUTES = routes("/users/{id}/erase", {"POST": erase})

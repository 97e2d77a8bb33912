"""The management API: below `/admin/api/v1`, for platform tokens only. One module per kind of thing."""

from starlette.routing import Route

from bide.api.admin import (
    applications,
    channels,
    credentials,
    erasure,
    platform_tokens,
    services,
    tasks,
    usage,
    users,
)

ROUTES: list[Route] = [
    *users.ROUTES, *erasure.ROUTES, *applications.ROUTES, *credentials.ROUTES, *platform_tokens.ROUTES,
    *usage.ROUTES, *services.ROUTES, *tasks.ROUTES, *channels.ROUTES,
]  # fmt: skip

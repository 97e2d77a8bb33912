"""`GET /llms.txt` and `GET /docs`: made once, kept as bytes, sent with an ETag.

The address in their examples is the one the reader used, so each is filled in for a few such addresses.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from starlette.requests import Request
from starlette.responses import Response

from bide.api import pages_html, pages_markdown
from bide.api.pages import blocks
from bide.api.pages_examples import BASE
from bide.api.submit import base_url
from bide.gateway import Gateway

KEPT_MAX = 8
"""Addresses a page is kept filled in for: whoever sends others costs a replacement, and no memory."""

_ALWAYS = {"cache-control": "no-cache", "vary": "host", "x-content-type-options": "nosniff"}
_NOTHING = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_POLICY = f"default-src 'none'; style-src 'sha256-{pages_html.STYLE_HASH}'; {_NOTHING}"


@dataclass(frozen=True, slots=True)
class _Filled:
    body: bytes
    etag: str


class Page:
    """One page; `written` writes an address as its format wants it."""

    def __init__(
        self, gateway: Gateway, text: str, content_type: str, policy: str, written: Callable[[str], str] = str
    ) -> None:
        self._gateway, self._text, self._written = gateway, text, written
        self._headers = {**_ALWAYS, "content-type": content_type, "content-security-policy": policy}
        self._kept: OrderedDict[str, _Filled] = OrderedDict()

    async def answer(self, request: Request) -> Response:
        filled = self._filled(base_url(self._gateway, request.scope))
        headers = {**self._headers, "etag": filled.etag}
        known = (tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(","))
        if filled.etag in known:
            return Response(status_code=304, headers=headers)
        return Response(filled.body, headers=headers)

    def _filled(self, base: str) -> _Filled:
        found = self._kept.get(base)
        if found is None:
            body = self._text.replace(BASE, self._written(base)).encode()
            found = self._kept[base] = _Filled(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
            if len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)
        return found


def pages(gateway: Gateway) -> tuple[Page, Page]:
    """`/llms.txt` and `/docs`."""
    content = blocks(gateway.catalog, gateway.settings)
    markdown, html = pages_markdown.page(content), pages_html.page("bide: API reference", content)
    return (
        Page(gateway, markdown, "text/markdown; charset=utf-8", f"default-src 'none'; {_NOTHING}"),
        Page(gateway, html, "text/html; charset=utf-8", _POLICY, escape),
    )

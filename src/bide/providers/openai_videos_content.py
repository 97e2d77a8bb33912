"""The bytes of a film of a `/v1/videos` server, asked with the channel's key and written to storage as they come."""

import re
import sys
from collections.abc import Mapping
from urllib.parse import quote, urljoin

import aiohttp

from bide.providers import errors, films, words
from bide.providers.answers import Body, CutOff, read_error
from bide.providers.base import Asset, Call, Failed, FileTooLarge, NotMedia, Unknown
from bide.providers.exchange import web_address

REDIRECTS = frozenset({301, 302, 303, 307, 308})
NEVER_THERE = frozenset({400, 404, 405, 410, 501})
"""Answers that another question does not change."""
_NOTHING_MADE = re.compile(r"(?i)\bno (?:response data|generated|videos?\b|content\b|output)")


async def content(call: Call, upstream_id: str) -> Asset | Failed | Unknown:
    """The film's bytes in our storage, or where the server says they are."""
    path = f"videos/{quote(upstream_id, safe='')}/content"
    try:
        async with call.http.get(path, allow_redirects=False, headers={"Accept-Encoding": "identity"}) as response:
            if response.status in REDIRECTS:
                elsewhere = web_address(_joined(str(response.url), response.headers.get("location", "")))
                if elsewhere is None:
                    return errors.no_picture("The upstream's film is at no address that can be fetched.")
                return Asset(url=elsewhere, role=films.VIDEO)
            if response.status != 200:
                return _withheld(call, response.status, response.headers, await read_error(response))
            return await _kept(call, response)
    except (aiohttp.ClientError, TimeoutError, OSError, CutOff) as error:
        return errors.lost(repr(error), key=call.key)


def _withheld(call: Call, status: int, headers: Mapping[str, str], body: bytes) -> Failed | Unknown:
    """Why there is no film where one should be. Some servers say only here that the work has failed."""
    told, said = errors.from_answer(status, headers, body, key=call.key), words.from_bytes(body)
    if isinstance(told, Failed) and told.code == "forbidden":
        return told
    if status in NEVER_THERE or _NOTHING_MADE.search(said.message):
        return errors.no_picture("The upstream says that it is done, and has no film.", told.detail)
    return errors.lost(told.detail, headers, status=status, key=call.key)


def _joined(base: str, location: str) -> str:
    try:
        return urljoin(base, location) if location else ""
    except ValueError:
        return ""


async def _kept(call: Call, response: aiohttp.ClientResponse) -> Asset | Failed:
    sink, body = call.sink(), Body(response, sys.maxsize)
    try:
        while chunk := await body.next():
            await sink.write(chunk)
        return Asset(await sink.close(), role=films.VIDEO)
    except (FileTooLarge, NotMedia) as error:
        await sink.abort()
        return errors.no_picture("The upstream's film is too large, or no film.", repr(error))
    except BaseException:
        await sink.abort()
        raise

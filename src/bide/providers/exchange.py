"""JSON asked of an upstream that works for a while and is looked at again: one submission, many questions.

    told = await submit_json(call, "jobs", {"prompt": "a boat"})     nothing is ever sent twice
    told = await ask_json(call, f"jobs/{upstream_id}")               changes nothing, so it may be asked again

Both answer `Answer` for a status of 2xx with a JSON document, else the outcome. A header whose value is empty is left
out, also one of the session's own: `{"Authorization": ""}` where the key goes elsewhere. `read` reads an answer that
has files in it (`bide.providers.inline`). Of a question the outcome is
`Unknown` (ask again later) whatever went wrong, since nothing it says is about the work; only 404 and 410 are
`Failed`, with their status: the upstream says that it has no such work. Redirects are not followed.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import pybase64

from bide.clock import Clock
from bide.providers import errors, words
from bide.providers.answers import AnswerTooLarge, Body, CutOff, read_error
from bide.providers.base import Call, Failed, FileTooLarge, NotMedia, Stored, Unknown
from bide.providers.bodies import FormBody, JsonBody
from bide.providers.inline import FilledJson
from bide.providers.split import Malformed

Read = Callable[[Body], Awaitable[Any]]

GONE = frozenset({404, 410})
URL_MAX = 8192
UNREADABLE = (CutOff, AnswerTooLarge, Malformed, ValueError, RecursionError)
"""What reading an answer raises when it is cut off, too long, too deep or not JSON."""
PIECE_CHARS = 1024 * 1024
"""Characters of base64 that are decoded at once; a multiple of 4."""
_clock = Clock()


@dataclass(frozen=True, slots=True)
class Answer:
    """What an upstream answered. `said` are its words if the document is that of an error, whatever the status."""

    status: int
    headers: Mapping[str, str]
    document: Any

    @property
    def said(self) -> words.Words | None:
        return words.from_document(self.document)

    @property
    def text(self) -> str:
        """For the operator: the document, shortened."""
        return msgspec.json.encode(self.document)[: errors.DETAIL_MAX].decode("utf-8", "replace")


async def submit_json(
    call: Call, path: str, fields: Mapping[str, Any] | None = None, *, method: str = "POST",
    form: FormBody | FilledJson | None = None, headers: Mapping[str, str] | None = None, read: Read | None = None,
) -> Answer | Failed | Unknown:  # fmt: skip
    """Sends a submission once: `form`, else `fields` as JSON."""
    body = form if form is not None else JsonBody(msgspec.json.encode(fields or {}))
    try:
        response = await call.http.request(
            method, path, data=body, headers=headers, allow_redirects=False, middlewares=(without_empty_headers,)
        )
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        if body.sent:
            return errors.lost(repr(error), key=call.key)
        return errors.not_sent(error, key=call.key)
    async with response:
        status = response.status
        if not 200 <= status < 300:
            return errors.from_answer(status, response.headers, await read_error(response), key=call.key)
        try:
            return Answer(status, response.headers, await _document(call, response, read))
        except UNREADABLE as error:
            return errors.lost(repr(error), response.headers, status=status, key=call.key)


async def ask_json(
    call: Call, path: str, *, method: str = "GET", fields: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None, read: Read | None = None, of_work: Collection[int] = (),
) -> Answer | Failed | Unknown:  # fmt: skip
    """Asks a question that changes nothing; `fields` are sent as JSON if there are any.

    `of_work`: statuses with which an answer in the form of an error speaks of the work itself, which has failed.
    """
    body = None if fields is None else JsonBody(msgspec.json.encode(fields))
    try:
        async with call.http.request(
            method, path, data=body, headers=headers, allow_redirects=False, middlewares=(without_empty_headers,)
        ) as response:
            status = response.status
            if not 200 <= status < 300:
                said = words.from_bytes(answered := await read_error(response))
                told = errors.from_answer(status, response.headers, answered, key=call.key)
                if status in of_work and said.structured:
                    return errors.from_words(replace(said, number=status), key=call.key, detail=told.detail,
                                             headers=response.headers, status=status)  # fmt: skip
                if status in GONE:
                    return Failed("api_error", "The upstream does not know this work any more.",
                                  detail=told.detail, status=status)  # fmt: skip
                return errors.lost(told.detail, response.headers, status=status, key=call.key)
            return Answer(status, response.headers, await _document(call, response, read))
    except (aiohttp.ClientError, TimeoutError, OSError, *UNREADABLE) as error:
        return errors.lost(repr(error), key=call.key)


async def without_empty_headers(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """A middleware of aiohttp: a session's own header can be replaced by a request's, but not be taken away."""
    for name in [name for name, value in request.headers.items() if not value]:
        del request.headers[name]
    return await handler(request)


async def _document(call: Call, response: aiohttp.ClientResponse, read: Read | None) -> Any:
    body, parts = Body(response, call.answer_bytes_max), list[bytes]()
    if read is not None:
        return await read(body)
    while chunk := await body.next():
        parts.append(chunk)
    return msgspec.json.decode(b"".join(parts))


def failed_work(
    call: Call, answer: Answer, message: str = "", numbers: Mapping[int, errors.Rule] | None = None
) -> Failed:
    """The outcome of work that the upstream reports as failed: by the words of its document, or by `message`."""
    said = words.Words(message=message) if message else answer.said or words.Words()
    return errors.from_words(said, key=call.key, detail=answer.text, headers=answer.headers, numbers=numbers,
                             status=answer.status)  # fmt: skip


# -- when to ask


def age_s(call: Call) -> float:
    """Seconds since the submission was made; 0 if that is not known."""
    return max(0.0, (_clock.now_ms() - call.asked_at) / 1000) if call.asked_at else 0.0


def plan_s(call: Call, next_s: float, cap_s: float) -> float:
    """Seconds until the next look: each wait 1.3 times as long as the one before, told from the age of the work, so
    that nothing has to be remembered."""
    return min(cap_s, next_s + 0.3 * age_s(call))


# -- what it is made of


# -- what it made


def web_address(value: Any) -> str | None:
    """The value if it is an address that could be fetched; servers also name paths on their own disk."""
    if not isinstance(value, str) or len(value) > URL_MAX or not value.isprintable():
        return None
    try:
        parts = urlsplit(value)
        return value if parts.scheme in {"http", "https"} and parts.hostname else None
    except ValueError:
        return None


async def store_base64(call: Call, text: str) -> Stored | Failed:
    """Base64, or a data URL of it, as a file of ours."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    sink = call.sink()
    try:
        for at in range(0, len(text), PIECE_CHARS):
            await sink.write(pybase64.b64decode(text[at : at + PIECE_CHARS], validate=True))
        return await sink.close()
    except (ValueError, FileTooLarge, NotMedia) as error:
        await sink.abort()
        return errors.no_picture("The upstream's result is no file that can be kept.", repr(error))
    except BaseException:
        await sink.abort()
        raise

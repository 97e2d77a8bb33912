"""Any OpenAI-compatible image server: `POST images/generations` and `POST images/edits` below a base URL.

Synchronous: the answer to the one POST is the picture. Nothing is ever sent twice, no redirect is followed,
and there is no id to ask for later. What was sent and not answered is `Unknown`. Slow pictures can be made in the
background instead (`bide.providers.openai_background`), and Azure's paths and header are spoken
(`bide.providers.openai_address`).

Options of the channel (`options` in its table):

    stream           true: ask for server-sent events even if nobody watches; bytes on the wire keep idle
                     proxies from cutting a slow call
    response_format  sent to models outside the GPT image family. Set `b64_json` for self-hosted servers that
                     would answer with a path on their own disk
    drop             names of fields never to send, for a server that refuses what it does not know
    extra            a table merged into every request, over all else
    api_version      Azure's version, such as `2025-04-01-preview`: paths are those of deployments, which `model_map`
                     names, below a `base_url` that ends in `/openai`
    auth             `bearer`, or `api_key` for Azure's header `api-key`; left out: `api_key` with `api_version`, else
                     `bearer`
    responses_model  a text model: slow pictures are asked of it in the background and polled, so that no connection
                     has to last for minutes. It costs its tokens, and it may rewrite the prompt
    responses_for    qualities that are slow; left out: `["high", "xhigh", "max", "hd"]`. More than one picture, and
                     what somebody watches, is never made so

Only these fields are sent: `model`, `prompt`, `n`, `size`, `quality`, `style`, `background`, `moderation`,
`output_format`, `output_compression`, `input_fidelity`, `user`, `stream`, `partial_images`; and none that
carries the value that leaving it out means (`DEFAULTS`).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import aiohttp
import msgspec

from bide.providers import errors, openai_background, words
from bide.providers.answers import AnswerTooLarge, Body, CutOff, Pictures, read_error, read_json
from bide.providers.base import Asset, Call, Failed, Outcome, Partial, Succeeded
from bide.providers.bodies import FormBody, JsonBody
from bide.providers.exchange import web_address, without_empty_headers
from bide.providers.openai_address import headers, path_of
from bide.providers.split import JsonSplit, Malformed, Part
from bide.providers.sse import Event, EventStream, EventTooLarge

CAPABILITIES = frozenset({"image.generate", "image.edit"})
TAKES_OUR_ID = False

PATHS = {"image.generate": "images/generations", "image.edit": "images/edits"}
FIELDS = (
    "prompt", "n", "size", "quality", "style", "background", "moderation", "output_format", "output_compression",
    "input_fidelity", "user",
)  # fmt: skip
DEFAULTS: Mapping[str, Any] = {
    "size": "auto", "quality": "auto", "style": "vivid", "background": "auto", "moderation": "auto",
    "output_format": "png", "output_compression": 100,
}  # fmt: skip
NOT_FOR_GPT_IMAGE = frozenset({"style", "response_format"})
"""GPT image models refuse or ignore these: they always answer base64 and have one style."""
ABOUT = ("size", "quality", "background", "output_format")
PICTURE = ("b64_json", "url", "revised_prompt")
EVENT_BYTES_MAX = 96 * 1024 * 1024
"""Bytes of one server-sent event: a 64 MiB picture as base64. Unlike a JSON answer it is decoded whole."""
READ_BYTES = 64 * 1024
"""aiohttp's read buffer. What waits in it is copied together before we see it, so a larger one costs more
processor time than it saves wake-ups: 2 MiB were read in 1.0 ms with 64 KiB, 1.5 with 256 and 2.9 with 1024."""
NESTING_MAX = 8
"""How deep below the document an answer's pictures are looked for."""

_GPT_IMAGE = re.compile(r"(?:.*/)?(?:gpt-image|chatgpt-image)", re.IGNORECASE)
_SD_CPP_TAG = re.compile(r"(</?sd_cpp_extra_args>)", re.IGNORECASE)
_NO_COMPRESSION = {"Accept-Encoding": "identity"}
"""Unpacking megabytes of base64 costs more than receiving them."""


async def submit(call: Call) -> Outcome:
    """Asks once. See `bide.providers.base` and the errors' table in `bide.providers.errors`."""
    fields = request_fields(call)
    if openai_background.is_for(call, fields):
        return await openai_background.submit(call, fields)
    body = _form(call, fields) if call.capability == "image.edit" else JsonBody(msgspec.json.encode(fields))
    path = path_of(call, PATHS[call.capability], deployment=True)
    try:
        response = await call.http.post(
            path, data=body, headers=_NO_COMPRESSION | headers(call), allow_redirects=False, read_bufsize=READ_BYTES,
            middlewares=(without_empty_headers,),
        )
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        if body.sent:
            return errors.lost(repr(error), key=call.key)
        return errors.not_sent(error, key=call.key)
    async with response:
        return await _outcome(call, response)


async def poll(call: Call, upstream_id: str) -> Outcome:
    """Looks at a picture that is made in the background; no other has an id."""
    if not openai_background.is_on(call):
        return Failed("api_error", "This upstream answers at once; there is nothing to ask for later.")
    return await openai_background.poll(call, upstream_id)


async def cancel(call: Call, upstream_id: str) -> bool:
    """Says that nobody waits for a picture that is made in the background."""
    return openai_background.is_on(call) and await openai_background.cancel(call, upstream_id)


# -- what is sent


def request_fields(call: Call) -> dict[str, Any]:
    """The fields of the request, without the files."""
    options = call.options
    fields: dict[str, Any] = {"model": call.model}
    for name in FIELDS:
        value = call.request.get(name)
        if value is not None and value != "" and value != DEFAULTS.get(name):
            fields[name] = value
    if isinstance(fields.get("prompt"), str):
        fields["prompt"] = without_settings(fields["prompt"])
    if options.get("response_format"):
        fields["response_format"] = options["response_format"]
    if _GPT_IMAGE.match(call.model):
        fields = {name: value for name, value in fields.items() if name not in NOT_FOR_GPT_IMAGE}
    watched = call.progress is not None and call.partial_images > 0
    if watched or options.get("stream"):
        fields["stream"] = True
    if watched:
        fields["partial_images"] = call.partial_images
    for name in options.get("drop") or ():
        fields.pop(name, None)
    fields.update(options.get("extra") or {})
    return fields


def without_settings(prompt: str) -> str:
    """The prompt without `<sd_cpp_extra_args>…</sd_cpp_extra_args>`, which sd-server would obey.

    A space is left in its place, so that what stood around it cannot become such a tag.
    """
    parts = _SD_CPP_TAG.split(prompt)
    if len(parts) == 1:
        return prompt
    last_close = max((at for at, part in enumerate(parts) if part.lower() == "</sd_cpp_extra_args>"), default=-1)
    kept: list[str] = []
    inside = False
    for at, part in enumerate(parts):
        if at % 2:
            inside = not part.startswith("</") and at < last_close
            kept.append(" ")
        elif not inside:
            kept.append(part)
    return "".join(kept).strip()


def _form(call: Call, fields: Mapping[str, Any]) -> FormBody:
    """OpenAI's own SDK sends one picture as `image` and several as repeated `image[]`."""
    several = sum(given.field == "image" for given in call.inputs) > 1
    return FormBody(
        ((name, _form_text(value)) for name, value in fields.items()),
        (("image[]" if several and given.field == "image" else given.field, given) for given in call.inputs),
    )


def _form_text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


# -- what is answered


async def _outcome(call: Call, response: aiohttp.ClientResponse) -> Outcome:
    status = response.status
    if not 200 <= status < 300:
        return errors.from_answer(status, response.headers, await read_error(response), key=call.key)
    try:
        async with Pictures(call.sink) as pictures:
            if response.content_type == "text/event-stream":
                return await _streamed(call, response, pictures)
            document = await read_json(Body(response, call.answer_bytes_max), pictures)
            return await _finished(call, response, [document], pictures)
    except (CutOff, Malformed) as error:
        return errors.lost(str(error), response.headers, status=status, key=call.key)
    except (AnswerTooLarge, EventTooLarge) as error:
        return errors.no_picture("The upstream's answer is larger than this gateway reads.", str(error))


async def _finished(
    call: Call, response: aiohttp.ClientResponse, documents: list[Any], pictures: Pictures
) -> Succeeded | Failed:
    """Keeps the pictures that the documents name; a call of which some are usable has succeeded."""
    assets: list[Asset] = []
    for document in documents:
        for entry in _entries(document):
            asset = await _asset(entry, pictures)
            if asset is not None:
                assets.append(asset)
    if assets:
        return Succeeded(tuple(assets), _about(documents[-1]), units=len(assets))
    if pictures.faults:
        return errors.no_picture(pictures.faults[0])
    document = documents[-1]
    said = words.from_document(document)
    text = msgspec.json.encode(document).decode()
    if said is not None:
        return errors.from_words(said, key=call.key, detail=text, headers=response.headers, status=response.status)
    return errors.no_picture("The upstream answered without a picture.", text, scope="channel")


def _entries(document: Any) -> Iterator[Mapping[str, Any]]:
    """The objects that describe a picture, in their order: those in `data`, and wherever a `b64_json` is."""
    queue: list[tuple[Any, bool, int]] = [(document, False, 0)]
    while queue:
        value, listed, depth = queue.pop()
        children: list[tuple[Any, bool, int]] = []
        if isinstance(value, dict):
            if isinstance(value.get("b64_json"), str) or (listed and isinstance(value.get("url"), str)):
                yield value
            children = [(child, name == "data", depth + 1) for name, child in value.items()]
        elif isinstance(value, list):
            children = [(child, listed, depth + 1) for child in value]
        if depth < NESTING_MAX:
            queue += reversed([child for child in children if isinstance(child[0], (dict, list))])


async def _asset(entry: Mapping[str, Any], pictures: Pictures) -> Asset | None:
    said = entry.get("revised_prompt")
    about = {"revised_prompt": said} if isinstance(said, str) and said else {}
    number = entry.get("b64_json")
    if isinstance(number, str):
        stored = await pictures.keep(int(number))
        if stored is not None:
            return Asset(stored=stored, about=about)
    url = web_address(entry.get("url"))
    return None if url is None else Asset(url=url, about=about)


def _about(document: Any) -> dict[str, Any]:
    """What the answer says besides its pictures, as far as it has the types it should have."""
    if not isinstance(document, dict):
        return {}
    about: dict[str, Any] = {}
    created = document.get("created", document.get("created_at"))
    if isinstance(created, (int, float)) and not isinstance(created, bool):
        about["created"] = int(created)
    for name in ABOUT:
        if isinstance(document.get(name), str):
            about[name] = document[name]
    usage = document.get("usage")
    if isinstance(usage, dict) and usage:
        about["usage"] = usage
    return about


# -- what is answered as a stream of events


async def _streamed(call: Call, response: aiohttp.ClientResponse, pictures: Pictures) -> Outcome:
    """Reads until all pictures are complete, an error is reported, or the stream ends.

    A completed picture counts, whatever comes after it; partial ones are shown and do not.
    """
    wanted = call.request.get("n")
    reader = _EventReader(call, pictures)
    stream = EventStream(min(EVENT_BYTES_MAX, call.answer_bytes_max))
    body = Body(response, call.answer_bytes_max)
    cut = "the stream ended before the picture was complete"
    try:
        while chunk := await body.next():
            await reader.take(stream.feed(chunk))
            if reader.ended or len(reader.completed) >= (wanted if isinstance(wanted, int) else 1):
                break
        else:
            await reader.take(stream.end())
    except CutOff as error:
        cut = str(error)
    if reader.completed:
        return await _finished(call, response, reader.completed, pictures)
    if reader.error is not None:
        said = words.from_document(reader.error) or words.Words()
        text = msgspec.json.encode(reader.error).decode()
        return errors.from_words(said, key=call.key, detail=text, headers=response.headers, status=response.status)
    return errors.lost(cut, response.headers, status=response.status, key=call.key)


def _as_answer(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a `completed` event in the shape of a whole answer."""
    picture = {name: document[name] for name in PICTURE if name in document}
    return {name: value for name, value in document.items() if name not in PICTURE} | {"data": [picture]}


class _EventReader:
    """What the events of one stream have told so far."""

    def __init__(self, call: Call, pictures: Pictures) -> None:
        self.completed: list[Any] = []
        self.error: Any = None
        self.ended = False
        self._call = call
        self._pictures = pictures
        self._next_number = 0
        self._partials = 0

    async def take(self, events: list[Event]) -> None:
        for event in events:
            if not self.ended:
                await self._take(event)

    async def _take(self, event: Event) -> None:
        if event.data.strip() == b"[DONE]":
            self.ended = True
            return
        split = JsonSplit(self._next_number)
        try:
            parts = split.feed(event.data)
            document = split.close()
        except Malformed:
            return  # a keep-alive, or an event that was cut off: what it told is told by its absence
        if not isinstance(document, dict):
            return
        name = document["type"] if isinstance(document.get("type"), str) else event.name
        if event.name == "error" or name == "error" or document.get("error"):
            self.error, self.ended = document, True
        elif name.endswith("partial_image"):
            await self._show(document, parts)
        elif name.endswith("completed") or isinstance(document.get("data"), list):
            self._next_number = split.next_number
            for part in parts:
                await self._pictures.write(part)
            self.completed.append(document if "data" in document else _as_answer(document))

    async def _show(self, document: Mapping[str, Any], parts: list[Part]) -> None:
        index = document.get("partial_image_index")
        data = b"".join(piece for part in parts for piece in part.pieces)
        if self._call.progress is not None and data:
            await self._call.progress(Partial(index if isinstance(index, int) else self._partials, data))
        self._partials += 1

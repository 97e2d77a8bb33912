"""Google's Interactions: films of the Omni models and songs of the Lyria models, made in the background.

    POST interactions {"model", "input", "background": true, "response_format": [{"type": "video", …}]} → {"id", …}

then `GET interactions/{id}` until its status is final. A file comes at an address below the upstream's own host,
fetched with the key, or in base64, which goes into storage while it arrives. The upstream takes no id of ours and
lists nothing, so a lost answer is an unknown outcome: there is no `reconcile`. An address for the upstream's word is
sent along.

Options of the channel (`options` in its table):

    auth             `api_key`, `bearer` or `service_account`; left out: `api_key`, or `service_account` if the key is
                     the JSON of such an account's key file
    background       false: the answer to the one POST is the result; for models that refuse to work in the background
    seconds          the shortest and the longest film; left out: [3, 15]
    response_format  a table merged into the wanted format, over all else: `delivery` (left out: `uri`), …
    extra            a table merged into every request, over all else

`base_url` is `https://generativelanguage.googleapis.com/v1`. Files that Google leaves in a bucket (`gs:`) are not
copied.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from bide.providers import errors, films, words
from bide.providers.answers import Pictures
from bide.providers.base import Asset, Call, Failed, Input, Item, Outcome, Pending, Succeeded, Unknown
from bide.providers.exchange import Answer, ask_json, failed_work, plan_s, submit_json, web_address
from bide.providers.films import Film
from bide.providers.google_keys import headers, way_of
from bide.providers.inline import FilledJson, InBase64, kept, reader
from bide.providers.songs import prompt_of, song_fields

FILMS = frozenset({"video.generate", "video.extend", "video.edit", "video.upsample"})
CAPABILITIES = FILMS | {"music.generate"}
TAKES_OUR_ID = False
CALLS_BACK = True

FIRST_S, NEXT_S, CAP_S = 5.0, 5.0, 15.0
SECONDS, SECONDS_MIN, SECONDS_MAX = 8, 3, 15
KEY = "data"
"""The key whose texts are files."""
ROLES = {"video": films.VIDEO, "audio": "audio", "image": "image"}
TASKS = {"video.extend": "extend", "video.edit": "edit", "video.upsample": "upscale"}
ACTIONS = {
    "": "", "generate": "", "text2video": "", "image2video": "", "ingredients2video": "", "image_to_video": "",
    "reference_to_video": "", "extend": "extend", "edit": "edit", "remix": "edit", "video_edit": "edit",
    "get1080p": "upscale",
}  # fmt: skip
"""The action of a new film: the task that it means, if it is not told by the files."""
DONE = frozenset({"completed", "complete", "succeeded"})
ENDED = {
    "failed": "The upstream failed without a reason.",
    "incomplete": "The upstream stopped before the work was complete.",
    "budget_exceeded": "The upstream stopped because its budget was used up.",
    "cancelled": "The work was cancelled at the upstream.", "canceled": "The work was cancelled at the upstream.",
    "expired": "The upstream does not keep the work any more.",
    "requires_action": "The upstream wants something more, which this gateway has not.",
    "requires_continuation": "The upstream wants something more, which this gateway has not.",
}  # fmt: skip
BLOCKED = "The upstream answered with words instead of the file: it does not make this."
NOT_OFFERED = "The upstream of this model cannot do that."

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,255}")


async def submit(call: Call) -> Outcome:
    """Asks once; a server that answers with the result itself is believed."""
    fields = _fields(call)
    if isinstance(fields, Failed):
        return fields
    way = headers(call, way_of(call, "api_key"))
    if isinstance(way, Failed):
        return way
    async with Pictures(call.sink) as files:
        told = await submit_json(call, "interactions", form=FilledJson(fields), headers=way, read=reader(files, KEY))
        if not isinstance(told, Answer):
            return told
        document = told.document if isinstance(told.document, dict) else {}
        id, status = document.get("id"), _status(document)
        if status in DONE or status in ENDED:
            return await _ended(call, told, document, files)
        if isinstance(id, str) and _ID.fullmatch(id):
            return Pending(id, FIRST_S)
        if document.get("error"):
            return failed_work(call, told, numbers=errors.GRPC)
        return errors.lost(f"no interaction in: {told.text}", told.headers, status=told.status, key=call.key)


async def poll(call: Call, upstream_id: str) -> Outcome:
    """Looks at the interaction, and takes the files out of it when it is done."""
    way = headers(call, way_of(call, "api_key"))
    if isinstance(way, Failed):
        return Unknown(way.message, way.detail)
    async with Pictures(call.sink) as files:
        path = f"interactions/{quote(upstream_id, safe='')}"
        told = await ask_json(call, path, headers=way, read=reader(files, KEY))
        if not isinstance(told, Answer):
            return told
        if not isinstance(told.document, dict):
            return errors.lost(f"not an interaction: {told.text}", status=told.status, key=call.key)
        status = _status(told.document)
        if status in DONE or status in ENDED:
            return await _ended(call, told, told.document, files)
        return Pending(upstream_id, plan_s(call, NEXT_S, CAP_S))


async def cancel(call: Call, upstream_id: str) -> bool:
    """Says that nobody waits any more."""
    way = headers(call, way_of(call, "api_key"))
    if isinstance(way, Failed):
        return False
    path = f"interactions/{quote(upstream_id, safe='')}/cancel"
    return isinstance(await ask_json(call, path, method="POST", fields={}, headers=way), Answer)


# -- what is answered


def _status(document: Mapping[str, Any]) -> str:
    status = document.get("status")
    return status.lower() if isinstance(status, str) else ""


async def _ended(call: Call, told: Answer, document: Mapping[str, Any], files: Pictures) -> Outcome:
    status = _status(document)
    if status not in DONE:
        said = _error(document)
        if said is None:
            return Failed("api_error", ENDED[status], "channel", detail=told.text, status=told.status)
        return errors.from_words(said, key=call.key, detail=told.text, headers=told.headers, numbers=errors.GRPC,
                                 status=told.status)  # fmt: skip
    texts, assets = list[str](), list[Asset]()
    for entry in _contents(document):
        if isinstance(entry.get("text"), str) and entry["text"].strip():
            texts.append(entry["text"].strip())
        asset = await _asset(call, entry, files)
        if asset is not None:
            assets.append(asset)
    if not assets:
        if files.faults:
            return errors.no_picture("The upstream's result is no file that can be kept.", files.faults[0])
        if texts:
            return Failed("forbidden", BLOCKED, detail="\n".join(texts)[: errors.DETAIL_MAX], status=told.status)
        return errors.no_picture("The upstream finished without a file.", told.text, scope="channel")
    return _made(call, assets, texts)


def _made(call: Call, assets: list[Asset], texts: list[str]) -> Succeeded:
    if call.capability not in FILMS:
        fields = song_fields(call, texts)
        items = tuple(Item((asset,), fields) for asset in assets)
        return Succeeded(items=items, response={"state": "succeeded"})
    film = films.asked(call)
    fields = {"state": "succeeded", "prompt": film.prompt, "model": call.model}
    seconds = _seconds(call, film)
    upscaled = _task(call, film) == "upscale"
    if not upscaled:
        fields["seconds"] = seconds
    same = films.text(call.request, "video_id") if upscaled else ""
    return Succeeded(items=(Item(tuple(assets), fields, same_as=same),), units=max(1, round(seconds)),
                     response={"state": "succeeded"})  # fmt: skip


def _contents(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What the model's last step holds; or `outputs`, as in the older shape."""
    steps = [one for one in _dicts(document.get("steps")) if one.get("type") == "model_output"]
    for step in reversed(steps):
        if entries := _dicts(step.get("content")):
            yield from entries
            return
    yield from _dicts(document.get("outputs"))


async def _asset(call: Call, entry: Mapping[str, Any], files: Pictures) -> Asset | None:
    role = ROLES.get(str(entry.get("type")))
    if role is None or (role != "audio") != (call.capability in FILMS):
        return None
    stored = await kept(files, entry.get(KEY))
    if stored is not None:
        return Asset(stored=stored, role=role)
    url = web_address(entry.get("uri"))
    way = headers(call, way_of(call, "api_key"))
    return None if url is None else Asset(url=url, role=role, headers={} if isinstance(way, Failed) else way)


def _error(document: Mapping[str, Any]) -> words.Words | None:
    """The words of `errors[]`, `error`, or the error of a step."""
    for place in (document, *reversed(_dicts(document.get("steps")))):
        if place.get("errors") or place.get("error"):
            return words.from_document({name: place[name] for name in ("errors", "error") if name in place})
    return None


# -- what is sent


def _fields(call: Call) -> dict[str, Any] | Failed:
    options = call.options
    if call.capability in FILMS:
        film = films.asked(call)
        wanted, parts, config = _format(call, film), _parts(call, film), {"video_config": {"task": _task(call, film)}}
    else:
        said = prompt_of(call)
        wanted, parts, config = {"type": "audio"}, None if said is None else [_text(said)], {}
    if parts is None:
        return Failed("bad_request", NOT_OFFERED, "channel")
    more = options.get("response_format")
    fields: dict[str, Any] = {
        "model": call.model,
        "input": parts[0]["text"] if len(parts) == 1 and "text" in parts[0] else parts,
        "background": options.get("background") is not False, "store": True,
        "response_format": [wanted | {"delivery": "uri"} | (more if isinstance(more, dict) else {})],
    }  # fmt: skip
    if config:
        fields["generation_config"] = config
    if call.callback_url:
        fields["webhook_config"] = {"uris": [call.callback_url], "user_metadata": {"attempt": call.task_id}}
    extra = options.get("extra")
    return fields | (extra if isinstance(extra, dict) else {})


def _format(call: Call, film: Film) -> dict[str, Any]:
    wanted: dict[str, Any] = {"type": "video"}
    if film.ratio and film.ratio not in ("auto", "adaptive"):
        wanted["aspect_ratio"] = film.ratio
    if film.short_side:
        wanted["resolution"] = _resolution(film.short_side)
    task = _task(call, film)
    if task == "upscale":
        wanted["resolution"] = "4k" if films.text(call.request, "action") == "4k" else "1080p"
    elif task != "edit":
        wanted["duration"] = f"{_seconds(call, film):g}s"
    return wanted


def _parts(call: Call, film: Film) -> list[dict[str, Any]] | None:
    """The text and the files of a film; None for what cannot be asked for."""
    request, task = call.request, _task(call, film)
    motion = films.text(request, "motion_type").replace("_", " ").lower()
    prompt = film.prompt or (f"The same scene, with this movement of the camera: {motion}." if motion else "")
    gif = "gif" in (films.text(request, "resolution"), film.action)
    if gif or task is None or request.get("image_mask"):
        return None
    parts = [_text(prompt)] if prompt else []
    address = next((one for name in ("video_url", "video_urls") for one in _listed(request.get(name))), "")
    given = films.video_of(film.follows) if film.follows is not None else None
    if given is not None:
        parts.append(_file("video", given))
    elif address:
        parts.append({"type": "video", "uri": address})
    elif task in TASKS.values():
        return None
    pictures = [one for one in (film.first, film.last, *film.references) if one is not None]
    return [*parts, *(_file("image", one) for one in pictures)] or None


def _task(call: Call, film: Film) -> str | None:
    """The upstream's word for what is to be done; None if it has none."""
    task = TASKS.get(call.capability) or ACTIONS.get(film.action)
    if task:
        return task
    if task is None:
        return None
    if call.request.get("video_url") or call.request.get("video_urls"):
        return "edit"
    if film.references:
        return "reference_to_video"
    return "image_to_video" if film.first or film.last else "text_to_video"


def _seconds(call: Call, film: Film) -> float:
    bounds = [one for one in _listed(call.options.get("seconds")) if isinstance(one, int | float) and one > 0]
    low, high = (min(bounds), max(bounds)) if bounds else (SECONDS_MIN, SECONDS_MAX)
    return min(max(film.seconds or SECONDS, low), high)


def _resolution(short_side: int) -> str:
    return next((name for most, name in ((480, "360p"), (768, "720p"), (1440, "1080p")) if short_side <= most), "4k")


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _file(kind: str, given: Input) -> dict[str, Any]:
    return {"type": kind, KEY: InBase64(given), "mime_type": given.content_type}


def _dicts(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if not value else [value]

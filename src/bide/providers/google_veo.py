"""Films of Google's Veo as operations: the Agent Platform (once Vertex AI), and the Developer API's older shape.

    POST …/models/{model}:predictLongRunning → {"name": "…/operations/{id}"}, then the operation until it is done

The Agent Platform answers with the film itself in base64, which goes into storage while it arrives; the Developer API
with an address below its own host, fetched with the key. Neither takes an id of ours, and neither has a list that is
to be trusted, so a lost answer is an unknown outcome: there is no `reconcile`.

Options of the channel (`options` in its table):

    shape       `agent_platform` (default) or `developer`: the older shape, which relays and stand-ins still speak
    project     the project at the Agent Platform; left out: that of the service account's key file; without one the
                express mode is spoken (`publishers/google/…`, with an API key)
    location    the region in the paths, as in `base_url`; left out: `us-central1`
    auth        `api_key`, `bearer` or `service_account`; left out: what the key looks like (the JSON of a key file is
                a service account's), else `bearer` with a project and `api_key` without
    seconds     the lengths the model makes; left out: [4, 6, 8]. The nearest to what is asked for is taken
    parameters  a table merged into `parameters` of every request, over all else: `generateAudio`,
                `personGeneration`, …

`base_url` is `https://us-central1-aiplatform.googleapis.com/v1beta1`, or for `developer`
`https://generativelanguage.googleapis.com/v1beta`. A long film comes inline: `timeout_s` should be 300.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from bide.providers import errors, films
from bide.providers.answers import Pictures
from bide.providers.base import Asset, Call, Failed, Input, Item, Outcome, Pending, Progress, Succeeded, Unknown
from bide.providers.exchange import Answer, ask_json, failed_work, plan_s, submit_json, web_address
from bide.providers.films import Film
from bide.providers.google_keys import headers, project_of, way_of
from bide.providers.inline import FilledJson, InBase64, kept, reader

CAPABILITIES = frozenset({"video.generate", "video.extend"})
TAKES_OUR_ID = False

SECONDS, EXTEND_S = (4, 6, 8), 7
FIRST_S, NEXT_S, CAP_S = 10.0, 10.0, 20.0
REFERENCES_MAX = 3
FILES = ("bytesBase64Encoded", "encodedVideo")
"""Keys of an operation whose texts are films."""
GENERATES = frozenset({"", "generate", "text2video", "image2video", "ingredients2video", "image_to_video",
                       "reference_to_video"})  # fmt: skip
EXTENDS = "extend"
BLOCKED = "The upstream's safety filter withheld the film."
NO_FILM = "The upstream finished without a film."
NOT_OFFERED = "The upstream of this model cannot do that: it makes films, and makes them longer."

_NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._~@-]*(?:/[A-Za-z0-9][A-Za-z0-9._~@-]*){0,15}")
_NAME_MAX = 512


async def submit(call: Call) -> Outcome:
    """Asks for the film once."""
    film = films.asked(call)
    path = f"{_models(call)}/{quote(call.model, safe='')}:predictLongRunning"
    fields = _fields(call, film)
    if isinstance(fields, Failed):
        return fields
    way = headers(call, way_of(call, "bearer" if _project(call) else "api_key"))
    if isinstance(way, Failed):
        return way
    told = await submit_json(call, path, form=FilledJson(fields), headers=way)
    if not isinstance(told, Answer):
        return told
    document = told.document if isinstance(told.document, dict) else {}
    name = document.get("name")
    if isinstance(name, str) and _is_name(name):
        return Pending(name, FIRST_S)
    if document.get("error"):
        return failed_work(call, told, numbers=errors.GRPC)
    return errors.lost(f"no operation in: {told.text}", told.headers, status=told.status, key=call.key)


async def poll(call: Call, upstream_id: str) -> Outcome:
    """Looks at the operation, and takes the film out of it when it is done."""
    if not _is_name(upstream_id):
        return Failed("api_error", "The upstream does not know this work any more.", detail="not an operation's name")
    way = headers(call, way_of(call, "bearer" if _project(call) else "api_key"))
    if isinstance(way, Failed):
        return Unknown(way.message, way.detail)
    async with Pictures(call.sink) as files:
        read = reader(files, *FILES)
        if _developer(call):
            told = await ask_json(call, upstream_id, headers=way, read=read)
        else:
            model = upstream_id.rpartition("/operations/")[0]
            path = f"{model}:fetchPredictOperation"
            told = await ask_json(call, path, method="POST", fields={"operationName": upstream_id}, headers=way,
                                  read=read)  # fmt: skip
        if not isinstance(told, Answer):
            return told
        return await _looked_at(call, upstream_id, told, files)


async def _looked_at(call: Call, upstream_id: str, told: Answer, files: Pictures) -> Outcome:
    document = told.document
    if not isinstance(document, dict):
        return errors.lost(f"not an operation: {told.text}", status=told.status, key=call.key)
    if document.get("error"):
        return failed_work(call, told, numbers=errors.GRPC)
    if document.get("done") is not True:
        await _report(call, document.get("metadata"))
        return Pending(upstream_id, plan_s(call, NEXT_S, CAP_S))
    answer = document.get("response")
    answer = answer if isinstance(answer, dict) else {}
    inner = answer.get("generateVideoResponse")
    inner = inner if isinstance(inner, dict) else answer
    return await _made(call, told, inner, files)


async def _made(call: Call, told: Answer, answer: Mapping[str, Any], files: Pictures) -> Outcome:
    """The films an operation names; one of which a filter left nothing is a refusal."""
    assets: list[Asset] = []
    for entry in _entries(answer):
        asset = await _asset(call, entry, files)
        if asset is not None:
            assets.append(asset)
    if not assets:
        if files.faults:
            return errors.no_picture("The upstream's film is no file that can be kept.", files.faults[0])
        if _filtered(answer):
            said = [one for one in _list(answer.get("raiMediaFilteredReasons")) if isinstance(one, str)]
            return Failed("forbidden", BLOCKED, detail="; ".join(said)[: errors.DETAIL_MAX], status=told.status)
        return errors.no_picture(NO_FILM, told.text, scope="channel")
    film = films.asked(call)
    seconds = _seconds(call, film)
    fields = {"seconds": seconds, "state": "succeeded", "prompt": film.prompt, "model": call.model}
    return Succeeded(
        items=tuple(Item((asset,), fields) for asset in assets), units=max(1, round(seconds)) * len(assets),
        response={"state": "succeeded"},
    )  # fmt: skip


def _entries(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What describes a film: `videos[]`, `generatedSamples[].video` or `generatedVideos[].video`."""
    found = list[Mapping[str, Any]]()
    for name in ("videos", "generatedSamples", "generatedVideos"):
        for entry in _list(answer.get(name)):
            if isinstance(entry, dict):
                inner = entry.get("video")
                found.append(inner if isinstance(inner, dict) else entry)
    return found


async def _asset(call: Call, entry: Mapping[str, Any], files: Pictures) -> Asset | None:
    for name in FILES:
        stored = await kept(files, entry.get(name))
        if stored is not None:
            return Asset(stored=stored, role=films.VIDEO)
    url = web_address(entry.get("uri"))
    if url is None:
        return None
    way = headers(call, way_of(call, "api_key"))
    return Asset(url=url, role=films.VIDEO, headers={} if isinstance(way, Failed) else way)


def _filtered(answer: Mapping[str, Any]) -> bool:
    count, reasons = answer.get("raiMediaFilteredCount"), answer.get("raiMediaFilteredReasons")
    return bool(reasons) or (isinstance(count, int | str) and str(count) not in ("", "0"))


async def _report(call: Call, metadata: Any) -> None:
    percent = metadata.get("progressPercent", metadata.get("progress")) if isinstance(metadata, dict) else None
    if call.report is not None and isinstance(percent, int | float) and 0 <= percent <= 100:
        await call.report(Progress(int(percent)))


# -- what is sent


def _fields(call: Call, film: Film) -> dict[str, Any] | Failed:
    instance = _instance(call, film)
    if isinstance(instance, Failed):
        return instance
    parameters: dict[str, Any] = {"sampleCount": 1}
    if not _extends(call, film):
        parameters |= {"durationSeconds": _seconds(call, film), "aspectRatio": _ratio(film)}
    if film.short_side:
        parameters["resolution"] = _resolution(film.short_side)
    if unwanted := films.text(call.request, "negative_prompt"):
        parameters["negativePrompt"] = unwanted
    for name, theirs, kind in (("seed", "seed", int), ("generate_audio", "generateAudio", bool)):
        value = call.request.get(name)
        if type(value) is kind:
            parameters[theirs] = value
    more = call.options.get("parameters")
    return {"instances": [instance], "parameters": parameters | (more if isinstance(more, dict) else {})}


def _instance(call: Call, film: Film) -> dict[str, Any] | Failed:
    unknown = call.capability == "video.generate" and film.action not in (*GENERATES, EXTENDS)
    if unknown or films.text(call.request, "resolution") == "gif":
        return Failed("bad_request", NOT_OFFERED, "channel")
    instance: dict[str, Any] = {"prompt": film.prompt} if film.prompt else {}
    if _extends(call, film):
        given = films.video_of(film.follows) if film.follows else None
        if given is None:
            return Failed("bad_request", "There is no earlier film here that could be made longer.", "channel")
        return {**instance, "video": _file(given)}
    if film.first is not None:
        instance["image"] = _file(film.first)
    if film.last is not None:
        instance["lastFrame"] = _file(film.last)
    if film.references:
        instance["referenceImages"] = [
            {"image": _file(one), "referenceType": "asset"} for one in film.references[:REFERENCES_MAX]
        ]
    return instance


def _file(given: Input) -> dict[str, Any]:
    return {"bytesBase64Encoded": InBase64(given), "mimeType": given.content_type}


def _extends(call: Call, film: Film) -> bool:
    return call.capability == "video.extend" or film.action == EXTENDS


def _seconds(call: Call, film: Film) -> float:
    """How long the film is, or the part that is added."""
    if _extends(call, film):
        return EXTEND_S
    offered = [one for one in _list(call.options.get("seconds")) if isinstance(one, int | float) and one > 0]
    made = offered or SECONDS
    return films.nearest(film.seconds, made, max(made))


def _ratio(film: Film) -> str:
    """Wide or tall; the model makes no other."""
    across, _, down = film.ratio.partition(":")
    tall = across.isdecimal() and down.isdecimal() and len(film.ratio) < 9 and int(across) < int(down)
    return "9:16" if tall else "16:9"


def _resolution(short_side: int) -> str:
    return "720p" if short_side <= 768 else "1080p" if short_side <= 1440 else "4k"


# -- where


def _developer(call: Call) -> bool:
    return call.options.get("shape") == "developer"


def _project(call: Call) -> str:
    return "" if _developer(call) else str(call.options.get("project") or project_of(call.key))


def _models(call: Call) -> str:
    if _developer(call):
        return "models"
    if project := _project(call):
        location = str(call.options.get("location") or "us-central1")
        return f"projects/{quote(project, safe='')}/locations/{quote(location, safe='')}/publishers/google/models"
    return "publishers/google/models"


def _is_name(name: str) -> bool:
    """Whether it is a name that can be a path below the base address, and nothing else."""
    return len(name) <= _NAME_MAX and "/operations/" in f"/{name}" and _NAME.fullmatch(name) is not None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

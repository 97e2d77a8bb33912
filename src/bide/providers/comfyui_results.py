"""What a workflow of ComfyUI has made: its files, copied from `view`."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

import aiohttp

from bide.providers import errors, films, redact
from bide.providers.answers import AnswerTooLarge, Body, CutOff
from bide.providers.base import (
    Asset,
    Call,
    Failed,
    FileTooLarge,
    Item,
    NotMedia,
    Outcome,
    Stored,
    Succeeded,
    Unknown,
)
from bide.providers.songs import song_fields

FILES_MAX = 64
KINDS = {
    **dict.fromkeys(("mp4", "webm", "mov", "mkv", "avi", "ogv"), "video"),
    **dict.fromkeys(("mp3", "wav", "flac", "ogg", "opus", "m4a", "aac"), "audio"),
    **dict.fromkeys(("png", "jpg", "jpeg", "webp", "gif", "avif"), "image"),
}
PLACE = ("filename", "subfolder", "type")
SAVED = "output"
"""The type of files that were saved; those of the type `temp` are shown in the editor alone."""
FAILED = "The upstream's workflow failed."


async def outcome(call: Call, entry: Mapping[str, Any]) -> Outcome:
    """What an entry of the history says."""
    status = entry.get("status")
    status = status if isinstance(status, dict) else {}
    if status.get("status_str") == "error" or status.get("completed") is False:
        said = redact.secrets(str(list(_complaints(status))), call.key)[: errors.DETAIL_MAX]
        return Failed("api_error", FAILED, "channel", detail=said)
    files = _wanted(call, list(_files(call, entry.get("outputs"))))
    if not files:
        return errors.no_picture("The upstream's workflow ended without a file.", scope="channel")
    assets: list[Asset] = []
    for role, path in files[:FILES_MAX]:
        stored = await _copied(call, path)
        if not isinstance(stored, Stored):
            return stored
        assets.append(Asset(stored=stored, role=role))
    return _made(call, assets)


def _complaints(status: Mapping[str, Any]) -> Iterator[Any]:
    messages = status.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, list) and len(message) == 2 and str(message[0]) in (
            "execution_error", "execution_interrupted"
        ):  # fmt: skip
            about = message[1] if isinstance(message[1], dict) else {}
            names = ("node_id", "node_type", "exception_type", "exception_message")
            yield {"event": message[0], **{name: about[name] for name in names if name in about}}


def _files(call: Call, outputs: Any) -> Iterator[tuple[str, str, str]]:
    """Kind, type and path of every file."""
    nodes = call.options.get("outputs")
    for node, made in outputs.items() if isinstance(outputs, dict) else ():
        if isinstance(nodes, list) and nodes and node not in map(str, nodes):
            continue
        for listed in made.values() if isinstance(made, dict) else ():
            for one in listed if isinstance(listed, list) else ():
                if not isinstance(one, dict) or not isinstance(one.get("filename"), str):
                    continue
                kind = KINDS.get(one["filename"].rpartition(".")[2].lower())
                where = {name: one[name] for name in PLACE if isinstance(one.get(name), str)}
                if kind is not None:
                    yield kind, where.get("type", SAVED), f"view?{urlencode({'type': SAVED, **where})}"


def _wanted(call: Call, files: list[tuple[str, str, str]]) -> list[tuple[str, str]]:
    """Role and path of what the capability is about, and of the picture beside it."""
    saved = [(kind, path) for kind, type_, path in files if type_ == SAVED]
    found = list(dict.fromkeys(saved or [(kind, path) for kind, _, path in files]))
    what = {"video": "video", "music": "audio"}.get(call.capability.partition(".")[0], "image")
    main = [path for kind, path in found if kind == what]
    if what == "image":
        return [("image", path) for path in main]
    pictures = [path for kind, path in found if kind == "image"]
    if what == "video" and not main:
        return [("video", path) for path in pictures]  # moving pictures
    return [(what, path) for path in main] + [("image" if what == "audio" else "thumbnail", path)
                                              for path in pictures[:1] if main]  # fmt: skip


async def _copied(call: Call, path: str) -> Stored | Failed | Unknown:
    """A file in our storage; `Unknown` if it could not be had now, and may be later."""
    sink = call.sink()
    try:
        async with call.http.get(path, allow_redirects=False) as response:
            if response.status != 200:
                await sink.abort()
                if response.status in (404, 410):
                    return errors.no_picture("The upstream has deleted the file.", path, scope="channel")
                return Unknown("The upstream's file cannot be had now.", status=response.status)
            body = Body(response, call.answer_bytes_max)
            while chunk := await body.next():
                await sink.write(chunk)
        return await sink.close()
    except (FileTooLarge, NotMedia, AnswerTooLarge) as error:
        await sink.abort()
        return errors.no_picture("The upstream's result is no file that can be kept.", repr(error))
    except (aiohttp.ClientError, TimeoutError, OSError, CutOff) as error:
        await sink.abort()
        return Unknown("The upstream's file cannot be had now.", redact.secrets(repr(error), call.key))
    except BaseException:
        await sink.abort()
        raise


def _made(call: Call, assets: list[Asset]) -> Succeeded:
    if call.capability.startswith("image."):
        return Succeeded(tuple(assets), units=len(assets))
    beside = tuple(one for one in assets if one.role in ("thumbnail", "image"))
    mains = [one for one in assets if one not in beside]
    if call.capability.startswith("music."):
        return Succeeded(items=tuple(Item((one, *beside), song_fields(call, [])) for one in mains),
                         response={"state": "succeeded"})  # fmt: skip
    film = films.asked(call)
    fields: dict[str, Any] = {"state": "succeeded", "prompt": film.prompt, "model": call.model}
    if film.seconds is not None:
        fields["seconds"] = film.seconds
    return Succeeded(
        items=tuple(Item((one, *beside), fields) for one in mains), response={"state": "succeeded"},
        units=max(1, round(film.seconds or 1)) * len(mains),
    )  # fmt: skip

"""ComfyUI: the operator's own workflow, with places for what a caller says.

    POST prompt {"prompt": workflow, "prompt_id": our task's id}, then GET history/{id} and GET view

The id is ours, so a submission that was lost is found again, and one that is sent twice joins the first. Callers fill
the places and nothing else of the workflow. Pictures of theirs are uploaded first. ComfyUI knows no keys: it belongs
into a private network.

Options of the channel (`options` in its table):

    workflow   a workflow as ComfyUI exports it for its API: JSON in a text, or a table
    workflows  further ones by model, or else by capability: `{ "video.generate" = "{…}" }`
    places     where values go: `{ prompt = "6.text", width = "5.width", seed = ["3.seed", "9.seed"] }`, each as node
               and input. Names: `prompt`, `negative_prompt`, `width`, `height`, `seed`, `count`, `seconds`, `frames`,
               `model`, `style`, `lyric`, and for files of the caller `image`, `image_2` …, `mask`. A place whose node
               the workflow has not is passed over; what a caller leaves out stays as the workflow has it
    outputs    the nodes whose files are the result; left out: all that save files, or else that show them
    fps        frames in a second, for `frames`; left out: 24
    area       pixels of a picture of which only the ratio is known; left out: 1048576
    multiple   sides are multiples of this; left out: 8
    side_max   the longest side; left out: 4096

`capabilities` should say what the workflows make: `["image.generate"]`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from bide.providers import comfyui_results, errors
from bide.providers.base import Absent, Call, Failed, Outcome, Pending, Unknown
from bide.providers.bodies import FormBody, JsonBody
from bide.providers.comfyui_workflow import Workflow, filled, workflow_of
from bide.providers.exchange import Answer, ask_json, plan_s, submit_json

CAPABILITIES = frozenset({"image.generate", "image.edit", "video.generate", "music.generate"})
TAKES_OUR_ID = True

FIRST_S, NEXT_S, CAP_S = 1.0, 1.0, 5.0
RUNNING, WAITING = "queue_running", "queue_pending"
LOST = Failed("api_error", "The upstream was started anew and has lost the work.", "channel", retryable=True)

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


async def submit(call: Call) -> Outcome:
    """Sends the workflow, unless the upstream has it already."""
    workflow = workflow_of(call)
    if isinstance(workflow, Failed):
        return workflow
    if await _place(call, call.task_id) is not None:
        return Pending(call.task_id, FIRST_S)
    names = await _uploaded(call, workflow)
    if isinstance(names, Failed):
        return names
    graph = filled(call, workflow, names)
    if isinstance(graph, Failed):
        return graph
    told = await submit_json(call, "prompt", {"prompt": graph, "client_id": call.task_id, "prompt_id": call.task_id})
    if isinstance(told, Failed) and told.status == 400:
        return replace(told, scope="channel")  # a workflow that this server cannot run: another one may
    if not isinstance(told, Answer):
        return told
    document = told.document if isinstance(told.document, dict) else {}
    id = document.get("prompt_id")
    if isinstance(id, str) and _ID.fullmatch(id):
        return Pending(id, FIRST_S)
    if document.get("error"):
        return replace(errors.from_answer(400, told.headers, told.text.encode(), key=call.key), status=told.status)
    return errors.lost(f"no prompt_id in: {told.text}", told.headers, status=told.status, key=call.key)


async def poll(call: Call, upstream_id: str) -> Outcome:
    """Looks into the history, and when it is not there into the queue: neither means that it was lost."""
    if not _ID.fullmatch(upstream_id):
        return Failed("api_error", "The upstream does not know this work any more.", detail="not an id of it")
    entry = await _history(call, upstream_id)
    if isinstance(entry, Unknown):
        return entry
    if entry is None:
        queued = await _queued(call, upstream_id)
        if isinstance(queued, Unknown):
            return queued
        if queued is not None:
            return Pending(upstream_id, plan_s(call, NEXT_S, CAP_S))
        entry = await _history(call, upstream_id)  # it may have ended between the two looks
        if isinstance(entry, Unknown):
            return entry
        if entry is None:
            return LOST
    return await comfyui_results.outcome(call, entry)


async def reconcile(call: Call) -> Outcome | Absent:
    """Whether the upstream has a submission whose answer was lost."""
    for look in (_history, _queued, _history):
        found = await look(call, call.task_id)
        if isinstance(found, Unknown):
            return found
        if found is not None:
            return Pending(call.task_id, 0.0)
    return Absent()


async def cancel(call: Call, upstream_id: str) -> bool:
    """Takes it out of the queue, or stops it: only if it is what runs, since older servers stop whatever runs."""
    queued = await _queued(call, upstream_id)
    if queued == WAITING:
        return await _told(call, "queue", {"delete": [upstream_id]})
    return queued == RUNNING and await _told(call, "interrupt", {"prompt_id": upstream_id})


# -- where it is


async def _place(call: Call, id: str) -> object:
    """Something if the upstream has it already. A look that fails says nothing: the submission itself will."""
    for look in (_history, _queued):
        found = await look(call, id)
        if found is not None and not isinstance(found, Unknown):
            return found
    return None


async def _history(call: Call, id: str) -> Mapping[str, Any] | Unknown | None:
    """What has come of it; None while it is not over."""
    told = await ask_json(call, f"history/{quote(id, safe='')}")
    if not isinstance(told, Answer):
        return Unknown("The upstream's history cannot be read.", told.detail, told.status)
    if not isinstance(told.document, dict):
        return Unknown("The upstream's history cannot be read.", told.text, told.status)
    entry = told.document.get(id)
    return entry if isinstance(entry, dict) else None


async def _queued(call: Call, id: str) -> str | Unknown | None:
    """The list of the queue it is in."""
    told = await ask_json(call, "queue")
    if not isinstance(told, Answer):
        return Unknown("The upstream's queue cannot be read.", told.detail, told.status)
    document = told.document if isinstance(told.document, dict) else {}
    lists = {name: document.get(name) for name in (RUNNING, WAITING)}
    if not all(isinstance(one, list) for one in lists.values()):
        return Unknown("The upstream's queue cannot be read.", told.text, told.status)
    return next((name for name, entries in lists.items() if id in _ids(entries or ())), None)


def _ids(entries: Iterable[Any]) -> set[str]:
    """The ids of a queue: entries are lists of number, id, workflow …, and in some versions objects."""
    found = [
        entry[1] if isinstance(entry, list) and len(entry) > 1 else entry.get("prompt_id") if isinstance(entry, dict)
        else None
        for entry in entries
    ]  # fmt: skip
    return {one for one in found if isinstance(one, str)}


# -- what is sent


async def _uploaded(call: Call, workflow: Workflow) -> dict[str, str] | Failed:
    """Uploads the caller's files that have a place; their names at the upstream, by place."""
    names: dict[str, str] = {}
    for number, (place, given) in enumerate(workflow.files.items(), 1):
        named = replace(given, filename=f"{call.task_id}-{number}.{given.filename.rpartition('.')[2]}")
        form = FormBody((("overwrite", "true"), ("type", "input")), (("image", named),))
        told = await submit_json(call, "upload/image", form=form)
        if isinstance(told, Unknown):  # a file that may be there or not is not work: nothing was begun
            return Failed("api_error", "The upstream could not be given the picture.", "channel", retryable=True,
                          detail=told.detail, status=told.status)  # fmt: skip
        if isinstance(told, Failed):
            return told
        document = told.document if isinstance(told.document, dict) else {}
        name, folder = document.get("name"), document.get("subfolder")
        if not isinstance(name, str) or not name:
            return Failed("api_error", "The upstream did not take the picture.", "channel", detail=told.text)
        names[place] = f"{folder}/{name}" if isinstance(folder, str) and folder else name
    return names


async def _told(call: Call, path: str, fields: Mapping[str, Any]) -> bool:
    """Says something that is answered without words."""
    try:
        body = JsonBody(msgspec.json.encode(fields))
        async with call.http.post(path, data=body, allow_redirects=False) as response:
            return 200 <= response.status < 300
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False

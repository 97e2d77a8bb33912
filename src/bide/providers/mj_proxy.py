"""Midjourney through one of the two open proxies (`/mj/...`), or a gateway that copied their paths.

Both take the same submissions and are looked at by `/task/{id}/fetch`. They differ in what follows a picture: the
older one takes `change` (upscale, variation and reroll of a grid), the newer one the ids of the `buttons` its answers
come with; they are kept with the item and sent back as they are. What was kept says which it is. Where a button
opens a window (code 21), `modal` fills it in: the prompt, and the mask of a region.

`state` is our task's id and comes back, so a lost submission is found in `/task/list`, or certainly is not there.

Speed, number of works and visibility are taken out of prompts: they are the channel's and the price's. A prompt that
begins with two to five addresses mixes those pictures, which is what `/submit/blend` does for files.

The parts of a grid are those that the proxy answers (`imageUrls`); one that answers the whole alone has none.

Options of the channel:

    key_header = "mj-api-secret"   the header with the key; it is also sent as `Authorization: Bearer`. "": only so
    speeds = "filter"              `mode` is sent as `accountFilter`; "path": by the paths `mj-fast/mj/…`,
                                   and `base_url` ends before `/mj`; "": not at all
    bot_type = "MID_JOURNEY"       or "NIJI_JOURNEY"
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec

from bide.providers import errors, mj_proxy_words
from bide.providers import mj_proxy_results as results
from bide.providers.answers import Body
from bide.providers.base import (
    Absent,
    Call,
    Failed,
    Outcome,
    Pending,
    Progress,
    Source,
    Succeeded,
    Unknown,
)
from bide.providers.exchange import (
    Answer,
    age_s,
    ask_json,
    failed_work,
    plan_s,
    submit_json,
)
from bide.providers.inline import FilledJson, InBase64

CAPABILITIES = frozenset({
    "grid.generate", "grid.edit", "grid.animate", "grid.seed", "image.describe", "prompt.shorten",
})  # fmt: skip
TAKES_OUR_ID = False
CALLS_BACK = True

ACCEPTED, EXISTS, QUEUED = 1, 21, 22
NUMBERS: Final = {**errors.MIDJOURNEY, 3: errors.Rule("not_found")}
STATUSES: Final = {
    "NOT_START": "", "SUBMITTED": "", "IN_PROGRESS": "", "MODAL": "", "SUCCESS": "done", "FAILURE": "failed",
    "CANCEL": "cancelled",
}  # fmt: skip
"""What a task's `status` means; another than these is taken for work that goes on."""
FILMS: Final = {"480p": "vid_1.1_i2v_480", "720p": "vid_1.1_i2v_720"}
FIRST_S, NEXT_S, CAP_S = 5.0, 3.0, 10.0
FORGOTTEN_S = 60.0
EARLIER_S = 60.0
"""How much the proxy's clock may differ from ours."""


async def submit(call: Call) -> Outcome:
    """Submits once. A window that opens is filled in, which is a part of the same submission."""
    if call.capability == "grid.seed":
        return await _seed(call)
    asked = _asked(call)
    if isinstance(asked, Failed):
        return asked
    path, body = asked
    answer = await _submitted(call, path, body)
    if not isinstance(answer, Answer):
        if isinstance(answer, Failed) and answer.status == 404 and _source(call) is not None:
            return Failed("not_found", "The upstream does not know what this follows up any more.",
                          detail=answer.detail, status=404)  # fmt: skip
        return answer
    if path == "action" and _code(answer.document) == EXISTS:
        window = _id(answer.document)
        if not window:
            return errors.lost(answer.text, answer.headers, status=answer.status, key=call.key)
        answer = await _submitted(call, "modal", _window(call, window))
        if not isinstance(answer, Answer):
            return answer
    return _accepted(call, answer)


async def poll(call: Call, upstream_id: str) -> Outcome:
    """Looks at the task. One that is missing is given time to appear."""
    found = await ask_json(call, _path(call, f"task/{quote(upstream_id, safe='')}/fetch"), headers=_headers(call),
                           read=_perhaps_empty)  # fmt: skip
    if not isinstance(found, Answer):
        return found
    if found.document is None or found.document == {}:
        if age_s(call) < FORGOTTEN_S:
            return Pending(upstream_id, plan_s(call, NEXT_S, CAP_S))
        return Failed("api_error", "The upstream does not know this work any more.", status=found.status)
    if not isinstance(found.document, dict):
        return errors.lost(found.text, found.headers, status=found.status, key=call.key)
    return await _looked_at(call, found, found.document, upstream_id)


async def reconcile(call: Call) -> Outcome | Absent:
    """Looks for the task with our id as its `state`, and not for one of an earlier attempt."""
    found = await ask_json(call, _path(call, "task/list"), headers=_headers(call))
    if isinstance(found, Failed):
        return Unknown(found.message, found.detail, found.status)
    if not isinstance(found, Answer):
        return found
    if not isinstance(found.document, list):
        return errors.lost(found.text, found.headers, status=found.status, key=call.key)
    for task in found.document:
        if not isinstance(task, dict) or task.get("state") != call.task_id or _is_earlier(call, task):
            continue
        if upstream_id := results.text(task.get("id")):
            return await _looked_at(call, found, task, upstream_id)
    return Absent()


async def cancel(call: Call, upstream_id: str) -> bool:
    """Tells the newer proxy; the older one has no such path."""
    answer = await ask_json(call, _path(call, f"task/{quote(upstream_id, safe='')}/cancel"), method="POST",
                            headers=_headers(call), fields={})  # fmt: skip
    return isinstance(answer, Answer) and _code(answer.document) == ACCEPTED


async def _perhaps_empty(body: Body) -> Any:
    """A proxy answers nothing at all for a task that it does not have."""
    parts = bytearray()
    while chunk := await body.next():
        parts += chunk
    return msgspec.json.decode(parts) if parts.strip() else None


# -- what is sent


def _asked(call: Call) -> tuple[str, dict[str, Any]] | Failed:
    """Where a submission goes below `/submit`, and with what."""
    request = call.request
    text = mj_proxy_words.prompt(request)
    match call.capability:
        case "prompt.shorten":
            return "shorten", {"prompt": text}
        case "image.describe":
            image = _file(call, "image_url")
            return ("describe", {"base64": image}) if image else _missing("image_url")
        case "grid.edit":
            image, mask = _file(call, "image_url"), _file(call, "mask")
            if not image:
                return _missing("image_url")
            return "edits", {"prompt": text, "image": image, **({"maskBase64": mask} if mask else {})}
        case "grid.animate":
            return _film(call, text)
    action = str(request.get("action") or "generate")
    if action == "generate":
        return "imagine", {"prompt": text, "botType": str(call.options.get("bot_type") or "MID_JOURNEY")}
    return _follow(call, action)


def _follow(call: Call, action: str) -> tuple[str, dict[str, Any]] | Failed:
    """By the button that was kept, or as the older proxy takes it."""
    source = _source(call)
    if source is None or not (task := results.text(source.about.get("task"))):
        return Failed("bad_request", "`image_id` names nothing that this upstream made.")
    kept = source.about.get("buttons")
    if isinstance(kept, Mapping) and isinstance(custom_id := kept.get(action), str):
        return "action", {"taskId": task, "customId": custom_id}
    if not kept and action in mj_proxy_words.CHANGES:
        return "change", {"taskId": task, **mj_proxy_words.CHANGES[action]}
    return Failed("bad_request", f"This upstream cannot do {action} with that picture.")


def _film(call: Call, text: str) -> tuple[str, dict[str, Any]] | Failed:
    request, source = call.request, _source(call)
    text, motion = mj_proxy_words.motion(text)
    body: dict[str, Any] = {"prompt": text, "motion": motion, "loop": bool(request.get("loop"))}
    if request.get("action") == "extend":
        if source is None or not (task := results.text(source.about.get("task"))):
            return Failed("bad_request", "`video_id` names nothing that this upstream made.")
        body |= {"taskId": task, "index": request.get("video_index") or 0, "action": "extend"}
    else:
        image = _file(call, "image_url")
        if not image:
            return _missing("image_url")
        body |= {"image": image, "videoType": FILMS.get(str(request.get("resolution")), FILMS["720p"])}
    end = _file(call, "end_image_url")
    return "video", {**body, **({"endImage": end} if end else {})}


def _window(call: Call, window: str) -> dict[str, Any]:
    """What a window is filled in with: a prompt, that of the parent if there is no other, and a mask."""
    source, mask = _source(call), _file(call, "mask")
    text = mj_proxy_words.prompt(call.request) or (results.text(source.about.get("prompt")) if source else "")
    return {"taskId": window, "prompt": text, **({"maskBase64": mask} if mask else {})}


async def _submitted(call: Call, path: str, body: Mapping[str, Any]) -> Answer | Failed | Unknown:
    fields = {**body, "state": call.task_id}
    if call.callback_url:
        fields["notifyHook"] = call.callback_url
    mode = str(call.request.get("mode") or "")
    if mode and _speeds(call) == "filter" and path in ("imagine", "edits", "video"):
        fields["accountFilter"] = {"modes": [mode.upper()]}
    where = _path(call, f"submit/{path}", mode)
    return await submit_json(call, where, form=FilledJson(fields), headers=_headers(call))


def _path(call: Call, rest: str, mode: str = "") -> str:
    if _speeds(call) != "path":
        return rest
    return f"mj-{mode}/mj/{rest}" if mode in ("fast", "relax", "turbo") else f"mj/{rest}"


def _speeds(call: Call) -> str:
    return str(call.options.get("speeds", "filter"))


def _headers(call: Call) -> dict[str, str]:
    name = str(call.options.get("key_header", "mj-api-secret"))
    return {name: call.key} if name and call.key else {}


def _file(call: Call, field: str) -> InBase64 | None:
    """A file of the caller, to be sent as a data URL."""
    given = next((one for one in call.inputs if one.field == field), None)
    return InBase64(given, data_url=True) if given else None


def _source(call: Call) -> Source | None:
    return call.source("image_id") or call.source("video_id")


def _missing(field: str) -> Failed:
    return Failed("bad_request", f"`{field}` is missing.")


# -- what comes back


def _accepted(call: Call, answer: Answer) -> Outcome:
    document = answer.document
    code = _code(document)
    if code in (ACCEPTED, QUEUED, EXISTS):
        if upstream_id := _id(document):
            return Pending(upstream_id, FIRST_S)
        return errors.lost(answer.text, answer.headers, status=answer.status, key=call.key)
    if code is None:
        return errors.lost(answer.text, answer.headers, status=answer.status, key=call.key)
    return failed_work(call, answer, numbers=NUMBERS)


async def _looked_at(call: Call, answer: Answer, task: Mapping[str, Any], upstream_id: str) -> Outcome:
    """What a task has become. It keeps the id that we know it by."""
    match STATUSES.get(results.text(task.get("status")).upper()):
        case "done":
            return results.made(call, answer, task, upstream_id)
        case "failed":
            return results.failed(call, answer, task)
        case "cancelled":
            return Failed("api_error", "The upstream cancelled the work.", detail=answer.text, status=answer.status)
    if call.report is not None and (percent := results.percent(task.get("progress"))) is not None:
        await call.report(Progress(percent, {"actions": []}))
    return Pending(upstream_id, plan_s(call, NEXT_S, CAP_S))


async def _seed(call: Call) -> Outcome:
    """The seed that came with the picture, or what the newer proxy answers when it is asked."""
    source = _source(call)
    if source is None or not (task := results.text(source.about.get("task"))):
        return Failed("bad_request", "`image_id` names nothing that this upstream made.")
    if seed := results.digits(source.about.get("seed")):
        return Succeeded(response={"seed": seed})
    answer = await ask_json(call, _path(call, f"task/{quote(task, safe='')}/image-seed"), headers=_headers(call))
    if isinstance(answer, Unknown):
        return Failed("api_error", answer.message, "channel", retryable=True, detail=answer.detail,
                      status=answer.status)  # fmt: skip
    if isinstance(answer, Failed):
        return answer
    document = answer.document if isinstance(answer.document, dict) else {}
    if seed := results.digits(document.get("result")):
        return Succeeded(response={"seed": seed})
    return failed_work(call, answer, numbers=NUMBERS)


def _is_earlier(call: Call, task: Mapping[str, Any]) -> bool:
    at = task.get("submitTime")
    return isinstance(at, int) and bool(call.asked_at) and at < call.asked_at - 1000 * EARLIER_S


def _code(document: Any) -> int | None:
    value = document.get("code") if isinstance(document, dict) else None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 6:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _id(document: Any) -> str:
    return results.text(document.get("result"))

"""fal: the queue of any model there, below `https://queue.fal.run`.

    POST {model}      GET {work}/status      GET {work}      PUT {work}/cancel

The answer to the POST says where the work is, which is not always below the model's own path: what is kept is that
path, `{owner}/{app}/requests/{id}`, and it is asked for on the channel's host alone, whatever host the answer names.
The key goes as `Authorization: Key …`. A model is named by its path, `owner/app/more`.

Completed is not succeeded: the status may carry an error, and so may the result. A picture that the upstream's own
filter blackened counts as refused. Models name their fields as they like: the options are in `bide.providers.mapped`;
`headers` may hold the queue's own, such as `X-Fal-Request-Timeout` or `X-Fal-Queue-Priority`.

No key of ours is taken and nothing can be listed: what was sent and not answered stays unknown.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit

from bide.providers import errors, words
from bide.providers.base import Call, Failed, Outcome, Pending, Unknown
from bide.providers.exchange import Answer, ask_json, failed_work, plan_s, submit_json
from bide.providers.inline import FilledJson
from bide.providers.made import made, within
from bide.providers.mapped import Plan, is_path, model_input, no_model, planned
from bide.providers.words import Words

CAPABILITIES = frozenset({
    "image.generate", "image.edit", "music.generate",
    "video.generate", "video.edit", "video.extend", "video.upsample",
})  # fmt: skip
TAKES_OUR_ID = False
CALLS_BACK = True

FIRST_S, NEXT_S, CAP_S = 1.0, 2.0, 10.0
DONE = frozenset({"COMPLETED", "OK"})
FAILED = frozenset({"FAILED", "ERROR", "CANCELLED", "CANCELED"})
"""Status words; `IN_QUEUE`, `IN_PROGRESS` and all others: the work goes on."""
SPEAKS = frozenset({400, 413, 422, 500})
"""Statuses with which a result speaks of the work, and not of our asking for it."""

_IMAGE = {
    "prompt": "prompt", "n": "num_images", "seed": "seed", "width": "image_size.width", "height": "image_size.height",
    "aspect_ratio": "aspect_ratio",
}  # fmt: skip
_FILM = {
    "prompt": "prompt", "negative_prompt": "negative_prompt", "ratio": "aspect_ratio", "resolution": "resolution",
    "seconds": "duration", "seed": "seed", "image": "image_url", "end_image": "end_image_url",
    "references": "image_urls",
}  # fmt: skip
_FOLLOWING = {"prompt": "prompt", "video": "video_url", "seed": "seed"}
FIELDS: Mapping[str, Mapping[str, str]] = {
    "image.generate": _IMAGE,
    "image.edit": {**_IMAGE, "image": "image_url", "mask": "mask_url"},
    "video.generate": _FILM, "video.edit": _FOLLOWING, "video.extend": {**_FOLLOWING, "seconds": "duration"},
    "video.upsample": {"video": "video_url"},
}  # fmt: skip
_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9_.:-]*"
_WORK = re.compile(rf"(?:{_SEGMENT}/){{1,6}}requests/{_SEGMENT}")


async def submit(call: Call) -> Outcome:
    """Puts the work into the queue once."""
    plan = planned(call, FIELDS)
    if isinstance(plan, Failed):
        return plan
    parts = plan.model.split("/")
    if not is_path(plan.model) or len(parts) < 2 or "requests" in parts:
        return no_model(plan.model)
    wakes = f"?fal_webhook={quote(call.callback_url, safe='')}" if call.callback_url else ""
    body = FilledJson(model_input(call, plan))
    answer = await submit_json(call, f"{plan.model}{wakes}", form=body, headers=_headers(call, plan))
    if not isinstance(answer, Answer):
        return answer
    document: Any = answer.document
    work = _work(plan.model, document) if isinstance(document, dict) else None
    if work is None:
        if answer.said is not None:
            return failed_work(call, answer)
        return errors.lost(f"no id: {answer.text}", answer.headers, status=answer.status, key=call.key)
    return Pending(work, FIRST_S)


async def poll(call: Call, upstream_id: str) -> Outcome:
    """How the work is doing; its result when it is done."""
    plan = planned(call, FIELDS)
    if isinstance(plan, Failed):
        return Unknown(plan.message, plan.detail)  # the options have changed; the work goes on
    answer = await ask_json(call, f"{upstream_id}/status", headers=_headers(call, plan))
    if not isinstance(answer, Answer):
        return answer
    document: Any = answer.document
    if not isinstance(document, dict):
        return errors.lost(f"no object: {answer.text}", answer.headers, status=answer.status, key=call.key)
    status = str(document.get("status")).upper()
    if document.get("error") and status in DONE | FAILED:
        return _refused(call, answer, document)
    if status in FAILED:
        return failed_work(call, answer, "The upstream could not do the work.")
    if status not in DONE:
        return Pending(upstream_id, plan_s(call, NEXT_S, CAP_S))
    return await _result(call, plan, upstream_id)


async def cancel(call: Call, upstream_id: str) -> bool:
    """Tells the upstream to stop; not if the work is over."""
    plan = planned(call, FIELDS)
    if isinstance(plan, Failed):
        return False
    answer = await ask_json(call, f"{upstream_id}/cancel", method="PUT", headers=_headers(call, plan))
    return isinstance(answer, Answer)


def _headers(call: Call, plan: Plan) -> dict[str, str]:
    return {**plan.headers, **({"Authorization": f"Key {call.key}"} if call.key else {})}


def _work(model: str, document: Mapping[str, Any]) -> str | None:
    """The path of the work: as the upstream says, else below the first two parts of the model's."""
    request_id = document.get("request_id")
    if not isinstance(request_id, str) or not re.fullmatch(_SEGMENT, request_id):
        return None
    owner, app = model.split("/")[:2]
    for name in ("status_url", "response_url"):
        path = _path(document.get(name)).removesuffix("/status").removesuffix("/response")
        at = f"/{path}".find(f"/{owner}/")
        path = path[at:] if at >= 0 else ""
        if _WORK.fullmatch(path) and path.endswith(f"/requests/{request_id}"):
            return path
    return f"{owner}/{app}/requests/{request_id}"


def _path(address: Any) -> str:
    try:
        return urlsplit(address).path.strip("/") if isinstance(address, str) else ""
    except ValueError:
        return ""


# -- the result


async def _result(call: Call, plan: Plan, work: str) -> Outcome:
    """The result of completed work, which may be an error too."""
    answer = await ask_json(call, work, headers=_headers(call, plan), of_work=SPEAKS)
    if not isinstance(answer, Answer):
        return answer
    document = answer.document
    if isinstance(document, dict) and document.get("error"):
        return _refused(call, answer, document)
    flags = _flags(document)
    if flags and all(flag is True for flag in flags):
        return errors.from_words(Words("The upstream's filter refused the picture.", ("has_nsfw_concepts",)))
    return await made(call, plan.capability, within(_filtered(document), plan.output), {"work": work})


def _refused(call: Call, answer: Answer, document: Mapping[str, Any]) -> Failed:
    """The error of completed work."""
    error, kind = document["error"], document.get("error_type")
    said = words.from_document(error if isinstance(error, dict) else {"message": str(error)}) or Words()
    if isinstance(kind, str) and kind:
        said = replace(said, codes=(kind, *said.codes))
    return errors.from_words(said, key=call.key, detail=answer.text, headers=answer.headers, status=answer.status)


def _flags(document: Any) -> list[Any]:
    flags = document.get("has_nsfw_concepts") if isinstance(document, dict) else None
    return flags if isinstance(flags, list) else []


def _filtered(document: Any) -> Any:
    """The output without the pictures that the upstream's filter has blackened."""
    flags, images = _flags(document), document.get("images") if isinstance(document, dict) else None
    if not any(flag is True for flag in flags) or not isinstance(images, list) or len(images) != len(flags):
        return document
    return {**document, "images": [one for one, flag in zip(images, flags, strict=True) if flag is not True]}

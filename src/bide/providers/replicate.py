"""Replicate: predictions of any model there, below `https://api.replicate.com/v1`.

    POST models/{owner}/{name}/predictions · deployments/{owner}/{name}/predictions · predictions {version}
    GET predictions/{id}      POST predictions/{id}/cancel      GET predictions, newest first      POST files

A model is named `owner/name` (an official one), `owner/name:version`, a version alone, or `deployments/owner/name`.
Models name their fields as they like: the options are in `bide.providers.mapped`. Files of the caller up to
`DATA_URL_BYTES_MAX` go along in the request, larger ones are uploaded first, which begins no work.

No key of ours is taken. A prediction whose answer was lost is looked for in the list, by its input (all of it but
files) and by being made when it was asked for; where two could be it, the outcome stays unknown. Files and inputs are
deleted there after an hour, so a prediction without its input leaves it unknown too.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from bide.providers import errors, predictions
from bide.providers.base import Absent, Call, Failed, Outcome, Pending, Unknown
from bide.providers.bodies import FormBody
from bide.providers.exchange import Answer, age_s, ask_json, failed_work, plan_s, submit_json, web_address
from bide.providers.inline import FilledJson, InBase64
from bide.providers.mapped import Plan, is_path, model_input, no_model, planned

CAPABILITIES = frozenset({
    "image.generate", "image.edit", "music.generate",
    "video.generate", "video.edit", "video.extend", "video.upsample",
})  # fmt: skip
TAKES_OUR_ID = False
CALLS_BACK = True

FIRST_S, NEXT_S, CAP_S = 1.0, 2.0, 10.0
DATA_URL_BYTES_MAX = 256 * 1024
FOUND_S = (30.0, 300.0)
"""A prediction counts as the one asked for if it was made at most so long before (clocks differ) and after."""
LISTED_S = 60.0
"""Only after so long a prediction that is not listed certainly is not there."""
PAGES_MAX = 5

_IMAGE = {"prompt": "prompt", "ratio": "aspect_ratio", "n": "num_outputs", "seed": "seed"}
_FILM = {
    "prompt": "prompt", "negative_prompt": "negative_prompt", "ratio": "aspect_ratio",
    "resolution": "resolution", "seconds": "duration", "seed": "seed", "image": "image", "end_image": "last_frame",
    "references": "reference_images",
}  # fmt: skip
_FOLLOWING = {"prompt": "prompt", "video": "video", "seed": "seed"}
FIELDS: Mapping[str, Mapping[str, str]] = {
    "image.generate": _IMAGE,
    "image.edit": {**_IMAGE, "image": "image", "mask": "mask"},
    "video.generate": _FILM, "video.edit": _FOLLOWING, "video.extend": {**_FOLLOWING, "seconds": "duration"},
    "video.upsample": {"video": "video"},
}  # fmt: skip
_VERSION = re.compile(r"[0-9a-f]{64}")


async def submit(call: Call) -> Outcome:
    """Asks for a prediction once."""
    plan = planned(call, FIELDS)
    if isinstance(plan, Failed):
        return plan
    where = _where(plan.model)
    if where is None:
        return no_model(plan.model)
    path, body = where
    given = model_input(call, plan)
    uploaded = await _uploaded(call, given, plan.headers)
    if isinstance(uploaded, Failed):
        return uploaded
    body = {**body, "input": uploaded}
    if call.callback_url:
        body |= {"webhook": call.callback_url, "webhook_events_filter": ["completed"]}
    answer = await submit_json(call, path, form=FilledJson(body), headers=plan.headers)
    if not isinstance(answer, Answer):
        return answer
    document: Any = answer.document
    upstream_id = document.get("id") if isinstance(document, dict) else None
    if not isinstance(upstream_id, str) or not is_path(upstream_id):
        if answer.said is not None:
            return failed_work(call, answer)
        return errors.lost(f"no id: {answer.text}", answer.headers, status=answer.status, key=call.key)
    return await _looked_at(call, plan, upstream_id, answer, document, FIRST_S)


async def poll(call: Call, upstream_id: str) -> Outcome:
    """How the prediction is doing."""
    plan = planned(call, FIELDS)
    if isinstance(plan, Failed):
        return Unknown(plan.message, plan.detail)  # the options have changed; the work goes on
    answer = await ask_json(call, f"predictions/{quote(upstream_id, safe='')}", headers=plan.headers)
    if not isinstance(answer, Answer):
        return answer
    if not isinstance(answer.document, dict):
        return errors.lost(f"no object: {answer.text}", answer.headers, status=answer.status, key=call.key)
    return await _looked_at(call, plan, upstream_id, answer, answer.document, plan_s(call, NEXT_S, CAP_S))


async def cancel(call: Call, upstream_id: str) -> bool:
    """Tells the upstream to stop."""
    plan, path = planned(call, FIELDS), f"predictions/{quote(upstream_id, safe='')}/cancel"
    if isinstance(plan, Failed):
        return False
    return isinstance(await ask_json(call, path, method="POST", fields={}, headers=plan.headers), Answer)


async def _looked_at(
    call: Call, plan: Plan, upstream_id: str, answer: Answer, document: Mapping[str, Any], after_s: float
) -> Outcome:
    outcome = await predictions.ended(call, plan, answer, document)
    return Pending(upstream_id, after_s) if outcome is None else outcome


def _where(model: str) -> tuple[str, dict[str, Any]] | None:
    """Path and body of a submission; None for what is no model's name."""
    name, _, version = model.rpartition(":") if ":" in model else (model, "", "")
    if _VERSION.fullmatch(version or model) and (not version or is_path(name)):
        return "predictions", {"version": version or model}
    parts = model.split("/")
    if not is_path(model):
        return None
    if len(parts) == 2:
        return f"models/{model}/predictions", {}
    if len(parts) == 3 and parts[0] == "deployments":
        return f"{model}/predictions", {}
    return None


# -- files


async def _uploaded(call: Call, given: dict[str, Any], headers: Mapping[str, str]) -> dict[str, Any] | Failed:
    """The input with addresses in the place of large files."""
    sent = dict(given)
    for name, value in given.items():
        listed = value if isinstance(value, list) else [value]
        placed: list[Any] = []
        for one in listed:
            if isinstance(one, InBase64) and one.given.size > DATA_URL_BYTES_MAX:
                address = await _upload(call, one, headers)
                if isinstance(address, Failed):
                    return address
                one = address
            placed.append(one)
        sent[name] = placed if isinstance(value, list) else placed[0]
    return sent


async def _upload(call: Call, file: InBase64, headers: Mapping[str, str]) -> str | Failed:
    """Whatever goes wrong here, no work was begun."""
    answer = await submit_json(call, "files", form=FormBody((), (("content", file.given),)), headers=headers)
    if isinstance(answer, Failed):
        return answer
    if isinstance(answer, Answer) and isinstance(answer.document, dict):
        urls = answer.document.get("urls")
        address = web_address(urls.get("get")) if isinstance(urls, dict) else None
        if address is not None:
            return address
    detail = errors.lost(answer.text, key=call.key).detail if isinstance(answer, Answer) else answer.detail
    return Failed("api_error", "The upstream did not take a file.", "channel", retryable=True, detail=detail)


# -- what was lost


async def reconcile(call: Call) -> Outcome | Absent:
    """Looks for the prediction in the list, as far back as it was asked for."""
    plan = planned(call, FIELDS)
    if isinstance(plan, Failed) or not call.asked_at:
        return Unknown(errors.NOT_KNOWN)
    wanted = {name: value for name, value in model_input(call, plan).items() if not _is_file(value)}
    path, found = "predictions", set[str]()
    for _ in range(PAGES_MAX):
        answer = await ask_json(call, path, headers=plan.headers)
        if not isinstance(answer, Answer):
            return Unknown(errors.NOT_KNOWN, answer.detail, answer.status)
        listed = answer.document.get("results") if isinstance(answer.document, dict) else None
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            return errors.lost(f"no list: {answer.text}", answer.headers, status=answer.status, key=call.key)
        ages = [_after_s(call, one) for one in listed]
        for one, after in zip(listed, ages, strict=True):
            if after is None or (-FOUND_S[0] <= after <= FOUND_S[1] and one.get("data_removed")):
                return Unknown(errors.NOT_KNOWN, "a prediction of the list does not say what it is")
            if -FOUND_S[0] <= after <= FOUND_S[1] and _is_ours(plan, wanted, one) and isinstance(one.get("id"), str):
                found.add(one["id"])
        cursor = _cursor(answer.document.get("next"))
        if not cursor or any(after is not None and after < -FOUND_S[0] for after in ages):
            break
        path = f"predictions?cursor={quote(cursor, safe='')}"
    else:
        return Unknown(errors.NOT_KNOWN, "the list is too long")
    if not found and age_s(call) >= LISTED_S:
        return Absent()
    if len(found) != 1:
        return Unknown(errors.NOT_KNOWN, f"{len(found)} predictions of the list could be it")
    return await poll(call, found.pop())  # a list leaves outputs out


def _is_file(value: Any) -> bool:
    return any(isinstance(one, InBase64) for one in (value if isinstance(value, list) else [value]))


def _is_ours(plan: Plan, wanted: Mapping[str, Any], one: Mapping[str, Any]) -> bool:
    given, parts = one.get("input"), plan.model.partition(":")
    if not isinstance(given, dict) or any(given.get(name) != value for name, value in wanted.items()):
        return False
    known = {one.get("model"), one.get("version")} - {None, "hidden"}
    deployed = plan.model.startswith("deployments/")
    return deployed or not known or bool(known & {parts[0], parts[2], plan.model})


def _after_s(call: Call, one: Mapping[str, Any]) -> float | None:
    """Seconds between our asking and the making of a prediction."""
    try:
        return datetime.fromisoformat(str(one.get("created_at"))).timestamp() - call.asked_at / 1000
    except ValueError:
        return None


def _cursor(address: Any) -> str:
    """Of the next page. Only this is taken of its address: the key goes to the channel's host alone."""
    try:
        return parse_qs(urlsplit(address).query).get("cursor", [""])[0] if isinstance(address, str) else ""
    except ValueError:
        return ""

"""Pictures that OpenAI's Responses make in the background: a submission has an id, and is looked at again.

    POST responses {"model": text model, "background": true, "tools": [{"type": "image_generation", …}]} → {"id", …}

then `GET responses/{id}`. The picture is the `result` of an `image_generation_call`, decoded into storage while it
arrives. The upstream takes no id of ours and lists nothing: a lost answer is an unknown outcome.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from bide.providers import errors, words
from bide.providers.answers import Pictures
from bide.providers.base import Asset, Call, Failed, Outcome, Pending, Succeeded
from bide.providers.exchange import Answer, ask_json, plan_s, submit_json
from bide.providers.inline import FilledJson, InBase64, kept, reader
from bide.providers.openai_address import headers, path_of

FIRST_S, NEXT_S, CAP_S = 10.0, 5.0, 15.0
SLOW = ("high", "xhigh", "max", "hd")
OF_THE_TOOL = ("size", "quality", "background", "moderation", "output_format", "output_compression", "input_fidelity")
ABOUT = ("size", "quality", "background", "output_format")
RESULT = "result"
"""The key whose text is a picture."""
DONE = "completed"
ENDED = {
    "failed": "The upstream failed without a reason.",
    "incomplete": "The upstream stopped before the picture was complete.",
    "cancelled": "The work was cancelled at the upstream.",
}
REFUSED = "The upstream answered with words instead of a picture: it does not make this."

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,255}")


def is_on(call: Call) -> bool:
    return bool(call.options.get("responses_model"))


def is_for(call: Call, fields: Mapping[str, Any]) -> bool:
    """Whether a request is made so: one slow picture that nobody watches."""
    if not is_on(call) or "partial_images" in fields or fields.get("n", 1) != 1:
        return False
    return fields.get("quality") in (call.options.get("responses_for") or SLOW)


async def submit(call: Call, fields: Mapping[str, Any]) -> Outcome:
    """Asks once; `fields` are those of the request at the images' own path."""
    body = FilledJson(_body(call, fields))
    async with Pictures(call.sink) as pictures:
        told = await submit_json(call, path_of(call, "responses"), form=body, headers=headers(call),
                                 read=reader(pictures, RESULT))  # fmt: skip
        if not isinstance(told, Answer):
            return told
        document = told.document if isinstance(told.document, dict) else {}
        id = document.get("id")
        if _is_over(document):
            return await _ended(call, told, document, pictures)
        if isinstance(id, str) and _ID.fullmatch(id):
            return Pending(id, FIRST_S)
        if document.get("error"):
            return _failed(call, told, document, "")
        return errors.lost(f"no response in: {told.text}", told.headers, status=told.status, key=call.key)


async def poll(call: Call, upstream_id: str) -> Outcome:
    """Looks at it, and takes the picture out of it when it is done."""
    async with Pictures(call.sink) as pictures:
        path = path_of(call, f"responses/{quote(upstream_id, safe='')}")
        told = await ask_json(call, path, headers=headers(call), read=reader(pictures, RESULT))
        if not isinstance(told, Answer):
            return told
        if not isinstance(told.document, dict):
            return errors.lost(f"not a response: {told.text}", status=told.status, key=call.key)
        if _is_over(told.document):
            return await _ended(call, told, told.document, pictures)
        return Pending(upstream_id, plan_s(call, NEXT_S, CAP_S))


async def cancel(call: Call, upstream_id: str) -> bool:
    path = path_of(call, f"responses/{quote(upstream_id, safe='')}/cancel")
    return isinstance(await ask_json(call, path, method="POST", fields={}, headers=headers(call)), Answer)


# -- what is answered


def _is_over(document: Mapping[str, Any]) -> bool:
    status = document.get("status")
    return isinstance(status, str) and (status == DONE or status in ENDED)


async def _ended(call: Call, told: Answer, document: Mapping[str, Any], pictures: Pictures) -> Outcome:
    status = document.get("status")
    if status != DONE:
        return _failed(call, told, document, ENDED[str(status)])
    assets, about = list[Asset](), dict[str, Any]()
    for entry in _dicts(document.get("output")):
        stored = await kept(pictures, entry.get(RESULT)) if entry.get("type") == "image_generation_call" else None
        if stored is None:
            continue
        said = entry.get("revised_prompt")
        assets.append(Asset(stored=stored, about={"revised_prompt": said} if isinstance(said, str) and said else {}))
        about |= {name: entry[name] for name in ABOUT if isinstance(entry.get(name), str)}
    if assets:
        created = document.get("created_at")
        if isinstance(created, int | float):
            about["created"] = int(created)
        if isinstance(document.get("usage"), dict):
            about["usage"] = document["usage"]
        return Succeeded(tuple(assets), about, units=len(assets))
    if pictures.faults:
        return errors.no_picture(pictures.faults[0])
    if texts := list(_texts(document)):
        return Failed("forbidden", REFUSED, detail="\n".join(texts)[: errors.DETAIL_MAX], status=told.status)
    return errors.no_picture("The upstream finished without a picture.", told.text, scope="channel")


def _failed(call: Call, told: Answer, document: Mapping[str, Any], message: str) -> Failed:
    """By the words of `error`, or the reason why it is incomplete."""
    said = words.from_document({"error": document["error"]}) if document.get("error") else None
    if said is None:
        details = document.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        said = words.Words(message, (reason,) if isinstance(reason, str) else ())
    return errors.from_words(said, key=call.key, detail=told.text, headers=told.headers, status=told.status)


def _texts(document: Mapping[str, Any]) -> Iterator[str]:
    for entry in _dicts(document.get("output")):
        for part in _dicts(entry.get("content")):
            yield from (part[name] for name in ("refusal", "text") if isinstance(part.get(name), str) and part[name])


def _dicts(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


# -- what is sent


def _body(call: Call, fields: Mapping[str, Any]) -> dict[str, Any]:
    tool: dict[str, Any] = {"type": "image_generation", "model": fields.get("model", call.model)}
    tool |= {name: fields[name] for name in OF_THE_TOOL if name in fields}
    parts: list[dict[str, Any]] = [{"type": "input_text", "text": fields.get("prompt", "")}]
    for given in call.inputs:
        address = {"image_url": InBase64(given, data_url=True)}
        if given.field == "mask":
            tool["input_image_mask"] = address
        else:
            parts.append({"type": "input_image", **address})
    body = {
        "model": call.options["responses_model"], "input": [{"role": "user", "content": parts}], "background": True,
        "store": True, "metadata": {"attempt": call.task_id}, "tools": [tool],
        "tool_choice": {"type": "image_generation"},
    }  # fmt: skip
    return body | ({"user": fields["user"]} if "user" in fields else {})

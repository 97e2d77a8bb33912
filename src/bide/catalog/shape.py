"""The public JSON of an outcome: answers, task responses, callback bodies. Pure functions on dicts.

    answer          what the operation itself answers: `{"created": …, "data": […], …}` for `openai_images`, the
                    filled-in template of the catalogue for `template`
    inline answer   what a waiting caller gets: success, trace_id (and task_id if the call left a task), the answer
    task response   what a task keeps and shows: success, task_id, trace_id, the answer
    failure         success false, task_id, trace_id, error; a task response and a callback body alike
    callback body   the task response, with the answer below `data` where the operation says so
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bide.catalog.entries import TOP_STATE
from bide.catalog.load import Operation
from bide.catalog.template import Made, fill

Json = dict[str, Any]

_ABOUT_IMAGES = ("model", "background", "output_format", "quality", "size", "usage")
_OF_AN_ITEM = ("url", "b64_json", "revised_prompt")
_ENVELOPE = frozenset({"success", "task_id", "trace_id"})


def answer(
    operation: Operation,
    request: Mapping[str, Any],
    response: Mapping[str, Any],
    items: Sequence[Mapping[str, Any]],
    *,
    now_s: int,
) -> Json:
    """The operation's own answer, in the shape the catalogue names for it.

    `request` holds the checked values of the body (with defaults), `response` what the provider said beside the
    files, `items` one mapping per file in order, `now_s` the time in Unix seconds.
    """
    return _SHAPES[operation.entry.shape](operation, request, response, items, now_s)


def openai_images(
    operation: Operation,
    request: Mapping[str, Any],
    response: Mapping[str, Any],
    items: Sequence[Mapping[str, Any]],
    now_s: int,
) -> Json:
    """`{"created", "data": [{"url" or "b64_json", "revised_prompt"}], …}`; keys without a value are left out."""
    created = response.get("created")
    body: Json = {"created": int(created) if isinstance(created, int | float) else now_s}
    body["data"] = data = [_present(item, _OF_AN_ITEM) for item in items]
    body |= _present({"model": request.get("model"), **_present(response, _ABOUT_IMAGES)}, _ABOUT_IMAGES)
    if (special := operation.answer_for(request)) is not None:
        body |= special.set
        for to, source in special.items.items():
            for item in data:
                item[to] = request.get(source)
    return body


def from_template(
    operation: Operation,
    request: Mapping[str, Any],
    response: Mapping[str, Any],
    made: Sequence[Made],
    *,
    task: Mapping[str, str],
    time: Mapping[str, Any],
) -> Json:
    """The operation's own answer as its `answer` table says. `task` and `time`: see `bide.catalog.template`."""
    contexts = {"request": request, "said": response, "task": task, "time": time}
    return fill(operation.template, contexts, made)


_SHAPES: Mapping[str, Callable[..., Json]] = {"openai_images": openai_images}


def _present(values: Mapping[str, Any], wanted: Sequence[str]) -> Json:
    return {name: value for name in wanted if (value := values.get(name)) is not None}


def accepted(task_id: str, trace_id: str) -> Json:
    """What a caller gets at once that does not wait."""
    return {"success": True, "task_id": task_id, "trace_id": trace_id}


def task_response(task_id: str, trace_id: str, answer: Mapping[str, Any]) -> Json:
    """What a succeeded task keeps."""
    return {"success": True, "task_id": task_id, "trace_id": trace_id, **answer}


def inline_answer(operation: Operation, response: Mapping[str, Any]) -> Json:
    """The task response for the caller who waited; without `task_id` where the call leaves no task to look up."""
    if operation.entry.bare:
        return {name: value for name, value in response.items() if name not in _ENVELOPE}
    if operation.entry.inline_stored:
        return dict(response)
    return {name: value for name, value in response.items() if name != "task_id"}


def repeated(operation: Operation, task_id: str, finished_s: float | None, response: Mapping[str, Any]) -> Json:
    """What a task document says beside `response`, for clients that look there: `status_in` from the beginning, and
    what it repeats of the response (`top`) at the end."""
    entry, found = operation.entry, Json()
    if entry.status_in:
        state = "running" if finished_s is None else "failed"
        found[entry.status_in] = {"id": task_id, "status": state, **_present(response, ("error",))}
    if finished_s is None:
        return found
    found |= {name: response[name] for name in entry.top if name != TOP_STATE and name in response}
    if TOP_STATE in entry.top:
        state = "succeeded" if response.get("success") else "failed"
        found[TOP_STATE] = {"id": task_id, "state": state, "finished_at": finished_s}
    return found


def failure(task_id: str, trace_id: str, code: str, message: str) -> Json:
    """What a failed task keeps; its callback body too."""
    return {
        "success": False, "task_id": task_id, "trace_id": trace_id,
        "error": {"code": code, "message": message},
    }  # fmt: skip


def callback_body(
    operation: Operation, task_id: str, trace_id: str, response: Mapping[str, Any], shape_setting: str
) -> Json:
    """The body POSTed to `callback_url`, from a task's response and the setting `callback_shape`."""
    envelope = {"success": bool(response.get("success")), "task_id": task_id, "trace_id": trace_id}
    rest = {name: value for name, value in response.items() if name not in _ENVELOPE}
    nested = operation.entry.callback == "nested" and shape_setting == "nested"
    if nested and envelope["success"]:
        return {**envelope, "data": rest}
    return {**envelope, **rest}

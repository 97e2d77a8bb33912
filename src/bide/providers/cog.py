"""A Cog server: one model behind `PUT predictions/{our id}` below the base URL.

The answer to the PUT is the result: a Cog server has no question for a prediction. So the connection stays open while
the model works, and `timeout_s` of the channel must be longer than that takes; what breaks it off makes the server
cancel the work. While it goes on, the same PUT joins it (202); after its end it would run again, which costs time and
nothing else. So an outcome that is not known is asked for by sending again, and a poll is the same PUT.

One prediction at a time is usual: give the channel a `concurrency`. A server that is busy or starting says so, and
nothing has begun.

Only the prompt and the files of the call are sent unless the channel says more, as a model refuses what it does not
know: options in `bide.providers.mapped`. The name of the model does not matter: a server has one.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from bide.providers import errors, predictions
from bide.providers.base import Call, Failed, Outcome, Pending, Unknown
from bide.providers.exchange import Answer, ask_json, plan_s, submit_json
from bide.providers.inline import FilledJson
from bide.providers.mapped import Plan, model_input, planned

CAPABILITIES = frozenset({
    "image.generate", "image.edit", "music.generate",
    "video.generate", "video.edit", "video.extend", "video.upsample",
})  # fmt: skip
TAKES_OUR_ID = True
POLLS_WITH_INPUTS = True

FIRST_S, NEXT_S, CAP_S = 1.0, 2.0, 10.0
_FILES = {"prompt": "prompt", "image": "image", "end_image": "end_image", "video": "video"}
FIELDS: Mapping[str, Mapping[str, str]] = {
    "image.generate": {"prompt": "prompt"},
    "image.edit": {"prompt": "prompt", "image": "image", "mask": "mask"},
    "video.generate": _FILES, "video.edit": _FILES, "video.extend": _FILES, "video.upsample": _FILES,
}  # fmt: skip


async def submit(call: Call) -> Outcome:
    """Asks for the work, or joins it where it is under way, and waits for its end."""
    plan = planned(call, FIELDS)
    return plan if isinstance(plan, Failed) else await _put(call, plan, FIRST_S)


async def poll(call: Call, upstream_id: str) -> Outcome:
    """Joins the work, or does it again: see the module's docstring."""
    plan = planned(call, FIELDS)
    if isinstance(plan, Failed):
        return plan
    outcome = await _put(call, plan, plan_s(call, NEXT_S, CAP_S))
    if isinstance(outcome, Failed) and outcome.retryable:  # it is busy with something else, or starting anew
        return Unknown(outcome.message, outcome.detail, outcome.status)
    return outcome


async def cancel(call: Call, upstream_id: str) -> bool:
    """Tells the server to stop."""
    plan = planned(call, FIELDS)
    if isinstance(plan, Failed):
        return False
    answer = await ask_json(call, f"{_path(call)}/cancel", method="POST", fields={}, headers=plan.headers)
    return isinstance(answer, Answer)


def _path(call: Call) -> str:
    return f"predictions/{quote(call.task_id, safe='')}"


async def _put(call: Call, plan: Plan, after_s: float) -> Outcome:
    body = FilledJson({"input": model_input(call, plan)})
    answer = await submit_json(call, _path(call), form=body, method="PUT", headers=plan.headers)
    if not isinstance(answer, Answer):
        return answer
    document: Any = answer.document
    if not isinstance(document, dict) or not isinstance(document.get("status"), str):
        return errors.lost(f"no prediction: {answer.text}", answer.headers, status=answer.status, key=call.key)
    outcome = await predictions.ended(call, plan, answer, document)
    return Pending(call.task_id, after_s) if outcome is None else outcome

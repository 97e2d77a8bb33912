"""Predictions, as Replicate and Cog servers speak of them: what the object says has become of the work."""

import re
from collections.abc import Mapping
from typing import Any

from bide.providers import errors
from bide.providers.base import Call, Failed, Progress, Succeeded
from bide.providers.exchange import Answer, failed_work
from bide.providers.made import made, within
from bide.providers.mapped import Plan
from bide.providers.words import Words

WORKING, DONE, FAILED, CANCELLED, TIMED_OUT = "working", "done", "failed", "cancelled", "timed out"
STATES: Mapping[str, str] = {
    "starting": WORKING, "queued": WORKING, "processing": WORKING, "succeeded": DONE, "successful": DONE,
    "failed": FAILED, "canceled": CANCELLED, "cancelled": CANCELLED, "aborted": TIMED_OUT,
}  # fmt: skip
"""Any other word says nothing: the work goes on, and its deadline decides. `aborted`: not begun in its time."""
LOGS_MAX = 2_000
_PERCENT = re.compile(r"(?<![0-9.])([0-9]{1,3})%")


def state_of(document: Mapping[str, Any]) -> str:
    word = document.get("status")
    return STATES.get(word.lower(), WORKING) if isinstance(word, str) else WORKING


async def ended(call: Call, plan: Plan, answer: Answer, document: Mapping[str, Any]) -> Succeeded | Failed | None:
    """The outcome of a prediction; None while it goes on, after telling how far it is."""
    match state_of(document):
        case "done":
            about = {"prediction": document["id"]} if isinstance(document.get("id"), str) else {}
            return await made(call, plan.capability, within(document.get("output"), plan.output), about)
        case "failed":
            return failed_work(call, answer, "" if document.get("error") else "The upstream could not do the work.")
        case "cancelled":
            return failed_work(call, answer, "The upstream has cancelled the work.")
        case "timed out":
            said = Words("The upstream did not begin in time.", ("timeout",))
            return errors.from_words(said, key=call.key, detail=answer.text, status=answer.status)
    if call.report is not None and (percent := _percent(document.get("logs"))) is not None:
        await call.report(Progress(percent))
    return None


def _percent(logs: Any) -> int | None:
    """The last percentage that the model has printed, as progress bars do."""
    found = _PERCENT.findall(logs[-LOGS_MAX:]) if isinstance(logs, str) else []
    return int(found[-1]) if found and int(found[-1]) <= 100 else None

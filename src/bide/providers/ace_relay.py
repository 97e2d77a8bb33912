"""Another platform of this gateway's own wire: every service and every capability, with one key.

A call goes to the path of the service it is about (`ace_relay_routes`), in that service's words: what the caller
asked for, `model` as the channel's `model_map` has it, sources by the relay's own ids. It is always asynchronous:
`async`, and `callback_url` where the gateway can be reached; the answer is a `task_id`, looked at through
`/{service}/tasks`; we keep it with its service, `veo/5b0f…`. A relay that answers the result at once has done so, and
that is taken.

`trace_id` is our task's id. It finds a submission whose answer was lost (`reconcile`). An empty answer means that
there is none only some seconds later, and only where every relay keeps a task: for pictures in OpenAI's shape some do
so for calls with a callback alone, and what is not found there stays unknown.

A task says nothing of its state: it has ended when it has `finished_at`, and how is read from its `response`. Media
are where each service has them (`URLS`); addresses that repeat those of the request are not results.

Options of the channel:

    paths = { "image.edit" = "openai/images/edits", … }   by capability: where to ask, whatever the call looks like

`base_url` is what stands before `/{service}`: `https://api.acedata.cloud`, `https://api.xhuoapi.ai/v1`, or that of
another gateway like this one.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from bide.providers import ace_relay_routes
from bide.providers.ace_relay_results import BARE, finished, percent
from bide.providers.ace_relay_routes import ROUTES, Route
from bide.providers.base import Absent, Call, Failed, Outcome, Pending, Progress, Unknown
from bide.providers.bodies import FormBody
from bide.providers.errors import lost
from bide.providers.exchange import Answer, age_s, ask_json, failed_work, plan_s, submit_json

CAPABILITIES = frozenset(name for route in ROUTES for name in route.can)
TAKES_OUR_ID = False
CALLS_BACK = True

FORM: Final = "openai/images/edits"
"""The one path whose files come with the request."""
FIRST_S, SLOW_S, CAP_S = 3.0, 5.0, 15.0
_SLOW = ("music.", "video.", "speech.", "grid.animate")
ABSENT_S = 10.0
"""Seconds after which a relay that knows no task of ours will not know it later."""
FORGOTTEN_S = 60.0
"""Seconds for which a task may be missing before it is given up: a replica of the relay's may be behind."""
_NOT_BILLED: Final = {"X-Record-Exempt": "true"}
"""Keeps polls out of the list of what was used."""


async def submit(call: Call) -> Outcome:
    """Asks once; the relay's task, or what it made at once."""
    route = _route(call)
    if isinstance(route, Failed):
        return route
    body = _body(call, route)
    if isinstance(body, Failed):
        return body
    form = None
    if route.path == FORM:
        texts = [(name, _text(value)) for name, value in body.items()]
        form = FormBody(texts, [(one.field, one) for one in call.inputs if one.field in ("image", "mask")])
    answer = await submit_json(call, route.path, body, form=form)
    if not isinstance(answer, Answer):
        return answer
    document = answer.document
    if not isinstance(document, dict):
        return lost(answer.text, answer.headers, status=answer.status, key=call.key)
    task_id = _id(document.get("task_id"))
    made = await finished(call, route.service, answer, document, task_id=task_id, ended=False)
    if made is not None:
        return made
    if not task_id:
        return lost(answer.text, answer.headers, status=answer.status, key=call.key)
    return Pending(f"{route.service}/{task_id}", _first_s(call))


async def poll(call: Call, upstream_id: str) -> Outcome:
    """Looks at the task. One that is missing is given time to appear."""
    service, _, task_id = upstream_id.partition("/")
    found = await _retrieved(call, service, {"id": task_id})
    if not isinstance(found, Answer):
        return found
    if not found.document:
        if age_s(call) < FORGOTTEN_S:
            return Pending(upstream_id, _next_s(call))
        return Failed("api_error", "The upstream does not know this work any more.", status=found.status)
    return await _looked_at(call, found, upstream_id)


async def reconcile(call: Call) -> Outcome | Absent:
    """Looks for a task with our id as its `trace_id`."""
    route = _route(call)
    if isinstance(route, Failed):
        return Unknown(route.message, route.detail)
    found = await _retrieved(call, route.service, {"trace_id": call.task_id})
    if isinstance(found, Failed):
        return Unknown(found.message, found.detail, found.status)
    if not isinstance(found, Answer):
        return found
    task_id = _id(found.document.get("id"))
    if not task_id:
        if _is_kept(route) and not found.document and age_s(call) >= ABSENT_S:
            return Absent()
        return Unknown("The upstream does not know of this work yet.", found.text, found.status)
    if _ended_before(call, found.document):
        return Unknown("The upstream knows an earlier submission only.", found.text, found.status)
    return await _looked_at(call, found, f"{route.service}/{task_id}")


def _is_kept(route: Route) -> bool:
    """Whether every relay keeps a task of such a call, so that none means that it never came. Whether a callback was
    given to this one is not known any more."""
    return route.path not in BARE and route.service != "openai"


async def _retrieved(call: Call, service: str, by: Mapping[str, str]) -> Answer | Failed | Unknown:
    """The task as the relay has it: a dict, empty if it has none."""
    answer = await ask_json(call, f"{service}/tasks", method="POST", fields={"action": "retrieve", **by},
                            headers=_NOT_BILLED)  # fmt: skip
    if isinstance(answer, Answer) and not isinstance(answer.document, dict):
        return lost(answer.text, answer.headers, status=answer.status, key=call.key)
    return answer


async def _looked_at(call: Call, found: Answer, upstream_id: str) -> Outcome:
    """What a task has become. It keeps the id that we know it by, whatever it calls itself now."""
    (service, _, task_id), task = upstream_id.partition("/"), found.document
    response = task.get("response")
    ended = bool(task.get("finished_at"))
    if isinstance(response, dict) and response:
        inner = replace(found, document=response)
        made = await finished(call, service, inner, response, task_id=task_id, ended=ended)
        if made is not None:
            return made
    elif ended:
        return failed_work(call, found, "The upstream ended the work without a result.")
    if call.report is not None and (done := percent(task, response)) is not None:
        await call.report(Progress(done))
    return Pending(upstream_id, _next_s(call))


# -- what is sent


def _route(call: Call) -> Route | Failed:
    """Where to submit it."""
    services = {one.about.get("service") for listed in call.sources.values() for one in listed} - {None}
    paths = call.options.get("paths")
    route = ace_relay_routes.find(
        call.capability,
        [name for name, value in call.request.items() if value is not None],
        call.model,
        renamed=call.model != (call.request.get("model") or ""),
        service=str(next(iter(services), "")),
        path=str(paths.get(call.capability) or "") if isinstance(paths, dict) else "",
        facade=call.facade,
    )
    return route or Failed("api_error", "This channel knows no place for such work.", "channel",
                           detail=f"no path for {call.capability}")  # fmt: skip


def _body(call: Call, route: Route) -> dict[str, Any] | Failed:
    """The request in the words of the service, asynchronous, with our id."""
    body: dict[str, Any] = {}
    for name, value in call.request.items():
        if name in route.fields and value is not None and name not in call.sources:
            body[route.names.get(name, name)] = value
    for name, sources in call.sources.items():
        ids = [_id(one.about.get("id")) for one in sources]
        if not all(ids):
            return Failed("bad_request", f"`{name}` names something that this upstream did not make.")
        if name in route.fields and ids:
            several = isinstance(call.request.get(name), list)
            body[route.names.get(name, name)] = ids if several else ids[0]
    if call.model and "model" in route.fields:
        body["model"] = call.model
    body["trace_id"] = call.task_id
    if route.path not in BARE:
        body["async"] = True
        if call.callback_url:
            body["callback_url"] = call.callback_url
    return body


def _text(value: Any) -> str:
    """A value of a form."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _id(value: Any) -> str:
    return str(value)[:200] if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


# -- when


def _first_s(call: Call) -> float:
    return SLOW_S if call.capability.startswith(_SLOW) else FIRST_S


def _next_s(call: Call) -> float:
    return plan_s(call, _first_s(call), CAP_S)


def _ended_before(call: Call, task: Mapping[str, Any]) -> bool:
    """Whether a task ended before this submission was made: an earlier attempt's has the same `trace_id`."""
    at = task.get("finished_at")
    return isinstance(at, (int, float)) and not isinstance(at, bool) and bool(call.asked_at) and (
        at * 1000 < call.asked_at - 1000 * ABSENT_S
    )  # fmt: skip

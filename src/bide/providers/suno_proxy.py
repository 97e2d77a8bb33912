"""Songs through the wrappers that there are for Suno, of two dialects.

`relay`: gateways that copied `/suno/submit/music` and `/suno/fetch/{id}`; a key, a task of one id, callbacks.
`wrapper`: a server for one's own account (`/api/generate`, `/api/get`); no key but perhaps a cookie, so it belongs on
a private network. It answers the clips at once, and what is asked for again are the clips: the work is as far as the
slowest of them.

A song that failed beside one that did not is left out. Which actions there are: `generate` and `extend` (of uploads
too) in both, `concat` and `stems` in the wrapper alone, as are the times of words (`music.timing`).

A lost submission can be looked for in the wrapper alone. A title that was asked for carries a mark of our task's id
there, which is taken off again; without a title the prompt and the time have to do. What is not found may still come.

Options of the channel:

    dialect = "relay"      or "wrapper"
    key                    the channel's key: a bearer token; in the wrapper the cookie to use, if not its own
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from bide.providers import errors
from bide.providers import suno_proxy_clips as clips
from bide.providers.base import Call, Failed, Outcome, Pending, Progress, Source, Succeeded, Unknown
from bide.providers.exchange import Answer, age_s, ask_json, failed_work, plan_s, submit_json

CAPABILITIES = frozenset({"music.generate", "music.lyrics", "music.timing"})
TAKES_OUR_ID = False
CALLS_BACK = True

FIRST_S, NEXT_S, CAP_S = 15.0, 5.0, 15.0
FORGOTTEN_S = 60.0
ACCEPTED: Final = frozenset({"success", "1", "200"})
"""What `code` may be, as a text, when a relay means yes."""
EXTENSIONS: Final = frozenset({"extend", "upload_extend"})
IDS_MAX = 24

Asked = tuple[str, dict[str, Any]]


async def submit(call: Call) -> Outcome:
    """Submits once. Lyrics of the wrapper and times of words come at once."""
    wrapper = _is_wrapper(call)
    if call.capability == "music.timing":
        return await _timing(call)
    asked = _wrapped(call) if wrapper else _relayed(call)
    if isinstance(asked, Failed):
        return asked
    path, body = asked
    answer = await submit_json(call, path, body, headers=_headers(call))
    if not isinstance(answer, Answer):
        return answer
    return _taken(call, answer) if wrapper else _accepted(call, answer)


async def poll(call: Call, upstream_id: str) -> Outcome:
    """Looks at the task, or at all clips of it."""
    if not _is_wrapper(call):
        return await _fetched(call, upstream_id)
    wanted = upstream_id.split(",")
    answer = await ask_json(call, f"api/get?ids={quote(upstream_id, safe=',')}", headers=_headers(call))
    if not isinstance(answer, Answer):
        return answer
    if not isinstance(answer.document, list):
        return errors.lost(answer.text, answer.headers, status=answer.status, key=call.key)
    found = [one for one in answer.document if isinstance(one, dict) and one.get("id") in wanted]
    return _of_clips(call, answer, found, upstream_id, len(wanted))


async def reconcile(call: Call) -> Outcome:
    """Looks for the clips of a lost submission among the newest of the wrapper's account."""
    if not _is_wrapper(call):
        return Unknown("This upstream cannot be asked what became of it.")
    answer = await ask_json(call, "api/get?page=0", headers=_headers(call))
    if isinstance(answer, Failed):
        return Unknown(answer.message, answer.detail, answer.status)
    if not isinstance(answer, Answer):
        return answer
    request = call.request
    titled = bool(request.get("custom")) or _action(call) in EXTENSIONS
    title, words = _said(request, "title") if titled else "", _said(request, "lyric") or _said(request, "prompt")
    listed = answer.document if isinstance(answer.document, list) else []
    found = clips.of_submission(call, title, words, listed)
    if not found:
        return Unknown("The upstream does not list this work.", answer.text, answer.status)
    upstream_id = ",".join(str(one["id"]) for one in found)
    return _of_clips(call, answer, found, upstream_id, len(found))


# -- what is sent


def _relayed(call: Call) -> Asked | Failed:
    """Where a relay is asked, and for what."""
    request, action = call.request, _action(call)
    hook = {"notify_hook": call.callback_url} if call.callback_url else {}
    if call.capability == "music.lyrics":
        return "suno/submit/lyrics", {"prompt": _said(request, "prompt"), **hook}
    body: dict[str, Any] = {**_manner(request), "mv": call.model, **hook}
    if action == "generate":
        return "suno/submit/music", {**body, **_words(request)}
    if action not in EXTENSIONS:
        return _cannot(action)
    source = _source(call)
    if isinstance(source, Failed):
        return source
    follows = {"continue_clip_id": source.about["clip"], "continue_at": request.get("continue_at")}
    if task := source.about.get("task"):
        follows["task_id"] = task
    return "suno/submit/music", {**body, "prompt": _said(request, "lyric") or _said(request, "prompt"), **follows}


def _words(request: Mapping[str, Any]) -> dict[str, str]:
    """The words of a song, or what they are to be about."""
    lyric, about = _said(request, "lyric"), _said(request, "lyric_prompt")
    if request.get("custom") and (lyric or not about):
        return {"prompt": lyric}
    return {"gpt_description_prompt": about if request.get("custom") else _said(request, "prompt")}


def _wrapped(call: Call) -> Asked | Failed:
    """Where the wrapper is asked, and for what. It is never told to wait: it gives up before songs are done."""
    request, action = call.request, _action(call)
    if call.capability == "music.lyrics":
        return "api/generate_lyrics", {"prompt": _said(request, "prompt")}
    manner = _manner(request)
    if title := manner.get("title"):
        manner["title"] = clips.marked(call, title)
    body = {**manner, "model": call.model, "wait_audio": False}
    if action == "generate" and not request.get("custom"):
        plain = {"prompt": _said(request, "prompt"), "make_instrumental": bool(request.get("instrumental"))}
        return "api/generate", {**plain, "model": call.model, "wait_audio": False}
    if action == "generate":
        if not _said(request, "lyric") and not request.get("instrumental"):
            return Failed("bad_request", "This upstream makes no words by itself with `custom`: `lyric` is needed.")
        return "api/custom_generate", {**body, "prompt": _said(request, "lyric")}
    if action not in {*EXTENSIONS, "concat", "stems"}:
        return _cannot(action)
    source = _source(call)
    if isinstance(source, Failed):
        return source
    clip = source.about["clip"]
    if action in EXTENSIONS:
        words = _said(request, "lyric") or _said(request, "prompt")
        return "api/extend_audio", {**body, "audio_id": clip, "prompt": words,
                                    "continue_at": request.get("continue_at")}  # fmt: skip
    return ("api/concat", {"clip_id": clip}) if action == "concat" else ("api/generate_stems", {"audio_id": clip})


def _manner(request: Mapping[str, Any]) -> dict[str, Any]:
    """How a song is to be, as both dialects call it."""
    names = {"style": "tags", "title": "title", "negative_tags": "negative_tags"}
    told = {its: said for ours, its in names.items() if (said := _said(request, ours))}
    return {**told, "make_instrumental": bool(request.get("instrumental"))}


def _action(call: Call) -> str:
    return _said(call.request, "action") or "generate"


def _said(request: Mapping[str, Any], name: str) -> str:
    value = request.get(name)
    return value if isinstance(value, str) else ""


def _source(call: Call) -> Source | Failed:
    source = call.source("audio_id")
    if source is None or not isinstance(source.about.get("clip"), str):
        return Failed("bad_request", "`audio_id` names nothing that this upstream made.")
    return source


def _cannot(what: str) -> Failed:
    return Failed("api_not_implemented", f"This upstream cannot do {what}.", "channel")


def _is_wrapper(call: Call) -> bool:
    return call.options.get("dialect") == "wrapper"


def _headers(call: Call) -> dict[str, str]:
    """The wrapper's key is a cookie, and nothing else."""
    return {"Authorization": "", "Cookie": call.key} if _is_wrapper(call) else {}


# -- the relay's answers


def _accepted(call: Call, answer: Answer) -> Outcome:
    """Its task, or why there is none."""
    document = answer.document
    if not isinstance(document, dict) or "code" not in document:
        said = answer.said if isinstance(document, dict) else None
        return failed_work(call, answer) if said is not None and said.structured else _unread(call, answer)
    if not _is_yes(document):
        return failed_work(call, answer)
    data = document.get("data")
    task_id = data.get("task_id") if isinstance(data, dict) else data
    if isinstance(task_id, (str, int)) and not isinstance(task_id, bool) and task_id:
        return Pending(str(task_id)[:200], FIRST_S)
    return _unread(call, answer)


async def _fetched(call: Call, upstream_id: str) -> Outcome:
    answer = await ask_json(call, f"suno/fetch/{quote(upstream_id, safe='')}", of_work=(400,))
    if isinstance(answer, Failed) and answer.status == 400:  # its word for a task that it does not have
        return _missing(call, upstream_id, answer.status)
    if not isinstance(answer, Answer):
        return answer
    document = answer.document
    if not isinstance(document, dict):
        return _unread(call, answer)
    task = document.get("data")
    if not _is_yes(document) or not isinstance(task, dict) or not task:
        return _missing(call, upstream_id, answer.status)
    state = clips.STATES.get(str(task.get("status")).lower(), clips.WORKING)
    made = task.get("data")
    if state == clips.FAILED:
        reason = task.get("fail_reason") or clips.reason(made) or "The upstream failed without a reason."
        return failed_work(call, answer, str(reason))
    if state == clips.WORKING:
        if call.report is not None and (percent := clips.percent(task.get("progress"))) is not None:
            await call.report(Progress(percent))
        return Pending(upstream_id, plan_s(call, NEXT_S, CAP_S))
    if call.capability == "music.lyrics":
        return _lyrics(call, answer, made if isinstance(made, list) else [made])
    found = [one for one in made if isinstance(one, dict)] if isinstance(made, list) else []
    return clips.finished(call, answer, found, task=upstream_id)


def _is_yes(document: Mapping[str, Any]) -> bool:
    return str(document.get("code")).lower() in ACCEPTED


# -- the wrapper's answers


def _taken(call: Call, answer: Answer) -> Outcome:
    """The clips that are being made; or lyrics."""
    document = answer.document
    listed = document if isinstance(document, list) else [document]
    if call.capability == "music.lyrics":
        return _lyrics(call, answer, listed)
    ids = [one["id"] for one in listed if isinstance(one, dict) and clips.is_id(one.get("id"))][:IDS_MAX]
    if ids:
        return Pending(",".join(ids), FIRST_S)
    if isinstance(document, dict) and document.get("error"):
        return failed_work(call, answer)
    return _unread(call, answer)


def _of_clips(call: Call, answer: Answer, found: list[dict[str, Any]], upstream_id: str, wanted: int) -> Outcome:
    """The work is as far as the slowest clip; one that is missing is given time to appear."""
    states = [clips.state(one) for one in found]
    missing = wanted - len(found)
    if not found:
        return _missing(call, upstream_id, answer.status)
    if clips.WORKING in states or (missing > 0 and age_s(call) < FORGOTTEN_S):
        return Pending(upstream_id, plan_s(call, NEXT_S, CAP_S))
    return clips.finished(call, answer, found)


async def _timing(call: Call) -> Outcome:
    source = _source(call)
    if isinstance(source, Failed):
        return source
    if not _is_wrapper(call):
        return _cannot("the times of words")
    answer = await ask_json(call, f"api/get_aligned_lyrics?song_id={quote(source.about['clip'], safe='')}",
                            headers=_headers(call))  # fmt: skip
    if isinstance(answer, Unknown):  # nothing was made: it may be asked again
        return Failed("api_error", answer.message, "channel", retryable=True, detail=answer.detail,
                      status=answer.status)  # fmt: skip
    if isinstance(answer, Failed):
        return answer
    document = answer.document
    told = document if isinstance(document, dict) else {"aligned_words": document}
    aligned = told.get("aligned_words")
    if not isinstance(aligned, list):
        return failed_work(call, answer, "The upstream knows no times of these words.")
    kept = {name: told[name] for name in ("waveform_data", "hoot_cer") if name in told}
    return Succeeded(response={"waveform_data": [], "hoot_cer": 0, **kept, "aligned_words": aligned})


# -- the answers of both


def _lyrics(call: Call, answer: Answer, listed: list[Any]) -> Outcome:
    variants = clips.variants(listed)
    if variants:
        return Succeeded(response={**variants[0], "variants": variants})
    said = answer.said
    if said is not None and said.structured and isinstance(answer.document, dict) and answer.document.get("error"):
        return failed_work(call, answer)
    return failed_work(call, answer, "The upstream says it succeeded, but there are no words.")


def _missing(call: Call, upstream_id: str, status: int | None) -> Outcome:
    if age_s(call) < FORGOTTEN_S:
        return Pending(upstream_id, plan_s(call, NEXT_S, CAP_S))
    return Failed("api_error", "The upstream does not know this work any more.", status=status)


def _unread(call: Call, answer: Answer) -> Unknown:
    return errors.lost(answer.text, answer.headers, status=answer.status, key=call.key)

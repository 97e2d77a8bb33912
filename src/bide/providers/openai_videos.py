"""Any server with OpenAI's `/v1/videos`, as LiteLLM, vLLM-Omni, SGLang and relays serve it: below a base URL

    POST videos                      a new film; a form where a picture goes along
    POST videos/edits · extensions   the same film changed, or longer; `videos/{id}/remix` on older servers
    GET  videos/{id}                 how it is doing
    GET  videos/{id}/content         the film, asked with the channel's key and written to storage while it arrives
    GET  videos                      looks for a film whose answer was lost (option `list`)
    DELETE videos/{id}               it is not wanted any more

Nothing is sent twice: a server of this kind takes no key of ours. Servers differ from the form and from each other:
the first id is kept whatever later answers call the film, status words are many, and a field may be null.

Options of the channel (`options` in its table):

    form     true: always send a form, for servers that read nothing else (vLLM-Omni)
    edits    `edits` (assumed), or `remix`: how an earlier film is changed
    pictures how many pictures a new film may begin with, 1 if left out; a call with more goes elsewhere
    list     true: the server lists its films, newest first, so that one whose answer was lost is looked for
    fields   further fields of the request to send, ours to theirs: `{ negative_prompt = "negative_prompt" }`
    drop     names of fields never to send
    extra    a table merged into every request, over all else

A lost film is known by its prompt, and by being made when it was asked for (`FOUND_S`). Where two could be it, the
outcome stays unknown.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from bide.providers import errors, films
from bide.providers.base import (
    Absent,
    Asset,
    Call,
    Failed,
    Input,
    Item,
    Outcome,
    Pending,
    Progress,
    Succeeded,
    Unknown,
)
from bide.providers.bodies import FormBody
from bide.providers.exchange import Answer, age_s, ask_json, failed_work, plan_s, submit_json, web_address
from bide.providers.openai_images import without_settings
from bide.providers.openai_videos_content import content

CAPABILITIES = frozenset({"video.generate", "video.edit", "video.extend"})
TAKES_OUR_ID = False

WAITING, WORKING, DONE, FAILED, CANCELLED = "waiting", "working", "done", "failed", "cancelled"
STATES: Mapping[str, str] = {
    word: state
    for state, those in (
        (WAITING, "queued pending submitted not_start not_started created starting unknown"),
        (WORKING, "in_progress processing running generating"),
        (DONE, "completed complete succeeded success finished"),
        (FAILED, "failed failure error"),
        (CANCELLED, "cancelled canceled"),
    )
    for word in those.split()
}  # fmt: skip
"""Any other word says nothing: the work goes on, and its deadline decides."""

FIRST_S, NEXT_S, CAP_S = 3.0, 5.0, 20.0
NAMED_SIZES: Mapping[str, tuple[int, int]] = {"small": (1280, 720), "large": (1792, 1024)}
LIST_MAX = 100
FOUND_S = (30.0, 300.0)
"""A film counts as the one asked for if it was made at most so long before (clocks differ) and after."""
LISTED_S = 60.0
"""Only after so long a film that is not listed certainly is not there."""
ID_MAX = 1024

_PIXELS = re.compile(r"([1-9][0-9]{1,4})[x*]([1-9][0-9]{1,4})")
_PERCENT = re.compile(r"([0-9]{1,3})(?:\.[0-9]{1,9})?\s?%?")


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See the module's docstring."""

    form: bool = False
    edits: Literal["edits", "remix"] = "edits"
    pictures: int = 1
    list: bool = False
    fields: dict[str, str] = {}
    drop: tuple[str, ...] = ()
    extra: dict[str, Any] = {}


async def submit(call: Call) -> Outcome:
    """Asks for a film once."""
    options = _options(call)
    if isinstance(options, Failed):
        return options
    asked = _asked(call, options)
    if isinstance(asked, Failed):
        return asked
    path, fields, pictures = asked
    form = None
    if pictures or options.form:
        form = FormBody(((name, _form_text(value)) for name, value in fields.items()),
                        (("input_reference", one) for one in pictures))  # fmt: skip
    answer = await submit_json(call, path, fields, form=form)
    if not isinstance(answer, Answer):
        return answer
    document = answer.document if isinstance(answer.document, dict) else {}
    upstream_id = _id_of(document)
    if not upstream_id:
        if answer.said is not None:
            return failed_work(call, answer)
        return errors.lost(f"no id: {answer.text}", answer.headers, status=answer.status, key=call.key)
    state = _state(document)
    if state in (FAILED, CANCELLED):
        return _ended(call, answer, state)
    return Pending(upstream_id, 0.0 if state == DONE else FIRST_S)


async def poll(call: Call, upstream_id: str) -> Outcome:
    """How the film is doing; brings it here when it is done."""
    answer = await ask_json(call, f"videos/{quote(upstream_id, safe='')}")
    if not isinstance(answer, Answer):
        return answer
    if not isinstance(answer.document, dict):
        return errors.lost(f"no object: {answer.text}", answer.headers, status=answer.status, key=call.key)
    return await _looked_at(call, upstream_id, answer, answer.document)


async def reconcile(call: Call) -> Outcome | Absent:
    """Looks for the film among those that the server lists, if it is said to list them."""
    options = _options(call)
    if isinstance(options, Failed) or not options.list or not call.asked_at:
        return Unknown("This channel cannot be asked what it has accepted.")
    asked = _asked(call, options)
    if isinstance(asked, Failed):
        return Unknown(errors.NOT_KNOWN, asked.message)
    answer = await ask_json(call, f"videos?limit={LIST_MAX}&order=desc")
    if not isinstance(answer, Answer):
        return Unknown(errors.NOT_KNOWN, answer.detail, answer.status)
    listed = answer.document.get("data") if isinstance(answer.document, dict) else None
    if not isinstance(listed, list):
        return errors.lost(f"no list: {answer.text}", answer.headers, status=answer.status, key=call.key)
    films_ = [one for one in listed if isinstance(one, dict)]
    found = [one for one in films_ if _id_of(one) and _is_ours(call, asked[1], one)]
    if len(found) == 1:
        return await _looked_at(call, _id_of(found[0]), answer, found[0])
    if found or age_s(call) < LISTED_S or not _is_whole(call, answer.document, films_):
        return Unknown(errors.NOT_KNOWN, f"{len(found)} films of the list could be it")
    return Absent()


async def cancel(call: Call, upstream_id: str) -> bool:
    """Deletes the film; many servers refuse that while it is made."""
    answer = await ask_json(call, f"videos/{quote(upstream_id, safe='')}", method="DELETE")
    return isinstance(answer, Answer) and isinstance(answer.document, dict) and answer.document.get("deleted") is True


# -- what is sent


def _options(call: Call) -> Options | Failed:
    try:
        return msgspec.convert(dict(call.options), Options)
    except msgspec.ValidationError as error:
        return Failed("api_error", "The channel's options are not valid.", "channel", detail=str(error))


def _asked(call: Call, options: Options) -> tuple[str, dict[str, Any], list[Input]] | Failed:
    """Path, fields and pictures of the request."""
    film = films.asked(call)
    fields: dict[str, Any] = {}
    if prompt := without_settings(film.prompt):
        fields["prompt"] = prompt
    pictures: list[Input] = []
    if call.capability == "video.generate":
        if film.action.startswith("get"):
            return _cannot("another form of a film that was made")
        path = "videos"
        pictures = [one for one in call.inputs if one.content_type.startswith("image/")]
        if call.request.get("version") == "2.0":
            pictures = pictures[:1]  # of that interface, which is this one, only the first counts
        if len(pictures) > options.pictures:
            return _cannot(f"a film from {len(pictures)} pictures")
        if call.model:
            fields["model"] = call.model
        if size := _size(call.request, film):
            fields["size"] = size
    else:
        source = film.follows
        followed = source.about.get("video") if source else None
        if not isinstance(followed, str):
            return _cannot("a film that was made elsewhere")
        if call.capability == "video.edit" and options.edits == "remix":
            path = f"videos/{quote(followed, safe='')}/remix"
        else:
            path = "videos/edits" if call.capability == "video.edit" else "videos/extensions"
            fields["video"] = {"id": followed}
    if film.seconds is not None and call.capability != "video.edit":
        fields["seconds"] = f"{film.seconds:g}"
    for ours, theirs in options.fields.items():
        if call.request.get(ours) not in (None, ""):
            fields[theirs] = call.request[ours]
    for name in options.drop:
        fields.pop(name, None)
    fields.update(options.extra)
    return path, fields, pictures


def _cannot(what: str) -> Failed:
    return Failed("bad_request", f"The upstream does not take {what}.", "channel")


def _size(request: Mapping[str, Any], film: films.Film) -> str:
    """`WxH`; empty where the call does not say: then the server chooses."""
    said = films.text(request, "size")
    if found := _PIXELS.fullmatch(said):
        return f"{found[1]}x{found[2]}"
    if said in NAMED_SIZES:
        wide, tall = NAMED_SIZES[said]
        return f"{tall}x{wide}" if request.get("orientation") == "portrait" else f"{wide}x{tall}"
    across, _, down = film.ratio.partition(":")
    if not (across.isdecimal() and down.isdecimal() and 0 < int(across) < 100 and 0 < int(down) < 100):
        if not film.short_side:
            return ""
        across, down = "16", "9"
    short, wide, tall = film.short_side or 720, int(across), int(down)
    long = round(short * max(wide, tall) / min(wide, tall) / 2) * 2
    return f"{long}x{short}" if wide >= tall else f"{short}x{long}"


def _form_text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


# -- what is answered


def _id_of(document: Mapping[str, Any]) -> str:
    for name in ("id", "video_id", "task_id"):
        value = document.get(name)
        if isinstance(value, str) and 0 < len(value) <= ID_MAX and value.isprintable() and value.strip("."):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return ""


def _state(document: Mapping[str, Any]) -> str:
    word = document.get("status")
    return STATES.get(word.strip().lower(), WORKING) if isinstance(word, str) else WORKING


async def _looked_at(call: Call, upstream_id: str, answer: Answer, document: Mapping[str, Any]) -> Outcome:
    state = _state(document)
    if state == DONE:
        return await _brought(call, upstream_id, document)
    if state in (FAILED, CANCELLED):
        return _ended(call, Answer(answer.status, answer.headers, document), state)
    percent = _percent(document.get("progress"))
    if percent is not None and call.report is not None:
        await call.report(Progress(percent))
    return Pending(upstream_id, plan_s(call, NEXT_S, CAP_S))


def _ended(call: Call, answer: Answer, state: str) -> Failed:
    if state == CANCELLED:
        return failed_work(call, answer, "The upstream has cancelled the film.")
    error = answer.document.get("error")
    return failed_work(call, answer, "" if error else "The upstream could not make the film.")


def _percent(value: Any) -> int | None:
    if isinstance(value, str) and (found := _PERCENT.fullmatch(value)):
        value = int(found[1])
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100:
        return int(value)
    return None


async def _brought(call: Call, upstream_id: str, document: Mapping[str, Any]) -> Outcome:
    """The finished film. If its content cannot be had now, the film is asked for again later."""
    asset = await content(call, upstream_id)
    if not isinstance(asset, Asset):
        metadata = document.get("metadata")
        about = metadata if isinstance(metadata, dict) else {}
        said = (document.get("url"), document.get("video_url"), about.get("url"))
        elsewhere = next((url for url in map(web_address, said) if url), None)
        if elsewhere is None:
            return asset
        asset = Asset(url=elsewhere, role=films.VIDEO)
    film = films.asked(call)
    seconds = _number(document.get("seconds")) or film.seconds
    charged = film.seconds or seconds if call.capability == "video.extend" else seconds
    fields: dict[str, Any] = {"state": "succeeded", "prompt": film.prompt, "model": call.model}
    if seconds:
        fields["seconds"] = int(seconds) if seconds == int(seconds) else seconds
    size = document.get("size")
    if found := _PIXELS.fullmatch(size if isinstance(size, str) else _size(call.request, film)):
        fields |= {"width": int(found[1]), "height": int(found[2])}
    item = Item((asset,), fields, {"video": upstream_id})
    return Succeeded(items=(item,), units=max(1, round(charged or 1)), response={"state": "succeeded"})


def _number(value: Any) -> float | None:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,9})?", value):
        value = float(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value < 100_000 else None


# -- what was lost


def _is_ours(call: Call, fields: Mapping[str, Any], film: Mapping[str, Any]) -> bool:
    """Whether a listed film can be the one that was asked for with these fields."""
    created = _seconds_of(film)
    if created is None:
        return False
    after = created - call.asked_at / 1000
    same = all(
        film.get(name) in (None, "") or str(film[name]) == fields[name]
        for name in ("seconds", "size") if isinstance(fields.get(name), str)
    )  # fmt: skip
    return -FOUND_S[0] <= after <= FOUND_S[1] and film.get("prompt") == fields.get("prompt") and same


def _seconds_of(film: Mapping[str, Any]) -> float | None:
    value = film.get("created_at")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _is_whole(call: Call, document: Mapping[str, Any], listed: list[dict[str, Any]]) -> bool:
    """Whether the list goes back to before the film was asked for, and says of each film what it is known by."""
    made = [_seconds_of(one) for one in listed]
    if any(one is None for one in made) or not all(isinstance(one.get("prompt"), str) for one in listed):
        return False
    if not document.get("has_more") and len(listed) < LIST_MAX:
        return True
    return min((one for one in made if one is not None), default=0) < call.asked_at / 1000 - FOUND_S[0]

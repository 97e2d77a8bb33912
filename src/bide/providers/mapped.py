"""The caller's fields as the input of a model with a schema of its own, as those of Replicate, Cog and fal are.

A model names its fields as it likes, so the channel says how ours are called there; what it leaves out has the
default of the provider. Options of the channel (`options` in its table) that are read here:

    fields    ours to theirs: `{ prompt = "prompt", duration = "seconds" }`; a dot leads into an object
              (`width = "image_size.width"`), an empty name is not sent. A value that has to change is a table:
              `{ name = "seconds", text = "{}s" }`, `{ name = "mode", values = { "1080p" = "pro" } }`
    extra     a table merged into every input, over all else
    output    where in the model's output the files are, `a.b`; left out: wherever they are
    inputs    `data` (assumed): files of the caller are sent in the request. `address`: where the caller named an
              address, that is sent, and the upstream fetches it
    headers   further headers of every request; they do not replace the key's
    mappings  a list of tables that change the above for some calls: `models` and `capabilities` (patterns; left out:
              all) say for which, `model` is another name at the upstream. The first that fits counts

Ours are all fields of the request, and beside them

    prompt            wherever the request has it      n                 how many, if more than one
    width, height     if `size` is in pixels           seconds           the length, as a number
    aspect_ratio      as the caller said it            ratio             the same, or the nearest to `size`
    image, images     the first picture, and all       end_image         the picture a film ends with
    references        pictures that are to appear      mask, audio       those files
    video             the film that is followed up, or its address

`music.generate`, and what else has no default here, is done only where `fields` were given for it.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec

from bide.providers import errors, films
from bide.providers.base import Call, Failed, Input
from bide.providers.inline import InBase64
from bide.providers.words import Words

_PIXELS = re.compile(r"([1-9][0-9]{1,4})[x*]([1-9][0-9]{1,4})")
_RATIO = re.compile(r"[1-9][0-9]?:[1-9][0-9]?")
_RATIOS = ("1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3", "5:4", "4:5", "21:9", "9:21")
_NOTHING: tuple[Any, ...] = (None, "", "auto", [], {})
_MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
MODEL_MAX = 200

Defaults = Mapping[str, Mapping[str, str]]
"""By capability: our names to theirs."""


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one of our fields is sent: `text` has `{}` in the place of the value, `values` are words for words."""

    name: str
    text: str = ""
    values: dict[str, Any] = {}


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of `mappings`."""

    models: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    model: str = ""
    fields: dict[str, str | Target] = {}
    extra: dict[str, Any] = {}
    output: str = ""


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    fields: dict[str, str | Target] = {}
    extra: dict[str, Any] = {}
    output: str = ""
    inputs: Literal["data", "address"] = "data"
    headers: dict[str, str] = {}
    mappings: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a call becomes. `capability` is what is really asked for."""

    capability: str
    model: str
    fields: Mapping[str, str | Target]
    extra: Mapping[str, Any]
    output: str
    headers: Mapping[str, str]
    by_address: bool


def planned(call: Call, defaults: Defaults) -> Plan | Failed:
    """What the channel's options make of a call, or why it cannot be sent."""
    try:
        options = msgspec.convert(dict(call.options), Options)
    except msgspec.ValidationError as error:
        return Failed("api_error", "The channel's options are not valid.", "channel", detail=str(error))
    capability = _capability(call)
    change = next((one for one in options.mappings if _fits(one, call.model, capability)), Change())
    given = {**options.fields, **change.fields}
    if capability not in defaults and not given:
        return Failed("api_not_implemented", f"The channel does not say how to ask for {capability}.", "channel")
    return Plan(
        capability, change.model or call.model, {**defaults.get(capability, {}), **given},
        {**options.extra, **change.extra}, change.output or options.output,
        {name: value for name, value in options.headers.items() if name.lower() != "authorization"},
        options.inputs == "address",
    )  # fmt: skip


def is_path(model: str) -> bool:
    """Whether a model's name can stand in a path and lead nowhere else: callers may choose it."""
    return len(model) <= MODEL_MAX and _MODEL.fullmatch(model) is not None


def no_model(model: str) -> Failed:
    """The outcome for a name that cannot be one of the upstream's."""
    return errors.from_words(Words(message=f"no such model: {model[:MODEL_MAX]}", codes=("model_not_found",)))


def _capability(call: Call) -> str:
    """A larger form of an earlier film is asked for as an action of some services."""
    action = str(call.request.get("action") or "")
    return "video.upsample" if call.capability == "video.generate" and action.startswith("get") else call.capability


def _fits(change: Change, model: str, capability: str) -> bool:
    return (not change.models or any(fnmatchcase(model, one) for one in change.models)) and (
        not change.capabilities or any(fnmatchcase(capability, one) for one in change.capabilities)
    )


# -- the input


def model_input(call: Call, plan: Plan) -> dict[str, Any]:
    """The model's input; each file that goes along is an `InBase64`."""
    values, document = _values(call, plan.by_address), dict[str, Any]()
    for ours, target in plan.fields.items():
        value = values.get(ours)
        if not isinstance(value, InBase64) and value in _NOTHING:
            continue
        if isinstance(target, Target):
            _put(document, target.name, _changed(target, value))
        else:
            _put(document, target, value)
    return document | dict(plan.extra)


def _changed(target: Target, value: Any) -> Any:
    if isinstance(value, str | int | float):
        word = value if isinstance(value, str) else f"{value:g}"
        if word in target.values:
            return target.values[word]
        if target.text:
            return target.text.replace("{}", word)
    return value


def _put(document: dict[str, Any], name: str, value: Any) -> None:
    *path, last = name.split(".")
    for part in path:
        inner = document.setdefault(part, {})
        if not isinstance(inner, dict):
            return
        document = inner
    if last:
        document[last] = value


def _values(call: Call, by_address: bool) -> dict[str, Any]:
    """Our fields with what follows from them."""
    request, film = call.request, films.asked(call)

    def sent(given: Input | None) -> Any:
        if given is None:
            return None
        return (_address(call, given) if by_address else None) or InBase64(given, data_url=True)

    pictures = [one for one in call.inputs if one.content_type.startswith("image/") and one.field != "mask"]
    is_film = call.capability.startswith("video.")
    references = film.references if is_film else ()
    values: dict[str, Any] = {
        **request, "prompt": film.prompt, "seconds": _plain(film.seconds),
        "image": sent(film.first if is_film else next(iter(pictures), None)),
        "images": [sent(one) for one in pictures],
        "references": [sent(one) for one in references],
        "end_image": sent(film.last if is_film else None),
        "mask": sent(next((one for one in call.inputs if one.field == "mask"), None)),
        "audio": sent(_file(call, "audio")) or _first(request, "audio_url", "audio_urls"),
        "video": sent(_file(call, "video")) or _first(request, "video_url", "video_urls"),
        **_shape(request),
    }  # fmt: skip
    if not isinstance(request.get("n"), int) or request["n"] < 2:
        values.pop("n", None)
    return values


def _file(call: Call, kind: str) -> Input | None:
    """A film or a sound: one of the request, or the file of what it follows up."""
    of_sources = [one for listed in call.sources.values() for source in listed for one in source.files]
    return next((one for one in (*call.inputs, *of_sources) if one.content_type.startswith(f"{kind}/")), None)


def _first(request: Mapping[str, Any], *names: str) -> str | None:
    for name in names:
        value = request.get(name)
        one = next(iter(value), None) if isinstance(value, list) else value
        if isinstance(one, str) and one:
            return one
    return None


def _address(call: Call, given: Input) -> str | None:
    """Where the caller said that the file is."""
    value, same = call.request.get(given.field), [one for one in call.inputs if one.field == given.field]
    listed = value if isinstance(value, list) else [value]
    at = next((number for number, one in enumerate(same) if one is given), None)
    found = listed[at] if at is not None and len(listed) == len(same) else None
    return found if isinstance(found, str) and found[:8].lower().startswith(("http://", "https://")) else None


def _shape(request: Mapping[str, Any]) -> dict[str, Any]:
    size, said = films.text(request, "size"), films.text(request, "aspect_ratio")
    stated = next((one for one in (said, size) if _RATIO.fullmatch(one)), None)
    if found := _PIXELS.fullmatch(size):
        width, height = int(found[1]), int(found[2])
        return {"width": width, "height": height, "aspect_ratio": stated, "ratio": stated or _nearest(width / height)}
    return {"aspect_ratio": stated, "ratio": stated}


def _nearest(shape: float, ratios: Sequence[str] = _RATIOS) -> str:
    def far(ratio: str) -> float:
        across, _, down = ratio.partition(":")
        return abs(math.log(shape * int(down) / int(across)))

    return min(ratios, key=far)


def _plain(number: float | None) -> int | float | None:
    return int(number) if number is not None and number == int(number) else number

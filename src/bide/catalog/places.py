"""Where the addresses are that a field holds: in a list or an object, or among the words of a text. Pure.

A field of the type `url` is an address, one of `urls` a list of them. Any other field says in `places` where:

    [].image_url.url    of an `array`: below these keys of every entry, which are objects
    image.url           of an `object`: below these keys
    front               of a `string`: the addresses it begins with, separated by spaces
    parameters          of a `string`: addresses behind its first ` --name` (a long dash will do)

What is at a place must be an address (or a picture in base64, where the place says `data`), and what is on the way
to it what the path says; an entry without the key, or with `null`, names nothing. Any other text in a list or an
object that is an address all by itself counts as one that an upstream fetches, so that a place nobody thought of is
guarded too; only a field that says `places = []` has no addresses at all.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

URL_LENGTH_MAX = 2048
URL_PATTERN = r"^[hH][tT][tT][pP][sS]?://[^\u0000-\u0020\u007f/?#\\]+([/?#][^\u0000-\u0020\u007f]*)?$"
is_url = re.compile(URL_PATTERN).fullmatch
is_picture_data = re.compile(r"data:image/[a-z0-9.+-]+;base64,[A-Za-z0-9+/]+={0,2}").fullmatch

ADDRESSES_MAX = 64
"""Of one field: each may cost a look-up of its name, and a fetch."""

Fetch = Literal["picture", "audio", "upstream"]
FRONT, PARAMETERS, EACH = "front", "parameters", "[]"

_KEYS = r"[A-Za-z_]\w*(\[\])?(\.[A-Za-z_]\w*(\[\])?)*"
_FRONT = re.compile(r"\s*(https?://\S+)", re.IGNORECASE)
_PARAMETER = re.compile("(?:^|(?<=\\s))(?:--|[\u2013\u2014])[A-Za-z]")  # telephones make one dash of two
_ADDRESS = re.compile(r"https?://\S+", re.IGNORECASE)
_LIKE_ADDRESS = re.compile(r"https?:[/\\]\S*", re.IGNORECASE)
_UNREAD = dict.fromkeys(map(ord, "\t\r\n"))
_AROUND = "".join(map(chr, range(0x21)))
_MUST = f"an http:// or https:// URL of at most {URL_LENGTH_MAX:,} characters"


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One place of addresses in a field."""

    path: str
    fetch: Fetch
    """Whose they are: pictures or sounds that are fetched for the provider, or what an upstream fetches."""
    data: bool = False
    """Whether a picture may be there itself, as a `data:` URL in base64."""
    count_max: int | None = None


@dataclass(frozen=True, slots=True)
class Named:
    """An address, or a picture in base64, that a request holds. `where` is how a sentence calls it:
    `content[1].image_url.url`."""

    field: str
    where: str
    text: str
    fetch: Fetch


class Misplaced(ValueError):
    """What is at a place, or on the way to it, is something else: `where`, the value, and what it must be."""

    def __init__(self, where: str, value: Any, must: str) -> None:
        super().__init__(where)
        self.where, self.value, self.must = where, value, must


def wrong_path(place: Place, type_: str) -> bool:
    """Whether a place means nothing for a field of a type."""
    match type_:
        case "string":
            return place.path not in (FRONT, PARAMETERS) or place.data
        case "array":
            return re.fullmatch(rf"\[\](\.{_KEYS})?", place.path) is None
        case "object":
            return re.fullmatch(_KEYS, place.path) is None
        case _:
            return True


def named(name: str, value: Any, places: tuple[Place, ...]) -> list[Named]:
    """Every address at the places of a field, in the order of the places, and those that are nowhere said to be.

    Raises `Misplaced`, with no value where there are too many of them.
    """
    found: list[Named] = []
    for place in places:
        here = [_checked(name, place, where, text) for where, text in _at(name, place, value)]
        if place.count_max is not None and len(here) > place.count_max:
            raise Misplaced(name, None, _too_many(place.path, len(here), place.count_max))
        found += here
    known = {one.where for one in found}
    if not isinstance(value, str):
        found += [one for where, text in _texts(name, value)
                  if where not in known and (one := _stray(name, where, text)) is not None]  # fmt: skip
    if len(found) > ADDRESSES_MAX:
        raise Misplaced(name, None, _too_many("", len(found), ADDRESSES_MAX))
    return found


def _stray(name: str, where: str, text: str) -> Named | None:
    """A text that is an address all by itself, as the most forgiving readers (WHATWG URL) see it: without what is
    around it and the breaks in it. Raises `Misplaced` for what they alone take for one: with backslashes, or with
    more or fewer slashes than two."""
    if ":" not in text:
        return None
    plain = text.translate(_UNREAD).strip(_AROUND)
    if is_url(plain):
        return Named(name, where, plain, "upstream")
    if _LIKE_ADDRESS.fullmatch(plain):
        raise Misplaced(where, text, _MUST)
    return None


def _too_many(path: str, many: int, most: int) -> str:
    does = "begins with" if path == FRONT else "has"
    return f"{does} {many} addresses; at most {most} are taken"


def _at(name: str, place: Place, value: Any) -> Iterator[tuple[str, Any]]:
    """Where, and what is there."""
    if place.path == FRONT:
        at = 0
        while at < len(value) and (match := _FRONT.match(value, at)):
            yield name, match[1]
            at = match.end()
    elif place.path == PARAMETERS:
        begin = _PARAMETER.search(value)
        yield from ((name, one[0]) for one in _ADDRESS.finditer(value, begin.end() if begin else len(value)))
    else:
        steps = [one for one in re.split(r"(\[\])|\.", place.path) if one]
        yield from _below(name, value, steps)


def _below(where: str, value: Any, steps: list[str]) -> Iterator[tuple[str, Any]]:
    if value is None:
        return
    if not steps:
        yield where, value
        return
    step, rest = steps[0], steps[1:]
    if step == EACH:
        if not isinstance(value, list):
            raise Misplaced(where, value, "a list")
        for at, one in enumerate(value):
            yield from _below(f"{where}[{at}]", one, rest)
    elif isinstance(value, dict):
        yield from _below(f"{where}.{step}", value.get(step), rest)
    else:
        raise Misplaced(where, value, "an object")


def _checked(name: str, place: Place, where: str, text: Any) -> Named:
    if isinstance(text, str):
        if len(text) <= URL_LENGTH_MAX and is_url(text):
            return Named(name, where, text, place.fetch)
        if place.data and is_picture_data(text):
            return Named(name, where, text, place.fetch)
    raise Misplaced(where, text, f"{_MUST}, or a data: URL of a picture in base64" if place.data else _MUST)


def _texts(where: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every text, however deep, and where it is."""
    match value:
        case str():
            yield where, value
        case dict():
            for key, one in value.items():
                yield from _texts(f"{where}.{key}", one)
        case list():
            for at, one in enumerate(value):
                yield from _texts(f"{where}[{at}]", one)

"""One field of a request body: what the catalogue says of it, and the check made from that. Pure.

A check takes the value of the body and gives the value for the provider, `ABSENT` for one that counts as left
out, or raises `BadRequest` with one sentence: the field, the value, what is allowed.

JSON values are taken strictly: `"1"`, `1.0` and `true` are not whole numbers. A multipart body has only texts and
files, so there a text is read as the field's type; an optional field that is empty, `null` or `None` was left out.
A file is a dict with `filename`, `content_type`, `size` (bytes); repeated parts are a list.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Literal

import msgspec

from bide.catalog import sizes
from bide.errors import BadRequest

URL_LENGTH_MAX = 2048
URL_PATTERN = r"^[hH][tT][tT][pP][sS]?://[^\u0000-\u0020\u007f/?#\\]+([/?#][^\u0000-\u0020\u007f]*)?$"
PLAIN_PATTERN = r"^[^\u0000-\u001f\u007f]*$"
_URL = re.compile(URL_PATTERN)
_PLAIN = re.compile(PLAIN_PATTERN)

ITEM_LENGTH_MAX = 256

Type = Literal[
    "string", "integer", "number", "boolean", "size", "url", "urls", "strings", "object", "array", "file", "files",
    "item", "items",
]  # fmt: skip
LISTS = frozenset({"urls", "strings", "array", "files", "items"})
ITEMS = frozenset({"item", "items"})

Check = Callable[[Any], Any]
Test = Callable[[Any], bool]

ABSENT: Final[Any] = object()
_WRONG: Final[Any] = object()


class Bounds(sizes.SizeBounds, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What narrows the values of a type; which bound fits which type is in `BOUNDS`."""

    enum: tuple[str | int, ...] | None = None
    min: int | float | None = None
    max: int | float | None = None
    length_min: int | None = None
    length_max: int | None = None
    pattern: str | None = None
    plain: bool | None = None
    """No control characters."""
    count_min: int | None = None
    count_max: int | None = None
    bytes_max: int | None = None


_TEXT = frozenset({"enum", "length_min", "length_max", "pattern", "plain"})
_NUMBER = frozenset({"enum", "min", "max"})
_COUNT = frozenset({"count_min", "count_max"})
BOUNDS: Mapping[str, frozenset[str]] = {
    "string": _TEXT,
    "integer": _NUMBER, "number": _NUMBER,
    "boolean": frozenset(), "object": frozenset(),
    "size": frozenset({"enum", *sizes.SizeBounds.__struct_fields__}),
    "url": frozenset({"length_max"}),
    "urls": _COUNT | {"length_max"},
    "strings": _COUNT | {"length_min", "length_max"},
    "array": _COUNT,
    "file": frozenset({"bytes_max"}),
    "files": _COUNT | {"bytes_max", "length_max"},
    "item": frozenset({"length_max"}),
    "items": _COUNT | {"length_max"},
}


class Field(Bounds, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One field. Lists (`urls`, `files`, `items`) also take a single value; `null` in an optional field means left
    out.

    An `item` is the id of something the caller's user had made before: of the kind `kind`, and by the operations `of`
    of the same service, any of them if it names none.
    """

    type: Type
    description: str
    required: bool = False
    default: Any = None
    """Given to the provider when the caller left the field out."""
    assumed: Any = None
    """What leaving it out means, where the upstream decides so by itself: documentation only."""
    suggest: tuple[str | int, ...] = ()
    """Well-known values of an open field: documentation only."""
    example: Any = None
    gateway: bool = False
    """For the gateway itself; a provider does not see it."""
    form_only: bool = False
    """Only as a part of a multipart body."""
    aliases: tuple[str, ...] = ()
    """Other spellings of the field's name; the name itself wins."""
    fetch: Literal["picture", "audio", "upstream"] | None = None
    """Whose addresses these are: of pictures or sounds that are fetched for the provider (so are the pictures of
    `file` and `files`), or for an upstream to fetch. Either way they must be addresses that callers may name. A
    `string` is the address of a picture, or the picture in base64."""
    kind: str | None = None
    of: tuple[str, ...] = ()

    @property
    def is_picture(self) -> bool:
        """Whether its values are pictures that are brought to the provider as files."""
        return self.type in ("file", "files") or self.fetch == "picture"


def unfit_bounds(bounds: Bounds, type_: Type) -> list[str]:
    """The bounds that are set but mean nothing for a type."""
    named = [name for name in Bounds.__struct_fields__ if getattr(bounds, name) is not None]
    unfit = [name for name in named if name not in BOUNDS[type_]]
    if isinstance(bounds, Field):
        fetched = ("url", "urls", "string") if bounds.fetch == "picture" else ("url", "urls")
        unfit += ["fetch"] if bounds.fetch and type_ not in fetched else []
        unfit += ["kind"] if (bounds.kind or bounds.of) and type_ not in ITEMS else []
    return unfit


def narrowed(field: Field, bounds: Bounds) -> Field:
    """The field with the bounds of a rule in place of its own."""
    changes = {name: value for name in Bounds.__struct_fields__ if (value := getattr(bounds, name)) is not None}
    return msgspec.structs.replace(field, **changes)


def compile_check(name: str, field: Field, *, form: bool) -> Check:
    """The check of one field, for a JSON or a multipart body."""
    if field.form_only and not form:
        read: Check = lambda value: _WRONG  # noqa: E731
    else:
        read = (_FROM_FORM if form else _FROM_JSON)[field.type]
    test = compile_test(field.type, field)
    required = field.required
    refuse = partial(_refuse, name, field)

    def check(value: Any) -> Any:
        converted = read(value)
        if converted is not _WRONG and test(converted) and (not form or required or value not in _FORM_NOTHING):
            return converted
        if not required and (value is None or (form and value in _FORM_NOTHING)):
            return ABSENT
        raise refuse(value, converted)

    return check


_FORM_NOTHING = ("", "null", "None")


def compile_test(type_: Type, bounds: Bounds) -> Test:
    """The test whether a value of the right type keeps the bounds."""
    tests: list[Test] = []
    if bounds.enum is not None:
        tests.append(frozenset(bounds.enum).__contains__)
    if type_ == "string":
        tests += _text_tests(bounds)
    elif type_ in ("integer", "number"):
        tests += _number_tests(bounds)
    elif type_ == "size":
        tests += sizes.tests(bounds)
    elif type_ == "url":
        tests.append(_url_test(bounds))
    elif type_ == "item":
        tests.append(_id_test(bounds))
    elif type_ in LISTS:
        tests += _list_tests(type_, bounds)
    elif type_ == "file" and bounds.bytes_max is not None:
        tests.append(_file_test(bounds.bytes_max))
    return _all(tests)


def _all(tests: list[Test]) -> Test:
    if not tests:
        return lambda value: True
    first, then = tests[0], _all(tests[1:])
    return first if len(tests) == 1 else lambda value: first(value) and then(value)


def _text_tests(bounds: Bounds) -> list[Test]:
    tests: list[Test] = []
    if bounds.length_max is not None and not bounds.length_min:
        longest = bounds.length_max
        tests.append(lambda text: len(text) <= longest)
    elif bounds.length_min is not None:
        least, most = bounds.length_min, bounds.length_max if bounds.length_max is not None else 2**62
        tests.append(lambda text: least <= len(text) <= most)
    if bounds.pattern is not None:
        search = re.compile(bounds.pattern).search
        tests.append(lambda text: search(text) is not None)
    if bounds.plain:
        plain = _PLAIN.fullmatch
        tests.append(lambda text: plain(text) is not None)
    return tests


def _number_tests(bounds: Bounds) -> list[Test]:
    if bounds.min is None and bounds.max is None:
        return []
    least = bounds.min if bounds.min is not None else float("-inf")
    most = bounds.max if bounds.max is not None else float("inf")
    return [lambda number: least <= number <= most]


def _url_test(bounds: Bounds) -> Test:
    most, match = bounds.length_max or URL_LENGTH_MAX, _URL.fullmatch
    return lambda url: len(url) <= most and match(url) is not None


def _id_test(bounds: Bounds) -> Test:
    most, plain = bounds.length_max or ITEM_LENGTH_MAX, _PLAIN.fullmatch
    return lambda text: 0 < len(text) <= most and plain(text) is not None


def _file_test(bytes_max: int) -> Test:
    return lambda file: bool(file["size"] <= bytes_max)


def _list_tests(type_: Type, bounds: Bounds) -> list[Test]:
    least, most = bounds.count_min or 0, bounds.count_max if bounds.count_max is not None else 2**62
    tests: list[Test] = [lambda items: least <= len(items) <= most]
    if (item := item_test(type_, bounds)) is not None:
        tests.append(lambda items: all(item(one) for one in items))
    return tests


def item_test(type_: Type, bounds: Bounds) -> Test | None:
    """The test of one item of a list type."""
    if type_ == "array":
        return None
    if type_ == "strings":
        text = _all(_text_tests(bounds))
        return lambda item: type(item) is str and text(item)
    if type_ == "items":
        return _id_test(bounds)
    url, most = _url_test(bounds), bounds.bytes_max or 2**62
    return lambda item: url(item) if type(item) is str else type(item) is dict and item["size"] <= most


# -- reading a value as a type: the value, or _WRONG


def _exactly(kind: type) -> Check:
    return lambda value: value if value.__class__ is kind else _WRONG


def _number(value: Any) -> Any:
    return value if value.__class__ is int or value.__class__ is float else _WRONG


def _size(value: Any) -> Any:
    if value.__class__ is not str:
        return _WRONG
    return (value if sizes.is_size(value) else _WRONG) if value else sizes.AUTO


def _url_list(value: Any) -> Any:
    """One URL, or id, or a list of them. A dict in JSON is not a file."""
    if value.__class__ is str:
        return [value]
    if value.__class__ is list and all(item.__class__ is str for item in value):
        return value
    return _WRONG


def _form_text(read: Callable[[str], Any]) -> Check:
    return lambda value: read(value) if value.__class__ is str else _WRONG


def _form_integer(text: str) -> Any:
    return int(text) if re.fullmatch("[+-]?[0-9]{1,18}", text) else _WRONG


def _form_number(text: str) -> Any:
    return float(text) if re.fullmatch(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?", text) else _WRONG


def _form_boolean(text: str) -> Any:
    return {"true": True, "True": True, "1": True, "false": False, "False": False, "0": False}.get(text, _WRONG)


def _form_list(value: Any) -> Any:
    items = value if value.__class__ is list else [value]
    return [item for item in items if item.__class__ is not str or item not in _FORM_NOTHING]


def _form_texts(value: Any) -> Any:
    items = _form_list(value)
    return items if all(item.__class__ is str for item in items) else _WRONG


_FROM_JSON: Mapping[str, Check] = {
    "string": _exactly(str), "integer": _exactly(int), "number": _number, "boolean": _exactly(bool),
    "size": _size, "url": _exactly(str), "urls": _url_list, "strings": _exactly(list), "object": _exactly(dict),
    "array": _exactly(list), "file": lambda value: _WRONG, "files": _url_list, "item": _exactly(str),
    "items": _url_list,
}  # fmt: skip
_FROM_FORM: Mapping[str, Check] = {
    "string": _exactly(str), "integer": _form_text(_form_integer), "number": _form_text(_form_number),
    "boolean": _form_text(_form_boolean), "size": _size, "url": _exactly(str), "urls": _form_texts,
    "strings": _form_texts, "file": _exactly(dict), "files": _form_list, "item": _exactly(str),
    "items": _form_texts,
}  # fmt: skip
FORM_TYPES = frozenset(_FROM_FORM)


# -- the sentence


def _refuse(name: str, field: Field, value: Any, converted: Any) -> BadRequest:
    if field.type in LISTS and converted is not _WRONG and (test := item_test(field.type, field)) is not None:
        for at, item in enumerate(converted):
            if not test(item):
                where = f"{name}[{at}]" if len(converted) > 1 else name
                return BadRequest(f"`{where}` is {shown(item)}; it must be {_item_allowed(field)}")
    return BadRequest(f"`{name}` is {shown(value)}; it must be {allowed(field)}")


def shown(value: Any) -> str:
    """A value of a body in a sentence: short, on one line."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            if len(value) <= 60:
                return json.dumps(value, ensure_ascii=False)
            return f"{json.dumps(value[:40], ensure_ascii=False)[:-1]}…\" ({len(value):,} characters)"
        case list():
            return f"a list of {len(value)}"
        case {"filename": _, "size": int(size)}:
            return f"a file of {size:,} bytes"
        case dict():
            return "an object"
        case _:
            return str(value)


def allowed(field: Field) -> str:
    """What a field takes, in words, to follow 'it must be'."""
    if field.form_only:
        return f"{_allowed(field)} in a multipart/form-data body"
    return _allowed(field)


def _allowed(field: Field) -> str:
    if field.enum is not None:
        listed = [shown(value) for value in field.enum]
        return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} or {listed[-1]}"
    match field.type:
        case "string":
            return f"a text{_between(field.length_min, field.length_max, 'characters')}{_text_rest(field)}"
        case "integer" | "number":
            return _number_allowed(field)
        case "boolean":
            return "true or false"
        case "size":
            return sizes.allowed(field)
        case "url" | "file" | "item":
            return _item_allowed(field)
        case "object":
            return "an object"
        case _:
            count = _between(field.count_min, field.count_max, "")
            if field.count_max == 1:
                return _item_allowed(field)
            single = "" if field.type in ("strings", "array") else f"{_item_allowed(field)}, or "
            return f"{single}a list{count or ' of them'}"


def _number_allowed(field: Field) -> str:
    if field.min is not None and field.min == field.max:
        return str(field.min)
    kind = "a whole number" if field.type == "integer" else "a number"
    if field.min is not None and field.max is not None:
        return f"{kind} from {field.min} to {field.max}"
    return kind + _between(field.min, field.max, "")


def _between(least: float | None, most: float | None, unit: str) -> str:
    unit = f" {unit}" if unit else ""
    if least and most is not None:
        return f" of {least:,} to {most:,}{unit}"
    if most is not None:
        return f" of at most {most:,}{unit}"
    return f" of at least {least:,}{unit}" if least is not None else ""


def _text_rest(field: Field) -> str:
    if field.plain:
        return " without control characters"
    return f" that matches {field.pattern}" if field.pattern else ""


def _item_allowed(field: Field) -> str:
    url = f"an http:// or https:// URL of at most {field.length_max or URL_LENGTH_MAX:,} characters"
    file = "a file" + (f" of at most {field.bytes_max:,} bytes" if field.bytes_max else "")
    match field.type:
        case "url" | "urls":
            return url
        case "item" | "items":
            return f"the id of {_of_kind(field)}"
        case "file":
            return file
        case "files":
            return f"{url} (in a multipart/form-data body also {file})"
        case _:
            return f"a text{_between(field.length_min, field.length_max, 'characters')}"


def _of_kind(field: Field) -> str:
    kind = field.kind or "result"
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind} made before"

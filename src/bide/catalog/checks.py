"""The check of one field of a request body, made from what the catalogue says of it. Pure.

A check takes the value of the body and gives the value for the provider, `ABSENT` for one that counts as left
out, or raises `BadRequest` with one sentence: the field, the value, what is allowed. `null`, and an empty text or
list that means nothing else (`left_out`), count as left out.

JSON values are taken strictly: `"1"`, `1.0` and `true` are not whole numbers. A multipart body has only texts and
files, so there a text is read as the field's type; an optional field that is empty, `null` or `None` was left out.
A file is a dict with `filename`, `content_type`, `size` (bytes); repeated parts are a list.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from bide.catalog import sizes
from bide.catalog.fields import ITEM_LENGTH_MAX, LISTS, PLAIN_PATTERN, URL_LENGTH_MAX, Bounds, Field, Type
from bide.catalog.places import Misplaced, is_url, named
from bide.catalog.sentences import allowed, item_allowed, shown
from bide.errors import BadRequest

Check = Callable[[Any], Any]
Test = Callable[[Any], bool]

ABSENT: Final[Any] = object()
_WRONG: Final[Any] = object()

_PLAIN = re.compile(PLAIN_PATTERN)


def compile_check(name: str, field: Field, *, form: bool) -> Check:
    """The check of one field, for a JSON or a multipart body."""
    if field.form_only and not form:
        read: Check = lambda value: _WRONG  # noqa: E731
    else:
        read = (_FROM_FORM if form else _FROM_JSON)[field.type]
    test = compile_test(field.type, field)
    required = field.required
    nothing = () if form else left_out(field)
    refuse = partial(_refuse, name, field)
    look = partial(_look, name, field) if field.is_deep else None

    def check(value: Any) -> Any:
        converted = read(value)
        if converted is not _WRONG and test(converted) and (not form or required or value not in _FORM_NOTHING):
            if look is not None:
                look(converted)
            return converted
        if not required and (value is None or value in nothing or (form and value in _FORM_NOTHING)):
            return ABSENT
        raise refuse(value, converted)

    return check


_FORM_NOTHING = ("", "null", "None")
_SINGLE = frozenset({"urls", "files", "items"})
"""Lists that also take a single text."""


def left_out(field: Field) -> tuple[Any, ...]:
    """The empty values that mean nothing else in JSON, so that an optional field that has one was left out: clients
    that fill a form in send every field of it. An empty text that the field takes is a value of its own. Of a field
    for the gateway (`callback_url`) an empty value is refused: its sender meant something by it."""
    if field.required or field.gateway or field.form_only:
        return ()
    read, test = _FROM_JSON[field.type], compile_test(field.type, field)
    empty: list[Any] = [""] if field.type in _TEXTS or field.type in _SINGLE else []
    empty += [[]] if field.type in LISTS else []
    return tuple(one for one in empty if (taken := read(one)) is _WRONG or not test(taken))


_TEXTS = frozenset({"string", "size", "url", "item", "file", "text_or_object"})


def compile_test(type_: Type, bounds: Bounds) -> Test:
    """The test whether a value of the right type keeps the bounds."""
    tests: list[Test] = []
    if bounds.enum is not None:
        tests.append(frozenset(bounds.enum).__contains__)
    if type_ == "string":
        tests += _text_tests(bounds)
    elif type_ == "text_or_object":
        tests += [_of_texts(test) for test in _text_tests(bounds)]
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


def _of_texts(test: Test) -> Test:
    """The same test, which an object passes."""
    return lambda value: value.__class__ is not str or test(value)


def _number_tests(bounds: Bounds) -> list[Test]:
    if bounds.min is None and bounds.max is None:
        return []
    least = bounds.min if bounds.min is not None else float("-inf")
    most = bounds.max if bounds.max is not None else float("inf")
    return [lambda number: least <= number <= most]


def _url_test(bounds: Bounds) -> Test:
    most, match = bounds.length_max or URL_LENGTH_MAX, is_url
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


def _text_or_object(value: Any) -> Any:
    return value if value.__class__ is str or value.__class__ is dict else _WRONG


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
    "items": _url_list, "text_or_object": _text_or_object,
}  # fmt: skip
_FROM_FORM: Mapping[str, Check] = {
    "string": _exactly(str), "integer": _form_text(_form_integer), "number": _form_text(_form_number),
    "boolean": _form_text(_form_boolean), "size": _size, "url": _exactly(str), "urls": _form_texts,
    "strings": _form_texts, "file": _exactly(dict), "files": _form_list, "item": _exactly(str),
    "items": _form_texts,
}  # fmt: skip
FORM_TYPES = frozenset(_FROM_FORM)


# -- the refusal


def _refuse(name: str, field: Field, value: Any, converted: Any) -> BadRequest:
    if field.type in LISTS and converted is not _WRONG and (test := item_test(field.type, field)) is not None:
        for at, item in enumerate(converted):
            if not test(item):
                where = f"{name}[{at}]" if len(converted) > 1 else name
                return BadRequest(f"`{where}` is {shown(item)}; it must be {item_allowed(field)}")
    return BadRequest(f"`{name}` is {shown(value)}; it must be {allowed(field)}")


def _look(name: str, field: Field, value: Any) -> None:
    """Refuses addresses that are not what their places say."""
    try:
        named(name, value, field.places or ())
    except Misplaced as wrong:
        if wrong.value is None:
            raise BadRequest(f"`{wrong.where}` {wrong.must}") from None
        raise BadRequest(f"`{wrong.where}` is {shown(wrong.value)}; it must be {wrong.must}") from None

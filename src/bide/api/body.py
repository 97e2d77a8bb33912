"""The bytes of a JSON body become a dict, or one clear sentence says why not.

Stricter than JSON parsers are by themselves: the body must be an object in UTF-8 without a byte order mark;
`NaN`, numbers outside 64 bits (integers) or a double (fractions), nesting beyond a bound, two keys of one name
in one object, NUL and lone surrogates are refused. What is accepted comes back unchanged.

Everything here costs a few microseconds for an ordinary body: the thorough looks (strings removed, a walk over
the tree) are taken only where a count of bytes shows that there can be something to find. No look costs more
than a few passes over the bytes, whatever they are, and a body of very many small values is refused before it
is parsed: the event loop stands still meanwhile.
"""

import re
from array import array
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import msgspec

from bide.errors import BadRequest

INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**64 - 1
MARKS_MAX = 40_000
"""Quotes, commas and opening brackets in a body, in its strings too: more than a prompt of 32,000 characters has."""

_MARKS = (b'"', b",", b"{", b"[")
_DUPLICATE = "the body holds two values for the same key of one object"
_BIG_INTEGER = "the body holds an integer that does not fit 64 bits"

_decode = msgspec.json.Decoder().decode

_TO_ZERO = bytes.maketrans(b"123456789", b"0" * 9)
_LONG_NUMBER = b"0" * 19
_TO_COMMA = bytes.maketrans(b"[]{}:", b",,,,,")
_NOT_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
_BRACKETS_TO_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # +1 and -1 as signed bytes
_LONE_SURROGATE = re.compile(rb'\\u[dD][89abAB][0-9a-fA-F]{2}"')  # the text ends where its other half should be
_BAD_TEXT = re.compile("[\x00\ud800-\udfff]")


def parse_body(raw: bytes, depth_max: int) -> dict[str, Any]:
    """The object that `raw` holds. Raises `BadRequest`, and nothing else, with a sentence for the caller."""
    if not raw:
        raise BadRequest("the body is empty; it must be a JSON object")
    if len(raw) > MARKS_MAX and sum(map(raw.count, _MARKS)) > MARKS_MAX:
        raise BadRequest(f"the body holds more than {MARKS_MAX:,} quotes, commas and opening brackets")
    if raw.count(b"{") + raw.count(b"[") > depth_max and _depth(raw) > depth_max:
        raise BadRequest(f"the body is nested more than {depth_max} levels deep")
    body = _decoded(raw, depth_max)
    if type(body) is not dict:
        raise BadRequest(f"the body is {_kind(body)}; it must be a JSON object")
    _refuse_duplicate_keys(raw, body)
    _refuse_big_integers(raw, body)
    if text_is_suspicious(raw):
        refuse_bad_text(body)
    return body


def text_is_suspicious(raw: bytes) -> bool:
    """Whether JSON bytes that were decoded without an error can hold a text that `refuse_bad_text` refuses.

    That is an escaped NUL: the decoder itself refuses a bare one, and surrogates that do not come in pairs.
    """
    return b"\\u0000" in raw


def refuse_bad_text(value: Any) -> None:
    """Raises `BadRequest` if a string in `value`, keys included, holds NUL or a lone surrogate.

    Both are legal in JSON escapes and in Python, but neither database nor every receiver can keep them.
    """
    for part in _walk(value):
        if isinstance(part, str) and (bad := _BAD_TEXT.search(part)):
            what = "the character NUL" if bad.group() == "\x00" else "half of a surrogate pair"
            raise BadRequest(f"a text in the body holds {what} (\\u{ord(bad.group()):04x}), which is not allowed")


def _decoded(raw: bytes, depth_max: int) -> Any:
    try:
        return _decode(raw)
    except UnicodeDecodeError:
        raise BadRequest("the body is not valid UTF-8") from None
    except RecursionError:  # a bound above what the interpreter can do
        raise BadRequest(f"the body is nested more than {depth_max} levels deep") from None
    except msgspec.ValidationError:  # the only one without a schema: a number that fits no type
        raise BadRequest("the body holds a number that is too large") from None
    except msgspec.DecodeError as error:
        raise BadRequest(_not_json(raw, str(error))) from None


def _not_json(raw: bytes, reason: str) -> str:
    if raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        return "the body starts with a byte order mark; it must be JSON in UTF-8 without one"
    if "surrogate" in reason or (_LONE_SURROGATE.search(raw) and "truncated" in reason):
        return "the body is not valid JSON: a text in it holds half of a surrogate pair"
    if "truncated" in reason:
        return "the body is not valid JSON: it ends too early"
    return "the body is not valid JSON: " + reason.removeprefix("JSON is malformed: ")


def _bare(raw: bytes) -> bytes:
    """JSON without its strings and spaces. Of other bytes it answers something, and as quickly.

    A pass each, all of them in C: a pattern takes ten times as long for a megabyte of escapes.
    """
    parts = raw.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
    return b"".join(parts[::2]).translate(None, b" \t\r\n")


def _depth(raw: bytes) -> int:
    """The deepest nesting of brackets outside of strings, for any bytes."""
    steps = array("b", _bare(raw).translate(_BRACKETS_TO_STEPS, _NOT_BRACKETS))
    return max(accumulate(steps), default=0)


def _refuse_duplicate_keys(raw: bytes, body: dict[str, Any]) -> None:
    """The parser keeps the last of two equal keys, silently.

    But valid JSON has one colon outside of strings per key, so the keys that were kept are compared with the
    colons: first with an upper bound that needs no look at strings (`://` can only stand in one), then exactly.
    """
    keys = len(body) if raw.count(b"{") == 1 else _keys(body)
    if raw.count(b":") - raw.count(b"://") > keys and _bare(raw).count(b":") > keys:
        raise BadRequest(_DUPLICATE)


def _keys(body: dict[str, Any]) -> int:
    """How many keys all objects in `body` have together."""
    keys, open_ = 0, list[Any]([body])
    while open_:
        part = open_.pop()
        if type(part) is dict:
            keys += len(part)
            open_ += part.values()
        elif type(part) is list:
            open_ += part
    return keys


def _refuse_big_integers(raw: bytes, body: dict[str, Any]) -> None:
    """Integers that fit neither a signed nor an unsigned number of 64 bits; the parser would take them."""
    if len(raw) < 4096 and b"[" not in raw and raw.count(b"{") == 1:  # nothing nested: quicker than a search
        for value in body.values():
            if type(value) is int and not INTEGER_MIN <= value <= INTEGER_MAX:
                raise BadRequest(_BIG_INTEGER)
    elif _LONG_NUMBER in raw.translate(_TO_ZERO):
        for part in _bare(raw).translate(_TO_COMMA).split(b","):
            is_integer = len(part) >= len(_LONG_NUMBER) and part.removeprefix(b"-").isdigit()
            if is_integer and not INTEGER_MIN <= int(part) <= INTEGER_MAX:
                raise BadRequest(_BIG_INTEGER)


def _walk(value: Any) -> Iterator[Any]:
    """Every key and every value below `value`, itself included; no recursion, so any depth."""
    open_: list[Any] = [value]
    while open_:
        part = open_.pop()
        yield part
        if type(part) is dict:
            yield from part
            open_ += part.values()
        elif type(part) is list:
            open_ += part


def _kind(value: Any) -> str:
    """How a sentence names a JSON value."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case _:
            return "an array"

"""The bytes of a JSON body become a dict, or one clear sentence says why not.

Stricter than JSON parsers are by themselves: the body must be an object in UTF-8 without a byte order mark;
`NaN`, numbers outside 64 bits (integers) or a double (fractions), nesting beyond a bound, two keys of one name
in one object, NUL and lone surrogates are refused. What is accepted comes back unchanged.

Everything here costs a few microseconds for an ordinary body: the thorough looks (strings removed, a second
parser, a walk over the tree) are taken only where a count of bytes shows that there can be something to find.
No look costs more than a few passes over the bytes, whatever they are.
"""

import json
import re
from array import array
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import msgspec

from bide.errors import BadRequest

INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**64 - 1

_DUPLICATE = "the body holds two values for the same key of one object"
_BIG_INTEGER = "the body holds an integer that does not fit 64 bits"

_decode = msgspec.json.Decoder().decode

# A JSON string. Possessive, and the closing quote may be missing, so that hostile bytes cost one pass, not n².
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_LONG_INTEGER = re.compile(rb"(?<![0-9.eE+-])-?[0-9]{19,}(?![0-9.eE])")
_NOT_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
_BRACKETS_TO_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # +1 and -1 as signed bytes
_LONE_SURROGATE = re.compile(rb'\\u[dD][89abAB][0-9a-fA-F]{2}"')  # the text ends where its other half should be
_BAD_TEXT = re.compile("[\x00\ud800-\udfff]")


def parse_body(raw: bytes, depth_max: int) -> dict[str, Any]:
    """The object that `raw` holds. Raises `BadRequest`, and nothing else, with a sentence for the caller."""
    if not raw:
        raise BadRequest("the body is empty; it must be a JSON object")
    if raw.count(b"{") + raw.count(b"[") > depth_max and _depth(raw) > depth_max:
        raise BadRequest(f"the body is nested more than {depth_max} levels deep")
    body = _decoded(raw, depth_max)
    if type(body) is not dict:
        raise BadRequest(f"the body is {_kind(body)}; it must be a JSON object")
    if raw.count(b"{") == 1:
        _refuse_duplicate_keys(raw, body)
    else:
        _refuse_nested_duplicate_keys(raw)
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


def _depth(raw: bytes) -> int:
    """The deepest nesting of brackets outside of strings, for any bytes."""
    steps = array("b", _STRING.sub(b"", raw).translate(_BRACKETS_TO_STEPS, _NOT_BRACKETS))
    return max(accumulate(steps), default=0)


def _refuse_duplicate_keys(raw: bytes, body: dict[str, Any]) -> None:
    """For a body of one object. The parser keeps the last of two equal keys, silently.

    But valid JSON has one colon outside of strings per key, so the keys are compared with the colons: first with
    an upper bound that needs no look at strings (`://` can only stand in one), then exactly.
    """
    if raw.count(b":") - raw.count(b"://") > len(body) and _STRING.sub(b"", raw).count(b":") > len(body):
        raise BadRequest(_DUPLICATE)


def _refuse_nested_duplicate_keys(raw: bytes) -> None:
    """For valid JSON with several objects: the standard parser hands over the pairs of each."""
    json.loads(raw, object_pairs_hook=_refuse_duplicates, parse_int=len, parse_float=len)


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) < len(pairs):
        raise BadRequest(_DUPLICATE)


def _refuse_big_integers(raw: bytes, body: dict[str, Any]) -> None:
    """Integers that fit neither a signed nor an unsigned number of 64 bits; the parser would take them."""
    if len(raw) < 4096 and b"[" not in raw and raw.count(b"{") == 1:  # nothing nested: quicker than a search
        for value in body.values():
            if type(value) is int and not INTEGER_MIN <= value <= INTEGER_MAX:
                raise BadRequest(_BIG_INTEGER)
    elif _LONG_NUMBER.search(raw):
        for digits in _LONG_INTEGER.findall(_STRING.sub(b"", raw)):
            if not INTEGER_MIN <= int(digits) <= INTEGER_MAX:
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

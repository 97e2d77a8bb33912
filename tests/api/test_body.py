"""Bytes of JSON bodies: what is taken unchanged, what is refused in which words, and that nothing else can happen."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bide.api.body import parse_body, refuse_bad_text, text_is_suspicious
from bide.errors import BadRequest

DEPTH = 64


def nested(levels: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    """An object that is `levels` deep, itself counted."""
    return b'{"a":' + opening * (levels - 1) + closing * (levels - 1) + b"}"


TAKEN = [
    b"{}",
    b' {"a" : 1}\r\n\t',
    b'{"a":"x","b":[1,2.5,-3,true,false,null,{"a":"y"}],"c":{"a":{}}}',
    b'{"a":18446744073709551615,"b":-9223372036854775808}',
    b'{"a":[18446744073709551615,-9223372036854775808,1e-1234567890123456789,0.12345678901234567890123]}',
    b'{"a":["99999999999999999999999"],"b":"99999999999999999999999"}',
    b'{"a":1.7976931348623157e308,"b":5e-324}',
    b'{"a":"\\ud83d\\ude00 \\u00e9 \\\\u0000 \\n","\\ud83d\\ude00":""}',
    '{"prompt":"\U0001f30a: \u201equoted\u201c, \\"escaped\\": {[","\u00fc":"\u2028"}'.encode(),
    b'{"callback_url":"https://example.com:8080/a?b=c:d","prompt":"a:b:c"}',
    b'{"a":{"b":1},"b":{"b":1}}',
    b'{"a":1,"A":2,"a ":3,"":4}',
    b'{"":{"":""}}',
    nested(DEPTH),
    b'{"a":"' + b"[" * 1000 + b'"}',
    b'{"a":"\\"' + b"[{" * 1000 + b'\\\\"}',
    b'{"a":[' + b"[]," * 1000 + b"[]]}",
]


@pytest.mark.parametrize("raw", TAKEN, ids=range(len(TAKEN)))
def test_a_good_body_comes_back_unchanged(raw: bytes) -> None:
    assert parse_body(raw, DEPTH) == json.loads(raw)


TOO_DEEP = "the body is nested more than 64 levels deep"
TWICE = "the body holds two values for the same key of one object"
TOO_MANY = "the body holds more than 40,000 quotes, commas and opening brackets"
BIG = "the body holds an integer that does not fit 64 bits"
REFUSED: list[tuple[bytes, str]] = [
    (b"", "the body is empty; it must be a JSON object"),
    (b"null", "the body is null; it must be a JSON object"),
    (b"[]", "the body is an array; it must be a JSON object"),
    (b'[{"a":1}]', "the body is an array; it must be a JSON object"),
    (b'"text"', "the body is a string; it must be a JSON object"),
    (b"7", "the body is a number; it must be a JSON object"),
    (b"1.5", "the body is a number; it must be a JSON object"),
    (b"true", "the body is a boolean; it must be a JSON object"),
    (b" ", "the body is not valid JSON: it ends too early"),
    (b'{"a":1', "the body is not valid JSON: it ends too early"),
    (b'{"a":"x', "the body is not valid JSON: it ends too early"),
    (b"{'a':1}", "the body is not valid JSON: object keys must be strings (byte 1)"),
    (b"{a:1}", "the body is not valid JSON: "),
    (b'{"a":1,}', "the body is not valid JSON: trailing comma in object (byte 7)"),
    (b'{"a":01}', "the body is not valid JSON: "),
    (b'{"a":+1}', "the body is not valid JSON: "),
    (b'{"a":"\t"}', "the body is not valid JSON: "),
    (b'{"a":1}{"b":2}', "the body is not valid JSON: trailing characters (byte "),
    (b'{"a":1}\x00', "the body is not valid JSON: "),
    (b'// x\n{"a":1}', "the body is not valid JSON: "),
    (b"prompt=a+boat", "the body is not valid JSON: "),
    (b'{"a":NaN}', "the body is not valid JSON: "),
    (b'{"a":Infinity}', "the body is not valid JSON: "),
    (b'{"a":-Infinity}', "the body is not valid JSON: "),
    (b'\xef\xbb\xbf{"a":1}', "the body starts with a byte order mark"),
    ('{"a":1}'.encode("utf-16"), "the body starts with a byte order mark"),
    (b'{"a":"\xff"}', "the body is not valid UTF-8"),
    (b'{"a":"\xc0\x80"}', "the body is not valid UTF-8"),
    (b'{"a":"\xed\xa0\x80"}', "the body is not valid UTF-8"),
    (b'{"\xff":1}', "the body is not valid UTF-8"),
    (b'{"a":1e999}', "the body holds a number that is too large"),
    (b'{"a":-1E400}', "the body holds a number that is too large"),
    (b'{"a":' + b"9" * 100_000 + b"}", "the body holds a number that is too large"),
    (b'{"a":18446744073709551616}', BIG),
    (b'{"a":-9223372036854775809}', BIG),
    (b'{"a":[1,{"b":18446744073709551616}]}', BIG),
    (b'{"a":[-9223372036854775809]}', BIG),
    (b'{"a":1,"a":2}', TWICE),
    (b'{"a":1,"a":1}', TWICE),
    (b'{"a" :1, "\\u0061" : 2}', TWICE),
    (b'{"b":"::::","a":1,"a":"https://example.com"}', TWICE),
    (b'{"x":{"a":1,"a":2}}', TWICE),
    (b'{"x":[[{"a":1},{"a":1,"b":2,"a":3}]]}', TWICE),
    (b'{"a":{},"a":{}}', TWICE),
    (b'{"a":[],"a":[]}', TWICE),
    (b'{"\\ud83d\\ude00":1,"\xf0\x9f\x98\x80":2}', TWICE),
    (b'{"a":"\\u0000"}', "a text in the body holds the character NUL (\\u0000), which is not allowed"),
    (b'{"\\u0000":1}', "a text in the body holds the character NUL"),
    (b'{"x":[{"a\\u0000b":1}]}', "a text in the body holds the character NUL"),
    (b'{"a":"\x00"}', "the body is not valid JSON: "),
    (b'{"a":"\\ud800"}', "the body is not valid JSON: a text in it holds half of a surrogate pair"),
    (b'{"a":"\\udc00x"}', "the body is not valid JSON: a text in it holds half of a surrogate pair"),
    (b'{"a":"\\ud800\\u0041"}', "the body is not valid JSON: a text in it holds half of a surrogate pair"),
    (b'{"\\uDFFF":1}', "the body is not valid JSON: a text in it holds half of a surrogate pair"),
    (nested(DEPTH + 1), TOO_DEEP),
    (nested(DEPTH + 1, b'{"a":', b"}").replace(b":}", b":1}", 1), TOO_DEEP),
    (b"[" * 30_000, TOO_DEEP),
    (b'[{"a":' * 9_000, TOO_DEEP),
    (b'{"a":"\\"' + b"\\\"" * 30_000, "the body is not valid JSON: it ends too early"),
    (b'"[{\\' * 12_000, "the body is not valid JSON: "),
    (b"[" * 100_000, TOO_MANY),
    (b'{"a":[' + b"{}," * 350_000 + b"{}]}", TOO_MANY),
    (b'{"a":[' + b"0," * 50_000 + b"0]}", TOO_MANY),
    (b"{" + b'"":0,' * 20_000, TOO_MANY),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "sentence"), REFUSED, ids=range(len(REFUSED)))
def test_a_bad_body_is_refused_in_one_sentence(raw: bytes, sentence: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_body(raw, DEPTH)
    assert str(caught.value).startswith(sentence)
    assert len(str(caught.value)) < 200


def test_the_depth_is_that_of_the_setting() -> None:
    assert parse_body(nested(3), 3)
    with pytest.raises(BadRequest, match="more than 2 levels deep"):
        parse_body(nested(3), 2)


def test_a_depth_the_parser_cannot_do_is_refused_like_any_other() -> None:
    with pytest.raises(BadRequest, match="nested more than"):
        parse_body(nested(30_000), 100_000)


@pytest.mark.parametrize("sign", ["[", "{", "\"", ",", "[{,", ":", "\\", "\n", "1"])
def test_a_prompt_of_the_greatest_length_is_taken_whatever_it_is_made_of(sign: str) -> None:
    body = {"prompt": (sign * 32_000)[:32_000], "model": "gpt-image-2", "user": "somebody", "n": 1}
    assert parse_body(json.dumps(body).encode(), DEPTH) == body


@given(st.text(alphabet='\\"[]{}: ,1ü\n', max_size=40), st.booleans())
def test_text_is_told_from_structure_whatever_is_escaped_in_it(text: str, ascii_only: bool) -> None:
    body = {"a": text, "b": [{"c": text}, text], text + "!": 1}
    raw = json.dumps(body, ensure_ascii=ascii_only)
    assert parse_body(raw.encode(), 3) == body
    with pytest.raises(BadRequest, match="more than 2 levels deep"):
        parse_body(raw.encode(), 2)
    with pytest.raises(BadRequest, match="two values for the same key"):
        parse_body((raw[:-1] + ',"b":0}').encode(), 3)
    with pytest.raises(BadRequest, match="does not fit 64 bits"):
        parse_body((raw[:-1] + ',"d":18446744073709551616}').encode(), 3)


@pytest.mark.parametrize(
    "value", ["a\x00", "\ud800", {"a": ["x", {"b": "\udfff"}]}, {"\x00": 1}, ["x", ["\x00"]]], ids=range(5)
)
def test_bad_text_is_found_anywhere(value: Any) -> None:
    with pytest.raises(BadRequest, match="a text in the body holds"):
        refuse_bad_text(value)


def test_good_text_of_any_script_is_let_through() -> None:
    refuse_bad_text({"ключ": ["\U0001f30a", "\u2028\x7f\x01", None, 1, 2.5, True, {"": []}]})
    assert text_is_suspicious(b'"\\u0000"')
    assert not text_is_suspicious(b'"\\ud83d\\ude00"')


def _parsed(raw: bytes) -> Any:
    """The body, or None for `BadRequest`; anything else fails the test."""
    try:
        return parse_body(raw, DEPTH)
    except BadRequest:
        return None


@given(st.binary(max_size=200) | st.text(alphabet='{}[]":,\\u0dD8/ a1-.eE', max_size=60).map(str.encode))
@example(b'{"a":"\\ud800\\')
def test_no_bytes_lead_to_anything_but_a_body_or_a_bad_request(raw: bytes) -> None:
    body = _parsed(raw)
    if body is not None:
        assert body == json.loads(raw)


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
_NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | _TEXT | _NUMBERS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(_TEXT, _VALUES, max_size=5), st.booleans())
def test_any_decent_object_is_taken_unchanged(value: dict[str, Any], ascii_only: bool) -> None:
    assert parse_body(json.dumps(value, ensure_ascii=ascii_only).encode(), DEPTH) == value


@given(st.dictionaries(_TEXT, _VALUES, min_size=1, max_size=5), st.integers(0, 4), st.booleans())
def test_a_key_that_comes_twice_is_always_seen(value: dict[str, Any], which: int, inside: bool) -> None:
    key = json.dumps(list(value)[which % len(value)])
    raw = json.dumps(value).removesuffix("}") + f",{key}:0}}"
    with pytest.raises(BadRequest, match="two values for the same key"):
        parse_body((f'{{"o":[{raw}]}}' if inside else raw).encode(), DEPTH)

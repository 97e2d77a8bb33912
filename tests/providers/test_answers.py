"""The pictures of a JSON answer are taken out while it arrives, wherever the wire cuts it."""

import asyncio
import base64
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bide.providers.answers import WRITE_BYTES, Pictures
from bide.providers.split import DATA_URL_HEAD_MAX, PICTURES_MAX, SKELETON_BYTES_MAX, JsonSplit, Malformed
from bide.providers.sse import Event, EventStream, EventTooLarge

from .upstream import PNG, MemoryStore

TWO = b"".join(
    (
        b'\xef\xbb\xbf{ "created" : 1795316790,"note":"a \\"b64_json\\": \\\\",\r\n"data":[{"b64_json"\t:\n "',
        base64.b64encode(b"first picture"),
        b'" ,"revised_prompt":"b64_json","url":null},',
        b'{"url":null, "b64_json": null},{"b64_json":"',
        base64.b64encode(b"second").replace(b"/", b"\\/"),
        b'"}],"b64_json2":"x","more":{"deep":[{"b64\\u005fjson":"',
        base64.b64encode(b"third!!"),
        b'"}]},"b64_json":7}',
    )
)


def split(text: bytes, cuts: list[int]) -> tuple[Any, dict[int, bytes]]:
    reader = JsonSplit()
    pictures: dict[int, bytes] = {}
    ended: set[int] = set()
    edges = [0, *sorted(cuts), len(text)]
    for start, stop in pairwise(edges):
        for part in reader.feed(text[start:stop]):
            assert part.number not in ended
            pictures[part.number] = pictures.get(part.number, b"") + b"".join(part.pieces)
            if part.ended:
                ended.add(part.number)
    document = reader.close()
    assert ended == set(pictures)
    return document, pictures


def test_every_picture_is_taken_out_wherever_it_stands() -> None:
    document, pictures = split(TWO, [])
    assert pictures == {0: b"first picture", 1: b"second", 2: b"third!!"}
    assert document["note"] == 'a "b64_json": \\'
    assert document["data"] == [
        {"b64_json": "0", "revised_prompt": "b64_json", "url": None},
        {"url": None, "b64_json": None},
        {"b64_json": "1"},
    ]
    assert document["more"] == {"deep": [{"b64_json": "2"}]}
    assert document["b64_json"] == 7


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_pieces_of_any_size_give_the_same(size: int) -> None:
    assert split(TWO, list(range(0, len(TWO), size))) == split(TWO, [])


def test_a_cut_at_any_byte_gives_the_same() -> None:
    whole = split(TWO, [])
    for cut in range(len(TWO) + 1):
        assert split(TWO, [cut]) == whole


def spelled(text: str, manner: str) -> bytes:
    """One base64 text as different encoders write it into a JSON string."""
    match manner:
        case "slashes":
            text = text.replace("/", "\\/")
        case "dotnet":
            text = text.replace("+", "\\u002B").replace("=", "\\u003d")
        case "lines":
            text = "\\r\\n".join(text[at : at + 76] for at in range(0, len(text), 76))
        case "raw lines":
            text = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
        case "url safe":
            text = text.replace("+", "-").replace("/", "_")
        case "unpadded":
            text = text.rstrip("=")
        case "data url":
            text = "data:image/png;base64," + text
        case "escaped data url":
            text = "data:image\\/png;base64," + text
    return text.encode()


MANNERS = ["plain", "slashes", "dotnet", "lines", "raw lines", "url safe", "unpadded", "data url", "escaped data url"]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(MANNERS), st.data())
def test_every_spelling_of_base64_decodes_however_it_is_cut(data: bytes, manner: str, chance: st.DataObject) -> None:
    text = spelled(base64.b64encode(data).decode(), manner)
    document = b'{"data":[{"b64_json":"' + text + b'","x":"y"}]}'
    cuts = chance.draw(st.lists(st.integers(0, len(document)), max_size=12))
    decoded, pictures = split(document, cuts)
    assert pictures == {0: data}
    assert decoded == {"data": [{"b64_json": "0", "x": "y"}]}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.sampled_from(['"b64_json"', "b64_jso", "\\"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(JSON_VALUES, st.booleans(), st.data())
def test_a_document_without_pictures_comes_back_unchanged(
    value: Any, ascii_only: bool, chance: st.DataObject
) -> None:
    document = json.dumps(value, ensure_ascii=ascii_only).encode()
    cuts = chance.draw(st.lists(st.integers(0, len(document)), max_size=12))
    assert split(document, cuts) == (value, {})


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"   ",
        b"<html><title>Welcome</title></html>",
        b'{"data":[{"b64_json":"iVBO',
        b'{"data":[{"b64_json"',
        b'{"data":[{"b64_json":',
        b'{"data"',
        b'{"data":[]',
        b'{"a":1}}',
        b'{"a":"\xff"}',
        b"[" * 20_000,
        b'{"b64_json":"ab\\',
        b'{"b64_json":"ab\\u00',
        b'{"b64_json":"ab\\x12"}',
        b'{"b64_json" "abcd"}',
        b'{"b64_json":"data:' + b"x" * 2 * DATA_URL_HEAD_MAX + b'"}',
        b"[" + b",".join([b'{"b64_json":"AAAA"}'] * (PICTURES_MAX + 1)) + b"]",
    ],
    ids=range(17),
)
def test_what_is_not_an_answer_is_malformed(document: bytes) -> None:
    with pytest.raises(Malformed):
        split(document, [len(document) // 2])


@pytest.mark.parametrize(
    "filler", [b'"x",', b'"' + b"x" * 70_000 + b'",', b" 1,"], ids=["strings", "long", "numbers"]
)
def test_a_document_that_is_long_without_its_pictures_is_refused_early(filler: bytes) -> None:
    reader = JsonSplit()
    piece = filler * (65_536 // len(filler) + 1)
    for _ in range(SKELETON_BYTES_MAX // len(piece)):
        assert reader.feed(piece) == []
    with pytest.raises(Malformed):
        reader.feed(piece)


def test_a_large_picture_reaches_the_sink_in_few_bounded_writes() -> None:
    picture = PNG * 3000
    document = b'{"data":[{"b64_json":"' + base64.b64encode(picture) + b'"}]}'
    store = MemoryStore()

    async def read() -> bytes:
        async with Pictures(store.open) as pictures:
            reader = JsonSplit()
            for at in range(0, len(document), 100_000):
                for part in reader.feed(document[at : at + 100_000]):
                    await pictures.write(part)
            reader.close()
            return store.of(await pictures.keep(0))

    assert asyncio.run(read()) == picture
    assert store.sinks[0].writes <= len(picture) // WRITE_BYTES + 1


def test_what_was_not_kept_is_gone() -> None:
    store = MemoryStore()

    async def read() -> None:
        async with Pictures(store.open) as pictures:
            for part in JsonSplit().feed(b'[{"b64_json":"AAAA"},{"b64_json":""},{"b64_json":"data:,"}]'):
                await pictures.write(part)
            assert await pictures.keep(1) is None
            assert await pictures.keep(2) is None
            assert await pictures.keep(3) is None
            raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(read())
    assert store.states == ["aborted"]


EVENTS = (
    b'\xef\xbb\xbf: welcome\r\n\r\nevent: image_generation.partial_image\r\ndata: {"a":\r\ndata:1}\r\nid: 7\r\n\r\n'
    b"\r\nevent\n\ndata: second\n\nretry: 5\rdata\r\revent: last\ndata: unclosed"
)
SEEN = [
    Event("image_generation.partial_image", b'{"a":\n1}'),
    Event("", b"second"),
    Event("", b""),
    Event("last", b"unclosed"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 10, 1000])
def test_events_are_the_same_however_they_are_cut(size: int) -> None:
    stream = EventStream(1000)
    seen = [event for at in range(0, len(EVENTS), size) for event in stream.feed(EVENTS[at : at + size])]
    assert seen + stream.end() == SEEN


@pytest.mark.parametrize("piece", [b"x" * 100, b"data: " + b"x" * 94 + b"\n"], ids=["one line", "many lines"])
def test_an_event_is_bounded(piece: bytes) -> None:
    stream = EventStream(1000)
    for _ in range(10):
        assert stream.feed(piece) == []
    with pytest.raises(EventTooLarge):
        stream.feed(piece * 2)

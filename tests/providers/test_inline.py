"""JSON with whole files in it, sent and read without holding a file."""

import base64
import json
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import pytest

from bide.providers import registry
from bide.providers.answers import Body, Pictures
from bide.providers.base import Failed, Sink, Stored
from bide.providers.exchange import Answer, submit_json
from bide.providers.inline import FilledJson, InBase64, kept, reader
from bide.providers.split import Malformed

from .asked import Many
from .upstream import PNG, MemoryStore, answer, given, run

CHUNK = 64 * 1024


class Pieces:
    """An answer's body in pieces, for which no connection is needed."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    async def next(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


async def read(store: MemoryStore, *pieces: bytes, keys: tuple[str, ...] = ("data",)) -> tuple[Any, list[bytes]]:
    async with Pictures(store.open) as files:
        document = await reader(files, *keys)(cast(Body, Pieces(*pieces)))
        found = [await kept(files, str(number)) for number in range(len(store.sinks))]
        return document, [store.of(one) for one in found if one is not None]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 10_000])
def test_texts_under_the_named_keys_are_files_however_the_answer_is_cut(size: int) -> None:
    said = {"data": "x" * 3, "a": [{"data": base64.b64encode(PNG).decode(), "text": "data"}], "b": {"data": 7}}
    body = json.dumps(said).replace('"data": "iVB', '"d\\u0061ta": "iVB').encode()
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    document, files = run(read(MemoryStore(), *pieces))
    assert document == {"data": "0", "a": [{"data": "1", "text": "data"}], "b": {"data": 7}}
    assert files == [PNG]


def test_a_key_that_is_not_named_is_no_file() -> None:
    document, files = run(read(MemoryStore(), b'{"b64_json": "aGVsbG8=", "datas": "x"}'))
    assert (document, files) == ({"b64_json": "aGVsbG8=", "datas": "x"}, [])


def test_nonsense_is_malformed() -> None:
    for text in (b"<html>", b'{"data": "aGVs', b"", b"[" * 100_000):
        with pytest.raises(Malformed):
            run(read(MemoryStore(), text))


class Nowhere:
    """A sink that keeps nothing."""

    size = 0

    async def write(self, data: bytes) -> None:
        self.size += len(data)

    async def close(self) -> Stored:
        return Stored("film", self.size, "video/mp4")

    async def abort(self) -> None:
        raise AssertionError("it was kept")


class Endless(Pieces):
    """A document with a film of `chunks` pieces of base64."""

    def __init__(self, chunks: int) -> None:
        super().__init__()
        self._left, self._chunk = chunks, base64.b64encode(bytes(CHUNK // 4 * 3))
        self._first, self._last = [b'{"data":"'], [b'"}']

    async def next(self) -> bytes:
        if self._first:
            return self._first.pop()
        self._left -= 1
        return self._chunk if self._left >= 0 else self._last.pop() if self._last else b""


def test_a_film_of_a_hundred_megabytes_is_never_in_memory() -> None:
    async def work() -> Stored | None:
        async with Pictures(lambda: cast(Sink, Nowhere())) as files:
            document = await reader(files, "data")(cast(Body, Endless(2_200)))
            return await kept(files, document["data"])

    tracemalloc.start()
    try:
        stored = run(work())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert stored is not None
    assert stored.size == 2_200 * CHUNK // 4 * 3 > 100_000_000
    assert peak < 8_000_000


@pytest.mark.parametrize("number", [None, 7, "", "x", "-1", "99", {"a": 1}])
def test_what_stands_for_no_file_is_none(number: Any) -> None:
    async def work() -> Stored | None:
        async with Pictures(MemoryStore().open) as files:
            return await kept(files, number)

    assert run(work()) is None


# -- what is sent


@pytest.mark.parametrize("size", [1, 2, 3, 6_999, 7_000, 7_001, 20_000])
def test_files_are_sent_in_their_places_with_the_length_said_before(size: int) -> None:
    data = (PNG * 20)[:size]

    async def work() -> Any:
        async with Many(answer({"id": "1"})) as upstream:
            body = FilledJson({"text": "ü", "a": [InBase64(given("image", data))],
                               "b": InBase64(given("image", data), data_url=True)})  # fmt: skip
            told = await submit_json(upstream.film(), "jobs", form=body)
            assert isinstance(told, Answer)
            assert body.sent
            asked = upstream.requests[0]
            assert asked.headers["Content-Length"] == str(len(asked.body))
            assert asked.headers["Content-Type"] == "application/json"
            return asked.json

    text = base64.b64encode(data).decode()
    assert run(work()) == {"text": "ü", "a": [text], "b": f"data:image/png;base64,{text}"}


@pytest.mark.parametrize("said", [len(PNG) - 1, len(PNG) + 1])
def test_a_file_that_changes_while_it_is_sent_makes_no_submission(said: int) -> None:
    async def work() -> None:
        async with Many(answer({"id": "1"})) as upstream:
            body = FilledJson({"a": InBase64(replace(given("image", PNG), size=said))})
            told = await submit_json(upstream.film(), "jobs", form=body)
            assert isinstance(told, Failed)
            assert not body.sent

    run(work())


def test_a_file_is_read_in_small_pieces() -> None:
    sizes = list[int]()

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            sizes.append(1000)
            yield bytes(1000)

    async def work() -> None:
        async with Many(answer({"id": "1"})) as upstream:
            one = replace(given("image", b""), size=40_000, chunks=pieces)
            await submit_json(upstream.film(), "jobs", form=FilledJson({"a": InBase64(one)}))
            assert upstream.requests[0].json == {"a": base64.b64encode(bytes(40_000)).decode()}

    run(work())
    assert sum(sizes) == 40_000


def test_headers_that_are_empty_are_left_out_and_the_sessions_own_stays() -> None:
    async def work() -> None:
        async with Many(answer({"id": "1"})) as upstream:
            call = upstream.film()
            await submit_json(call, "jobs", {}, headers={"Authorization": "", "x-key": "k"})
            await submit_json(call, "jobs", {})
            without, with_it = (asked.headers for asked in upstream.requests)
            assert "Authorization" not in without
            assert without["x-key"] == "k"
            assert with_it["Authorization"].startswith("Bearer ")

    run(work())


@pytest.mark.parametrize("name", ["google_veo", "google_interactions", "comfyui", "openai_images"])
def test_a_provider_is_found_by_its_name(name: str) -> None:
    assert registry.find(name).CAPABILITIES

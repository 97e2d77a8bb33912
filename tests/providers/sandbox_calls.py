"""Calls to the sandbox without a gateway: files in memory, inputs from bytes, somebody who watches."""

import asyncio
import io
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar, cast

import aiohttp
from PIL import Image

from bide.providers.base import Call, FileTooLarge, Input, Outcome, Partial, Stored, Succeeded

T = TypeVar("T")


class Store:
    """Files in memory, and how each sink ended."""

    def __init__(self, bytes_max: int = 64 * 1024 * 1024) -> None:
        self.bytes_max = bytes_max
        self.sinks: list[Memory] = []

    def open(self) -> "Memory":
        self.sinks.append(Memory(self))
        return self.sinks[-1]

    @property
    def ends(self) -> list[str]:
        return [sink.end for sink in self.sinks]

    def pictures(self, outcome: Outcome) -> list[Image.Image]:
        assert isinstance(outcome, Succeeded), outcome
        return [Image.open(io.BytesIO(data)) for data in self.files(outcome)]

    def files(self, outcome: Outcome) -> list[bytes]:
        assert isinstance(outcome, Succeeded), outcome
        return [bytes(self.sinks[int(asset.stored.name)].data) for asset in outcome.assets if asset.stored]


class Memory:
    def __init__(self, store: Store) -> None:
        self._store, self.data, self.end = store, bytearray(), "open"

    async def write(self, data: bytes) -> None:
        assert self.end == "open"
        self.data += data
        if len(self.data) > self._store.bytes_max:
            raise FileTooLarge

    async def close(self) -> Stored:
        assert self.end == "open"
        self.end = "closed"
        return Stored(str(self._store.sinks.index(self)), len(self.data), "image/png")

    async def abort(self) -> None:
        assert self.end == "open"
        self.end = "aborted"


class Watcher:
    """Somebody who watches, and what was shown."""

    def __init__(self) -> None:
        self.shown: list[Partial] = []

    async def __call__(self, partial: Partial) -> None:
        self.shown.append(partial)


def call(
    prompt: Any = "a boat", *, store: Store | None = None, inputs: tuple[Input, ...] = (), delay_s: float = 0.0,
    watcher: Watcher | None = None, partial_images: int = 0, capability: str = "", **request: Any,
) -> Call:  # fmt: skip
    return Call(
        task_id="0199aaaa-0000-7000-8000-000000000001",
        capability=capability or ("image.edit" if inputs else "image.generate"),
        model="gpt-image-2", request={"prompt": prompt, "size": "64x64", **request}, inputs=inputs,
        http=cast(aiohttp.ClientSession, None), key="", options={"delay_s": delay_s},
        sink=(store or Store()).open, answer_bytes_max=1, progress=watcher, partial_images=partial_images,
    )  # fmt: skip


def picture(size: tuple[int, int] = (64, 64), mode: str = "RGB", colour: Any = (40, 120, 200)) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, colour).save(out, "PNG")
    return out.getvalue()


def given(field: str, data: bytes) -> Input:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 100):
            yield data[at : at + 100]

    return Input(field, "a.png", "image/png", len(data), pieces)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, 30))

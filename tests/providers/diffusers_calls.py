"""Calls to the provider `diffusers`, in this process, and a folder that stands for a model."""

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from bide.providers.base import Call, Input, Outcome, Progress
from bide.providers.diffusers import submit

from .upstream import MAGIC, MemoryStore

STANDIN = Path(__file__).parent / "standin"
TASK = "0199aaaa-0000-7000-8000-000000000001"
MAGIC.setdefault(b"RIFF", "image/webp")


def without_the_library(patch: pytest.MonkeyPatch) -> None:
    """The processes of this test find the stand-ins of torch and diffusers before the real ones."""
    patch.setenv("PYTHONPATH", str(STANDIN), prepend=os.pathsep)


class Asking:
    """What one test asks, and what was stored and reported."""

    def __init__(self, model: Path, **options: Any) -> None:
        self.model, self.options = model, options
        self.store, self.reports = MemoryStore(), list[int]()

    def call(self, capability: str = "image.generate", inputs: tuple[Input, ...] = (), task_id: str = TASK,
             options: Mapping[str, Any] | None = None, **request: Any) -> Call:  # fmt: skip
        return Call(
            task_id=task_id, capability=capability, model="a-model", request={"prompt": "a boat", **request},
            inputs=inputs, http=cast(aiohttp.ClientSession, None), key="",
            options={"model": str(self.model), **self.options, **(options or {})}, sink=self.store.open,
            answer_bytes_max=1 << 20, report=self._report,
        )  # fmt: skip

    async def submit(self, **call: Any) -> Outcome:
        return await submit(self.call(**call))

    async def _report(self, progress: Progress) -> None:
        self.reports.append(progress.percent)

    @property
    def loads(self) -> list[str]:
        """A line for each time the stand-in was loaded."""
        return (self.model / "loads").read_text().splitlines()


def given(field: str, data: bytes) -> Input:
    async def chunks() -> AsyncIterator[bytes]:
        yield data[:100]
        yield data[100:]

    return Input(field, f"{field}.png", "image/png", len(data), chunks)

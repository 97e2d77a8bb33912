"""Bytes that live until one answer was sent."""

import asyncio
import base64
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bide.providers.base import FileTooLarge, NotMedia, Stored
from bide.storage.spool import Spool

PNG = b"\x89PNG\r\n\x1a\n"
SMALL = PNG + os.urandom(700_001)
LARGE = PNG + os.urandom(3_000_001)


def run(directory: Path, steps: Callable[[Spool], Awaitable[None]], **bounds: int) -> None:
    async def main() -> None:
        spool = Spool(directory, **bounds)
        try:
            await steps(spool)
        finally:
            await spool.close()

    asyncio.run(main())
    assert os.listdir(directory) == []


async def put(spool: Spool, content: bytes, step: int = 100_000) -> Stored:
    sink = spool.sink(len(content))
    for at in range(0, len(content), step):
        await sink.write(content[at : at + step])
    return await sink.close()


async def read(spool: Spool, name: str, size: int) -> list[bytes]:
    return [chunk async for chunk in spool.chunks(name, size)]


@pytest.mark.parametrize("content", [PNG, SMALL, LARGE], ids=["tiny", "memory", "file"])
@pytest.mark.parametrize("size", [1, 100_000, 196_608, 100_000_000])
def test_chunks_add_up_in_steps_of_whole_base64_quanta(tmp_path: Path, content: bytes, size: int) -> None:
    async def steps(spool: Spool) -> None:
        stored = await put(spool, content)
        assert stored.name.startswith("spool/")
        assert (stored.size, stored.content_type) == (len(content), "image/png")
        wanted = size if len(content) < 100 else max(size, 30_000)
        for _ in range(2):
            chunks = await read(spool, stored.name, wanted)
            assert b"".join(chunks) == content
            assert {len(chunk) % 3 for chunk in chunks[:-1]} <= {0}
            assert len({len(chunk) for chunk in chunks[:-1]}) <= 1
        assert b"".join(base64.b64encode(chunk) for chunk in chunks) == base64.b64encode(content)

    run(tmp_path, steps)


def test_two_readers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    async def steps(spool: Spool) -> None:
        name = (await put(spool, LARGE)).name
        got = await asyncio.gather(*(read(spool, name, size) for size in (9_999, 30_000, 77_777)))
        assert {b"".join(chunks) for chunks in got} == {LARGE}

    run(tmp_path, steps)


def test_a_dropped_file_is_unknown_and_dropping_it_again_is_no_error(tmp_path: Path) -> None:
    async def steps(spool: Spool) -> None:
        for content in (SMALL, LARGE):
            name = (await put(spool, content)).name
            spool.drop(name)
            spool.drop(name)
            with pytest.raises(KeyError):
                spool.chunks(name)

    run(tmp_path, steps)


def test_all_files_together_stay_within_their_share_of_memory(tmp_path: Path) -> None:
    async def steps(spool: Spool) -> None:
        names = [(await put(spool, SMALL)).name for _ in range(5)]
        assert spool.held == 2 * len(SMALL)
        assert {b"".join(await read(spool, name, 90_000)) for name in names} == {SMALL}
        for name in names:
            spool.drop(name)
        assert spool.held == 0
        sink = spool.sink(len(SMALL))
        await sink.write(SMALL)
        assert spool.held == len(SMALL)
        await sink.abort()
        assert spool.held == 0

    run(tmp_path, steps, memory_total_max=2 * len(SMALL) + 1000)


@pytest.mark.parametrize("memory_max", [0, 1_048_576])
def test_refused_bytes_leave_nothing(tmp_path: Path, memory_max: int) -> None:
    async def steps(spool: Spool) -> None:
        large = spool.sink(len(SMALL) - 1)
        with pytest.raises(FileTooLarge):
            await large.write(SMALL)
        await large.abort()
        strange = spool.sink(10_000_000)
        for _ in range(4):
            await strange.write(b"<svg>" * 100_000)
        with pytest.raises(NotMedia):
            await strange.close()
        await strange.abort()
        assert spool.held == 0

    run(tmp_path, steps, memory_max=memory_max)


def test_first_bytes_that_come_one_by_one_are_kept_even_with_no_memory_left(tmp_path: Path) -> None:
    async def steps(spool: Spool) -> None:
        name = (await put(spool, SMALL[:2000], step=1)).name
        assert await read(spool, name, 3000) == [SMALL[:2000]]

    run(tmp_path, steps, memory_max=0)


def test_temporary_files_have_no_name_while_they_are_open(tmp_path: Path) -> None:
    async def steps(spool: Spool) -> None:
        await put(spool, LARGE)
        assert os.listdir(tmp_path) == []  # so a killed process leaves nothing

    run(tmp_path, steps)

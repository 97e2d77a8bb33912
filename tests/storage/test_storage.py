"""One behaviour of both stores: a directory and a bucket."""

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bide.clock import Clock
from bide.providers.base import FileTooLarge, NotMedia, Sink, Stored
from bide.settings import Settings, SettingsError
from bide.storage import Storage, is_public, open_storage
from bide.storage.base import day_of

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
LARGE = b"\x89PNG\r\n\x1a\n" + os.urandom(7 * 1024 * 1024)
TOKEN = "0123456789abcdef" * 2
NOT_NAMES = [
    "", ".", "..", "/", "../bide.db", f"../files/2026-11-22/{TOKEN}.png", f"/2026-11-22/{TOKEN}.png",
    f"2026-11-22/../2026-11-22/{TOKEN}.png", f"2026-11-22%2f{TOKEN}.png", f"%2e%2e/{TOKEN}.png",
    f"2026-11-22/{TOKEN}.png\n", f"2026-11-22/{TOKEN}.png\0", f"2026-11-22/{TOKEN}\0.png", f"2026-11-22\\{TOKEN}.png",
    f"2026-11-22/{TOKEN.upper()}.png", f"2026-11-22/{TOKEN}.html", f"2026-11-22/{TOKEN}.svg", f"2026-11-22/{TOKEN}",
    f"2026-11-22/{TOKEN[1:]}.png", f"tmp/{TOKEN}", f"private/../2026-11-22/{TOKEN}.png",
    f"private/private/2026-11-22/{TOKEN}.png", f"٢٠٢٦-11-22/{TOKEN}.png", "C:\\Windows", "\udcff",
]  # fmt: skip

Use = Callable[[Callable[[Storage], Any]], Any]


async def put(sink: Sink, *pieces: bytes) -> Stored:
    for piece in pieces:
        await sink.write(piece)
    return await sink.close()


async def read(storage: Storage, name: str, start: int = 0, end: int | None = None) -> bytes:
    opened = await storage.open(name)
    assert opened is not None
    return b"".join([chunk async for chunk in opened.chunks(start, opened.size if end is None else end)])


def files_of(settings: Settings) -> list[str]:
    """All regular files below the data directory: of the local store, and of whatever the other one spools."""
    return sorted(path.relative_to(settings.data_dir).as_posix() for path in Path(settings.data_dir).rglob("*.*"))


@pytest.mark.parametrize("content", [PNG, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("step", [7 * 1024 * 1024 + 8, 100_003], ids=["at once", "in pieces"])
def test_what_was_stored_is_read_back(use: Use, content: bytes, step: int) -> None:
    async def steps(storage: Storage) -> None:
        pieces = [content[at : at + step] for at in range(0, len(content), step)]
        stored = await put(storage.sink(len(content)), *pieces)
        assert (stored.size, stored.content_type) == (len(content), "image/png")
        assert re.fullmatch(r"20\d\d-\d\d-\d\d/[0-9a-f]{32}\.png", stored.name)
        opened = await storage.open(stored.name)
        assert opened is not None
        assert (opened.name, opened.size, opened.content_type) == (stored.name, stored.size, "image/png")
        assert opened.modified > 1_700_000_000
        assert await read(storage, stored.name) == content

    use(steps)


def test_single_bytes_add_up(use: Use) -> None:
    async def steps(storage: Storage) -> None:
        stored = await put(storage.sink(10_000), *(PNG[at : at + 1] for at in range(len(PNG))))
        assert await read(storage, stored.name) == PNG

    use(steps)


def test_parts_of_a_file_are_read(use: Use) -> None:
    async def steps(storage: Storage) -> None:
        name = (await put(storage.sink(len(LARGE)), LARGE)).name
        size = len(LARGE)
        for start, end in [(0, 1), (5, 5), (8, 300_000), (262_143, 262_145), (262_144, 600_000), (size - 1, size)]:
            assert await read(storage, name, start, end) == LARGE[start:end]

    use(steps)


def test_two_files_of_the_same_content_have_different_names(use: Use) -> None:
    async def steps(storage: Storage) -> None:
        stored = await asyncio.gather(*(put(storage.sink(10_000), PNG) for _ in range(40)))
        assert len({each.name for each in stored}) == 40
        assert {await read(storage, each.name) for each in stored} == {PNG}

    use(steps)


@pytest.mark.parametrize("length", [1, 100_000, 3 * 1024 * 1024])
def test_a_file_beyond_its_bound_is_refused_and_leaves_nothing(use: Use, settings: Settings, length: int) -> None:
    async def steps(storage: Storage) -> None:
        sink = storage.sink(len(PNG) + length - 1)
        await sink.write(PNG)
        with pytest.raises(FileTooLarge):
            await sink.write(bytes(length))
        await sink.abort()

    use(steps)
    assert files_of(settings) == []


@pytest.mark.parametrize("length", [0, 3, 1000, 3 * 1024 * 1024])
def test_what_is_not_media_is_refused_and_leaves_nothing(use: Use, settings: Settings, length: int) -> None:
    async def steps(storage: Storage) -> None:
        sink = storage.sink(10 * 1024 * 1024)
        for _ in range(3):
            await sink.write((b"<html>" * length)[: length // 3])
        with pytest.raises(NotMedia):
            await sink.close()
        await sink.abort()

    use(steps)
    assert files_of(settings) == []


@pytest.mark.parametrize("content", [b"", PNG, LARGE], ids=["empty", "small", "large"])
def test_an_aborted_file_leaves_nothing(use: Use, settings: Settings, content: bytes) -> None:
    async def steps(storage: Storage) -> None:
        sink = storage.sink(len(content))
        await sink.write(content)
        await sink.abort()

    use(steps)
    assert [path for path in Path(settings.data_dir).rglob("*") if path.is_file()] == []


def test_a_write_or_close_that_is_cancelled_can_be_aborted(use: Use, settings: Settings) -> None:
    async def steps(storage: Storage) -> None:
        for ending in ("write", "close"):
            for turns in range(4):
                sink = storage.sink(2 * len(LARGE))
                await sink.write(LARGE if ending == "close" else PNG)
                task = asyncio.ensure_future(sink.write(LARGE) if ending == "write" else sink.close())
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                await sink.abort()

    use(steps)
    assert [path for path in Path(settings.data_dir).rglob("*") if path.is_file()] == []


def test_an_abort_after_the_end_changes_nothing(use: Use) -> None:
    async def steps(storage: Storage) -> None:
        sink = storage.sink(10_000)
        stored = await put(sink, PNG)
        await sink.abort()
        assert await read(storage, stored.name) == PNG

    use(steps)


def test_deleted_files_are_gone_and_missing_ones_are_no_error(use: Use) -> None:
    async def steps(storage: Storage) -> None:
        kept, *gone = [(await put(storage.sink(10_000), PNG)).name for _ in range(3)]
        await storage.delete([*gone, f"2020-01-01/{TOKEN}.png", gone[0], "../bide.db", "not a name"])
        await storage.delete(gone)
        await storage.delete([])
        assert [await storage.open(name) for name in gone] == [None, None]
        assert await read(storage, kept) == PNG

    use(steps)


def test_private_files_have_names_of_their_own(use: Use) -> None:
    async def steps(storage: Storage) -> None:
        stored = await put(storage.sink(10_000, private=True), PNG)
        assert re.fullmatch(r"private/20\d\d-\d\d-\d\d/[0-9a-f]{32}\.png", stored.name)
        assert await read(storage, stored.name) == PNG
        assert not is_public(stored.name)
        assert await storage.open(stored.name.removeprefix("private/")) is None

    use(steps)


@pytest.mark.parametrize("name", NOT_NAMES)
def test_what_is_not_a_name_opens_nothing(use: Use, name: str) -> None:
    async def steps(storage: Storage) -> None:
        assert not is_public(name)
        assert await storage.open(name) is None

    use(steps)


def test_an_unknown_name_opens_nothing(use: Use) -> None:
    async def steps(storage: Storage) -> None:
        assert await storage.open(f"2026-11-22/{TOKEN}.png") is None

    use(steps)


def test_a_file_deleted_while_it_is_read_is_an_error_or_goes_on(use: Use) -> None:
    """Never a short file that looks whole."""

    async def steps(storage: Storage) -> None:
        stored = await put(storage.sink(len(LARGE)), LARGE)
        opened = await storage.open(stored.name)
        assert opened is not None
        await storage.delete([stored.name])
        try:
            got = b"".join([chunk async for chunk in opened.chunks(0, opened.size)])
        except OSError:
            return
        assert got == LARGE

    use(steps)


@pytest.mark.parametrize("url", ["s3:", "s3:///prefix", "http://bucket", "/var/files", "bucket"])
def test_a_storage_url_that_names_no_bucket_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsError, match="BIDE_STORAGE_URL"):
        open_storage(Settings(data_dir=str(tmp_path), storage_url=url))


def test_whole_days_are_deleted_and_later_ones_stay(settings: Settings) -> None:
    """Two stores on the same place whose clocks are at different days."""

    class Then(Clock):
        def __init__(self, day: int) -> None:
            self._ms = 1_760_000_000_000 + day * 86_400_000

        def now_ms(self) -> int:
            return self._ms

    async def main() -> None:
        early, late = open_storage(settings, Then(0)), open_storage(settings, Then(3))
        try:
            old = [await put(early.sink(10_000, private=private), PNG) for private in (False, True)]
            new = [await put(late.sink(10_000, private=private), PNG) for private in (False, True)]
            await late.delete_days(day_of(Then(2).now_ms()))
            assert [await late.open(one.name) for one in old] == [None, None]
            assert [await read(late, one.name) for one in new] == [PNG, PNG]
        finally:
            await early.close()
            await late.close()

    asyncio.run(main())

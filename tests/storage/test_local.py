"""What is particular to the directory: what lies there, and what a killed process left."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from bide.clock import Clock
from bide.storage.local import LocalStorage

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 1000


class Fixed(Clock):
    """A clock that stands still."""

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s

    def now_ms(self) -> int:
        return int(self.at_s * 1000)


def everything(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


async def put(storage: LocalStorage, content: bytes = PNG) -> str:
    sink = storage.sink(len(content))
    await sink.write(content)
    return (await sink.close()).name


def test_after_close_the_file_is_whole_under_its_name_and_nothing_else_is_there(tmp_path: Path) -> None:
    async def main() -> list[str]:
        storage = LocalStorage(tmp_path)
        names = await asyncio.gather(*(put(storage, PNG + bytes(n)) for n in (0, 5, 2_000_000) for _ in range(20)))
        assert everything(tmp_path) == sorted(names)
        await storage.close()
        return list(names)

    names = asyncio.run(main())
    assert sorted({(tmp_path / name).stat().st_size for name in names}) == [1008, 1013, 2_001_008]


def test_a_file_in_the_making_is_never_seen_under_a_name_of_the_store(tmp_path: Path) -> None:
    async def main() -> None:
        storage = LocalStorage(tmp_path)
        sink = storage.sink(10 * len(PNG) * 1000)
        await sink.write(PNG * 2000)
        (only,) = everything(tmp_path)
        assert only.startswith("tmp/")
        name = (await sink.close()).name
        assert everything(tmp_path) == [name]
        await storage.close()

    asyncio.run(main())


def test_a_killed_process_leaves_temporary_files_that_are_removed_after_an_hour(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    for name, age_s in (("old", 3700), ("young", 3500)):
        (tmp_path / "tmp" / name).write_bytes(PNG)
        os.utime(tmp_path / "tmp" / name, (time.time() - age_s,) * 2)
    asyncio.run(LocalStorage(tmp_path).close())
    assert everything(tmp_path) == ["tmp/young"]


def test_the_folder_of_a_past_day_goes_with_its_last_file(tmp_path: Path) -> None:
    async def main() -> None:
        clock = Fixed(1_795_305_600)  # 2026-11-22
        storage = LocalStorage(tmp_path, clock)
        one, two = await put(storage), await put(storage)
        clock.at_s += 40 * 86_400
        await storage.delete([one])
        assert everything(tmp_path) == [two]
        today = await put(storage)
        await storage.delete([two, today])
        assert sorted(os.listdir(tmp_path)) == ["2027-01-01", "tmp"]
        clock.at_s -= 40 * 86_400
        assert (await put(storage)).startswith("2026-11-22/")  # even a clock that was set back finds its folder
        await storage.close()

    asyncio.run(main())


def test_a_store_that_cannot_write_says_so_with_an_os_error(tmp_path: Path) -> None:
    async def main() -> None:
        storage = LocalStorage(tmp_path)
        (tmp_path / "tmp").rmdir()
        for content in (PNG, PNG * 2000):
            sink = storage.sink(len(content))
            with pytest.raises(FileNotFoundError):
                await put(storage, content)
            await sink.abort()
        (tmp_path / "tmp").mkdir()
        assert await storage.open(await put(storage)) is not None
        await storage.close()

    asyncio.run(main())

"""What may take long is done for each user one after another."""

import asyncio

import pytest

from bide.api.turns import Turns
from bide.errors import TooManyRequests


def test_a_user_waits_for_itself_and_for_nobody_else() -> None:
    async def test() -> None:
        turns, seen = Turns(), list[str]()

        async def take(user_id: str, name: str) -> None:
            async with turns.of(user_id):
                seen.append(name)
                await asyncio.sleep(0)
                seen.append(f"{name} is done")

        async with turns.of("busy"):
            waiting = [asyncio.create_task(take("busy", name)) for name in ("a", "b")]
            await take("another", "x")
            assert seen == ["x", "x is done"]
        await asyncio.gather(*waiting)
        assert seen[2:] == ["a", "a is done", "b", "b is done"]

    asyncio.run(test())


def test_nothing_is_kept_of_who_had_a_turn() -> None:
    async def test() -> None:
        turns = Turns()
        for number in range(3):
            async with turns.of(f"user {number}"):
                pass
        with pytest.raises(KeyError):
            async with turns.of("one"):
                raise KeyError
        async with turns.of("one"):
            given_up = asyncio.create_task(turns.of("one").__aenter__())
            await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.wait([given_up])
        assert turns._lines == {}

    asyncio.run(test())


def test_who_asks_for_too_much_at_once_is_told() -> None:
    async def test() -> None:
        turns = Turns()
        async with turns.of("one", 1):
            waiting = asyncio.create_task(turns.of("one", 1).__aenter__())
            await asyncio.sleep(0)
            with pytest.raises(TooManyRequests):
                await turns.of("one", 1).__aenter__()
            async with turns.of("another", 1):
                pass
            waiting.cancel()
            await asyncio.wait([waiting])

    asyncio.run(test())

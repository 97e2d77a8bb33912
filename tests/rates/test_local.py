"""Rates that processes of one machine share through a file, whatever becomes of a process or of the file."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bide.clock import Clock
from bide.rates import Rate, open_rates, rate
from bide.rates.local import GROUP, GROUPS, SLOTS, LocalRates, place
from bide.settings import Settings
from tests.rates.processes import bounds, hammer, python

KEY = "s/1/openai/default"
SLOW = rate(0.5)
BYTES_MAX = GROUPS * GROUP


class Still(Clock):
    """A clock that only goes when told to."""

    def __init__(self, monotonic: float = 1_000.0) -> None:
        self.time = monotonic

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


def take(rates: LocalRates, one: Rate = SLOW, key: str = KEY) -> float:
    return asyncio.run(rates.take(key, one))


def given(rates: LocalRates, one: Rate, times: int) -> int:
    """How many of so many are admitted now."""
    return sum(take(rates, one) == 0.0 for _ in range(times))


def test_after_the_burst_a_caller_waits_as_long_as_it_is_told(tmp_path: Path) -> None:
    clock = Still()
    rates = LocalRates(tmp_path, 1, clock)
    assert given(rates, rate(60), 100) == 60
    wait = take(rates, rate(60))
    assert wait == pytest.approx(1 / 60, abs=2e-6)
    clock.time += wait - 2e-6
    assert take(rates, rate(60)) > 0
    clock.time += 2e-6
    assert take(rates, rate(60)) == 0.0
    assert take(rates, rate(60)) > 0


def test_keys_do_not_share(tmp_path: Path) -> None:
    rates = LocalRates(tmp_path, 1, Still())
    assert [take(rates, key="a"), take(rates, key="b")] == [0.0, 0.0]
    assert take(rates, key="a") > 0


def test_no_rate_is_no_limit(tmp_path: Path) -> None:
    rates = LocalRates(tmp_path, 1, Still())
    assert given(rates, rate(0), 1_000) == given(rates, rate(-1), 1_000) == 1_000


def test_each_of_four_nodes_gives_a_quarter(tmp_path: Path) -> None:
    clock = Still()
    rates = LocalRates(tmp_path, 4, clock)
    assert given(rates, rate(60), 100) == 15
    assert take(rates, rate(60)) == pytest.approx(4 / 60, abs=2e-6)


def test_the_settings_say_where_and_how_many(tmp_path: Path) -> None:
    async def all_there_is() -> int:
        rates = await open_rates(Settings(data_dir=str(tmp_path / "new" / "data"), nodes=2), Still())
        waits = [await rates.take(KEY, rate(10)) for _ in range(20)]
        await rates.close()
        return waits.count(0.0)

    assert asyncio.run(all_there_is()) == 5
    assert (tmp_path / "new" / "data" / "rates").stat().st_size <= BYTES_MAX


@pytest.mark.parametrize("per_s", [50.0, 2_000.0])
def test_four_processes_together_are_given_what_is_due_and_no_more(tmp_path: Path, per_s: float) -> None:
    answers = hammer([tmp_path] * 4, "", per_s, 0.7)
    due, admitted, most = bounds(answers, per_s, int(per_s))
    assert sum(one["asked"] for one in answers) > most, "they asked for more than there was"
    assert due * 0.9 <= admitted <= most


HOLD = f"""
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(fd, fcntl.LOCK_EX, {GROUP}, int(sys.argv[2]))
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_killed_process_leaves_no_lock_and_a_stopped_one_holds_nobody_up(tmp_path: Path) -> None:
    one, other = (LocalRates(tmp_path, 1, Still()) for _ in range(2))
    with python("-c", HOLD, str(tmp_path / "rates"), str(place(KEY)[1])) as holder:
        assert [take(one), take(other)] == [0.0, 0.0], "each counts for itself while a third has the lock for long"
        assert take(one, key="another group") == 0.0
        assert take(other, key="another group") > 0
        holder.kill()
        holder.wait()
        assert take(one) == 0.0
        assert take(other) > 0


GARBAGE = {
    "empty": b"", "short": b"x" * 1_000, "zeros": bytes(BYTES_MAX), "ones": b"\xff" * BYTES_MAX,
    "text": b"How often something may be done. " * 60_000, "past": b"\0\0\0\0\0\0\0\x80" * (BYTES_MAX // 8),
    "noise": b"".join(place(str(number))[0] for number in range(BYTES_MAX // 16)),
}  # fmt: skip


@pytest.mark.parametrize("kind", GARBAGE)
def test_any_content_of_the_file_is_a_table(tmp_path: Path, kind: str) -> None:
    (tmp_path / "rates").write_bytes(GARBAGE[kind])
    clock = Still()
    one, other = (LocalRates(tmp_path, 1, clock) for _ in range(2))
    for number in range(200):
        assert take(one, key=str(number)) == 0.0
        assert 0 < take(other, key=str(number)) <= 2.00001


def test_a_file_that_is_cut_or_overwritten_while_in_use_only_forgets(tmp_path: Path) -> None:
    rates = LocalRates(tmp_path, 1, Still())
    for content in (b"", b"noise" * 400_000):
        take(rates)
        assert take(rates) > 0
        with (tmp_path / "rates").open("r+b") as file:
            file.truncate(0)
            file.write(content)
        assert take(rates) == 0.0
        assert take(rates) > 0


def test_after_the_file_was_removed_processes_meet_again_in_a_new_one(tmp_path: Path) -> None:
    clock = Still()
    one = LocalRates(tmp_path, 1, clock)
    (tmp_path / "rates").unlink()
    other = LocalRates(tmp_path, 1, clock)
    clock.time += 1
    assert take(one) == 0.0
    assert take(other) > 0


@pytest.mark.parametrize("later", [5.0, 990.0, 100_000.0])
def test_times_of_another_start_of_the_machine_bind_nobody(tmp_path: Path, later: float) -> None:
    before, after = LocalRates(tmp_path, 1, Still(later)), LocalRates(tmp_path, 1, Still(1_000.0))
    take(before)
    assert take(after) == 0.0
    assert take(after) > 0


def test_without_a_file_the_process_counts_by_itself_and_says_so_once(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the directory should be")
    clock = Still()
    with capture_logs() as lines:
        rates = LocalRates(tmp_path / "data", 1, clock)
        for _ in range(5):
            assert given(rates, SLOW, 5) == 1
            clock.time += 2
    assert [line["log_level"] for line in lines] == ["warning"]
    (tmp_path / "data").unlink()
    clock.time += 2
    assert take(rates) == 0.0
    assert take(LocalRates(tmp_path / "data", 1, clock)) > 0, "it is shared as soon as it can be"


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk_fails_no_caller(tmp_path: Path) -> None:
    (tmp_path / "rates").symlink_to("/dev/full")
    clock = Still()
    with capture_logs() as lines:
        rates = LocalRates(tmp_path, 1, clock)
        for _ in range(5):
            assert given(rates, SLOW, 5) == 1
            clock.time += 2
    assert len(lines) == 1


def test_a_directory_or_a_pipe_in_its_place_fails_no_caller(tmp_path: Path) -> None:
    (tmp_path / "a" / "rates").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "b" / "rates")
    for name in ("a", "b"):
        with capture_logs():
            assert given(LocalRates(tmp_path / name, 1, Still()), SLOW, 5) == 1


def test_a_closed_one_still_counts(tmp_path: Path) -> None:
    rates = LocalRates(tmp_path, 1, Still())
    asyncio.run(rates.close())
    assert given(rates, SLOW, 5) == 1


def test_a_full_table_stays_small_and_forgets_what_is_over_soonest(tmp_path: Path) -> None:
    """All keys at the same moment, each with one to give: how many a second round gives again is what it forgot."""

    async def forgotten(directory: Path, keys: int) -> float:
        rates = LocalRates(directory, 1, Still())
        for number in range(keys):
            assert await rates.take(f"s/{number}/openai/default", SLOW) == 0.0
        again = [await rates.take(f"s/{number}/openai/default", SLOW) for number in range(keys)]
        return again.count(0.0) / keys

    assert asyncio.run(forgotten(tmp_path / "some", 20_000)) < 0.001
    assert asyncio.run(forgotten(tmp_path / "all", 100_000)) > 1 - GROUPS * SLOTS / 100_000
    assert (tmp_path / "all" / "rates").stat().st_size <= BYTES_MAX


def test_without_a_file_memory_is_bounded_too(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")

    async def ask() -> tuple[float, float]:
        rates = LocalRates(tmp_path / "data", 1, clock)
        for number in range(100_000):
            clock.time += 1e-6
            await rates.take(str(number), SLOW)
        return await rates.take("99999", SLOW), await rates.take("0", SLOW)

    clock = Still()
    with capture_logs():
        last, first = asyncio.run(ask())
    assert last > 0
    assert first == 0.0, "the oldest is forgotten first"

"""The rule by itself: how much it admits, and that the wait it names is true."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bide.rates import Rate, rate
from bide.rates.gcra import decide, steps

SECOND = 1_000_000_000
NS, US = SECOND, 1_000_000
rates = st.builds(Rate, st.floats(0.01, 5_000), st.integers(1, 500))
gaps = st.lists(st.one_of(st.just(0), st.integers(0, SECOND // 100), st.integers(0, 20 * SECOND)), max_size=200)


@pytest.mark.parametrize(
    ("per_s", "burst"), [(0.5, 1), (1, 1), (1.9, 1), (2, 2), (60, 60), (1e9, 1_000_000), (math.inf, 1_000_000)]
)
def test_a_bucket_holds_the_whole_ones_of_a_second_and_at_least_one(per_s: float, burst: int) -> None:
    assert rate(per_s) == Rate(per_s, burst)


@given(rates, gaps)
def test_no_window_of_time_admits_more_than_the_burst_and_what_it_brings(one: Rate, gaps: list[int]) -> None:
    interval, burst = steps(one, NS)
    now, tat, admitted = 7 * SECOND, 0, []
    for gap in gaps:
        now += gap
        tat, wait = decide(tat, now, interval, burst)
        if not wait:
            admitted.append(now)
    for first, begin in enumerate(admitted):
        for last in range(first, len(admitted)):
            assert (last - first + 1 - one.burst) * NS <= one.per_s * (admitted[last] - begin) * (1 + 1e-12)


@given(rates, gaps)
def test_one_that_waits_so_long_is_admitted_and_a_moment_earlier_it_is_not(one: Rate, gaps: list[int]) -> None:
    interval, burst = steps(one, NS)
    now, tat = 7 * SECOND, 0
    for gap in gaps:
        now += gap
        kept, wait = decide(tat, now, interval, burst)
        if wait:
            assert kept == tat, "nothing is taken"
            assert decide(tat, now + wait, interval, burst)[1] == 0
            assert decide(tat, now + wait - 1, interval, burst)[1] == 1
        tat = kept


@given(rates, st.integers(0, 2**62), st.integers(-(2**63), 2**63 - 1))
def test_any_number_in_place_of_a_time_costs_at_most_one_full_bucket(one: Rate, now: int, garbage: int) -> None:
    interval, burst = steps(one, NS)
    tat, wait = decide(garbage, now, interval, burst)
    assert 0 <= wait <= interval
    assert wait or now < tat <= now + interval * burst


@given(rates, gaps)
def test_a_caller_who_keeps_asking_gets_all_that_is_due(one: Rate, gaps: list[int]) -> None:
    """Asked whenever one is there again, the number admitted is the burst and one for each interval."""
    interval, burst = steps(one, NS)
    now = start = 7 * SECOND
    tat = admitted = 0
    for _ in range(burst + 50):
        tat, wait = decide(tat, now, interval, burst)
        admitted += not wait
        now += wait
    assert admitted == burst + (now - start) // interval


@given(st.builds(Rate, st.floats(min_value=0, exclude_min=True), st.integers(1, 10**12)), st.integers(1, 99))
@pytest.mark.parametrize("unit", [NS, US])
def test_every_rate_has_steps_that_fit_64_bits_and_are_no_faster(unit: int, one: Rate, parts: int) -> None:
    interval, burst = steps(one, unit, parts)
    assert interval >= 1
    assert 1 <= burst <= max(1, one.burst // parts)
    assert interval * burst < 2**62
    if one.per_s * 366 * 86_400 > parts and one.per_s < unit:
        assert interval * one.per_s >= unit * parts * (1 - 1e-12)

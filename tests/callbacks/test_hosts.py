"""Fairness between receivers, as arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bide.callbacks.hosts import PROBATION_MAX, Hosts, host_of


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://example.com/cb?x=1", "https://example.com"),
        ("HTTPS://Example.COM/cb", "https://example.com"),
        ("http://example.com:8080/cb", "http://example.com:8080"),
        ("http://[::1]:80/cb", "http://[::1]:80"),
    ],
)
def test_a_receiver_is_a_scheme_a_name_and_a_port(url: str, host: str) -> None:
    assert host_of(url) == host


def fill(hosts: Hosts, host: str) -> int:
    """Opens as many as one host may have."""
    opened = 0
    while hosts.may_start(host):
        hosts.start(host)
        opened += 1
    return opened


def test_one_host_takes_at_most_a_quarter_of_what_is_free() -> None:
    hosts = Hosts(1000)
    assert fill(hosts, "a") == 200  # 200 of the 800 that are then free
    assert hosts.free == 800
    assert hosts.busy() == ("a",)


def test_there_is_always_room_for_the_next_host_until_all_is_taken() -> None:
    hosts = Hosts(100)
    for number in range(100):
        assert hosts.may_start(f"host-{number}")
        hosts.start(f"host-{number}")
    assert hosts.free == 0
    assert not hosts.may_start("one-more")


def test_a_host_that_let_a_callback_time_out_gets_few_until_it_answers_one() -> None:
    hosts = Hosts(1000)
    hosts.start("a")
    hosts.end("a", timed_out=True)
    assert fill(hosts, "a") == PROBATION_MAX
    assert fill(hosts, "b") > PROBATION_MAX
    hosts.end("a", timed_out=False)
    assert fill(hosts, "a") > PROBATION_MAX


@given(st.integers(8, 64), st.lists(st.tuples(st.sampled_from("abcde"), st.booleans(), st.booleans()), max_size=200))
def test_counts_are_true_and_bounds_hold_whatever_happens(open_max: int, moves: list[tuple[str, bool, bool]]) -> None:
    hosts = Hosts(open_max)
    opened: list[str] = []
    for host, starts, timed_out in moves:
        if starts and hosts.may_start(host):
            assert opened.count(host) < max(1, hosts.free // 4)
            hosts.start(host)
            opened.append(host)
        elif not starts and host in opened:
            hosts.end(host, timed_out=timed_out)
            opened.remove(host)
        assert hosts.free == open_max - len(opened)
        assert set(hosts.busy()) <= set(opened)

"""Fairness between receivers, as arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bide.callbacks.hosts import OWNER_MIN, PROBATION_MAX, REMEMBERED_MAX, Hosts, host_of


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


def fill(hosts: Hosts, host: str, owner: str = "") -> int:
    """Opens as many as one host may have, and finds that `room` had said so."""
    room, opened = hosts.room(host, owner), 0
    while hosts.may_start(host, owner):
        hosts.start(host, owner)
        opened += 1
    assert opened == room
    return opened


def test_one_host_takes_at_most_a_quarter_of_what_is_free() -> None:
    hosts = Hosts(1000)
    assert fill(hosts, "a") == 200  # 200 of the 800 that are then free
    assert hosts.free == 800
    assert not hosts.may_start("a")


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


def test_a_slow_host_with_nothing_open_is_not_busy_but_has_little_room() -> None:
    hosts = Hosts(1000)
    hosts.start("a")
    hosts.end("a", timed_out=True)
    assert hosts.may_start("a")
    assert (hosts.room("a"), hosts.room("b")) == (PROBATION_MAX, 200)
    fill(hosts, "a")
    assert not hosts.may_start("a")
    assert hosts.room("a") == 0


def test_the_memory_of_slow_hosts_is_bounded_and_forgets_the_oldest() -> None:
    hosts = Hosts(1000)
    for number in [*range(REMEMBERED_MAX), 0, REMEMBERED_MAX]:  # the first was slow again, so the second goes
        hosts.start(f"host-{number}")
        hosts.end(f"host-{number}", timed_out=True)
    assert [hosts.room(f"host-{number}") > PROBATION_MAX for number in (0, 1, 2, REMEMBERED_MAX)] == [
        False, True, False, False,
    ]  # fmt: skip


def test_an_owner_of_any_number_of_hosts_takes_at_most_half() -> None:
    hosts = Hosts(100)
    opened = sum(fill(hosts, f"host-{number}", "one") for number in range(1000))
    assert opened == 50
    assert not hosts.may_start("new", "one")
    assert hosts.may_start("new", "other")
    assert sum(fill(hosts, f"other-{number}", "other") for number in range(1000)) == 50


def test_an_owner_that_is_answered_has_room_again() -> None:
    hosts = Hosts(100)
    for number in range(50):
        hosts.start(f"host-{number}", "one")
    assert hosts.room("new", "one") == 0
    hosts.end("host-0", "one", timed_out=False)
    assert hosts.room("new", "one") == 1


def test_where_little_is_open_in_all_an_owner_may_still_have_some() -> None:
    hosts = Hosts(10)
    assert sum(fill(hosts, f"host-{number}", "one") for number in range(100)) == OWNER_MIN


@given(
    st.integers(1, 300), st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["", "x", "y"])), max_size=40),
    st.sampled_from("abcd"), st.sampled_from(["", "x", "y"]),
)  # fmt: skip
def test_room_is_as_many_as_may_be_started(
    open_max: int, before: list[tuple[str, str]], host: str, owner: str
) -> None:
    hosts = Hosts(open_max)
    for one, whose in before:
        if hosts.may_start(one, whose):
            hosts.start(one, whose)
    fill(hosts, host, owner)


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
        assert all(hosts.may_start(one) for one in "abc" if one not in opened) or not hosts.free

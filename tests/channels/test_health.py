"""Circuits: how long a channel rests, and who tries it again."""

from hypothesis import given
from hypothesis import strategies as st

from bide.channels.health import CIRCUITS_MAX, COOL_MAX_S, Health

NOW = 1_000.0


def test_a_channel_that_has_not_failed_is_well() -> None:
    health = Health()
    health.worked("m")
    health.unanswered("m", NOW)
    assert (health.rests_until("m"), health.not_closed) == (0.0, 0)


def test_a_failure_that_says_how_long_opens_the_circuit_of_its_model_alone() -> None:
    health = Health()
    health.failed("m", NOW, 30)
    assert (health.rests_until("m"), health.rests_until("other"), health.not_closed) == (NOW + 30, 0.0, 1)


def test_a_failure_that_says_nothing_of_a_rest_opens_none() -> None:
    health = Health()
    health.failed("m", NOW, 0)
    assert health.not_closed == 0


def test_after_the_cool_down_one_probe_goes_out_and_nobody_else_until_it_ends() -> None:
    health = Health()
    health.failed("m", NOW, 30)
    assert health.rests_until("m") <= NOW + 30
    health.asked("m", NOW + 30, 10)
    assert health.rests_until("m") > NOW + 31
    health.worked("m")
    assert health.rests_until("m") == 0.0


def test_a_probe_that_is_silent_for_longer_than_an_answer_takes_makes_room_for_another() -> None:
    health = Health()
    health.failed("m", NOW, 30)
    health.asked("m", NOW + 30, 10)
    assert health.rests_until("m") == NOW + 40


def test_a_probe_that_fails_doubles_the_rest_up_to_a_bound() -> None:
    health, now, rests = Health(), NOW, list[float]()
    health.failed("m", now, 500)
    for _ in range(5):
        now = health.rests_until("m")
        health.asked("m", now, 10)
        health.failed("m", now, 5)
        rests.append(health.rests_until("m") - now)
    assert rests == [1_000, 2_000, COOL_MAX_S, COOL_MAX_S, COOL_MAX_S]


def test_a_probe_whose_outcome_is_not_known_has_not_succeeded() -> None:
    health = Health()
    health.failed("m", NOW, 30)
    health.asked("m", NOW + 30, 10)
    health.unanswered("m", NOW + 35)
    assert health.rests_until("m") == NOW + 35 + 60


def test_who_asks_while_it_rests_does_not_double_the_rest_and_never_shortens_it() -> None:
    health = Health()
    health.failed("m", NOW, 30)
    health.failed("m", NOW + 1, 5)
    assert health.rests_until("m") == NOW + 30
    health.failed("m", NOW + 20, 30)
    assert health.rests_until("m") == NOW + 50


def test_a_caller_who_invents_models_does_not_fill_the_memory_nor_wipe_the_longest_rest() -> None:
    health = Health()
    health.failed("dead", NOW, 3_600)
    for number in range(3 * CIRCUITS_MAX):
        health.failed(f"model-{number}", NOW, 5)
    assert health.not_closed <= CIRCUITS_MAX
    assert health.rests_until("dead") == NOW + 3_600


WHAT = st.sampled_from(["asked", "worked", "failed", "unanswered", "pass"])
EVENTS = st.lists(st.tuples(WHAT, st.floats(0, 5_000)))


@given(EVENTS)
def test_whatever_happens_a_rest_ends_and_a_success_closes(events: list[tuple[str, float]]) -> None:
    health, now = Health(), NOW
    for what, seconds in events:
        before = health.rests_until("m")
        match what:
            case "asked":
                health.asked("m", now, 10)
            case "worked":
                health.worked("m")
                assert health.rests_until("m") == 0.0
            case "failed":
                health.failed("m", now, seconds)
                assert health.rests_until("m") >= min(before, now)
            case "unanswered":
                health.unanswered("m", now)
            case _:
                now += seconds
        assert health.rests_until("m") <= now + max(COOL_MAX_S, 5_000)

"""When a callback is sent next."""

from dataclasses import dataclass

import pytest

from bide.callbacks.schedule import RETRY_AFTER_MAX_S, delivered, ended, next_attempt
from bide.settings import CALLBACK_SCHEDULE_S

MIDDLE = 0.5
SCHEDULE = (0.0, 5.0, 30.0)


@dataclass(frozen=True)
class Outcome:
    status: int | None
    retry_after_s: float | None = None


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299, 410])
def test_success_and_gone_end_a_delivery(status: int) -> None:
    assert ended(status)
    assert delivered(status) == (status != 410)
    assert next_attempt(SCHEDULE, 1, Outcome(status, 7.0), MIDDLE) is None


@pytest.mark.parametrize("status", [None, 101, 199, 300, 301, 308, 400, 401, 404, 408, 409, 411, 429, 500, 503, 999])
def test_everything_else_is_tried_again(status: int | None) -> None:
    assert not ended(status)
    assert next_attempt(SCHEDULE, 1, Outcome(status), MIDDLE) == 5.0


def test_the_first_attempt_is_made_when_the_schedule_says() -> None:
    assert next_attempt(SCHEDULE, 0, None, 0.9) == 0.0
    assert next_attempt((10.0,), 0, None, MIDDLE) == 10.0


def test_after_the_last_attempt_a_delivery_is_parked() -> None:
    assert next_attempt(SCHEDULE, 2, Outcome(500), MIDDLE) == 30.0
    assert next_attempt(SCHEDULE, 3, Outcome(500), MIDDLE) is None
    assert next_attempt(SCHEDULE, 4, Outcome(503, 60.0), MIDDLE) is None


def test_delays_are_spread_by_a_fifth() -> None:
    assert next_attempt(SCHEDULE, 2, Outcome(None), 0.0) == pytest.approx(24.0)
    assert next_attempt(SCHEDULE, 2, Outcome(None), 0.999_999) == pytest.approx(36.0, abs=0.001)


def test_no_delay_stays_no_delay() -> None:
    assert next_attempt((0.0, 0.0), 1, Outcome(500), 0.99) == 0.0


def test_a_receiver_may_ask_for_more_time_but_not_for_less() -> None:
    assert next_attempt(SCHEDULE, 1, Outcome(429, 90.0), MIDDLE) == 90.0
    assert next_attempt(SCHEDULE, 1, Outcome(503, 1.0), MIDDLE) == 5.0
    assert next_attempt(SCHEDULE, 1, Outcome(503, 0.0), MIDDLE) == 5.0


def test_no_receiver_holds_us_off_for_more_than_an_hour() -> None:
    assert next_attempt(SCHEDULE, 1, Outcome(503, 86_400.0), MIDDLE) == RETRY_AFTER_MAX_S
    assert next_attempt((0.0, 7200.0), 1, Outcome(503, 86_400.0), MIDDLE) == 7200.0


def test_the_default_schedule_makes_twelve_attempts_in_about_three_days() -> None:
    delays = [next_attempt(CALLBACK_SCHEDULE_S, made, None, MIDDLE) for made in range(12)]
    assert delays == list(CALLBACK_SCHEDULE_S)
    assert next_attempt(CALLBACK_SCHEDULE_S, 12, Outcome(None), MIDDLE) is None
    assert 3 * 86_400 < sum(CALLBACK_SCHEDULE_S) < 3.5 * 86_400

"""Processes that die are started again, but not as fast as a machine can."""

from bide.cli.serve import PAUSE_S_MAX, STAYS_S, Again


def started(again: Again, died: float) -> float:
    """When a process that died at a time is started again, asked every tenth of a second."""
    now = died
    while not again.may_start(now):
        now += 0.1
    return now


def test_a_process_that_dies_again_and_again_is_started_ever_later() -> None:
    again, now, pauses = Again(0.0), 0.0, []
    for _ in range(9):
        died = now + 1.0
        now = started(again, died)
        pauses.append(round(now - died))
    assert pauses == [0, 1, 2, 4, 8, 16, *[round(PAUSE_S_MAX)] * 3]


def test_a_process_that_stayed_is_started_at_once() -> None:
    again = Again(0.0)
    for died in (5.0, 6.0, 10.0):
        started(again, died)
    late = 20.0 + STAYS_S
    assert started(again, late) == late
    assert started(again, late + 1.0) == late + 1.0, "one early death is forgiven"

"""The table of a task's life: every pair of a state and an event, and what the stores make of it."""

import re

import pytest

from bide.tasks import states
from bide.tasks.states import FINAL, TRANSITIONS, Event, IllegalTransition, State, after

EXPECTED = """
             claim    park     succeed    fail    cancel
queued       running  -        -          failed  cancelled
running      running  running  succeeded  failed  cancelled
succeeded    -        -        -          -       -
failed       -        -        -          -       -
cancelled    -        -        -          -       -
"""


def cells() -> list[tuple[str, str, str]]:
    head, *rows = [line.split() for line in EXPECTED.strip().splitlines()]
    return [(row[0], event, to) for row in rows for event, to in zip(head, row[1:], strict=True)]


@pytest.mark.parametrize(("state", "event", "to"), cells())
def test_each_event_leads_from_each_state_where_the_table_says(state: str, event: str, to: str) -> None:
    if to == "-":
        with pytest.raises(IllegalTransition, match=f"a {state} task cannot {event}"):
            after(State(state), Event(event))
    else:
        assert after(State(state), Event(event)) == to


def test_the_table_names_every_state_and_every_event() -> None:
    assert {state for state, _, _ in cells()} == set(State)
    assert {event for _, event, _ in cells()} == set(Event)


def test_nothing_leaves_a_final_state_and_every_other_state_can_end() -> None:
    assert {state for state, _ in TRANSITIONS} == set(State) - FINAL
    for state in set(State) - FINAL:
        assert FINAL & {to for (at, _), to in TRANSITIONS.items() if at is state}


def test_every_state_can_be_reached_from_the_first() -> None:
    reached = {State.QUEUED}
    for _ in State:
        reached |= {to for (state, _), to in TRANSITIONS.items() if state in reached}
    assert reached == set(State)


def test_the_diagram_names_what_the_table_holds() -> None:
    diagram = (states.__doc__ or "").partition("A task is")[0]
    words = set(re.findall(r"[a-z]+", diagram))
    assert set(State) <= words
    assert set(Event) <= words

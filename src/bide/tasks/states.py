"""The life of a task, as a table.

    queued ──claim──▶ running ──succeed──▶ succeeded
      │                │   ▲ └──fail─────▶ failed
      │                └───┘ park; claim again: a poll that is due, a retry, a worker that died
      └──fail, cancel──▶ failed, cancelled        (a running task can be cancelled too)

A task is *open* (`queued`, `running`) while it has a row in `queue`, and *final* (`succeeded`, `failed`,
`cancelled`) once it has one in `endings`; one transaction takes the first away and writes the second. Due
time and lease are orthogonal to the state. Nothing leaves a final state.
"""

from enum import StrEnum


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(StrEnum):
    CLAIM = "claim"
    """A worker leases the task."""
    PARK = "park"
    """The lease is given back; the task is due again later."""
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.QUEUED, Event.CLAIM): State.RUNNING,
    (State.QUEUED, Event.FAIL): State.FAILED,
    (State.QUEUED, Event.CANCEL): State.CANCELLED,
    (State.RUNNING, Event.CLAIM): State.RUNNING,
    (State.RUNNING, Event.PARK): State.RUNNING,
    (State.RUNNING, Event.SUCCEED): State.SUCCEEDED,
    (State.RUNNING, Event.FAIL): State.FAILED,
    (State.RUNNING, Event.CANCEL): State.CANCELLED,
}

FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})


class IllegalTransition(Exception):
    """An event that the state does not allow: a defect of ours, never of a caller."""


def after(state: State, event: Event) -> State:
    """The state after an event. Raises `IllegalTransition` when there is no such arrow."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"a {state} task cannot {event}") from None

"""The bytes of a task document, made of rows without decoding them."""

import json
import string

from hypothesis import given
from hypothesis import strategies as st

from bide.clock import storage_id, uuid7
from bide.tasks.public import document
from bide.tasks.store import Record

API_ID = "0b6f2f0e-5d0a-4c38-9a51-6f1f3a7d2c10"
TASK_ID = uuid7(1_764_000_000_125, 12345678901234567890)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def record(**changes: object) -> Record:
    values: dict[str, object] = {
        "id": TASK_ID, "service": "openai", "operation": "images/generations", "type": "images_generations",
        "user_id": "u", "application_id": "a", "credential_id": "c", "trace_id": "t", "visible": 1,
        "created_at": 1_764_000_000_125, "started_at": None, "finished_at": None, "b64": None, "request": b"{}",
        "response": None,
    }  # fmt: skip
    return Record(**{**values, **changes})  # type: ignore[arg-type]


def test_a_waiting_task_has_its_names_its_request_and_an_empty_response() -> None:
    assert json.loads(document(record(), API_ID)) == {
        "_id": storage_id(TASK_ID), "id": TASK_ID, "trace_id": "t", "type": "images_generations", "api_id": API_ID,
        "application_id": "a", "user_id": "u", "credential_id": "c", "created_at": 1764000000.125, "request": {},
        "response": {},
    }  # fmt: skip


def test_a_running_task_shows_when_it_was_started_and_nothing_more() -> None:
    waiting, running = (json.loads(document(record(started_at=at), API_ID)) for at in (None, 1_764_000_000_410))
    assert running == {**waiting, "started_at": 1764000000.41}


def test_duration_counts_from_acceptance_and_elapsed_from_the_start() -> None:
    ended = record(started_at=1_764_000_000_410, finished_at=1_764_000_091_910, response=b'{"success":true}')
    shown = json.loads(document(ended, API_ID))
    assert (shown["finished_at"], shown["duration"], shown["elapsed"]) == (1764000091.91, 91.785, 91.5)
    assert shown["response"] == {"success": True}


def test_a_task_that_ended_before_it_was_started_elapsed_as_long_as_it_lasted() -> None:
    shown = json.loads(document(record(finished_at=1_764_000_002_125, response=b"{}"), API_ID))
    assert (shown["duration"], shown["elapsed"]) == (2.0, 2.0)
    assert "started_at" not in shown


def test_times_have_three_decimals_and_no_rounding_of_binary_fractions() -> None:
    body = document(record(started_at=1_764_000_000_001, finished_at=1_764_000_000_130, response=b"{}"), API_ID)
    assert b'"created_at":1764000000.125' in body
    assert b'"duration":0.005' in body
    assert b'"elapsed":0.129' in body


def test_a_clock_that_was_set_back_never_makes_a_negative_time() -> None:
    body = record(started_at=1_764_000_000_125, finished_at=1_764_000_000_000, response=b"{}")
    assert json.loads(document(body, API_ID))["duration"] == 0.0


def test_the_storage_id_is_24_hex_digits_and_its_own_for_each_task() -> None:
    ids = {storage_id(uuid7(1_764_000_000_125, chance << 24)) for chance in range(100)}
    assert len(ids) == 100
    assert all(len(one) == 24 and set(one) <= set(string.hexdigits.lower()) for one in ids)


@given(TEXT, TEXT, TEXT)
def test_any_text_of_a_caller_makes_a_well_formed_document(trace_id: str, user_id: str, prompt: str) -> None:
    request = json.dumps({"prompt": prompt}).encode()
    shown = json.loads(document(record(trace_id=trace_id, user_id=user_id, request=request), API_ID))
    assert (shown["trace_id"], shown["user_id"], shown["request"]) == (trace_id, user_id, {"prompt": prompt})


@given(st.integers(0, 2**40), st.integers(0, 2**31), st.integers(0, 2**31))
def test_times_are_exact_to_the_millisecond(created: int, waited: int, worked: int) -> None:
    started = created + waited
    ended = record(created_at=created, started_at=started, finished_at=started + worked, response=b"{}")
    shown = json.loads(document(ended, API_ID))
    assert round(shown["created_at"] * 1000) == created
    assert round(shown["duration"] * 1000) == waited + worked
    assert round(shown["elapsed"] * 1000) == worked

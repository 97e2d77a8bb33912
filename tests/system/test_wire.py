"""The wire as a client without any library sees it; every answer is held against `/openapi.json`."""

import base64
import contextlib
import sqlite3
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from bide.accounts.tokens import hashed
from tests.system.client import Answer, Client, Part
from tests.system.loopback import Receiver, picture, pictures, receiver
from tests.system.processes import TOKEN, Process, running, until

GENERATE = "/openai/images/generations"
EDIT = "/openai/images/edits"
TASKS = "/openai/tasks"


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running("serve", tmp_path_factory.mktemp("wire"), cache_s=0, sandbox_delay_s=0.05) as process:
        yield process


@pytest.fixture(scope="module")
def client(serve: Process) -> Client:
    return serve.client(checked=True)


@pytest.fixture(scope="module")
def received() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


def accepted(answer: Answer) -> str:
    """The task id of a call that did not wait."""
    assert answer.status == 200, answer
    assert set(answer.json) == {"success", "task_id", "trace_id"}
    assert answer.json["success"] is True
    assert answer.headers["x-trace-id"] == answer.json["trace_id"]
    task_id: str = answer.json["task_id"]
    return task_id


def finished(client: Client, task_id: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        document = client.task(task_id)
        assert document["id"] == task_id
        return document if document["response"] else None

    document = until(look, 20, "the task to end")
    assert document is not None
    return document


# -- three ways to the result


@pytest.mark.parametrize("path", [
    "/openai/images/generations", "/v1/openai/images/generations", "/v1/images/generations",
])  # fmt: skip
def test_a_call_that_waits_has_the_result_and_leaves_no_task(client: Client, path: str) -> None:
    answer = client.post(path, {"prompt": "a boat", "trace_id": "order 1"})
    assert answer.status == 200, answer
    assert answer.json["success"] is True
    assert "task_id" not in answer.json
    assert answer.json["trace_id"] == answer.headers["x-trace-id"] == "order 1"
    assert client.post(TASKS, {"trace_id": "order 1"}).json == {}
    file = Client(client.url, None).get(urlsplit(answer.json["data"][0]["url"]).path)
    assert file.headers["content-type"] == "image/png"
    assert file.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/openai/tasks", "/v1/openai/tasks"])
def test_a_call_with_a_callback_is_answered_at_once_called_back_and_can_be_polled(
    client: Client, received: Receiver, path: str
) -> None:
    body = {"prompt": "a boat", "model": "gpt-image-2", "callback_url": f"{received.url}/f2a9", "trace_id": "order-2"}
    task_id = accepted(client.post(GENERATE, body))
    callback = until(lambda: received.of(task_id), 20, "the callback")[0]
    document = client.post(path, {"action": "retrieve", "id": task_id}).json
    assert callback.path == "/f2a9"
    assert callback.headers["content-type"] == "application/json"
    assert callback.headers["webhook-id"]
    assert abs(int(callback.headers["webhook-timestamp"]) - time.time()) < 60
    assert set(callback.json) == {"success", "task_id", "trace_id", "data"}
    assert callback.json["success"] is True
    assert callback.json["trace_id"] == "order-2"
    envelope = {"success", "task_id", "trace_id"}
    flat = {name: value for name, value in document["response"].items() if name not in envelope}
    assert callback.json["data"] == flat
    assert flat["data"][0]["url"].startswith(client.url)
    assert document["request"] == body
    assert document["type"] == "images_generations"


def test_a_call_with_async_is_answered_at_once_and_polled(client: Client) -> None:
    task_id = accepted(client.post(GENERATE, {"prompt": "[delay:0.5] a boat", "async": True}))
    running = client.task(task_id)
    assert running["response"] == {}
    assert not {"finished_at", "duration", "elapsed", "status"} & set(running)
    document = finished(client, task_id)
    assert "status" not in document
    assert len(document["_id"]) == 24
    assert document["response"]["success"] is True
    assert document["response"]["task_id"] == task_id
    assert document["response"]["trace_id"] == document["trace_id"]
    assert document["duration"] == pytest.approx(document["finished_at"] - document["created_at"], abs=0.002)
    assert document["elapsed"] == pytest.approx(document["finished_at"] - document["started_at"], abs=0.002)
    assert document["elapsed"] >= 0.5


def test_a_task_that_fails_says_so_in_its_response_and_in_its_callback(client: Client, received: Receiver) -> None:
    body = {"prompt": "[moderation] a boat", "callback_url": received.url}
    task_id = accepted(client.post(GENERATE, body))
    response = finished(client, task_id)["response"]
    assert set(response) == {"success", "task_id", "trace_id", "error"}
    assert response["success"] is False
    assert response["error"]["code"] == "forbidden"
    assert until(lambda: received.of(task_id), 20)[0].json == response


@pytest.mark.parametrize(("word", "status", "code"), [
    ("[fail:bad_request]", 400, "bad_request"), ("[moderation]", 403, "forbidden"),
    ("[rate]", 429, "too_many_requests"), ("[fail:api_error]", 500, "api_error"), ("[fail:timeout]", 504, "timeout"),
    ("[fail:used_up]", 403, "used_up"), ("[fail:something_new]", 500, "api_error"),
])  # fmt: skip
def test_a_waiting_call_that_fails_has_the_status_of_its_code(
    client: Client, word: str, status: int, code: str
) -> None:
    answer = client.post(GENERATE, {"prompt": f"{word} a boat"})
    assert (answer.status, answer.code) == (status, code)
    assert ("retry-after" in answer.headers) == (status == 429)


def test_a_stream_is_events_that_the_document_describes(client: Client) -> None:
    answer = client.post(GENERATE, {"prompt": "a boat", "stream": True, "partial_images": 1})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert [line for line in answer.body.splitlines() if line.startswith(b"event:")] == [
        b"event: image_generation.partial_image", b"event: image_generation.completed",
    ]  # fmt: skip


def test_async_wins_over_stream(client: Client) -> None:
    accepted(client.post(GENERATE, {"prompt": "a boat", "stream": True, "async": True}))


# -- edits


@pytest.mark.parametrize("path", ["/openai/images/edits", "/v1/openai/images/edits", "/v1/images/edits"])
@pytest.mark.parametrize("waits", ["false", "False", "true", "True"])
def test_fields_of_a_form_are_strings_and_mean_what_json_means(client: Client, path: str, waits: str) -> None:
    parts: list[Part] = [
        ("prompt", "a red boat"), ("n", "2"), ("output_compression", "50"), ("output_format", "webp"),
        ("size", "1024x1024"), ("async", waits), ("image[]", ("one.png", picture(), "application/octet-stream")),
        ("image[]", ("two.jpg", picture(kind="JPEG"), "image/jpeg")),
        ("mask", ("m.png", picture(alpha=True), "image/png")),
    ]  # fmt: skip
    answer = client.form(path, parts)
    if waits.lower() == "true":
        document = finished(client, accepted(answer))
        assert document["type"] == "images_edits"
        assert document["request"]["n"] == "2"
        sent = document["request"]["image[]"]
        assert [(one["filename"], one["size"]) for one in sent] == [
            ("one.png", len(picture())), ("two.jpg", len(picture(kind="JPEG"))),
        ]  # fmt: skip
        data = document["response"]["data"]
    else:
        assert answer.status == 200, answer
        data = answer.json["data"]
    assert len(data) == 2
    assert data[0]["url"].endswith(".webp")


def test_an_edit_takes_addresses_as_json_and_as_parts_of_a_form(client: Client, received: Receiver) -> None:
    with pictures(one=picture(), two=picture(80, 50, "WEBP")) as url:
        both = [f"{url}/one", f"{url}/two"]
        for image in (both[0], both):
            answer = client.post(EDIT, {"prompt": "a red boat", "image": image})
            assert answer.json["success"] is True
        parts: list[Part] = [("prompt", "a boat"), *(("image", one) for one in both), ("callback_url", received.url)]
        task_id = accepted(client.form(EDIT, parts))
        assert until(lambda: received.of(task_id), 20)[0].json["success"] is True
        assert client.task(task_id)["request"]["image"] == both


def test_an_address_without_a_picture_is_a_bad_request(client: Client) -> None:
    with pictures(text=b"<html>no picture</html>") as url:
        for name in ("text", "nothing"):
            answer = client.post(EDIT, {"prompt": "a red boat", "image": f"{url}/{name}"})
            assert (answer.status, answer.code) == (400, "bad_request")


# -- tasks


def test_a_task_is_found_by_each_of_its_names_and_the_trace_id_wins(client: Client) -> None:
    first = accepted(client.post(GENERATE, {"prompt": "one", "async": True, "trace_id": "order-7"}))
    second = accepted(client.post(GENERATE, {"prompt": "two", "async": True, "trace_id": "order-7"}))
    finished(client, first)
    finished(client, second)
    for body, found in (
        ({"action": "retrieve", "id": first}, first), ({"id": first, "trace_id": ""}, first),
        ({"task_id": first}, first), ({"trace_id": "order-7"}, second),
        ({"id": first, "trace_id": "order-7"}, second),
    ):  # fmt: skip
        assert client.post(TASKS, body).json["id"] == found
    for unknown in ({"id": "none"}, {"trace_id": "none"}, {"id": "0199aaaa-0000-7000-8000-000000000001"}):
        answer = client.post(TASKS, unknown)
        assert (answer.status, answer.json) == (200, {})


def test_a_batch_has_items_and_the_number_of_all_that_match(client: Client) -> None:
    ids = [accepted(client.post(GENERATE, {"prompt": f"{n}", "async": True, "trace_id": f"b{n}"})) for n in range(15)]
    for task_id in ids:
        finished(client, task_id)

    def batch(**filters: Any) -> dict[str, Any]:
        answer = client.post(TASKS, {"action": "retrieve_batch", **filters})
        assert answer.status == 200, answer
        assert set(answer.json) == {"items", "count"}
        found: dict[str, Any] = answer.json
        return found

    one = client.task(ids[0])
    newest = list(reversed(ids))
    assert [item["id"] for item in batch(ids=ids)["items"]] == newest
    assert batch(ids=[*ids, *ids, "none"])["count"] == 15
    assert one in batch(ids=ids)["items"]
    assert [item["id"] for item in batch(ids=ids, limit=4, offset=3)["items"]] == newest[3:7]
    assert batch(ids=ids, limit=4, offset=3)["count"] == 15
    assert [item["id"] for item in batch(trace_ids=["b0", "b1"])["items"]] == [ids[1], ids[0]]
    assert batch(ids=[ids[4]], trace_ids=["b0"])["count"] == 2
    assert len(batch()["items"]) == 12
    assert batch()["count"] >= 15
    assert batch(type="images")["count"] == batch()["count"]
    assert batch(type="images", ids=ids)["count"] == batch(type="images_generations", ids=ids)["count"] == 15
    assert batch(type="images_edits", ids=ids)["count"] == 0
    assert batch(application_id=one["application_id"], ids=ids)["count"] == 15
    assert batch(user_id=one["user_id"], ids=ids)["count"] == 15
    assert batch(application_id="another", ids=ids) == batch(user_id="another") == {"items": [], "count": 0}
    times = sorted(item["created_at"] for item in batch(ids=ids)["items"])
    assert batch(ids=ids, created_at_min=times[3], created_at_max=times[3])["count"] >= 1
    assert batch(ids=ids, created_at_max=times[0] - 1)["count"] == 0


@pytest.mark.parametrize("body", [
    {}, {"id": ""}, {"action": "remove", "id": "x"}, {"id": 5}, {"action": "retrieve_batch", "limit": 0},
    {"action": "retrieve_batch", "limit": 101}, {"action": "retrieve_batch", "limit": "3"},
    {"action": "retrieve_batch", "offset": -1}, {"action": "retrieve_batch", "ids": "x"},
    {"action": "retrieve_batch", "ids": ["x"] * 101}, {"action": "retrieve_batch", "created_at_min": "now"},
    {"action": 7},
])  # fmt: skip
def test_a_query_that_is_wrong_is_a_bad_request(client: Client, body: dict[str, Any]) -> None:
    answer = client.post(TASKS, body)
    assert (answer.status, answer.code) == (400, "bad_request")


# -- errors and their order


@pytest.fixture(scope="module")
def tokens(serve: Process) -> dict[str, str]:
    """Tokens of each kind that is refused, put into the database of the running gateway."""
    kinds: dict[str, tuple[str | None, bool, bool, int | None, int | None]] = {
        # service, application off, credential off, expires at, revoked at
        "fine": (None, False, False, None, None),
        "openai": ("openai", False, False, None, None),
        "revoked": (None, False, False, None, 1),
        "expired": (None, False, False, 1, None),
        "expired and off": (None, True, True, 1, None),
        "credential off": (None, False, True, None, None),
        "application off": (None, True, False, None, None),
        "off, of another service": ("another", True, False, None, None),
        "of another service": ("another", False, False, None, None),
    }
    found: dict[str, str] = {}
    with contextlib.closing(sqlite3.connect(serve.log.parent / "data" / "bide.db", timeout=10)) as db, db:
        (user_id,) = db.execute("SELECT id FROM users").fetchone()
        for kind, (service, application_off, off, expires_at, revoked_at) in kinds.items():
            token = found[kind] = f"token-{kind}".replace(" ", "-").replace(",", "")
            db.execute(
                "INSERT INTO applications (id, user_id, name, scope, service, disabled, created_at, updated_at)"
                " VALUES (?, ?, 'test', ?, ?, ?, 0, 0)",
                (f"a-{token}", user_id, "Individual" if service else "Global", service, application_off),
            )
            credit = (f"a-{token}", 10_000_000)
            db.execute("INSERT INTO ledger VALUES (?1, 'grant', 0, ?1, ?2, 0, 'a test')", credit)
            db.execute("INSERT INTO balances VALUES (?, 0, ?, 0, 0)", credit)
            db.execute(
                "INSERT INTO credentials (id, application_id, user_id, name, token_hash, token_end, disabled,"
                " expires_at, revoked_at, created_at, updated_at) VALUES (?, ?, ?, 'test', ?, '', ?, ?, ?, 0, 0)",
                (f"c-{token}", f"a-{token}", user_id, hashed(token), off, expires_at, revoked_at),
            )
    return found


@pytest.mark.parametrize("path", [GENERATE, EDIT, TASKS])
@pytest.mark.parametrize(("kind", "status", "code"), [
    ("revoked", 401, "invalid_token"), ("expired", 401, "token_expired"), ("expired and off", 401, "token_expired"),
    ("credential off", 403, "disabled"), ("application off", 403, "disabled"),
    ("off, of another service", 403, "disabled"), ("of another service", 401, "token_mismatched"),
    ("fine", 400, "bad_request"), ("openai", 400, "bad_request"),
])  # fmt: skip
def test_the_first_thing_that_is_wrong_is_what_is_answered(
    client: Client, tokens: dict[str, str], path: str, kind: str, status: int, code: str
) -> None:
    answer = client.post(path, b"not json", authorization=f"Bearer {tokens[kind]}")
    assert (answer.status, answer.code) == (status, code)
    assert answer.json["trace_id"] == answer.headers["x-trace-id"]


@pytest.mark.parametrize(("header", "status", "code"), [
    ("", 400, "no_token"), ("Basic YTpi", 400, "no_token"), ("Bearer", 400, "no_token"), ("Bearer ", 400, "no_token"),
    ("Bearer unknown", 401, "invalid_token"), ("Bearer platform-v1-0123456789", 401, "invalid_token"),
    (f"Bearer {'x' * 5000}", 401, "invalid_token"), ("Bearer \xff\xfe", 401, "invalid_token"),
    (f"bearer {TOKEN}", 400, "bad_request"),
])  # fmt: skip
def test_a_token_is_needed_before_the_body_is_looked_at(client: Client, header: str, status: int, code: str) -> None:
    answer = client.post(GENERATE, b"not json", authorization=header)
    assert (answer.status, answer.code) == (status, code)


@pytest.mark.parametrize("path", [
    "/", "/openai", "/openai/", "/openai/images", "/openai/images/generations/", "/v1/tasks", "/nothing",
    "/v1/v1/openai/tasks", "/openai//tasks", "/files/", "/files/x", "/files/../bide.db",
    "/files/%2e%2e/bide.db", "/%00",
])  # fmt: skip
def test_a_path_that_is_not_there_is_said_before_a_token_is_asked_for(client: Client, path: str) -> None:
    without = Client(client.url, None)
    for method in ("GET", "POST"):
        answer = without.request(method, path, b"{}" if method == "POST" else None)
        assert answer.status in (404, 405), answer
        assert answer.code in ("no_api", "not_found")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_a_method_that_a_path_does_not_take_is_no_api(client: Client, method: str) -> None:
    for path in (GENERATE, TASKS):
        answer = client.request(method, path)
        assert (answer.status, answer.code) == (405, "no_api")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json"])
def test_the_gateways_own_paths_need_no_token(client: Client, path: str) -> None:
    checked = Client(client.url, None, checked=True)
    assert checked.get(path).status == 200


# -- idempotency


def test_a_key_that_was_used_stands_for_the_same_task(client: Client, tokens: dict[str, str]) -> None:
    body = {"prompt": "a boat", "async": True}
    first = accepted(client.post(GENERATE, body, idempotency_key="k1"))
    assert accepted(client.post(GENERATE, body, idempotency_key="k1")) == first
    assert accepted(client.post(GENERATE, body, idempotency_key="k2")) != first
    other = client.post(GENERATE, {**body, "prompt": "another"}, idempotency_key="k1")
    assert (other.status, other.code) == (400, "bad_request")
    mine = {"idempotency_key": "k1", "authorization": f"Bearer {tokens['fine']}"}
    assert accepted(client.post(GENERATE, body, **mine)) != first
    long = client.post(GENERATE, body, idempotency_key="k" * 256)
    assert (long.status, long.code) == (400, "bad_request")


@pytest.mark.parametrize("response_format", ["url", "b64_json"])
def test_a_waiting_call_that_is_repeated_with_its_key_has_the_same_result(
    client: Client, response_format: str
) -> None:
    body = {"prompt": "a boat", "response_format": response_format}
    answers = [client.post(GENERATE, body, idempotency_key=f"inline {response_format}") for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].json["data"] == answers[1].json["data"]


def test_a_form_that_is_repeated_with_its_key_stands_for_the_same_task(client: Client) -> None:
    parts: list[Part] = [("prompt", "a boat"), ("image", ("a.png", picture(), "image/png")), ("async", "true")]
    answers = [client.form(EDIT, parts, idempotency_key="form") for _ in range(2)]
    assert accepted(answers[0]) == accepted(answers[1])
    other: list[Part] = [parts[0], ("image", ("a.png", picture(80), "image/png")), parts[2]]
    assert client.form(EDIT, other, idempotency_key="form").status == 400
    same_size = bytearray(picture())
    same_size[-20] ^= 1  # in the pixels or their checksum: the header, the name and the size are the same
    other = [parts[0], ("image", ("a.png", bytes(same_size), "image/png")), parts[2]]
    assert client.form(EDIT, other, idempotency_key="form").status == 400


def test_a_result_in_base64_is_in_the_answer_and_at_the_task(client: Client) -> None:
    answer = client.post(GENERATE, {"prompt": "a boat", "response_format": "b64_json"})
    assert set(answer.json["data"][0]) >= {"b64_json"}
    data = base64.b64decode(answer.json["data"][0]["b64_json"], validate=True)
    assert data.startswith(b"\x89PNG")
    task_id = accepted(client.post(GENERATE, {"prompt": "a boat", "response_format": "b64_json", "async": True}))
    found = finished(client, task_id)["response"]["data"][0]
    assert base64.b64decode(found["b64_json"], validate=True).startswith(b"\x89PNG")

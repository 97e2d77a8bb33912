"""Workflows that are sent to a ComfyUI, and what becomes of them. The server is real."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bide.providers import comfyui
from bide.providers.base import Call, Failed, Outcome, Pending, Provider, Succeeded
from bide.providers.comfyui import cancel, poll, reconcile, submit

from .asked import MP3, MP4, NONSENSE, PAGE, Routed, kind
from .polled import TASK
from .upstream import KEY, PNG, Reply, answer, given, run

GRAPH = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 20, "model": ["4", 0]}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "as it was", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "ugly", "clip": ["4", 1]}},
    "8": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
}
PLACES = {"prompt": "6.text", "negative_prompt": "7.text", "width": "5.width", "height": "5.height", "seed": "3.seed",
          "count": ["5.batch_size", "99.gone"], "frames": "5.batch_size"}  # fmt: skip
OPTIONS = {"workflow": json.dumps(GRAPH), "places": PLACES}
NOTHING, EMPTY = answer({}), answer({"queue_running": [], "queue_pending": []})
HISTORY = f"GET history/{TASK}"
TAKEN = answer({"prompt_id": TASK, "number": 1, "node_errors": {}})


def queue(running: list[Any], pending: list[Any]) -> Reply:
    return answer({"queue_running": running, "queue_pending": pending})


def routes(**more: Reply | list[Reply]) -> dict[str, Any]:
    return {HISTORY: NOTHING, "GET queue": EMPTY, "POST prompt": TAKEN, **more}


def history(outputs: Any, **status: Any) -> Reply:
    status = {"status_str": "success", "completed": True, "messages": [], **status}
    return answer({TASK: {"prompt": [], "outputs": outputs, "status": status}})


def asked(
    ask: Callable[[Call], Awaitable[Any]], more: dict[str, Any] | None = None, *, bytes_max: int | None = None,
    **call: Any,
) -> tuple[Any, Routed]:  # fmt: skip
    async def work() -> tuple[Any, Routed]:
        async with Routed(routes(**(more or {}))) as upstream:
            upstream.store.bytes_max = bytes_max or upstream.store.bytes_max
            outcome = await ask(upstream.film(**{"capability": "image.generate", "options": OPTIONS, **call}))
            assert "open" not in upstream.store.states
            assert KEY not in repr(outcome)
            return outcome, upstream

    return run(work())


def submitted(more: dict[str, Any] | None = None, **call: Any) -> tuple[Outcome, Routed]:
    return asked(submit, more, **call)


def polled(more: dict[str, Any] | None = None, **call: Any) -> tuple[Outcome, Routed]:
    return asked(lambda one: poll(one, TASK), more, **call)


def sent(**call: Any) -> Any:
    outcome, upstream = submitted(**call)
    assert outcome == Pending(TASK, 1.0)
    assert upstream.lines[-1] == "POST /v1/prompt"
    return upstream.requests[-1].json


def test_the_module_is_a_provider() -> None:
    provider: Provider = comfyui
    assert "image.generate" in provider.CAPABILITIES
    assert provider.TAKES_OUR_ID


# -- what is sent


def test_the_workflow_is_sent_with_the_callers_values_in_its_places_and_our_id() -> None:
    body = sent(prompt="a boat", size="640x1000", n=2, seed=7, negative_prompt="rain", model="x")
    assert (body["prompt_id"], body["client_id"]) == (TASK, TASK)
    graph = body["prompt"]
    assert graph["6"]["inputs"] == {"text": "a boat", "clip": ["4", 1]}
    assert graph["7"]["inputs"]["text"] == "rain"
    assert graph["5"]["inputs"] == {"width": 640, "height": 1000, "batch_size": 2}
    assert graph["3"]["inputs"] == {"seed": 7, "steps": 20, "model": ["4", 0]}
    assert graph["8"] == GRAPH["8"]


def test_what_a_caller_leaves_out_stays_as_the_workflow_has_it_but_for_a_seed_that_follows_from_the_task() -> None:
    first, second = sent(size="auto"), sent(size="auto")
    assert first == second
    assert first["prompt"]["5"] == GRAPH["5"]
    assert first["prompt"]["7"] == GRAPH["7"]
    assert first["prompt"]["3"]["inputs"]["seed"] not in (1, 7)


def test_a_prompt_is_only_a_prompt() -> None:
    prompt = '"}, "9": {"class_type": "Evil", "inputs": {"text": "{width} 6.text'
    graph = sent(prompt=prompt)["prompt"]
    assert graph["6"]["inputs"]["text"] == prompt
    assert set(graph) == set(GRAPH)


@pytest.mark.parametrize(("request_fields", "options", "expected"), [
    ({"size": "1001x1003"}, {}, (1000, 1000)),
    ({"aspect_ratio": "16:9"}, {}, (1368, 768)),
    ({"aspect_ratio": "9:16", "resolution": "720p"}, {"multiple": 16}, (720, 1280)),
    ({"resolution": "480p"}, {}, (856, 480)),
    ({"aspect_ratio": "1:1"}, {"area": 262144}, (512, 512)),
])  # fmt: skip
def test_sides_follow_from_what_is_known(
    request_fields: dict[str, Any], options: dict[str, Any], expected: tuple[int, int]
) -> None:
    latent = sent(options={**OPTIONS, **options}, **request_fields)["prompt"]["5"]["inputs"]
    assert (latent["width"], latent["height"]) == expected


def test_a_film_has_its_length_in_frames() -> None:
    options = {"workflows": {"video.generate": GRAPH}, "places": PLACES, "fps": 16}
    assert sent(capability="video.generate", options=options, duration=5)["prompt"]["5"]["inputs"]["batch_size"] == 80


def test_a_model_may_have_a_workflow_of_its_own() -> None:
    other = {"1": {"class_type": "X", "inputs": {"text": "", "name": "a"}}}
    options = {**OPTIONS, "workflows": {"flux": json.dumps(other)}, "places": {"prompt": "1.text", "model": "1.name"}}
    assert sent(options=options, model="flux")["prompt"]["1"]["inputs"] == {"text": "a boat", "name": "flux"}


def test_pictures_are_uploaded_under_names_of_ours_and_put_in_their_places() -> None:
    options = {**OPTIONS, "places": {**PLACES, "image": "8.image", "mask": "7.mask", "image_2": "8.second"}}
    inputs = (given("image", PNG, "../../x.png"), given("mask", PNG, "m.png"), given("image", PNG, "y.png"))
    uploads = [answer({"name": f"n{number}.png", "subfolder": folder, "type": "input"})
               for number, folder in ((1, ""), (2, "sub"), (3, ""))]  # fmt: skip
    outcome, upstream = submitted({"POST upload/image": uploads}, capability="image.edit", options=options,
                                  inputs=inputs)  # fmt: skip
    assert kind(outcome) == "pending"
    forms = [request.parts for request in upstream.requests if request.path.endswith("upload/image")]
    assert [[part[:2] for part in parts] for parts in forms] == [
        [("overwrite", None), ("type", None), ("image", f"{TASK}-{number}.png")] for number in (1, 2, 3)
    ]
    assert forms[0][2][3] == PNG
    graph = upstream.requests[-1].json["prompt"]
    assert graph["8"]["inputs"] == {"image": "n1.png", "second": "n3.png"}
    assert graph["7"]["inputs"]["mask"] == "sub/n2.png"


@pytest.mark.parametrize(("options", "call", "expected"), [
    ({}, {}, "api_error channel"),
    ({"workflow": "{"}, {}, "api_error channel"),
    ({"workflow": "[" * 100_000}, {}, "api_error channel"),
    ({"workflow": {"nodes": []}}, {}, "api_error channel"),
    (OPTIONS, {"inputs": (given("image", PNG),)}, "bad_request channel"),
    (OPTIONS, {"inputs": (given("mask", PNG),)}, "bad_request channel"),
    ({**OPTIONS, "places": {"image": "8.image"}}, {}, "bad_request channel"),
    ({**OPTIONS, "places": {"image": "8.image"}}, {"inputs": (given("image", PNG),) * 2}, "bad_request channel"),
])  # fmt: skip
def test_what_the_workflow_cannot_do_is_refused_unasked(
    options: dict[str, Any], call: dict[str, Any], expected: str
) -> None:
    outcome, upstream = submitted(options=options, **call)
    assert (kind(outcome), upstream.lines) == (expected, [])


def test_a_size_that_no_card_can_make_is_refused() -> None:
    assert kind(submitted(size="9999x16")[0]) == "bad_request task"


# -- what is answered to a submission


INVALID = {"error": {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation",
                     "details": ""}, "node_errors": {"4": {"errors": []}}}  # fmt: skip


@pytest.mark.parametrize(("reply", "expected"), [
    (Reply(400, json.dumps(INVALID).encode()), "bad_request channel"),
    (answer(INVALID), "bad_request task"),
    (Reply(401, b"Unauthorized"), "api_error channel"),
    (Reply(404, b"404: Not Found"), "api_error channel"),
    (Reply(429, b"busy"), "too_many_requests channel"),
    (Reply(503, b"starting"), "api_error channel"),
    (Reply(500, b"500 Internal Server Error"), "unknown"),
    (Reply(then="reset"), "unknown"),
    (answer({"prompt_id": "../../x"}), "unknown"),
])  # fmt: skip
def test_a_submission_is_sent_once(reply: Reply, expected: str) -> None:
    outcome, upstream = submitted({"POST prompt": reply})
    assert kind(outcome) == expected
    assert upstream.lines.count("POST /v1/prompt") == 1


@pytest.mark.parametrize("reply", NONSENSE)
def test_nonsense_after_a_submission_leaves_its_outcome_open(reply: Reply) -> None:
    assert kind(submitted({"POST prompt": reply})[0]) == "unknown"


def test_an_older_server_that_names_the_work_itself_is_followed() -> None:
    outcome, _ = submitted({"POST prompt": answer({"prompt_id": "its-own", "number": 2})})
    assert outcome == Pending("its-own", 1.0)


@pytest.mark.parametrize("found", [
    {HISTORY: history({})}, {"GET queue": queue([[0, TASK, {}]], [])},
    {"GET queue": queue([], [[7, TASK, {}, {}, []]])}, {"GET queue": queue([], [{"prompt_id": TASK}])},
])  # fmt: skip
def test_what_is_sent_again_joins_what_is_there(found: dict[str, Any]) -> None:
    outcome, upstream = submitted(found)
    assert outcome == Pending(TASK, 1.0)
    assert "POST /v1/prompt" not in upstream.lines


@pytest.mark.parametrize("reply", [Reply(500), Reply(then="reset"), PAGE, answer({"name": 7})])
def test_an_upload_that_fails_has_begun_no_work(reply: Reply) -> None:
    options = {**OPTIONS, "places": {"image": "8.image"}}
    outcome, upstream = submitted({"POST upload/image": reply}, options=options, inputs=(given("image", PNG),))
    assert kind(outcome) == "api_error channel"
    assert "POST /v1/prompt" not in upstream.lines


def test_a_server_that_is_not_there_was_asked_nothing() -> None:
    async def work() -> Outcome:
        async with Routed({}) as upstream:
            call = upstream.film(capability="image.generate", options=OPTIONS)
            await upstream._runner.cleanup()
            return await submit(call)

    outcome = run(work())
    assert isinstance(outcome, Failed)
    assert (outcome.scope, outcome.retryable) == ("channel", True)


# -- what is answered to a poll


def image(name: str, kind: str = "output", **more: Any) -> dict[str, Any]:
    return {"filename": name, "subfolder": "", "type": kind, **more}


def test_pictures_are_copied_and_previews_are_not() -> None:
    outputs = {"9": {"images": [image("a b&c.png", subfolder="x"), image("b.png")]},
               "8": {"images": [image("t.png", "temp")]}}  # fmt: skip
    outcome, upstream = polled({HISTORY: history(outputs), "GET view": Reply(200, PNG)})
    assert isinstance(outcome, Succeeded)
    assert [upstream.store.of(asset.stored) for asset in outcome.assets] == [PNG, PNG]
    assert outcome.units == 2
    assert upstream.queries[1:] == [{"type": "output", "filename": "a b&c.png", "subfolder": "x"},
                                    {"type": "output", "filename": "b.png", "subfolder": ""}]  # fmt: skip


def test_only_files_of_the_nodes_that_were_named_count() -> None:
    outputs = {"9": {"images": [image("a.png")]}, "10": {"images": [image("b.png")]}}
    options = {**OPTIONS, "outputs": [10]}
    outcome, upstream = polled({HISTORY: history(outputs), "GET view": Reply(200, PNG)}, options=options)
    assert kind(outcome) == "succeeded"
    assert [query["filename"] for query in upstream.queries[1:]] == ["b.png"]


@pytest.mark.parametrize(("capability", "made", "data", "expected"), [
    ("video.generate", {"gifs": [image("a.mp4")], "images": [image("a.png")]}, [MP4, PNG],
     [["video", "thumbnail"]]),
    ("video.generate", {"images": [image("a.mp4", animated=True)], "animated": [True]}, [MP4], [["video"]]),
    ("music.generate", {"audio": [image("a.mp3"), image("b.mp3")]}, [MP3, MP3], [["audio"], ["audio"]]),
    ("image.edit", {"gifs": [image("a.mp4")], "images": [image("a.png", "temp")], "text": ["x"]}, [PNG], None),
])  # fmt: skip
def test_files_are_what_the_capability_is_about(
    capability: str, made: dict[str, Any], data: list[bytes], expected: list[list[str]] | None
) -> None:
    replies = {HISTORY: history({"9": made}), "GET view": [Reply(200, one) for one in data]}
    outcome, _ = polled(replies, capability=capability, duration=5)
    if expected is None:
        assert kind(outcome) == "api_error channel"
        return
    assert isinstance(outcome, Succeeded)
    assert [[asset.role for asset in item.assets] for item in outcome.items] == expected


OUT_OF_MEMORY = ["execution_error", {
    "node_type": "KSampler", "exception_message": "out of memory", "traceback": ["secret"]}]  # fmt: skip


@pytest.mark.parametrize(("more", "expected"), [
    ({"GET queue": queue([], [[1, "other"], [2, TASK]])}, "pending"),
    ({"GET queue": queue([[1, TASK]], [])}, "pending"),
    ({"GET queue": queue([[1, "other"], 7, [], None], [])}, "api_error channel"),
    ({HISTORY: [NOTHING, history({"9": {"images": [image("a.png")]}})], "GET view": Reply(200, PNG)}, "succeeded"),
    ({"GET queue": PAGE}, "unknown"),
    ({"GET queue": answer({"queue_running": 1})}, "unknown"),
    ({HISTORY: PAGE}, "unknown"), ({HISTORY: Reply(500)}, "unknown"), ({HISTORY: Reply(404)}, "unknown"),
    ({HISTORY: history({})}, "api_error channel"),
    ({HISTORY: history({"9": {"images": [image("a.exe"), 7, {}], "x": 1}, "10": 7})}, "api_error channel"),
    ({HISTORY: history({}, status_str="error", completed=False, messages=[["x", {}], 7, OUT_OF_MEMORY])},
     "api_error channel"),
    ({HISTORY: history({}, completed=False, messages=7)}, "api_error channel"),
    ({HISTORY: history({"9": {"images": [image("a.png")]}}), "GET view": Reply(404)}, "api_error channel"),
    ({HISTORY: history({"9": {"images": [image("a.png")]}}), "GET view": Reply(500)}, "unknown"),
    ({HISTORY: history({"9": {"images": [image("a.png")]}}), "GET view": Reply(200, PNG, then="cut")}, "unknown"),
    ({HISTORY: history({"9": {"images": [image("a.png")]}}), "GET view": Reply(200, b"not one")}, "api_error task"),
])  # fmt: skip
def test_work_is_where_it_is(more: dict[str, Any], expected: str) -> None:
    outcome, upstream = polled(more)
    assert kind(outcome) == expected
    assert "POST /v1/prompt" not in upstream.lines


def test_work_that_a_restart_has_lost_may_be_sent_again() -> None:
    outcome, _ = polled()
    assert isinstance(outcome, Failed)
    assert (outcome.scope, outcome.retryable) == ("channel", True)


@pytest.mark.parametrize("reply", NONSENSE)
def test_nonsense_never_makes_a_result(reply: Reply) -> None:
    assert kind(polled({HISTORY: reply, "GET queue": reply})[0]) == "unknown"


def test_what_went_wrong_is_told_to_the_operator() -> None:
    outcome, _ = polled({HISTORY: history({}, status_str="error", messages=[OUT_OF_MEMORY])})
    assert isinstance(outcome, Failed)
    assert "out of memory" in outcome.detail
    assert "secret" not in outcome.detail
    assert "memory" not in outcome.message


def test_files_and_answers_that_are_too_large_are_given_up() -> None:
    made = {HISTORY: history({"9": {"images": [image("a.png")]}}), "GET view": Reply(200, PNG)}
    assert kind(polled(made, bytes_max=100)[0]) == "api_error task"
    assert kind(polled(made, answer_bytes_max=100)[0]) == "unknown"


def test_an_id_that_is_none_is_never_asked_for() -> None:
    outcome, upstream = asked(lambda one: poll(one, "../x"))
    assert (kind(outcome), upstream.lines) == ("api_error task", [])


# -- looking for it, and stopping it


@pytest.mark.parametrize(("more", "expected"), [
    ({HISTORY: history({})}, "pending"), ({"GET queue": queue([[1, TASK]], [])}, "pending"),
    ({HISTORY: [NOTHING, history({})]}, "pending"), ({}, "absent"),
    ({"GET queue": Reply(500)}, "unknown"), ({HISTORY: PAGE}, "unknown"),
])  # fmt: skip
def test_a_lost_submission_is_looked_for(more: dict[str, Any], expected: str) -> None:
    outcome, upstream = asked(reconcile, more)
    assert kind(outcome) == expected
    assert all(line.startswith("GET ") for line in upstream.lines)


@pytest.mark.parametrize(("more", "stopped", "line"), [
    ({"GET queue": queue([], [[1, TASK]]), "POST queue": Reply(200)}, True, "POST /v1/queue"),
    ({"GET queue": queue([[1, TASK]], []), "POST interrupt": Reply(200)}, True, "POST /v1/interrupt"),
    ({"GET queue": queue([[1, TASK]], []), "POST interrupt": Reply(then="reset")}, False, "POST /v1/interrupt"),
    ({"GET queue": queue([[1, "other"]], [])}, False, "GET /v1/queue"),
    ({"GET queue": Reply(500)}, False, "GET /v1/queue"),
])  # fmt: skip
def test_only_work_of_ours_is_stopped(more: dict[str, Any], stopped: bool, line: str) -> None:
    outcome, upstream = asked(lambda one: cancel(one, TASK), more)
    assert (outcome, upstream.lines[-1]) == (stopped, line)

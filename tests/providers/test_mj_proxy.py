"""What is sent to the two Midjourney proxies, and what becomes of their answers. The server is real."""

from typing import Any

import pytest

from bide.providers import mj_proxy, mj_proxy_words
from bide.providers.base import ALLOWS, Absent, Failed, Pending, Provider, Succeeded, Unknown

from .polled import TASK, Polled, polled, reconciled, roles, source, submitted, the_item
from .upstream import KEY, PNG, PNG64, Reply, answer, given, run

ID = "1732248000123456"
OK = answer({"code": 1, "description": "ok", "result": ID, "properties": {}})
WINDOW = answer({"code": 21, "description": "waiting for window confirm", "result": "w-1"})
DATA = f"data:image/png;base64,{PNG64}"
IMAGINE: dict[str, Any] = {"capability": "grid.generate", "action": "generate", "prompt": "a boat --ar 3:2",
                           "mode": "fast", "hd": False, "split_images": False, "translation": False}  # fmt: skip
UUID = "0000-1111"
BUTTONS = [
    {"customId": f"MJ::JOB::upsample::2::{UUID}", "label": "U2"},
    {"customId": f"MJ::JOB::variation::3::{UUID}", "label": "V3"},
    {"customId": f"MJ::JOB::reroll::0::{UUID}::SOLO", "label": ""}, {"customId": 7}, "x",
    {"customId": f"MJ::BOOKMARK::{UUID}", "label": "heart"},
]  # fmt: skip
KEPT = {
    "task": ID, "prompt": "a boat",
    "buttons": {"upscale2": f"MJ::JOB::upsample::2::{UUID}", "zoom_out_2x": "MJ::Outpaint::50::1::x"},
}  # fmt: skip


def task(status: str, **more: Any) -> dict[str, Any]:
    return {"id": ID, "action": "IMAGINE", "status": status, "prompt": "a boat", "state": TASK, "progress": "",
            "submitTime": 1764000000000, "failReason": None, "imageUrl": None, "properties": {}, **more}  # fmt: skip


def test_the_module_is_a_provider() -> None:
    provider: Provider = mj_proxy
    assert not provider.TAKES_OUR_ID
    assert "grid.generate" in provider.CAPABILITIES


# -- what is sent


def test_a_grid_is_asked_for_with_our_id_and_the_key() -> None:
    outcome, upstream = submitted(mj_proxy, OK, callback_url="https://here.test/cb/1", **IMAGINE)
    assert outcome == Pending(ID, 5.0)
    (asked,) = upstream.requests
    assert asked.path == "/v1/submit/imagine"
    assert asked.headers["mj-api-secret"] == KEY
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.json == {
        "prompt": "a boat --ar 3:2", "botType": "MID_JOURNEY", "state": TASK, "notifyHook": "https://here.test/cb/1",
        "accountFilter": {"modes": ["FAST"]},
    }  # fmt: skip


def test_the_channel_says_where_key_and_speed_go() -> None:
    options = {"key_header": "", "speeds": "path", "bot_type": "NIJI_JOURNEY"}
    _, upstream = submitted(mj_proxy, OK, options=options, **{**IMAGINE, "mode": "turbo"})
    (asked,) = upstream.requests
    assert asked.path == "/v1/mj-turbo/mj/submit/imagine"
    assert "mj-api-secret" not in asked.headers
    assert asked.json == {"prompt": "a boat --ar 3:2", "botType": "NIJI_JOURNEY", "state": TASK}
    _, upstream = polled(mj_proxy, ID, answer(task("SUBMITTED")), options=options, **IMAGINE)
    assert upstream.requests[0].path == f"/v1/mj/task/{ID}/fetch"


@pytest.mark.parametrize(
    ("request_fields", "sent"),
    [
        ({"prompt": "a boat --turbo --repeat 4 --stealth"}, "a boat"),
        ({"prompt": "a boat —fast --R 2"}, "a boat"),
        ({"prompt": "--relax a boat"}, "a boat"),
        ({"prompt": "a fast--boat --seed 7 --relaxed 1"}, "a fast--boat --seed 7 --relaxed 1"),
        ({"prompt": "a boat --v 5.2 --hd", "version": "8", "hd": True}, "a boat --v 8 --hd"),
        ({"prompt": "a boat --hd"}, "a boat"),
        ({"prompt": "a boat --q 4", "quality": "1"}, "a boat --q 1"),
        ({"prompt": "a\nboat"}, "a boat"),
        ({"prompt": "https://a.test/1.png https://a.test/2.png"}, "https://a.test/1.png https://a.test/2.png"),
        ({}, ""),
    ],
)
def test_what_is_paid_for_is_not_said_by_the_prompt(request_fields: dict[str, Any], sent: str) -> None:
    assert mj_proxy_words.prompt(request_fields) == sent


def test_a_button_is_sent_back_as_it_was() -> None:
    outcome, upstream = submitted(mj_proxy, OK, capability="grid.generate", action="upscale2", image_id="ours",
                                  sources={"image_id": (source(KEPT),)})  # fmt: skip
    assert outcome == Pending(ID, 5.0)
    assert upstream.requests[0].path == "/v1/submit/action"
    assert upstream.requests[0].json == {"taskId": ID, "customId": f"MJ::JOB::upsample::2::{UUID}", "state": TASK}


@pytest.mark.parametrize(
    ("action", "change"),
    [("upscale3", {"action": "UPSCALE", "index": 3}), ("variation1", {"action": "VARIATION", "index": 1}),
     ("reroll", {"action": "REROLL"})],
)  # fmt: skip
def test_the_older_proxy_takes_changes(action: str, change: dict[str, Any]) -> None:
    _, upstream = submitted(mj_proxy, OK, capability="grid.generate", action=action,
                            sources={"image_id": (source({"task": ID, "buttons": {}}),)})  # fmt: skip
    assert upstream.requests[0].path == "/v1/submit/change"
    assert upstream.requests[0].json == {"taskId": ID, "state": TASK, **change}


def test_an_upscale_that_the_older_proxy_has_already_is_taken() -> None:
    reply = answer({"code": 21, "description": "exists", "result": "old-1", "properties": {"status": "SUCCESS"}})
    outcome, upstream = submitted(mj_proxy, reply, capability="grid.generate", action="upscale1",
                                  sources={"image_id": (source({"task": ID}),)})  # fmt: skip
    assert outcome == Pending("old-1", 5.0)
    assert upstream.asked == 1


def test_a_window_is_filled_in() -> None:
    outcome, upstream = submitted(mj_proxy, WINDOW, OK, capability="grid.generate", action="variation_region",
                                  prompt="a red sail", inputs=(given("mask", PNG),), sources={"image_id": (
                                      source({**KEPT, "buttons": {"variation_region": "MJ::Inpaint::1::x"}}),)},
                                  )  # fmt: skip
    assert outcome == Pending(ID, 5.0)
    assert [asked.path for asked in upstream.requests] == ["/v1/submit/action", "/v1/submit/modal"]
    assert upstream.requests[1].json == {"taskId": "w-1", "prompt": "a red sail", "maskBase64": DATA, "state": TASK}


def test_a_window_without_words_has_those_of_the_parent() -> None:
    _, upstream = submitted(mj_proxy, WINDOW, OK, capability="grid.generate", action="zoom_out_2x",
                            sources={"image_id": (source(KEPT),)})  # fmt: skip
    assert upstream.requests[1].json["prompt"] == "a boat"


def test_a_window_that_is_lost_is_not_known() -> None:
    outcome, upstream = submitted(mj_proxy, WINDOW, Reply(then="reset"), capability="grid.generate",
                                  action="zoom_out_2x", sources={"image_id": (source(KEPT),)})  # fmt: skip
    assert isinstance(outcome, Unknown)
    assert upstream.asked == 2


def test_what_a_picture_does_not_have_is_refused_unasked() -> None:
    abouts: tuple[dict[str, Any], ...] = (KEPT, {"task": ID, "buttons": {}}, {"views": []})
    for about in abouts:
        outcome, upstream = submitted(mj_proxy, OK, capability="grid.generate", action="pan_left",
                                      sources={"image_id": (source(about),)})  # fmt: skip
        assert isinstance(outcome, Failed)
        assert (outcome.code, upstream.asked) == ("bad_request", 0)


@pytest.mark.parametrize(
    ("capability", "fields", "inputs", "path", "body"),
    [
        ("image.describe", {"image_url": "http://a.test/a.png"}, ("image_url",), "describe", {"base64": DATA}),
        ("prompt.shorten", {"prompt": "a very old boat"}, (), "shorten", {"prompt": "a very old boat"}),
        ("grid.edit", {"prompt": "red", "mode": "relax"}, ("image_url", "mask"), "edits",
         {"prompt": "red", "image": DATA, "maskBase64": DATA, "accountFilter": {"modes": ["RELAX"]}}),
        ("grid.animate", {"action": "generate", "prompt": "it sails --motion high", "resolution": "480p",
                          "loop": True}, ("image_url", "end_image_url"), "video",
         {"prompt": "it sails", "motion": "high", "loop": True, "image": DATA, "videoType": "vid_1.1_i2v_480",
          "endImage": DATA}),
    ],
)  # fmt: skip
def test_other_submissions(capability: str, fields: Any, inputs: Any, path: str, body: Any) -> None:
    given_files = tuple(given(one, PNG) for one in inputs)
    outcome, upstream = submitted(mj_proxy, OK, capability=capability, inputs=given_files, **fields)
    assert outcome == Pending(ID, 5.0)
    (asked,) = upstream.requests
    assert asked.path == f"/v1/submit/{path}"
    assert asked.json == {**body, "state": TASK}


def test_a_film_is_extended_by_its_number() -> None:
    film = source({"task": ID}, kind="video", operation="videos")
    _, upstream = submitted(mj_proxy, OK, capability="grid.animate", action="extend", video_index=2, prompt="on",
                            sources={"video_id": (film,)})  # fmt: skip
    assert upstream.requests[0].json == {"prompt": "on", "motion": "low", "loop": False, "taskId": ID, "index": 2,
                                         "action": "extend", "state": TASK}  # fmt: skip


# -- what a submission is answered with


@pytest.mark.parametrize(("document", "id"), [
    ({"code": 22, "result": 1732248000123456, "properties": {"numberOfQueues": 3}}, ID),
    ({"code": "1", "result": "a/b?c"}, "a/b?c"),
])  # fmt: skip
def test_accepted_in_other_words(document: Any, id: str) -> None:
    assert submitted(mj_proxy, answer(document), **IMAGINE)[0] == Pending(id, 5.0)


@pytest.mark.parametrize(
    ("reply", "code", "scope", "retryable"),
    [
        (answer({"code": 24, "description": "may contain banned words", "properties": {"bannedWord": "x"}}),
         "forbidden", "task", False),
        (answer({"code": 23, "description": "the queue is full"}), "too_many_requests", "channel", True),
        (answer({"code": 4, "description": "prompt is empty"}), "bad_request", "task", False),
        (answer({"code": 3, "description": "no such task"}), "not_found", "task", False),
        (answer({"code": 9, "description": "failed: key sk-secret-123456"}), "api_error", "channel", False),
        (answer({"code": -1, "description": "no account"}), "api_error", "channel", False),
        (Reply(401, b'{"description": "bad secret"}'), "api_error", "channel", False),
        (Reply(403, b'{"code": 4, "description": "quota_not_enough", "type": "insufficient_user_quota"}'),
         "api_error", "channel", False),
        (Reply(429, b"{}"), "too_many_requests", "channel", True),
        (Reply(404, b'{"error": "model not found"}'), "api_error", "channel", False),
    ],
)  # fmt: skip
def test_refusals(reply: Reply, code: str, scope: str, retryable: bool) -> None:
    outcome, upstream = submitted(mj_proxy, reply, **IMAGINE)
    assert isinstance(outcome, Failed), outcome
    assert (outcome.code, outcome.scope, outcome.retryable) == (code, scope, retryable)
    assert "secret-123456" not in outcome.message
    assert upstream.asked == 1


def test_a_parent_that_the_newer_proxy_has_lost_is_not_found() -> None:
    outcome, _ = submitted(mj_proxy, Reply(404), capability="grid.generate", action="upscale2",
                           sources={"image_id": (source(KEPT),)})  # fmt: skip
    assert isinstance(outcome, Failed)
    assert outcome.code == "not_found"


@pytest.mark.parametrize(
    "reply",
    [Reply(200, b"<html>Welcome</html>"), Reply(200, b""), answer([]), answer({"code": 1}), answer({"code": True}),
     answer({"code": 1, "result": {"id": 1}}), answer({"result": "x"}), Reply(200, b'{"code', then="cut"),
     Reply(then="reset"), Reply(502), Reply(200, b"[" + b"1," * 2_000_000)],
)  # fmt: skip
def test_what_cannot_be_read_is_unknown_and_asked_once(reply: Reply) -> None:
    outcome, upstream = submitted(mj_proxy, reply, **IMAGINE)
    assert isinstance(outcome, Unknown), outcome
    assert upstream.asked == 1


# -- a task


@pytest.mark.parametrize("status", ["NOT_START", "SUBMITTED", "IN_PROGRESS", "MODAL", "", "WHATEVER", None, 7])
def test_a_task_that_is_not_done_is_looked_at_again(status: Any) -> None:
    """Also when it shows a preview, or calls itself by another id."""
    reply = answer(task(status, id="other", progress="37%", imageUrl="http://cdn.test/preview.webp"))
    outcome, upstream = polled(mj_proxy, "a/b", reply, asked_s_ago=10, watched=True, **IMAGINE)
    assert isinstance(outcome, Pending)
    assert outcome.upstream_id == "a/b"
    assert 5.9 < outcome.after_s < 6.5
    assert [one.percent for one in upstream.reports] == [37]
    assert upstream.asked == 1


def test_a_grid_of_the_newer_proxy() -> None:
    parts = [{"url": f"http://cdn.test/{n}.png", "thumbnail": ""} for n in range(4)]
    reply = answer(task("SUCCESS", imageUrl="http://cdn.test/g.png", thumbnailUrl="http://cdn.test/t.png",
                        imageUrls=parts, buttons=BUTTONS, width=2048, height=1024, seed="77"))  # fmt: skip
    item = the_item(polled(mj_proxy, ID, reply, **{**IMAGINE, "split_images": True})[0])
    assert roles(item) == {"thumbnail": ["http://cdn.test/t.png"], "raw": ["http://cdn.test/g.png"],
                           "part": [f"http://cdn.test/{n}.png" for n in range(4)]}  # fmt: skip
    actions = ["upscale2", "variation3", "reroll"]
    assert item.fields == {"raw_image_width": 2048, "raw_image_height": 1024, "actions": actions}
    assert item.about[ALLOWS] == {"action": actions}
    assert item.about["buttons"]["reroll"] == f"MJ::JOB::reroll::0::{UUID}::SOLO"
    assert (item.about["task"], item.about["seed"]) == (ID, "77")


def test_a_grid_of_the_older_proxy() -> None:
    item = the_item(polled(mj_proxy, ID, answer(task("SUCCESS", imageUrl="https://cdn.test/g.png")), **IMAGINE)[0])
    assert roles(item) == {"thumbnail": ["https://cdn.test/g.png"], "raw": ["https://cdn.test/g.png"]}
    assert item.fields["actions"] == list(mj_proxy_words.GRID)
    single = the_item(polled(mj_proxy, ID, answer(task("SUCCESS", imageUrl="https://cdn.test/g.png")),
                             capability="grid.generate", action="upscale1")[0])  # fmt: skip
    assert single.fields["actions"] == []


@pytest.mark.parametrize(
    ("custom_id", "label", "action"),
    [
        ("MJ::JOB::upsample_v7_2x_subtle::1::x::SOLO", "Upscale (Subtle)", "upscale_subtle"),
        ("MJ::JOB::upsample_v6_2x_creative::1::x::SOLO", "Upscale (Creative)", "upscale_creative"),
        ("MJ::JOB::upsample_v6_2x_creative::1::x::SOLO", "Redo Upscale (Creative)", "redo_upscale_creative"),
        ("MJ::JOB::upsample_v5_4x::1::x::SOLO", "Upscale (4x)", "upscale_4x"),
        ("MJ::JOB::upsample_v5_redo_2x::1::x", "Redo", "redo_upscale_2x"),
        ("MJ::JOB::low_variation::1::x::SOLO", "", "variation_subtle"),
        ("MJ::JOB::high_variation::1::x::SOLO", "", "variation_strong"),
        ("MJ::Inpaint::1::x::SOLO", "", "variation_region"), ("MJ::Outpaint::75::1::x::SOLO", "", "zoom_out_1_5x"),
        ("MJ::Outpaint::100::1::x::SOLO", "", "square"), ("MJ::JOB::pan_up::1::x::SOLO", "", "pan_up"),
    ],
)  # fmt: skip
def test_buttons_are_known(custom_id: str, label: str, action: str) -> None:
    assert mj_proxy_words.buttons([{"customId": custom_id, "label": label}]) == {action: custom_id}


def test_unknown_buttons_are_left_out() -> None:
    strange = [{"customId": "MJ::CustomZoom::1::x"}, {"customId": "MJ::JOB::pan_left::" + "x" * 400}, None, {}]
    assert mj_proxy_words.buttons(strange) == {}
    assert mj_proxy_words.buttons("x") == {}


def test_films() -> None:
    listed = [{"url": "http://cdn.test/1.mp4"}, "http://cdn.test/2.mp4", "file:///x", 3]
    reply = answer(task("SUCCESS", imageUrl="http://cdn.test/f.png", videoUrl="http://cdn.test/0.mp4",
                        videoUrls=listed))  # fmt: skip
    item = the_item(polled(mj_proxy, ID, reply, capability="grid.animate", action="generate")[0])
    assert roles(item) == {"video": ["http://cdn.test/1.mp4", "http://cdn.test/2.mp4"],
                           "image": ["http://cdn.test/f.png"]}  # fmt: skip
    one = answer(task("SUCCESS", videoUrl="http://cdn.test/0.mp4"))
    item = the_item(polled(mj_proxy, ID, one, capability="grid.animate", action="generate")[0])
    assert roles(item) == {"video": ["http://cdn.test/0.mp4"]}


def test_words() -> None:
    reply = answer(task("SUCCESS", prompt="1️⃣ a boat --ar 3:2\n\n2️⃣ a ship\n\n3. a sail"))
    outcome, _ = polled(mj_proxy, ID, reply, capability="image.describe")
    assert outcome == Succeeded(response={"descriptions": ["a boat --ar 3:2", "a ship", "a sail"]})
    reply = answer(task("SUCCESS", prompt="an old boat", properties={"finalPrompt": "old boat\nboat"}))
    outcome, _ = polled(mj_proxy, ID, reply, capability="prompt.shorten", prompt="an old boat")
    assert outcome == Succeeded(response={"prompts": ["old boat", "boat"]})
    outcome, _ = polled(mj_proxy, ID, answer(task("SUCCESS")), capability="prompt.shorten", prompt="a boat")
    assert isinstance(outcome, Failed)


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (task("FAILURE", failReason="Banned prompt detected"), "forbidden"),
        (task("FAILURE", failReason="blocked by our AI moderator"), "forbidden"),
        (task("FAILURE", failReason="Invalid parameter: --xyz"), "bad_request"),
        (task("FAILURE", failReason="task timeout"), "timeout"),
        (task("FAILURE", failReason=None), "api_error"),
        (task("failure", failReason="it broke"), "api_error"),
        (task("CANCEL"), "api_error"),
        (task("SUCCESS"), "api_error"),
        (task("SUCCESS", imageUrl="/data/1.png"), "api_error"),
        (task("SUCCESS", imageUrl=["http://a.test"]), "api_error"),
    ],
)  # fmt: skip
def test_a_task_that_failed(found: Any, code: str) -> None:
    outcome, _ = polled(mj_proxy, ID, answer(found), **IMAGINE)
    assert isinstance(outcome, Failed), outcome
    assert outcome.code == code


@pytest.mark.parametrize("reply", [Reply(500), Reply(200, b"<html>"), answer([1]), Reply(then="reset"),
                                   Reply(200, b"{", then="cut"), Reply(429)])  # fmt: skip
def test_a_look_that_fails_says_nothing_about_the_work(reply: Reply) -> None:
    assert isinstance(polled(mj_proxy, ID, reply, **IMAGINE)[0], Unknown)


@pytest.mark.parametrize("reply", [Reply(200, b""), answer(None), answer({})])
def test_a_task_that_the_proxy_does_not_have(reply: Reply) -> None:
    assert isinstance(polled(mj_proxy, ID, reply, asked_s_ago=5, **IMAGINE)[0], Pending)
    assert isinstance(polled(mj_proxy, ID, reply, asked_s_ago=61, **IMAGINE)[0], Failed)
    assert isinstance(polled(mj_proxy, ID, Reply(404), **IMAGINE)[0], Failed)


# -- seeds, cancelling, lost submissions


def test_a_seed_that_came_with_the_picture_is_known() -> None:
    outcome, upstream = submitted(mj_proxy, OK, capability="grid.seed",
                                  sources={"image_id": (source({"task": ID, "seed": "77"}),)})  # fmt: skip
    assert outcome == Succeeded(response={"seed": "77"})
    assert upstream.asked == 0


@pytest.mark.parametrize(
    ("reply", "expected"),
    [(answer({"code": 1, "result": "1234"}), Succeeded(response={"seed": "1234"})),
     (answer({"code": 9, "description": "no"}), "api_error"), (Reply(500), "api_error"), (Reply(404), "api_error"),
     (answer([]), "api_error")],
)  # fmt: skip
def test_a_seed_is_asked_for(reply: Reply, expected: Any) -> None:
    outcome, upstream = submitted(mj_proxy, reply, capability="grid.seed",
                                  sources={"image_id": (source({"task": ID}),)})  # fmt: skip
    assert outcome == expected or (isinstance(outcome, Failed) and outcome.code == expected)
    assert upstream.requests[0].path == f"/v1/task/{ID}/image-seed"


def test_work_can_be_cancelled_at_the_newer_proxy() -> None:
    async def work(reply: Reply) -> bool:
        async with Polled(reply) as upstream:
            return await mj_proxy.cancel(upstream.asks(**IMAGINE), ID)

    assert run(work(OK))
    assert not run(work(Reply(404)))
    assert not run(work(Reply(then="reset")))


def test_a_lost_submission_is_found_by_our_id() -> None:
    listed = [7, task("SUBMITTED", id="x", state="another"), task("SUBMITTED", submitTime=1)]
    outcome, upstream = reconciled(mj_proxy, answer(listed), **IMAGINE)
    assert isinstance(outcome, Pending)
    assert outcome.upstream_id == ID
    assert upstream.requests[0].path == "/v1/task/list"
    outcome, _ = reconciled(mj_proxy, answer([task("SUCCESS", imageUrl="http://cdn.test/g.png")]), **IMAGINE)
    assert isinstance(outcome, Succeeded)


def test_a_submission_that_is_not_listed_was_never_taken() -> None:
    assert isinstance(reconciled(mj_proxy, answer([task("SUBMITTED", state="x")]), **IMAGINE)[0], Absent)
    earlier = answer([task("FAILURE", submitTime=1)])
    assert isinstance(reconciled(mj_proxy, earlier, asked_s_ago=1, **IMAGINE)[0], Absent)


@pytest.mark.parametrize("reply", [Reply(404), Reply(500), answer({}), Reply(200, b"<html>")])
def test_without_a_list_it_stays_unknown(reply: Reply) -> None:
    assert isinstance(reconciled(mj_proxy, reply, **IMAGINE)[0], Unknown)

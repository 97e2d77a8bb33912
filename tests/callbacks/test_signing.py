"""Signatures of callbacks, judged by the standard's own library."""

import base64
import time

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from bide.callbacks.signing import keys, sign

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
BODY = '{"success":true,"task_id":"0192","name":"Zoë 🎈"}'.encode()


def headers(signature: str, message_id: str, timestamp_s: int) -> dict[str, str]:
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp_s), "webhook-signature": signature}


def test_a_known_vector_is_reproduced() -> None:
    signature = sign(
        "whsec_plJ3nmyCDGBKInavdOK15jsl", "msg_loFOjxBNrRLzqYUf", 1731705121,
        b'{"event_type":"ping","data":{"success":true}}',
    )  # fmt: skip
    assert signature == "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="


def test_the_standards_library_accepts_what_we_sign() -> None:
    now_s = int(time.time())
    signed = headers(sign(SECRET, "msg-1", now_s, BODY), "msg-1", now_s)
    assert Webhook(SECRET).verify(BODY, signed)["task_id"] == "0192"


@pytest.mark.parametrize("change", ["body", "id", "time"])
def test_a_signature_covers_body_id_and_time(change: str) -> None:
    now_s = int(time.time())
    signature = sign(SECRET, "msg-1", now_s, BODY)
    signed = headers(signature, "msg-2" if change == "id" else "msg-1", now_s + (change == "time"))
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY + b" " if change == "body" else BODY, signed)


def test_while_a_secret_is_replaced_receivers_of_both_accept() -> None:
    now_s = int(time.time())
    newer = "whsec_" + base64.b64encode(b"another key of some length").decode()
    signature = sign(f"{newer} {SECRET}", "msg-1", now_s, BODY)
    assert len(signature.split(" ")) == 2
    for secret in (SECRET, newer):
        Webhook(secret).verify(BODY, headers(signature, "msg-1", now_s))


def test_raw_text_is_the_key_itself() -> None:
    now_s = int(time.time())
    signature = sign("correct-horse-battery", "msg-1", now_s, BODY)
    Webhook(b"correct-horse-battery").verify(BODY, headers(signature, "msg-1", now_s))


def test_base64_may_lack_its_padding() -> None:
    assert keys(SECRET.rstrip("=")) == (KEY,)


def test_an_empty_setting_has_no_keys_and_signs_nothing() -> None:
    assert keys("") == ()
    assert sign("", "msg-1", 1, BODY) == ""


@pytest.mark.parametrize("wrong", ["whsec_", "whsec_====", "whsec_not*base64", "whsec_a", "whsec_ä", "ok whsec_!!!!"])
def test_a_wrong_secret_is_refused_without_being_repeated(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"begins with whsec_") as refusal:
        keys(wrong)
    assert "!!!!" not in str(refusal.value)

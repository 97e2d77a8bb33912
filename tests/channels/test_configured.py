"""What is secret of a channel is sealed and never shown; the rest is kept as it was asked for."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bide.channels import configured
from bide.channels.configured import MASK, added, changed, settings_of, shown_row
from bide.channels.secrets import Sealer, SealError
from bide.channels.store import Kept
from bide.errors import BadRequest
from bide.settings import ChannelSettings, Settings

SEALER = Sealer(Settings(secret_key="a secret key that is long enough for this"))
KEY = "sk-live-0123456789abcdef"
BASE: dict[str, Any] = {"provider": "openai_images", "base_url": "https://api.example.com/v1"}


def row(**asked: Any) -> Kept:
    return added(SEALER, "main", {**BASE, **asked}, 1_000)


def back(kept: Kept) -> ChannelSettings:
    return settings_of(SEALER, kept)


def refusal(**asked: Any) -> str:
    with pytest.raises(BadRequest) as refused:
        row(**asked)
    return str(refused.value)


def test_settings_come_back_as_they_were_asked_for() -> None:
    asked = {
        **BASE, "key": KEY, "capabilities": ["image.edit"], "model_map": {"a": "b"}, "models": ["a*"], "priority": 7,
        "weight": 2.5, "cost": 0.1, "applications": ["shop"], "concurrency": 3, "rate_per_minute": 60,
        "proxy": "http://me:pass-word@proxy.test:3128", "connect_s": 2.0, "timeout_s": 20.0, "on_unknown": "resend",
        "options": {"extra": {"api_token": "t-1", "n": 1}, "drop": ["user"]},
    }  # fmt: skip
    assert back(row(**asked)) == msgspec.convert({"name": "main", **asked}, ChannelSettings)


SECRETS = (KEY, "pass-word", "t-1", "in-a-list")


def full() -> Kept:
    return row(key=KEY, proxy="http://me:pass-word@proxy.test:3128", options={
        "extra": {"api_token": "t-1"}, "hosts": [{"password": "in-a-list"}], "stream": True, "max_tokens": 5,
    })  # fmt: skip


def test_nothing_secret_is_in_the_row_or_in_what_is_shown() -> None:
    kept = full()
    for text in (kept.settings, json.dumps(shown_row(kept)), repr(kept.sealed)):
        assert not [one for one in SECRETS if one in text]
    assert shown_row(kept)["key"] == "…cdef"
    assert shown_row(kept)["proxy"] == f"http://me:{MASK}@proxy.test:3128"
    assert shown_row(kept)["options"] == {
        "extra": {"api_token": MASK}, "hosts": MASK, "stream": True, "max_tokens": 5,
    }  # fmt: skip


def test_what_is_shown_asked_for_again_changes_nothing() -> None:
    kept = full()
    assert back(changed(SEALER, kept, shown_row(kept))) == back(kept)


def test_a_change_touches_what_is_named_and_nothing_else() -> None:
    kept = changed(SEALER, full(), {"weight": 9.0})
    assert back(kept) == msgspec.structs.replace(back(full()), weight=9.0)
    kept = changed(SEALER, kept, {"key": "another-key-0123456789"})
    assert back(kept).key == "another-key-0123456789"
    assert back(kept).proxy == "http://me:pass-word@proxy.test:3128"
    assert kept.key_end == "6789"


def test_a_key_can_be_taken_away() -> None:
    kept = changed(SEALER, row(key=KEY), {"key": None})
    assert (kept.sealed, kept.key_end, back(kept).key, shown_row(kept)["key"]) == (None, "", "", None)


def test_without_the_secret_key_it_is_shown_all_the_same_and_mended_by_giving_the_key_anew() -> None:
    other = Sealer(Settings(secret_key="another secret key that is long enough"))
    kept = row(key=KEY)
    assert shown_row(kept)["key"] == "…cdef"
    with pytest.raises(SealError):
        changed(other, kept, {"weight": 2.0})
    mended = changed(other, kept, {"key": "a-new-key-of-the-account"})
    assert settings_of(other, mended).key == "a-new-key-of-the-account"


def test_a_mask_is_not_taken_for_a_secret() -> None:
    for asked in ({"key": MASK}, {"key": "…cdef"}, {"options": {"token": MASK}}, {"proxy": f"http://a:{MASK}@b.test"}):
        assert "give it anew" in refusal(**asked)


@pytest.mark.parametrize(("asked", "said"), [
    ({"provider": "no_such"}, "there is no provider"),
    ({"capabilities": ["video.generate"]}, "cannot do 'video.generate'"),
    ({"base_url": "ftp://x.test"}, "base_url 'ftp://x.test' is not an http(s) address"),
    ({"base_url": "https://me:pass@x.test"}, "must not hold a password"),
    ({"proxy": "socks5://x.test"}, "proxy 'socks5://x.test' is not an http(s) address"),
    ({"proxy": "socks5://me:hidden@x.test"}, "proxy what it is is not"),
    ({"key_file": "/etc/passwd"}, "`bide.toml` alone"),
    ({"wieght": 1}, "unknown field `wieght`"),
    ({"weight": 0}, "weight"),
    ({"timeout_s": float("inf")}, "timeout_s"),
    ({"key": "x" * 20_000}, "at most 16,384"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_in_words(asked: dict[str, Any], said: str) -> None:
    assert said in refusal(**asked)


@pytest.mark.parametrize("name", ["", ".", "-x", "a/b", "a b", "ä", "x" * 65, "a\n"])
def test_a_name_fits_into_an_address(name: str) -> None:
    with pytest.raises(BadRequest, match="`name`"):
        added(SEALER, name, BASE, 1)


OPTIONS = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5).filter(lambda text: text != MASK),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["a", "key", "my_secret", "b", "token"]), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["a", "api_key", "nested", "secret"]), OPTIONS, max_size=4))
def test_any_options_come_back_and_shown_again_stay(options: dict[str, Any]) -> None:
    kept = row(options=options)
    assert back(kept).options == options
    assert back(changed(SEALER, kept, shown_row(kept))).options == options


def test_a_channel_of_the_file_is_shown_in_the_same_form() -> None:
    one = ChannelSettings(name="main", provider="openai_images", key=KEY, base_url="https://a.test", weight=3.0)
    assert configured.shown(one) == shown_row(row(key=KEY, base_url="https://a.test", weight=3.0))

"""Keys at rest: what is sealed can be read with the secret key alone, and only for the channel it was sealed for."""

import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bide.channels.secrets import FILE, Sealer, SealError, end_of
from bide.settings import Settings

SECRET = "correct horse battery staple, thirty-two and more"
KEY = b"sk-a-key-of-an-upstream"


def sealer(tmp_path: Path | str, secret: str = SECRET) -> Sealer:
    return Sealer(Settings(data_dir=str(tmp_path), secret_key=secret))


def refusal(work: Callable[[], object]) -> str:
    with pytest.raises(SealError) as refused:
        work()
    return str(refused.value)


@given(st.binary(max_size=200), st.text(max_size=20))
def test_what_was_sealed_comes_back(plain: bytes, name: str) -> None:
    one = sealer("unused")
    assert one.unseal(name, one.seal(name, plain)) == plain


def test_nothing_of_it_can_be_seen_and_no_two_look_alike() -> None:
    one = sealer("unused")
    first, second = one.seal("main", KEY), one.seal("main", KEY)
    assert first != second
    assert KEY not in first
    assert KEY[-4:] not in first


def test_it_opens_for_its_own_channel_only() -> None:
    one = sealer("unused")
    assert "cannot be opened" in refusal(lambda: one.unseal("other", one.seal("main", KEY)))


def test_another_secret_key_does_not_open_it_and_says_what_to_do() -> None:
    sealed, other = sealer("unused").seal("main", KEY), sealer("unused", SECRET + "!")
    said = refusal(lambda: other.unseal("main", sealed))
    assert "'main'" in said
    assert "BIDE_SECRET_KEY" in said
    assert "bide channel update" in said


def test_what_was_changed_or_cut_does_not_open() -> None:
    one = sealer("unused")
    sealed = one.seal("main", KEY)
    for at in range(len(sealed)):
        assert "cannot be opened" in refusal(
            lambda at=at: one.unseal("main", sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :])
        )
        assert "cannot be opened" in refusal(lambda at=at: one.unseal("main", sealed[:at]))


def test_a_secret_key_that_is_short_is_refused_without_being_repeated() -> None:
    said = refusal(lambda: sealer("unused", "short-one").seal("main", KEY))
    assert "32 characters" in said
    assert "short-one" not in said


def test_without_a_setting_a_key_file_is_made_on_the_first_need_for_its_owner_alone(tmp_path: Path) -> None:
    one = sealer(tmp_path / "data", "")
    assert not (tmp_path / "data").exists()
    sealed = one.seal("main", KEY)
    file = tmp_path / "data" / FILE
    assert one.made == file
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(tmp_path / "data") == [FILE]
    later = sealer(tmp_path / "data", "")
    assert later.unseal("main", sealed) == KEY
    later.seal("main", KEY)
    assert later.made is None


def test_opening_never_makes_a_key_file(tmp_path: Path) -> None:
    sealed = sealer(tmp_path).seal("main", KEY)
    assert "there is no secret key" in refusal(lambda: sealer(tmp_path, "").unseal("main", sealed))
    assert not (tmp_path / FILE).exists()


def test_an_empty_key_file_is_not_taken_for_a_key(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("\n")
    assert "32 characters" in refusal(lambda: sealer(tmp_path, "").seal("main", KEY))


def test_of_several_that_need_it_first_all_have_the_same_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        sealed = list(pool.map(lambda _: sealer(tmp_path, "").seal("main", KEY), range(16)))
    assert {sealer(tmp_path, "").unseal("main", one) for one in sealed} == {KEY}
    assert os.listdir(tmp_path) == [FILE]


def test_of_a_key_its_last_four_characters_are_shown_and_nothing_of_a_short_one() -> None:
    assert end_of("sk-0123456789abcd") == "abcd"
    assert end_of("abcdefgh") == ""
    assert end_of("") == ""

"""Words for songs."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bide.providers.media import words

LIGHT = words.lyrics("Write a song about a lighthouse keeper and the Atlantic sea", 3)


def test_lyrics_speak_of_the_prompt_in_verses_and_choruses() -> None:
    assert words.about("Write a song about a lighthouse keeper and the McCoy sea") == [
        "lighthouse", "keeper", "McCoy", "sea",
    ]  # fmt: skip
    assert any(word in LIGHT.text.lower() for word in ("lighthouse", "keeper", "atlantic", "sea"))
    marks = [line for line in LIGHT.text.splitlines() if line.startswith("[")]
    assert marks == ["[Verse 1]", "[Chorus]", "[Verse 2]", "[Chorus]", "[Bridge]", "[Chorus]", "[Outro]"]
    assert LIGHT.title
    assert 3 <= len(LIGHT.tags) <= 5


def test_the_same_seed_gives_the_same_words_and_another_gives_others() -> None:
    assert words.lyrics("the sea", 3) == words.lyrics("the sea", 3)
    assert len({words.lyrics("the sea and a boat", seed).text for seed in range(8)}) > 4


@pytest.mark.parametrize("prompt", ["", "   ", "!!!", "\u591c\u306e\u6b4c", "a\ud800b", "{a} {0} %s", "x" * 50_000])
def test_any_prompt_gives_lyrics(prompt: str) -> None:
    made = words.lyrics(prompt, 1)
    assert made.text.count("[") == 7
    assert 0 < len(made.title) <= words.TITLE_MAX
    assert len(made.text) < 5000
    made.text.encode()


def test_tags_that_the_text_names_come_first() -> None:
    assert words.tags("a dreamy folk tune", 5)[:2] == ("dreamy", "folk")
    assert words.style("lofi", 5).startswith("lofi, ")


def test_a_mashup_has_the_parts_of_both() -> None:
    text = words.mashup("[A]\none\n\n[B]\ntwo", "[C]\nthree", 1).text
    assert text == "[A]\none\n\n[C]\nthree\n\n[B]\ntwo"


def test_every_word_is_sung_once_in_order_within_the_song() -> None:
    found = words.aligned(LIGHT.text, 60.0, 1)
    sung = "".join(one["word"] for one in found)
    assert sung.split() == LIGHT.text.split()
    assert sung.count("\n") >= LIGHT.text.count("\n\n") - 1
    for one in found:
        assert 0 <= one["start_s"] <= one["end_s"] <= 60.0
        assert one["success"] is True
        assert 0.8 < one["p_align"] <= 1
    assert all(first["end_s"] <= second["start_s"] for first, second in pairwise(found))
    json.dumps(found)


def test_marks_without_words_behind_them_are_kept_and_brackets_do_no_harm() -> None:
    assert [one["word"] for one in words.aligned("[Verse] la [End]", 9.0, 1)] == ["[Verse] la [End]"]
    assert len(words.aligned("[" * 50_000, 9.0, 1)) == 50_000


@settings(deadline=None)
@given(st.text(max_size=200), st.floats(0.1, 500))
def test_any_text_can_be_timed(text: str, seconds: float) -> None:
    found = words.aligned(text, seconds, 1)
    assert all(0 <= one["start_s"] <= one["end_s"] <= seconds + 0.001 for one in found)

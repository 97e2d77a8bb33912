"""A text that is needed must say something: an empty one is refused like one that is left out, and never charged."""

from pathlib import Path

import pytest

from bide.catalog.files import tables_of
from bide.catalog.load import Catalog, load
from bide.errors import BadRequest
from tests.services.bodies import everything, smallest


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    directory: Path = everything(tmp_path_factory.mktemp("catalog"))
    return load([directory])


@pytest.mark.parametrize("service", sorted(tables_of([])))
def test_an_empty_text_is_refused_where_one_is_needed(catalog: Catalog, service: str) -> None:
    for operation in catalog.services[service].operations.values():
        body = smallest(operation)
        for name in (name for name in body if operation.fields[name].type == "string"):
            with pytest.raises(BadRequest, match=f"^`{name}`.* is missing"):
                operation.check({other: value for other, value in body.items() if other != name})
            with pytest.raises(BadRequest, match=f"^`{name}` is \"\"; "):
                operation.check({**body, name: ""})


@pytest.mark.parametrize("body", [{"lyric": ""}, {"lyric_prompt": ""}, {"lyric": "", "lyric_prompt": ""}])
def test_a_song_of_ones_own_words_needs_words(catalog: Catalog, body: dict[str, str]) -> None:
    songs = catalog.services["suno"].operations["audios"]
    with pytest.raises(BadRequest, match=r"^`lyric` and `lyric_prompt` are empty; one of them must say something$"):
        songs.check({"custom": True, **body})
    songs.check({"custom": True, **body, "instrumental": True})


def test_empty_words_are_written_from_what_they_are_to_be_about(catalog: Catalog) -> None:
    """Clients send every field of their form, filled in or not."""
    songs = catalog.services["suno"].operations["audios"]
    assert songs.check({"custom": True, "lyric": "", "lyric_prompt": "snow"})["lyric_prompt"] == "snow"

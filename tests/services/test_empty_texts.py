"""A text that is needed must say something: an empty one is refused like one that is left out, and never charged."""

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from bide.api import request_schemas
from bide.catalog.checks import left_out
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
            with pytest.raises(BadRequest, match=f"^`{name}` is (\"\"; |missing; )"):
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


FORM = {"image_id": "", "image_urls": [], "vocal_gender": "", "action": "", "audio_id": "", "model": ""}


@pytest.mark.parametrize("service", sorted(tables_of([])))
def test_what_a_form_was_not_filled_in_with_is_left_out(catalog: Catalog, service: str) -> None:
    for operation in catalog.services[service].operations.values():
        body = smallest(operation)
        empty = {name: one for name, field in operation.fields.items() if name not in body for one in left_out(field)}
        assert operation.check({**body, **empty}) == operation.check(body)
        assert all(one in ("", []) for one in empty.values())
    assert left_out(catalog.services["suno"].operations["audios"].fields["lyric"]) == ()


def test_clients_that_send_all_of_their_form_are_served(catalog: Catalog) -> None:
    songs, pictures = (catalog.services[name].operations[path] for name, path in (
        ("suno", "audios"), ("midjourney", "imagine")))  # fmt: skip
    assert songs.check({"prompt": "snow", **FORM}) == songs.check({"prompt": "snow"})
    assert pictures.check({"prompt": "snow", **FORM}) == pictures.check({"prompt": "snow"})


def test_an_empty_address_to_call_back_is_a_mistake_and_said_so(catalog: Catalog) -> None:
    with pytest.raises(BadRequest, match=r'^`callback_url` is ""; it must be an http'):
        catalog.services["suno"].operations["audios"].check({"prompt": "snow", "callback_url": ""})


@pytest.mark.parametrize("service", sorted(tables_of([])))
def test_the_description_takes_and_refuses_the_same_empty_values(catalog: Catalog, service: str) -> None:
    for operation in catalog.services[service].operations.values():
        schema = Draft202012Validator(request_schemas.body(operation, form=False))
        body = smallest(operation)
        for name, field in operation.fields.items():
            for empty in ("", [], None):
                sent = {**body, name: empty}
                try:
                    operation.check(sent)
                    taken = True
                except BadRequest as error:
                    taken = False
                    if "are empty; one" in str(error):
                        continue  # JsonLogic is beyond a schema
                assert schema.is_valid(sent) is taken, (operation.key, sent, field)

"""Where in a field addresses are: what is found there, what is refused there, and that no field can forget."""

from typing import Any

import pytest

from bide.catalog.checks import compile_check
from bide.catalog.fields import DEEP, Field, unfit_bounds
from bide.catalog.load import Operation, load
from bide.catalog.places import ADDRESSES_MAX, Misplaced, Named, Place, named
from bide.errors import BadRequest
from bide.flow import inputs
from tests.services.bodies import operations

A, B = "https://example.com/a.png", "http://example.com/b.mp4"
DATA = "data:image/png;base64,iVBORw0KGgo="
PARTS = (
    Place(path="[].image_url.url", fetch="picture", data=True),
    Place(path="[].video_url.url", fetch="upstream"),
)
WORDS = (Place(path="front", fetch="picture", count_max=2), Place(path="parameters", fetch="upstream"))


def found(value: Any, places: tuple[Place, ...]) -> list[tuple[str, str, str]]:
    return [(one.where, one.text, one.fetch) for one in named("x", value, places)]


def test_every_address_is_found_with_its_place() -> None:
    content = [
        {"type": "text", "text": "a boat"}, {"image_url": {"url": A}}, {"image_url": None, "video_url": {"url": B}},
        {"image_url": {"url": DATA}},
    ]  # fmt: skip
    assert found(content, PARTS) == [
        ("x[1].image_url.url", A, "picture"), ("x[3].image_url.url", DATA, "picture"),
        ("x[2].video_url.url", B, "upstream"),
    ]  # fmt: skip
    deep = {"scenes": [{"stills": [A, A]}, {}]}
    places = (Place(path="scenes[].stills[]", fetch="picture"),)
    assert found(deep, places) == [(f"x.scenes[0].stills[{at}]", A, "picture") for at in range(2)]
    assert found([A], (Place(path="[]", fetch="picture"),)) == [("x[0]", A, "picture")]


def test_an_address_where_none_was_thought_of_is_one_that_an_upstream_fetches() -> None:
    strange = [{"image_url": {"url": A, "thumbnail": B}}, {"poster": [f" {A}"]}, {"text": f"a boat as in {A}"}]
    assert found(strange, PARTS) == [
        ("x[0].image_url.url", A, "picture"), ("x[0].image_url.thumbnail", B, "upstream"),
        ("x[1].poster[0]", A, "upstream"),
    ]  # fmt: skip
    assert found({"a": {"b": [A]}}, ()) == [("x.a.b[0]", A, "upstream")]


@pytest.mark.parametrize("text", [
    "http:\\\\127.0.0.1\\x", "http:/127.0.0.1/", "HTTPS:///127.0.0.1/", "http://example.com\\@127.0.0.1/", "http://",
])  # fmt: skip
def test_what_some_reader_would_take_for_an_address_is_refused_where_none_was_thought_of(text: str) -> None:
    """Browsers and the libraries that read as they do forgive a backslash, and any number of slashes."""
    with pytest.raises(Misplaced) as wrong:
        named("x", {"a": [text]}, ())
    assert (wrong.value.where, wrong.value.value) == ("x.a[0]", text)


def test_an_address_with_line_breaks_and_tabs_in_it_is_the_one_without() -> None:
    assert found(["ht\ttp://127.0.0.1/\r\na.png\x1f"], ()) == [("x[0]", "http://127.0.0.1/a.png", "upstream")]


def test_a_parameter_may_begin_with_a_dash_as_telephones_write_it() -> None:
    assert found(f"a boat \u2014sref {B}", WORDS) == [("x", B, "upstream")]
    assert found(f"a boat \u2013sref {B}", WORDS) == [("x", B, "upstream")]


def test_a_text_begins_with_addresses_or_has_them_among_its_parameters() -> None:
    assert found(f" {A}  {B} a boat {A} --ar 3:2 --sref {B} --no x", WORDS) == [
        ("x", A, "picture"), ("x", B, "picture"), ("x", B, "upstream"),
    ]  # fmt: skip
    assert found(f"a boat {A}", WORDS) == []
    assert found(A, WORDS) == [("x", A, "picture")]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([{"image_url": A}], f'`x[0].image_url` is "{A}"; it must be an object'),
        ([{}, {"image_url": {"url": 7}}], "`x[1].image_url.url` is 7; it must be an http:// or https:// URL of at"
         " most 2,048 characters, or a data: URL of a picture in base64"),
        ([{"video_url": {"url": "ftp://example.com/x"}}], '`x[0].video_url.url` is "ftp://example.com/x"; it must'),
        ([{"video_url": {"url": DATA}}], "`x[0].video_url.url` is"),
        ([{"image_url": {"url": "data:text/html;base64,AAAA"}}], "`x[0].image_url.url` is"),
        ([{"image_url": {"url": "https://example.com/" + "x" * 2_029}}], "`x[0].image_url.url` is"),
        (["a boat"], '`x[0]` is "a boat"; it must be an object'),
        ([{"image_url": {"url": A}}] * (ADDRESSES_MAX + 1), "`x` has 65 addresses; at most 64 are taken"),
        ([{"other": [A] * (ADDRESSES_MAX + 1)}], "`x` has 65 addresses; at most 64 are taken"),
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_its_place(value: Any, says: str) -> None:
    check = compile_check("x", Field(type="array", description="", places=PARTS), form=False)
    with pytest.raises(BadRequest) as refused:
        check(value)
    assert str(refused.value).startswith(says)


def test_addresses_at_the_front_are_counted() -> None:
    check = compile_check("x", Field(type="string", description="", places=WORDS), form=False)
    assert check(f"{A} {A} a boat") == f"{A} {A} a boat"
    with pytest.raises(BadRequest, match="`x` begins with 3 addresses; at most 2 are taken"):
        check(f"{A} {A} {A} a boat")
    with pytest.raises(Misplaced):
        named("x", "http:///nowhere a boat", WORDS)


@pytest.mark.parametrize(
    ("type_", "path"),
    [("array", "image_url"), ("array", "front"), ("object", "[].url"), ("string", "url"), ("array", "[].a..b"),
     ("array", "[]a"), ("object", "a.[]"), ("url", "url"), ("urls", "[]")],
)  # fmt: skip
def test_a_path_that_does_not_fit_its_type_means_no_start(type_: Any, path: str) -> None:
    field = Field(type=type_, description="", places=(Place(path=path, fetch="picture"),))
    assert unfit_bounds(field, type_) == ["places"]


# -- the catalogue


def test_no_field_that_may_hold_addresses_is_forgotten() -> None:
    """Each is either said to have none, which is so for a chat that reads its messages itself, or looked through."""
    without = set()
    for operation in operations(load()):
        for name, field in operation.fields.items():
            if field.type in DEEP and field.places == ():
                without.add((operation.key, name))
            elif field.type in DEEP:
                assert name in operation.addresses
            if field.type in ("url", "urls") or name.endswith(("_url", "_urls")):
                assert field.fetch or name == "callback_url", (operation.key, name)
    assert without == {("openai/chat/completions", "messages")}


@pytest.fixture(scope="module")
def film() -> Operation:
    return load().operation("seedance", "videos")


def test_pictures_are_those_to_fetch_and_addresses_all_to_check(film: Operation) -> None:
    content = [{"image_url": {"url": A}}, {"image_url": {"url": DATA}}, {"audio_url": {"url": B}}, {"x": B}]
    values = film.check({"model": "m", "content": content})
    assert inputs.urls(film, values) == [
        Named("content", f"content[{at}].image_url.url", text, "picture") for at, text in ((0, A), (1, DATA))
    ]
    assert inputs.addresses(film, values) == [
        ("content[0].image_url.url", A), ("content[2].audio_url.url", B), ("content[3].x", B),
    ]  # fmt: skip

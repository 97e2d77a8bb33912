"""The catalogue of the package, further directories, and every way in which a file can be wrong."""

from pathlib import Path

import pytest

from bide.catalog.load import CatalogError, Limits, load
from bide.errors import BadRequest

FILM = """
name = "film"
title = "Films"
summary = "Films from text."

[fields.prompt]
type = "string"
description = "What happens."

[[rules.actions]]
when = { action = ["extend", "re*"] }
require = ["film_id"]

[[rules.actions]]
when = { action = ["generate"], loop = ["false"] }
require_one = ["prompt", "stills"]

[[rules.actions]]
when = { seconds = ["25"], loop = ["true"] }
message = "a film of 25 seconds cannot loop"

[[prices.films]]
conditions = { "==" = [{ var = "seconds" }, 25] }
consumption = 2.5

[[prices.films]]
consumption = { "*" = [0.1, { var = ["seconds", 10] }] }

[limits.slow]
submits_per_s = 0.5
concurrent = 5

[operations."films/new"]
type = "films"
api_id = "00000000-0000-4000-8000-000000000001"
title = "Make a film"
summary = "Makes a film."
capability = "video.generate"
shape = "openai_images"
inline = false
inline_stored = true
run_s_max = 600
expected_s = 90
shared = ["prompt"]
rules = ["actions"]
prices = "films"
limits = "slow"

[operations."films/new".fields.action]
type = "string"
default = "generate"
description = "What to do."

[operations."films/new".fields.film_id]
type = "string"
description = "Which film."

[operations."films/new".fields.seconds]
type = "integer"
enum = [10, 25]
description = "How long."

[operations."films/new".fields.strength]
type = "number"
min = 0
max = 1.5
description = "How much."

[operations."films/new".fields.loop]
type = "boolean"
default = false
description = "Whether it repeats."

[operations."films/new".fields.stills]
type = "urls"
count_min = 1
count_max = 3
description = "First pictures."

[operations."films/new".fields.tags]
type = "strings"
count_max = 2
length_min = 1
length_max = 5
description = "Words."

[operations."films/new".fields.scene]
type = "object"
description = "Anything."

[operations."films/new".fields.cuts]
type = "array"
count_max = 2
description = "Anything."

[operations."films/new".fields.code]
type = "string"
pattern = "^[a-z]+$"
description = "Letters."

[operations."films/new".fields.about]
type = "text_or_object"
length_max = 5
description = "A few words, or an object."
"""


def with_film(directory: Path, text: str = FILM) -> Path:
    directory.joinpath("film.toml").write_text(text)
    return directory


def test_every_path_of_the_openai_service_is_there() -> None:
    catalog = load()
    assert set(catalog.services) >= {"openai"}
    paths = {path for path, operation in catalog.by_path.items() if operation.service == "openai"}
    assert paths == {
        "/openai/images/generations", "/v1/openai/images/generations", "/v1/images/generations",
        "/openai/images/edits", "/v1/openai/images/edits", "/v1/images/edits",
        "/openai/chat/completions", "/v1/openai/chat/completions", "/v1/chat/completions",
    }  # fmt: skip
    assert catalog.by_path["/v1/images/edits"] is catalog.operation("openai", "images/edits")
    assert catalog.tasks_paths["/openai/tasks"] is catalog.tasks_paths["/v1/openai/tasks"]


def test_a_group_of_types_stands_for_its_members_and_any_other_type_for_itself() -> None:
    service = load().services["openai"]
    assert service.types("images") == ("images_generations", "images_edits")
    assert service.types("images_edits") == ("images_edits",)
    assert service.types("nothing of ours") == ("nothing of ours",)


def test_a_further_directory_adds_a_service(tmp_path: Path) -> None:
    catalog = load([with_film(tmp_path)])
    operation = catalog.by_path["/v1/film/films/new"]
    assert (operation.key, operation.type, operation.capability) == ("film/films/new", "films", "video.generate")
    assert catalog.tasks_paths["/film/tasks"].name == "film"
    assert list(operation.fields)[-5:] == ["prompt", "callback_url", "async", "trace_id", "dry_run"]


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "x"},
        {"action": "extend", "film_id": "f"},
        {"stills": "https://example.com/a"},
        {"stills": ["https://example.com/a"] * 3, "seconds": 25},
        {"loop": True, "seconds": 10},
        {"prompt": "x", "strength": 1, "tags": ["a", "b"], "scene": {}, "cuts": [1, {}], "code": "abc"},
        {"prompt": "x", "strength": 1.5, "tags": []},
        {"prompt": "x", "about": "abcde"},
        {"prompt": "x", "stills": [], "code": "", "about": {}},
        {"prompt": "x", "about": {"words": ["abcdef"], "url": "https://example.com/a"}},
    ],
)
def test_fields_and_rules_of_every_kind_take_what_is_right(tmp_path: Path, body: dict[str, object]) -> None:
    values = load([with_film(tmp_path)]).operation("film", "films/new").check(body)
    assert values["action"] == body.get("action", "generate")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"action": "extend"}, '`film_id` is missing; with `action` "extend" it is needed'),
        ({"action": "reverse"}, '`film_id` is missing; with `action` "reverse" it is needed'),
        ({}, '`prompt` or `stills` is missing; with `action` "generate" and `loop` false it is needed'),
        ({"loop": True, "seconds": 25}, "a film of 25 seconds cannot loop"),
        ({"seconds": 15}, "`seconds` is 15; it must be 10 or 25"),
        ({"strength": 1.6}, "`strength` is 1.6; it must be a number from 0 to 1.5"),
        ({"strength": True}, "`strength` is true; it must be a number from 0 to 1.5"),
        ({"stills": ["https://example.com/", 5]}, "`stills` is a list of 2; it must be"),
        ({"tags": ["a", "b", "c"]}, "`tags` is a list of 3; it must be a list of at most 2"),
        ({"tags": ["a", "toolong"]}, '`tags[1]` is "toolong"; it must be a text of 1 to 5 characters'),
        ({"tags": "a"}, '`tags` is "a"; it must be a list of at most 2'),
        ({"scene": []}, "`scene` is a list of 0; it must be an object"),
        ({"cuts": [1, 2, 3]}, "`cuts` is a list of 3; it must be a list of at most 2"),
        ({"about": "abcdef"}, '`about` is "abcdef"; it must be a text of at most 5 characters, or an object'),
        ({"about": 7}, "`about` is 7; it must be a text of at most 5 characters, or an object"),
        ({"code": "A"}, '`code` is "A"; it must be a text that matches ^[a-z]+$'),
    ],
)  # fmt: skip
def test_fields_and_rules_of_every_kind_refuse_what_is_wrong(
    tmp_path: Path, body: dict[str, object], sentence: str
) -> None:
    operation = load([with_film(tmp_path)]).operation("film", "films/new")
    with pytest.raises(BadRequest) as caught:
        operation.check(body)
    assert str(caught.value).startswith(sentence)


WRONG: list[tuple[str, str, str]] = [
    ("not TOML", 'title = "Films"', "title ="),
    ("unknown field `colour`", 'title = "Films"', 'title = "Films"\ncolour = 1'),
    ("missing required field `title`", 'title = "Films"', ""),
    ("name", 'name = "film"', 'name = "Film!"'),
    ('operations."films/new": Object contains unknown field `speed`', "inline = false", "inline = false\nspeed = 1"),
    ('operations."films/new": Object missing required field `inline`', "inline = false\n", ""),
    ("Expected `float` > 0.0", "run_s_max = 600", "run_s_max = 0"),
    ("$.shape", 'shape = "openai_images"', 'shape = "cube"'),
    ("$.api_id", "00000000-0000-4000-8000-000000000001", "1"),
    ("the api_id is that of", "00000000-0000-4000-8000-000000000001", "OPENAI"),
    ("there is no shared field 'promp'", 'shared = ["prompt"]', 'shared = ["promp"]'),
    ("there is no common field 'sync'", 'shared = ["prompt"]', 'shared = ["prompt"]\ncommon = ["sync"]'),
    ("there is no group of rules 'action'", 'rules = ["actions"]', 'rules = ["action"]'),
    ("a rule names the field 'filmid'", 'require = ["film_id"]', 'require = ["filmid"]'),
    ("a rule does nothing", 'require = ["film_id"]', ""),
    ("rules.actions[0]: Object contains unknown field `needs`", 'require = ["film_id"]', 'needs = ["film_id"]'),
    ("sets 'max' of 'film_id', which means nothing", 'require = ["film_id"]', "set = { film_id = { max = 1 } }"),
    ("a rule sets nothing of 'film_id'", 'require = ["film_id"]', "set = { film_id = {} }"),
    ('films/new".fields.loop: Object contains unknown field `defaults`', "default = false", "defaults = false"),
    ('films/new".fields.loop.default: `loop` is 1; it must be true or false', "default = false", "default = 1"),
    ('films/new".fields.loop: \'min\' means nothing for the type boolean', "default = false", "min = 1"),
    ("films/new\".fields.loop: 'header' means nothing for the type boolean", "default = false", 'header = "loop"'),
    ("$.header", "default = false", 'header = "X Loop"'),
    ("fields.prompt: Invalid enum value 'text'", 'type = "string"\ndescription = "What happens."',
     'type = "text"\ndescription = "What happens."'),
    ("field 'scene': a form cannot hold the type object", "inline = false",
     'inline = false\naccepts = ["multipart"]'),
    ("the path /v1/images/edits is taken", "inline = false", 'inline = false\naliases = ["/v1/images/edits"]'),
    ("the path /film/tasks is taken", "inline = false", 'inline = false\naliases = ["/film/tasks"]'),
    ("type_groups.all: no operation has the type 'film'", "[fields.prompt]",
     'type_groups.all = ["film"]\n[fields.prompt]'),
    ("it has no `prices`, and the service does not say `free = true`", 'prices = "films"\n', ""),
    ("there is no group of prices 'film'", 'prices = "films"', 'prices = "film"'),
    ("prices.other: no operation names it", "[[prices.films]]",
     "[[prices.other]]\nconsumption = 1\n\n[[prices.films]]"),
    ("prices.films[0]: Object contains unknown field `costs`", "consumption = 2.5", "costs = 2.5"),
    ("prices.films[0]: Object missing required field `consumption`", "consumption = 2.5", ""),
    ("Expected `int | float | object`, got `str`", "consumption = 2.5", 'consumption = "2.5"'),
    ("Expected `int | float | object`, got `bool`", "consumption = 2.5", "consumption = true"),
    ("prices.films[0].consumption: it gives -1 credits; ", "consumption = 2.5", "consumption = -1"),
    ("prices.films[0].consumption: nan is not a JSON value", "consumption = 2.5", "consumption = nan"),
    ("prices.films[0].consumption: it gives inf, which is not a number", "consumption = 2.5",
     'consumption = { "/" = [1, 0] }'),
    ("prices.films[0].consumption: it gives True, which is not a number", "consumption = 2.5",
     'consumption = { "<" = [1, 2] }'),
    ("prices.films[0].consumption: it gives 1000001 credits; it must be 0 to 1,000,000", "consumption = 2.5",
     "consumption = 1_000_001"),
    ("prices.films[0].conditions: ==: it takes 2 arguments, this has 1", '{ var = "seconds" }, 25]',
     '{ var = "seconds" }]'),
    ("prices.films[0].conditions: ==[0].vra: there is no operator 'vra'", 'var = "seconds"', 'vra = "seconds"'),
    ("prices.films[0].conditions: it names the field 'second'", 'var = "seconds"', 'var = "second"'),
    ("prices.films[0].conditions: they are the same for every request", '{ var = "seconds" }, 25]', "25, 25]"),
    ("prices.films[1].consumption: it names the field 'duration'", '["seconds", 10]', '["duration", 10]'),
    ("prices.films: the last rule must have no conditions", 'consumption = { "*"',
     'conditions = { var = "loop" }\nconsumption = { "*"'),
    ("prices.films[1]: it is never asked", 'conditions = { "==" = [{ var = "seconds" }, 25] }', ""),
    ("prices.films[0]: `per` names the field 'second'", "consumption = 2.5", 'consumption = 2.5\nper = "second"'),
    ("prices.films[0]: `per` names the field 'code', which is not a number", "consumption = 2.5",
     'consumption = 2.5\nper = "code"'),
    ("$.unit", "consumption = 2.5", 'consumption = 2.5\nunit = "per second"'),
    ("$.free_amount", "[fields.prompt]", "free_amount = -1\n\n[fields.prompt]"),
    ("$.polls_per_s", "[fields.prompt]", "polls_per_s = -1\n\n[fields.prompt]"),
    ("there are no limits 'fast'", 'limits = "slow"', 'limits = "fast"'),
    ("limits.slow: no operation names it", 'limits = "slow"\n', ""),
    ("`$.limits", "submits_per_s = 0.5", "submits_per_s = -0.5"),
    ("`$.limits", "concurrent = 5", "concurrent = 0.5"),
    ("missing required field `concurrent`", "concurrent = 5", ""),
    ("unknown field `polls`", "concurrent = 5", "concurrent = 5\npolls = 1"),
    ("answers: films/new has no field 'model'", "[fields.prompt]",
     '[[answers]]\nwhen = { model = ["x"] }\n[fields.prompt]'),
]  # fmt: skip


@pytest.mark.parametrize(("sentence", "old", "new"), WRONG, ids=[row[0] for row in WRONG])
def test_a_wrong_file_is_refused_with_its_name_and_the_place(
    tmp_path: Path, sentence: str, old: str, new: str
) -> None:
    new = new.replace("OPENAI", load().operation("openai", "images/edits").entry.api_id)
    assert FILM.count(old) >= 1
    with pytest.raises(CatalogError) as caught:
        load([with_film(tmp_path, FILM.replace(old, new, 1))])
    assert str(caught.value).startswith(f"{tmp_path / 'film.toml'}: ")
    assert sentence == "not TOML" or sentence.removeprefix("the ") in str(caught.value)


def test_a_service_has_what_its_callers_may_do_and_what_it_gives_away() -> None:
    service = load().services["openai"]
    assert (service.free_amount, service.polls_per_s) == (2_000_000, 60.0)
    for operation in service.operations.values():
        assert (operation.limit_class, operation.limits) == ("images", Limits(submits_per_s=60.0, concurrent=10))


def test_what_a_service_does_not_say_of_its_limits_has_a_default(tmp_path: Path) -> None:
    service = load([with_film(tmp_path)]).services["film"]
    assert (service.free_amount, service.polls_per_s) == (0, 60.0)
    assert service.operations["films/new"].limits == Limits(submits_per_s=0.5, concurrent=5)
    text = FILM.replace('limits = "slow"\n', "").replace("[limits.slow]", "[limits.default]")
    assert load([with_film(tmp_path, text)]).operation("film", "films/new").limits.concurrent == 5
    plain = FILM.replace('limits = "slow"\n', "").replace("[limits.slow]\nsubmits_per_s = 0.5\nconcurrent = 5\n", "")
    operation = load([with_film(tmp_path, plain)]).operation("film", "films/new")
    assert (operation.limit_class, operation.limits) == ("default", Limits(submits_per_s=60.0, concurrent=0))


def test_a_later_file_changes_a_service_by_what_it_names_and_leaves_the_rest(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('''
        name = "openai"
        polls_per_s = 5
        limits.images = { submits_per_s = 2, concurrent = 3 }
        [[prices.images]]
        consumption = 7
        per = "n"
    ''')
    before, after = load().services["openai"], load([tmp_path]).services["openai"]
    request = {"prompt": "x", "model": "gpt-image-2", "n": 2}
    for path, operation in after.operations.items():
        assert operation.price(request).total == (200_000 if path == "chat/completions" else 14_000_000)
        assert operation.limits == Limits(submits_per_s=2, concurrent=3)
    assert after.polls_per_s == 5
    assert (after.title, after.free_amount, set(after.operations)) == (
        before.title, before.free_amount, set(before.operations),
    )  # fmt: skip


def test_what_a_later_file_has_wrong_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('name = "openai"\nprices.pictures = [{ consumption = 1 }]')
    with pytest.raises(CatalogError, match=r"mine\.toml: prices\.pictures: no operation names it"):
        load([tmp_path])


def test_a_directory_must_be_there_and_its_files_text(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="there is no such directory"):
        load([tmp_path / "nothing"])
    (tmp_path / "x.toml").write_bytes(b"\xff")
    with pytest.raises(CatalogError, match=r"x\.toml"):
        load([tmp_path])

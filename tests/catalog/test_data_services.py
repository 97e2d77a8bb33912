"""What a service of data can say: defaults and arithmetic of rules, other spellings, switches, earlier items."""

from pathlib import Path
from typing import Any

import pytest

from bide.catalog.load import CatalogError, Operation, load
from bide.errors import BadRequest

SHOW = """
name = "show"
title = "Shows"
summary = "Shows."
free = true

[[rules.shows]]
when = { kind = ["long"] }
default = { seconds = 60 }

[[rules.shows]]
when = { kind = ["short"] }
force = { seconds = 5 }

[[rules.shows]]
without = ["poster"]
when = { loud = ["true"] }
require = ["title"]

[[rules.shows]]
refuse = { ">" = [{ var = ["seconds", 0] }, { "*" = [2, { var = ["pace", 50] }] }] }
message = "`seconds` may be twice `pace` at most"

[operations."shows"]
type = "shows"
api_id = "00000000-0000-4000-8000-0000000000aa"
title = "Make a show"
summary = "Makes a show."
capability = "show.make"
makes = "show"
inline = false
inline_stored = true
run_s_max = 600
expected_s = 90
rules = ["shows"]
top = ["data"]

[operations."shows".answer]
data = [{ each = "items", id = "{item.id}", url = "{asset.video}" }]

[operations."shows".fields.kind]
type = "string"
description = "Which kind."

[operations."shows".fields.seconds]
type = "integer"
aliases = ["duration", "length"]
description = "How long."

[operations."shows".fields.pace]
type = "integer"
description = "How fast."

[operations."shows".fields.loud]
type = "boolean"
description = "Whether it is loud."

[operations."shows".fields.title]
type = "string"
description = "Its title."

[operations."shows".fields.poster]
type = "urls"
fetch = "picture"
description = "Pictures."

[operations."again"]
enabled = false
type = "again"
api_id = "00000000-0000-4000-8000-0000000000ab"
title = "Show it again"
summary = "Shows it again."
capability = "show.again"
inline = false
inline_stored = true
run_s_max = 600
expected_s = 90
bare = true

[operations."again".answer]
url = "{asset.video}"

[operations."again".fields.show_id]
type = "item"
kind = "show"
of = ["shows"]
required = true
description = "Which show."

[operations."again".fields.others]
type = "items"
kind = "show"
count_max = 2
description = "With what."
"""


def show(directory: Path, text: str = SHOW, more: str = "", inline: tuple[str, ...] = ()) -> dict[str, Operation]:
    (directory / "a.toml").write_text(text, "utf-8")
    (directory / "b.toml").write_text(more or 'name = "show"', "utf-8")
    return dict(load([directory], inline).services["show"].operations)


ON = 'name = "show"\n[operations."again"]\nenabled = true'


def values(directory: Path, **body: Any) -> dict[str, Any]:
    return show(directory)["shows"].check(body)


def refusal(operation: Operation, **body: Any) -> str:
    with pytest.raises(BadRequest) as refused:
        operation.check(body)
    return str(refused.value)


def test_a_rule_says_what_a_field_is_that_was_left_out_or_whatever_was_sent(tmp_path: Path) -> None:
    assert values(tmp_path, kind="long") == {"kind": "long", "seconds": 60}
    assert values(tmp_path, kind="long", seconds=9) == {"kind": "long", "seconds": 9}
    assert values(tmp_path, kind="short", seconds=9) == {"kind": "short", "seconds": 5}
    assert values(tmp_path, seconds=9) == {"seconds": 9}


def test_another_spelling_is_the_same_field_and_the_name_itself_wins(tmp_path: Path) -> None:
    assert values(tmp_path, duration=9) == values(tmp_path, length=9) == {"seconds": 9}
    assert values(tmp_path, duration=9, seconds=8) == {"seconds": 8}
    assert values(tmp_path, duration=9, seconds=None) == {"seconds": 9}
    assert refusal(show(tmp_path)["shows"], duration="9") == '`duration` is "9"; it must be a whole number'


def test_a_rule_may_ask_for_what_is_not_there_and_for_arithmetic(tmp_path: Path) -> None:
    shows = show(tmp_path)["shows"]
    assert refusal(shows, loud=True) == "`title` is missing; with `loud` true and without `poster` it is needed"
    assert shows.check({"loud": True, "poster": "https://a.example/1"})["poster"] == ["https://a.example/1"]
    assert refusal(shows, seconds=101) == "`seconds` may be twice `pace` at most"
    assert shows.check({"seconds": 100})


def test_an_operation_that_is_switched_off_is_not_there_until_a_later_file_switches_it_on(tmp_path: Path) -> None:
    assert set(show(tmp_path)) == {"shows"}
    operations = show(tmp_path, more=ON)
    assert set(operations) == {"shows", "again"}
    again = operations["again"]
    assert (again.items, again.pictures, again.model({}), again.model({"model": "m"})) == (
        ("show_id", "others"), (), "", "m",
    )  # fmt: skip
    assert (operations["shows"].pictures, operations["shows"].addresses[0]) == (("poster",), "poster")


def test_an_earlier_item_is_named_by_a_text_and_several_by_a_list_or_one(tmp_path: Path) -> None:
    again = show(tmp_path, more=ON)["again"]
    assert again.check({"show_id": "s", "others": "a"}) == {"show_id": "s", "others": ["a"]}
    assert refusal(again, show_id=7) == "`show_id` is 7; it must be the id of a show made before"
    assert refusal(again, show_id="x" * 257).endswith("it must be the id of a show made before")
    assert refusal(again) == "`show_id` is missing; it must be the id of a show made before"
    assert "a list of at most 2" in refusal(again, show_id="s", others=["a", "b", "c"])


def test_an_operator_makes_every_call_of_a_service_wait(tmp_path: Path) -> None:
    assert show(tmp_path)["shows"].entry.inline is False
    assert show(tmp_path, inline=("show",))["shows"].entry.inline is True
    with pytest.raises(CatalogError, match="inline_services: there is no service 'shows'"):
        show(tmp_path, inline=("shows",))


@pytest.mark.parametrize(("old", "new", "says"), [
    ("{asset.video}", "{request.sound}", "there is no {request.sound}"),
    ('top = ["data"]', 'top = ["url"]', "top: the answer has no key 'url'"),
    ('capability = "show.make"', 'capability = "x"\nshape = "openai_images"', "`answer` means nothing for the shape"),
    ('aliases = ["duration", "length"]', 'aliases = ["kind"]', "the alias 'kind' is taken"),
    ('kind = "show"\nof = ["shows"]\n', "", "'show_id': it has no `kind`"),
    ('description = "Its title."', 'fetch = "audio"\ndescription = "x"', "'fetch'"),
    ('description = "Its title."', 'kind = "show"\ndescription = "x"', "'kind'"),
    ("force = { seconds = 5 }", 'force = { seconds = "5" }', "a rule: `seconds` is \"5\""),
    ("default = { seconds = 60 }", "default = { minutes = 1 }", "names the field 'minutes'"),
    ("without = [\"poster\"]", "without = [\"sound\"]", "names the field 'sound'"),
    ('message = "`seconds` may be twice `pace` at most"', "", "a rule"),
    ('{ var = ["pace", 50] }', '{ var = ["speed", 50] }', "names the field 'speed'"),
])  # fmt: skip
def test_a_wrong_file_means_no_start(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in SHOW
    with pytest.raises(CatalogError, match=r"show|a\.toml") as wrong:
        show(tmp_path, SHOW.replace(old, new, 1))
    assert says in str(wrong.value)


def test_a_service_of_which_nothing_is_offered_means_no_start(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="none of its operations is enabled"):
        show(tmp_path, more='name = "show"\n[operations."shows"]\nenabled = false')

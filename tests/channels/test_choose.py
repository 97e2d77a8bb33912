"""Which channel answers: the capability decides, weight draws, a rest is respected while there is a choice."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bide.channels.choose import Candidate, accepts, choose, upstream_model

NOW = 100.0
CAPABILITIES = ("image.generate", "image.edit")
APPLICATION = "app-2"


def one(name: str, *, weight: float = 1.0, rests_until: float = 0.0, models: tuple[str, ...] = (),
        capabilities: tuple[str, ...] = CAPABILITIES, priority: int = 0, cost: float = 0.0,
        applications: tuple[str, ...] = (), full: bool = False) -> Candidate:  # fmt: skip
    return Candidate(name, frozenset(capabilities), models, weight, rests_until, priority, cost,
                     frozenset(applications), full)  # fmt: skip


def able(candidates: list[Candidate]) -> list[str]:
    """Names of those that could draw with the model `m`."""
    return [
        one.name for one in candidates
        if accepts(one.capabilities, one.models, "image.generate", "m", one.applications, APPLICATION)
    ]  # fmt: skip


def pick(
    *candidates: Candidate, tried: tuple[str, ...] = (), chance: float = 0.0, model: str = "m",
    application: str = APPLICATION,
) -> str | None:  # fmt: skip
    return choose(candidates, "image.generate", model, tried=tried, now=NOW, chance=chance, application=application)


def test_only_a_channel_that_can_do_it_is_asked() -> None:
    assert pick(one("edits", capabilities=("image.edit",)), one("draws")) == "draws"
    assert pick(one("edits", capabilities=("image.edit",))) is None
    assert pick() is None


def test_a_channel_answers_the_models_its_patterns_name_and_every_model_without_patterns() -> None:
    assert pick(one("dalle", models=("dall-e-*",)), model="gpt-image-1") is None
    assert pick(one("dalle", models=("x", "dall-e-*")), model="dall-e-3") == "dalle"
    assert pick(one("any"), model="whatever") == "any"
    assert pick(one("dalle", models=("dall-e-*",)), model="DALL-E-3") is None


def test_channels_are_drawn_by_their_weight() -> None:
    three_to_one = (one("often", weight=3), one("seldom", weight=1))
    drawn = Counter(pick(*three_to_one, chance=at / 100) for at in range(100))
    assert drawn == {"often": 75, "seldom": 25}


def test_a_channel_that_was_tried_is_not_drawn_again() -> None:
    assert pick(one("a", weight=1e9), one("b"), tried=("a",), chance=0.5) == "b"
    assert pick(one("a"), one("b"), tried=("a", "b")) is None


def test_a_channel_that_rests_is_passed_over_while_another_is_awake() -> None:
    assert pick(one("rests", weight=1e9, rests_until=NOW + 1), one("awake"), chance=0.5) == "awake"
    assert pick(one("rested", rests_until=NOW)) == "rested"


def test_when_all_rest_the_one_that_wakes_first_is_asked_so_a_single_channel_is_never_given_up_on() -> None:
    assert pick(one("later", rests_until=NOW + 9), one("sooner", rests_until=NOW + 1)) == "sooner"
    assert pick(one("only", rests_until=NOW + 1e9)) == "only"


def test_a_channel_that_names_applications_is_for_those_alone() -> None:
    theirs, free = one("theirs", weight=1e9, applications=("app-1",)), one("free", weight=1e-9)
    assert pick(theirs, free, application="app-1") == "theirs"
    assert pick(theirs, free, application="app-2") == "free"
    assert pick(theirs, application="app-2") is None


def test_the_highest_priority_is_asked_whatever_the_others_weigh() -> None:
    assert pick(one("first", priority=1, weight=1e-9), one("second", weight=1e9), chance=0.5) == "first"


def test_a_channel_without_room_is_passed_over_for_one_of_lower_priority_that_has_some() -> None:
    full, free = one("full", priority=1, full=True), one("free")
    assert pick(full, free) == "free"
    assert pick(full, one("also", full=True)) == "full"


def test_a_channel_without_room_comes_before_one_that_rests() -> None:
    assert pick(one("rests", rests_until=NOW + 1), one("full", full=True)) == "full"


def test_among_channels_of_the_same_weight_the_cheapest_is_asked_and_shares_stay_by_weight() -> None:
    dear, cheap, other = one("dear", cost=5), one("cheap", cost=1), one("other", weight=2, cost=9)
    drawn = Counter(pick(dear, cheap, other, chance=at / 100) for at in range(100))
    assert drawn == {"cheap": 50, "other": 50}


def test_a_model_gets_the_upstreams_name_from_the_map_or_keeps_its_own() -> None:
    assert upstream_model({"a": "x", "*": "y"}, "a") == "x"
    assert upstream_model({"a": "x", "*": "y"}, "b") == "y"
    assert upstream_model({"a": "x"}, "b") == "b"
    assert upstream_model({}, "b") == "b"


CANDIDATES = st.lists(
    st.builds(
        Candidate, st.sampled_from("abcdefgh"),
        st.frozensets(st.sampled_from(CAPABILITIES)), st.sampled_from([(), ("m",), ("x*",)]),
        st.floats(1e-6, 1e6), st.sampled_from([0.0, NOW, NOW + 1, NOW + 60]), st.integers(-2, 2),
        st.sampled_from([0.0, 1.0, 2.0]), st.sampled_from([frozenset(), frozenset({"app-1"})]), st.booleans(),
    ),
    unique_by=lambda candidate: candidate.name,
)  # fmt: skip
CHANCE = st.floats(0, 1, exclude_max=True)
TRIED = st.frozensets(st.sampled_from("abcdefgh"))


@given(CANDIDATES, TRIED, CHANCE)
def test_who_is_chosen_can_do_it_was_not_tried_and_rests_only_if_all_rest(
    candidates: list[Candidate], tried: frozenset[str], chance: float
) -> None:
    name = choose(candidates, "image.generate", "m", tried=tried, now=NOW, chance=chance, application=APPLICATION)
    left = {one.name: one for one in candidates if one.name in able(candidates) and one.name not in tried}
    assert (name is None) == (not left)
    if name is not None:
        assert name in left
        assert left[name].rests_until <= NOW or all(one.rests_until > NOW for one in left.values())


@given(CANDIDATES, CHANCE)
def test_nobody_better_is_passed_over(candidates: list[Candidate], chance: float) -> None:
    """Health, then room, then priority, then cost among those of one weight."""
    name = choose(candidates, "image.generate", "m", tried=(), now=NOW, chance=chance, application=APPLICATION)
    left = {one.name: one for one in candidates if one.name in able(candidates)}
    if name is not None and left[name].rests_until <= NOW:
        chosen = left[name]
        awake = [one for one in left.values() if one.rests_until <= NOW]
        free = [one for one in awake if one.full == min(one.full for one in awake)]
        assert chosen in free
        best = [one for one in free if one.priority == max(one.priority for one in free)]
        assert chosen in best
        assert chosen.cost == min(one.cost for one in best if one.weight == chosen.weight)


@given(CANDIDATES, CHANCE)
def test_trying_one_after_the_other_reaches_every_channel_that_can_do_it(
    candidates: list[Candidate], chance: float
) -> None:
    tried: list[str] = []
    while (name := choose(candidates, "image.generate", "m", tried=tried, now=NOW, chance=chance,
                          application=APPLICATION)) is not None:  # fmt: skip
        tried.append(name)
    assert sorted(tried) == sorted(able(candidates))

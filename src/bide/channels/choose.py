"""Which channel answers a call: pure.

A facade is not tied to a vendor: any channel with the capability may answer, if neither its list of models nor that
of applications excludes the call. Of those the ones that rest after a failure are passed over while another is
awake (a single channel is never given up on), then the ones that have no room, then those of a lower priority. Among
the rest one is drawn by weight; where several have the weight of the one that was drawn, the cheapest of them.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

EVERY: frozenset[str] = frozenset()
"""Of applications: a channel that names none may be used by all."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the choice must know of a channel. `rests_until` is monotonic seconds, of the model that is asked for."""

    name: str
    capabilities: frozenset[str]
    models: tuple[str, ...]
    weight: float
    rests_until: float = 0.0
    priority: int = 0
    cost: float = 0.0
    applications: frozenset[str] = EVERY
    full: bool = False
    """As far as this process knows, no slot is free there."""


def accepts(
    capabilities: frozenset[str], models: tuple[str, ...], capability: str, model: str,
    applications: frozenset[str] = EVERY, application: str = "",
) -> bool:  # fmt: skip
    """Whether a channel with these capabilities, patterns of models and applications could answer at all. An empty
    `model`: the operation has none, and no pattern is asked. An empty `application`: whoever may."""
    if capability not in capabilities or (applications and application and application not in applications):
        return False
    return not models or not model or any(fnmatchcase(model, glob) for glob in models)


def choose(
    candidates: Sequence[Candidate], capability: str, model: str, *, tried: Collection[str], now: float,
    chance: float, application: str = "",
) -> str | None:  # fmt: skip
    """The name of a channel that was not tried yet, or None. `chance` is in [0, 1)."""
    left = [
        one for one in candidates
        if one.name not in tried
        and accepts(one.capabilities, one.models, capability, model, one.applications, application)
    ]  # fmt: skip
    if len(left) == 1:
        return left[0].name
    awake = [one for one in left if one.rests_until <= now]
    return _best(awake, chance) if awake else _soonest(left)


def _best(awake: Sequence[Candidate], chance: float) -> str:
    free = [one for one in awake if not one.full] or awake
    highest = max(one.priority for one in free)
    drawn = _draw([one for one in free if one.priority == highest], chance)
    equal = (one for one in free if one.priority == highest and one.weight == drawn.weight and one.cost < drawn.cost)
    return min(equal, key=lambda one: one.cost, default=drawn).name


def _draw(candidates: Sequence[Candidate], chance: float) -> Candidate:
    point = chance * sum(one.weight for one in candidates)
    for one in candidates:
        point -= one.weight
        if point < 0:
            return one
    return candidates[-1]  # rounding


def _soonest(candidates: Sequence[Candidate]) -> str | None:
    return min(candidates, key=lambda one: one.rests_until).name if candidates else None


def upstream_model(model_map: dict[str, str], model: str) -> str:
    """The upstream's name of a model: its entry in the map, else that of `*`, else the name itself."""
    return model_map.get(model) or model_map.get("*") or model

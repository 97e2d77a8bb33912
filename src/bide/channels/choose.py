"""Which channel answers a call: pure.

A facade is not tied to a vendor: any channel with the capability may answer, if its list of models does
not exclude the one asked for. Among those that are not resting, one is drawn by weight; a channel that
rests after a failure is chosen only when no other is left, so a single channel is never given up on.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the choice must know of a channel. `rests_until` is monotonic seconds."""

    name: str
    capabilities: frozenset[str]
    models: tuple[str, ...]
    weight: float
    rests_until: float = 0.0


def accepts(capabilities: frozenset[str], models: tuple[str, ...], capability: str, model: str) -> bool:
    """Whether a channel with these capabilities and patterns of models could answer at all. An empty `model`: the
    operation has none, and no pattern is asked."""
    if capability not in capabilities:
        return False
    return not models or not model or any(fnmatchcase(model, glob) for glob in models)


def choose(
    candidates: Sequence[Candidate], capability: str, model: str, *, tried: Collection[str], now: float, chance: float
) -> str | None:
    """The name of a channel that was not tried yet, or None. `chance` is in [0, 1)."""
    left = [
        one for one in candidates
        if one.name not in tried and accepts(one.capabilities, one.models, capability, model)
    ]  # fmt: skip
    awake = [one for one in left if one.rests_until <= now]
    return _draw(awake, chance) if awake else _soonest(left)


def _draw(candidates: Sequence[Candidate], chance: float) -> str:
    point = chance * sum(one.weight for one in candidates)
    for one in candidates:
        point -= one.weight
        if point < 0:
            return one.name
    return candidates[-1].name  # rounding


def _soonest(candidates: Sequence[Candidate]) -> str | None:
    return min(candidates, key=lambda one: one.rests_until).name if candidates else None


def upstream_model(model_map: dict[str, str], model: str) -> str:
    """The upstream's name of a model: its entry in the map, else that of `*`, else the name itself."""
    return model_map.get(model) or model_map.get("*") or model

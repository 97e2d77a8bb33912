"""The limits of a caller: the catalogue's, unless its application has others. Pure.

An application's own are JSON, by service, by service and class, or `*` for every service; the closer one wins:

    {"*": {"polls_per_s": 10}, "openai": {"submits_per_s": 5}, "openai/images": {"concurrent": 100}}

0 means no limit.
"""

from collections.abc import Mapping
from typing import Any

from bide.errors import BadRequest

NAMES = ("submits_per_s", "polls_per_s", "concurrent")
LIFTED: Mapping[str, Mapping[str, float]] = {"*": dict.fromkeys(NAMES, 0)}
"""No limit at all: what the gateway's owner starts with."""

MOST = 1_000_000_000
KEYS_MAX = 200


def limit(
    own: Mapping[str, Mapping[str, float]] | None, service: str, group: str, name: str, default: float
) -> float:
    """One limit of a caller. `group` is the class of the operation; empty for what a whole service shares."""
    if own is None:
        return default
    for key in (f"{service}/{group}", service, "*"):
        found = own.get(key)
        if found is not None and name in found:
            return found[name]
    return default


def check_limits(value: Any) -> None:
    """Raises `BadRequest` with a sentence unless a value is as the module's docstring says."""
    if not isinstance(value, dict) or len(value) > KEYS_MAX:
        raise BadRequest('`limits` must be an object of limits by service, such as {"openai": {"concurrent": 5}}.')
    for key, limits in value.items():
        if not isinstance(limits, dict):
            raise BadRequest(f"`limits`: `{key[:80]}` must be an object, such as {{\"concurrent\": 5}}.")
        for name, number in limits.items():
            if name not in NAMES:
                raise BadRequest(f"`limits`: there is no limit `{name[:80]}`; there are {', '.join(NAMES)}.")
            if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= MOST:
                raise BadRequest(f"`limits`: `{name}` must be a number from 0 (no limit) to {MOST}.")
            if name == "concurrent" and number != int(number):
                raise BadRequest("`limits`: `concurrent` must be a whole number.")

"""One at a time: the parts that are loops in Python.

The interpreter runs one thread at a time anyway, so two of these at once are no faster; but every further thread that
wants to run makes the event loop wait for its turn longer, by 5 ms as a rule. What libraries do without the
interpreter (scaling, packing) is not held up.
"""

from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_turn = Lock()


def alone(work: Callable[P, T]) -> Callable[P, T]:
    """`work`, but never while another that was wrapped runs in another thread. None of them may call another."""

    @wraps(work)
    def waited(*arguments: P.args, **named: P.kwargs) -> T:
        with _turn:
            return work(*arguments, **named)

    return waited

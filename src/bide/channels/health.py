"""How a channel is, as this process sees it: a circuit for each model.

    closed ──failure──▶ open ──cool-down over──▶ half-open: one probe at a time ──success──▶ closed
                         ▲                                    │
                         └───────── failure: twice as long ───┘

How long it rests is what the kind of the failure says (`Failed.cool_s`); a failure that says nothing opens no
circuit. Kept per model, so that a caller who invents one does not make the channel rest for all others. Times are
monotonic seconds. A circuit only says who is asked first: where nobody else is left, one that is open is asked too.
"""

from dataclasses import dataclass

COOL_MAX_S = 3_600.0
"""A cool-down that doubles grows no longer than this, unless its failure says so."""

CIRCUITS_MAX = 1_000
"""Models of one channel that are remembered; beyond it those whose rest ends first are forgotten."""


@dataclass(slots=True)
class _Circuit:
    """Not closed: it rests `until`, and so it does while a probe is out."""

    cool_s: float
    until: float
    probe_until: float = 0.0


class Health:
    """The circuits of one channel."""

    def __init__(self) -> None:
        self._circuits: dict[str, _Circuit] = {}

    @property
    def not_closed(self) -> int:
        """For how many models it rests or waits to be tried."""
        return len(self._circuits)

    def rests_until(self, model: str) -> float:
        """Until when it is better not asked for a model; 0: it is well."""
        circuit = self._circuits.get(model)
        return 0.0 if circuit is None else max(circuit.until, circuit.probe_until)

    def resting(self, now: float) -> bool:
        """Whether it rests for any model."""
        return any(circuit.until > now for circuit in self._circuits.values())

    def asked(self, model: str, now: float, answer_s: float) -> None:
        """It is about to be asked, and should answer in `answer_s`. When its cool-down is over this is the probe, and
        no other is sent until it has ended, or has been silent for so long."""
        circuit = self._circuits.get(model)
        if circuit is not None and circuit.until <= now:
            circuit.probe_until = now + answer_s

    def worked(self, model: str) -> None:
        """It answered as it should; that it refused the request for the request's own sake counts as well."""
        if self._circuits:
            self._circuits.pop(model, None)

    def failed(self, model: str, now: float, cool_s: float) -> None:
        """It failed by its own fault and should rest for `cool_s`; 0: the failure says nothing of how long."""
        circuit = self._circuits.get(model)
        if circuit is None:
            if cool_s > 0:
                self._make_room()
                self._circuits[model] = _Circuit(cool_s, now + cool_s)
            return
        if circuit.until <= now:  # it was the probe, or was asked as one
            cool_s = max(cool_s, min(2 * circuit.cool_s, COOL_MAX_S))
        circuit.cool_s = max(circuit.cool_s, cool_s)
        circuit.until, circuit.probe_until = max(circuit.until, now + cool_s), 0.0

    def unanswered(self, model: str, now: float) -> None:
        """Nobody knows what came of it: a probe of which that is true has not succeeded."""
        circuit = self._circuits.get(model)
        if circuit is not None and circuit.until <= now:
            self.failed(model, now, 0.0)

    def _make_room(self) -> None:
        if len(self._circuits) >= CIRCUITS_MAX:
            ending_first = sorted(self._circuits, key=lambda model: self._circuits[model].until)
            for model in ending_first[: CIRCUITS_MAX // 2]:
                del self._circuits[model]

"""What a process remembers of open tasks between two looks at their upstream.

Nothing here is needed to be right: whoever forgets it, or never knew it because another process looked last, waits a
little shorter or asks a few times more. What must not be forgotten is in the `queue` row.
"""

from dataclasses import dataclass

LOOKS_MAX = 100_000
"""Tasks that are remembered; beyond it the oldest is forgotten."""


@dataclass(slots=True)
class Look:
    """One open task. Times are monotonic seconds."""

    errors: int = 0
    """Polls in a row that got no usable answer."""
    gone: int = 0
    """Polls in a row that were told there is no such work."""
    gone_since: float = 0.0
    copy_since: float | None = None
    """Since when its result cannot be copied."""
    percent: int = 0
    """As it stands in the row."""
    told_at: float = float("-inf")
    """When `percent` was written."""


class Looks:
    """By task id. Most tasks have nothing to be remembered and no entry."""

    def __init__(self, most: int = LOOKS_MAX) -> None:
        self._by_task: dict[str, Look] = {}
        self._most = most

    def __len__(self) -> int:
        return len(self._by_task)

    def known(self, task_id: str) -> Look | None:
        return self._by_task.get(task_id)

    def of(self, task_id: str) -> Look:
        """The entry of a task, made if there is none."""
        found = self._by_task.get(task_id)
        if found is None:
            while len(self._by_task) >= self._most:
                del self._by_task[next(iter(self._by_task))]
            found = self._by_task[task_id] = Look()
        return found

    def drop(self, task_id: str) -> None:
        self._by_task.pop(task_id, None)

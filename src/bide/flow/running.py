"""running: one task in a worker's hands, and what follows from what is known of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from bide.catalog.load import Operation
from bide.channels.choose import upstream_model
from bide.channels.load import Channel
from bide.flow import results
from bide.flow.references import References
from bide.gateway import Gateway
from bide.providers.base import Call, Input, Partial, Progress
from bide.tasks import attempts
from bide.tasks.attempts import Attempt
from bide.tasks.store import Work

Values = dict[str, Any]
"""The checked values of a request, with defaults."""


@dataclass(frozen=True, slots=True)
class Watch:
    """A caller that waits in this process: the task is not parked but held until it ends."""

    progress: Callable[[Partial], Awaitable[None]] | None = None
    partial_images: int = 0
    spooled: bool = False
    """Files live only until the answer was sent: the caller gets their bytes, and nobody can ask again."""
    report: Callable[[Progress], Awaitable[None]] | None = None
    """Told how far it is."""


@dataclass(slots=True)
class Run:
    """One task in this worker's hands."""

    gateway: Gateway
    work: Work
    operation: Operation
    values: Values
    watch: Watch | None
    fresh: bool
    """The open attempt was opened by this worker just now, and has not been asked yet."""
    tried: set[str] = field(default_factory=set)
    free_since: int | None = None
    """When its last attempt ended; None: there was none."""
    again: str | None = None
    """The channel of an attempt whose outcome is not known: the task is sent to no other one any more."""
    files: results.Files | None = None
    inputs: tuple[Input, ...] | None = None
    references: References | None = None
    """What it follows up; None: not looked up yet."""

    @property
    def left_s(self) -> float:
        """Seconds until the task's deadline."""
        return (self.work.deadline_at - self.gateway.clock.now_ms()) / 1000

    @property
    def wait_s(self) -> float:
        """The same as a time-out, which must not be 0."""
        return max(self.left_s, 0.001)

    @property
    def model(self) -> str:
        """Empty: the operation has none."""
        return self.operation.model(self.values)

    @property
    def bound_to(self) -> str | None:
        """The one channel that can do it: the one that made what it follows up."""
        return self.references.channel if self.references else None

    @property
    def follows_up(self) -> bool:
        """Whether the request names an earlier result: a worker that polls looked nothing up, and knows it too."""
        return any(self.values.get(name) for name in self.operation.items)

    @property
    def capability(self) -> str:
        return self.operation.capability_for(self.values)

    @property
    def channel(self) -> Channel:
        """The channel of the open attempt."""
        channel = self.gateway.channels.named(self.work.channel or "")
        if channel is None:
            raise RuntimeError("no attempt is open")
        return channel

    def choose(self) -> Channel | None:
        """Whom to ask: the channel that it is bound to; after an unknown outcome the same one and no other; else one
        that was not tried, else any."""
        channels, capability, application = self.gateway.channels, self.capability, self.work.task.application_id
        if self.bound_to is not None:
            return channels.taking_named(self.bound_to)
        if self.again is not None:
            return channels.named(self.again)
        untried = channels.choose(capability, self.model, self.tried, application)
        return untried or channels.choose(capability, self.model, (), application)

    def choices(self) -> list[Channel]:
        """All of whom `choose` answers the first, that one first."""
        channels, capability, application = self.gateway.channels, self.capability, self.work.task.application_id
        if self.bound_to is not None or self.again is not None:
            only = self.choose()
            return [] if only is None else [only]
        untried = channels.ordered(capability, self.model, self.tried, application)
        return untried or channels.ordered(capability, self.model, (), application)

    def has_another(self) -> bool:
        """Whether a channel is left that was not tried and could do it. None is where one may have taken the task."""
        application = self.work.task.application_id
        another = self.gateway.channels.choose(self.capability, self.model, self.tried, application)
        return another is not None and self.again is None and not self.follows_up

    def call(self, channel: Channel) -> Call:
        """What a provider is told."""
        watch, files = self.watch, self.files
        assert files is not None
        return Call(
            task_id=self.work.task.id,
            capability=self.capability,
            facade=f"{self.work.task.service}/{self.work.task.operation}",
            model=upstream_model(channel.settings.model_map, self.model),
            request=self.operation.for_provider(self.values),
            inputs=self.inputs or (),
            http=channel.http,
            key=channel.key,
            options=channel.options,
            sink=files.sink,
            answer_bytes_max=self.gateway.settings.answer_bytes_max,
            progress=watch.progress if watch else None,
            partial_images=watch.partial_images if watch else 0,
            report=watch.report if watch else None,
            sources=self.operation.renamed(self.references.sources) if self.references else {},
        )

    def ended(self, outcome: str, code: str | None, status: int | None, detail: str | None) -> Attempt | None:
        """The open attempt as the row it becomes when it is over; None when none is open."""
        opened = attempts.of_work(self.work, self.gateway.clock.now_ms())
        return None if opened is None else replace(opened, outcome=outcome, code=code, status=status, detail=detail)

"""The contract between the gateway and the code of one upstream dialect.

A provider is a module (or any object) with

    CAPABILITIES   frozenset of what it can do: `image.generate`, `image.edit`, …
    TAKES_OUR_ID   True if the upstream recognises our `task_id`, so that sending again is harmless
    submit(call)             asks the upstream once; a synchronous upstream answers `Succeeded` here
    poll(call, upstream_id)  asks how a submission is doing; never called if `submit` never answers `Pending`

    CALLS_BACK         optional: True if `submit` tells the upstream `call.callback_url`. Others are never given one,
                       and that of one submission is in no later call: `poll` and `reconcile` cannot know it
    POLLS_WITH_INPUTS  optional: True if `poll` reads `call.inputs`, which else are there for `submit` alone
    reconcile(call)    optional: looks for a submission whose answer was lost, by what it was marked with; answers
                       what it has become, `Absent` if the upstream certainly never took it, or `Unknown`. Asks only
    APART              optional: True if only a worker for this provider (`bide worker --provider`) may ask it. Such a
                       worker does one task at a time; all others hand its tasks over
    close()            optional: ends what the code keeps running in this process
    cancel(call, upstream_id)  optional: tells the upstream that the work is not wanted any more; True if it will stop

and nothing else: it keeps no state, never waits for its own sake, prices nothing, knows no database and
no web framework. Vendor words become ours in module-level tables. Prompts are data, never commands.
A refusal by the upstream is a value (`Failed`), not an exception.

A result that can be followed up (a film that can be made longer) is an `Item`: its files by role, and `about`, what
this code needs for that. A later call that names it has it in `sources`, and comes to the channel that made it.

The vocabulary of `call.request` is that of the capability, not of the upstream. For `image.generate` and
`image.edit`: `prompt`, `model`, `n`, `size` (`WxH` or `auto`), `quality`, `style`, `background`,
`moderation`, `output_format`, `output_compression`, `input_fidelity`, `user`; what the caller left out is
absent or carries the catalogue's default. For `video.generate`: `prompt`, `model`, `aspect_ratio`, `resolution` or
`size`, `duration` in seconds, `image_urls` (also as `inputs`); `video.upsample` and the like also name a source.
`grid.generate`: `prompt` with its `--` parameters, `action`, `mode`, `version`, `hd`, `quality`, `split_images`,
`translation`, the source `image_id`, the input `mask` (white: change it); its item has the files `raw`, `thumbnail`
and `part`, the fields `actions`, `image_width` … as the answer, and `actions` again in `ALLOWS`. `grid.edit` has the
input `image_url` in place of the source. `grid.animate`: `action` (`generate`, `extend`), `prompt`, `resolution`,
`loop`, the inputs `image_url` and `end_image_url`, the source `video_id` and the number `video_index` of its film.
`image.describe`, `prompt.shorten`, `text.translate`, `grid.seed` answer words in `Succeeded.response`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import aiohttp

ALLOWS = "allows"
"""The key of an item's `about` that the gateway reads: by field, the values with which a request may follow it up
(`{"action": ["upscale1", …]}`). A request with another is refused before it is accepted."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file in our storage: unguessable name, bytes, and the type its content shows."""

    name: str
    size: int
    content_type: str


class Sink(Protocol):
    """Where a result is written while it arrives. Exactly one of `close` and `abort` ends it.

    `write` raises `FileTooLarge` beyond the size bound; `close` raises `NotMedia` when the bytes are not of
    a type we serve. After an exception the sink must still be aborted.
    """

    async def write(self, data: bytes) -> None: ...
    async def close(self) -> Stored: ...
    async def abort(self) -> None: ...


class FileTooLarge(Exception):
    """A result is larger than `file_bytes_max`."""


class NotMedia(Exception):
    """Bytes that are not a picture, video or sound we know."""


@dataclass(frozen=True, slots=True)
class Input:
    """A file the caller sent or named: `field` is that of the request (`image`, `mask`, `image_urls` …) or, of a
    source, its role; `chunks()` streams its bytes."""

    field: str
    filename: str
    content_type: str
    size: int
    chunks: Callable[[], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class Asset:
    """A produced file: already `stored`, or at a `url` from where the gateway will copy it."""

    stored: Stored | None = None
    url: str | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    """What the upstream said of it in our words: `revised_prompt`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """What its address wants to be asked with, where that is not the channel's usual key. Sent to the channel's own
    host and nowhere else."""
    role: str = ""
    """What it is of its item: `image`, `video`, `audio`, `thumbnail`, … Several may have the same."""


@dataclass(frozen=True, slots=True)
class Item:
    """One produced thing: its files, and what is known of it.

    `fields` is what the public answer may say of it (texts, numbers, lists); `about` is what this code needs to
    follow up on it, small JSON without secrets, kept as long as the task. `same_as`: it is an earlier item in another
    form, has its id, and nothing is kept of it.
    """

    assets: tuple[Asset, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    same_as: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """An earlier item that a call follows up. `files` are its files in our storage, by role (`Input.field`)."""

    id: str
    operation: str
    """The path that made it: `videos`."""
    kind: str
    about: Mapping[str, Any]
    files: tuple[Input, ...] = ()


@dataclass(frozen=True, slots=True)
class Partial:
    """An unfinished picture for a caller that streams."""

    index: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a submission is: percent, and what can be said of it already, in the words of `Item.fields`."""

    percent: int
    fields: Mapping[str, Any] = field(default_factory=dict)
    assets: tuple[Asset, ...] = ()
    """Stored files that show how far it is. They go when the work is over."""


@dataclass(frozen=True, slots=True)
class Call:
    """One submission or poll, with all a provider may know of it."""

    task_id: str
    """Ours; an idempotency key where the upstream takes one."""
    capability: str
    model: str
    """The upstream's name of the model, after the channel's `model_map`."""
    request: Mapping[str, Any]
    inputs: tuple[Input, ...]
    http: aiohttp.ClientSession
    """Base URL (relative paths work), `Authorization: Bearer <key>`, total time-out already set."""
    key: str
    options: Mapping[str, Any]
    """The channel's `options` table."""
    sink: Callable[[], Sink]
    """Opens a new file in our storage."""
    answer_bytes_max: int
    """Bytes of one answer, after which the upstream is not listened to any more."""
    progress: Callable[[Partial], Awaitable[None]] | None = None
    """Present when somebody watches: awaited for each partial picture."""
    partial_images: int = 0
    report: Callable[[Progress], Awaitable[None]] | None = None
    """Present when somebody wants to know how far it is: awaited whenever there is something new."""
    sources: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)
    """What the request follows up, by field."""
    callback_url: str = ""
    """Where the upstream may POST when something has changed, if the gateway can be reached from outside. What it
    posts is not believed: it only brings the next poll forward."""
    facade: str = ""
    """Where the caller asked, `veo/videos`: for upstreams that sell the same. All others go by `capability`."""
    asked_at: int = 0
    """When the submission was made, in milliseconds since 1970: for `poll` and `reconcile`."""

    def source(self, name: str) -> Source | None:
        """The first item that a field names."""
        return next(iter(self.sources.get(name, ())), None)


@dataclass(frozen=True, slots=True)
class Pending:
    """Accepted, not done. Ask again after `after_s` seconds with `upstream_id`."""

    upstream_id: str
    after_s: float


@dataclass(frozen=True, slots=True)
class Succeeded:
    """Done. `response` holds what is not a file (`created`, `usage`, `size` …); `units` is what is billed: pictures,
    songs, seconds of a film. Files are in `assets`, or in `items` where they belong together or can be followed up.
    """

    assets: tuple[Asset, ...] = ()
    response: Mapping[str, Any] = field(default_factory=dict)
    units: int = 1
    items: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """Refused or failed, and the upstream has certainly not done the work.

    `code` is one of the wire's (`bide.errors`), `message` is fit for the caller (no key, account or signed
    URL; at most 500 characters), `detail` is the upstream's own text for the operator.
    `scope` says whose fault it is: the task's (final) or the channel's (another channel may be asked, and
    this one rests for `cool_s`). `retryable`: the same channel may be asked again after `after_s`.
    """

    code: str
    message: str
    scope: Literal["task", "channel"] = "task"
    retryable: bool = False
    after_s: float | None = None
    cool_s: float = 0.0
    detail: str = ""
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """The upstream may or may not have done the work: the request was written, no usable answer came."""

    message: str
    detail: str = ""
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Absent:
    """The upstream certainly has no such submission: it may be sent again. Only `reconcile` answers this."""


Outcome = Pending | Succeeded | Failed | Unknown


class Provider(Protocol):
    """See the module's docstring. `CAPABILITIES` and `TAKES_OUR_ID` are module constants."""

    @property
    def CAPABILITIES(self) -> frozenset[str]: ...
    @property
    def TAKES_OUR_ID(self) -> bool: ...
    async def submit(self, call: Call) -> Outcome: ...
    async def poll(self, call: Call, upstream_id: str) -> Outcome: ...

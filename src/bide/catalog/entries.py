"""The tables of a catalogue file as they are written, with what a single value may be. Pure."""

from typing import Annotated, Any, Literal

import msgspec

from bide.credits.pricing import CREDITS_MAX

Accepts = Literal["json", "multipart"]
Shape = Literal["openai_images", "template"]
TOP_STATE = "data"

_Name = Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9_-]*$")]
_Path = Annotated[str, msgspec.Meta(pattern="^[a-z0-9_-]+(/[a-z0-9_-]+)*$")]
_Alias = Annotated[str, msgspec.Meta(pattern="^(/[a-z0-9_-]+)+$")]
_Uuid = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
_Seconds = Annotated[float, msgspec.Meta(gt=0)]
_Rate = Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]


class LimitsEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[limits.CLASS]` table."""

    submits_per_s: _Rate
    concurrent: Annotated[int, msgspec.Meta(ge=0)]


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """For requests that match `when`: fixed values of the public answer, and fields of each item that repeat a
    field of the request."""

    when: dict[str, tuple[str, ...]]
    set: dict[str, Any] = {}
    items: dict[str, str] = {}


class Ability(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The capability for requests that match `when`."""

    when: dict[str, tuple[str, ...]]
    capability: str


class OperationEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[operations."PATH"]` table without its fields."""

    type: _Name
    """The public task type."""
    api_id: _Uuid
    title: str
    summary: str
    capability: str
    """What a channel must be able to do: `image.generate`, `video.upsample`, …"""
    abilities: tuple[Ability, ...] = ()
    """Other capabilities that some requests need; the first that holds decides."""
    becomes: dict[str, str] = {}
    """Fields that the capability calls otherwise, with its name for them: `count = "n"`."""
    enabled: bool = True
    """`false`: known, but not offered until a file of the operator says `true`."""
    shape: Shape = "template"
    """How the public answer is built (`bide.catalog.shape`)."""
    answer: dict[str, Any] = {}
    """The public answer of the shape `template` (`bide.catalog.template`)."""
    bare: bool = False
    """Whether a caller that waited gets the answer without `success`, `task_id` and `trace_id`."""
    makes: Annotated[str, msgspec.Meta(pattern="^[a-z_]*$")] = ""
    """The kind of the things it makes, by which a field of the type `item` can name them; empty: nothing can."""
    ids: Literal["uuid", "digits", "task"] = "uuid"
    """How the ids of these things are written; `task`: the one thing it makes has the id of the task."""
    listed: dict[str, Any] = {}
    """How one of the user's personas is shown in the list that GET answers on the operation's path: a template with
    names of `item` and `time`. DELETE forgets the one whose `{item.id}` it is given. Empty: there is POST alone."""
    top: tuple[str, ...] = ()
    """Keys of the answer that a finished task repeats beside `response`, for clients that look there. `data` is
    there `{"id", "state", "finished_at"}`."""
    status_in: str = ""
    """The key of the answer in which clients look for `status`, `succeeded` at the end. A task document has it from
    the beginning, as `{"id", "status"}`: `running`, and with an `error` `failed`. A batch says `total` too."""
    inline: bool
    """Whether the caller waits unless it asks otherwise."""
    inline_stored: bool
    """Whether a call that waited leaves a task that can be queried."""
    run_s_max: _Seconds
    run_s_field: str = ""
    """The number field in which a caller may ask for less than `run_s_max`."""
    expected_s: _Seconds
    """Seconds it usually takes: a hint for how often to poll."""
    callback: Literal["flat", "nested"] = "flat"
    """`nested`: the setting `callback_shape` decides; `flat`: always the same body as the task's response."""
    stream_prefix: str = ""
    """First part of the event names of a streamed answer; empty: no streaming."""
    lines: bool = False
    """Whether a caller that accepts `application/x-ndjson` is told how far it is, line by line."""
    chat: bool = False
    """Whether its prompt and pictures are in the field `messages` (`bide.catalog.chat`), and a streamed answer is one
    of chat completions."""
    picture_models: tuple[str, ...] = ()
    """Patterns of the models it is for; empty: any. Of a model that none matches it says that nobody offers it."""
    client_method: Annotated[str, msgspec.Meta(pattern="^([a-z]+[.])*[a-z]*$")] = ""
    """The method of OpenAI's own client that asks for this; the documentation shows it."""
    accepts: tuple[Accepts, ...] = ("json",)
    aliases: tuple[_Alias, ...] = ()
    """Further public paths."""
    common: tuple[str, ...] = ("callback_url", "async", "trace_id", "dry_run")
    shared: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    prices: str = ""
    """The group of price rules; empty only in a service that is free."""
    limits: _Name = "default"
    """The class of limits; operations of one class share them."""


class ServiceEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One file; fields, rules and operations are read one by one, so that an error can name them."""

    name: _Name
    title: str
    summary: str
    operations: Annotated[dict[_Path, dict[str, Any]], msgspec.Meta(min_length=1)]
    type_groups: dict[_Name, tuple[str, ...]] = {}
    fields: dict[str, dict[str, Any]] = {}
    rules: dict[str, list[dict[str, Any]]] = {}
    answers: tuple[Answer, ...] = ()
    prices: dict[_Name, list[dict[str, Any]]] = {}
    free: bool = False
    """Whether a request that no price rule speaks of costs nothing."""
    free_amount: Annotated[float, msgspec.Meta(ge=0, le=CREDITS_MAX)] = 0.0
    """Credits granted with the first subscription of a user."""
    limits: dict[_Name, LimitsEntry] = {}
    polls_per_s: _Rate = 60.0

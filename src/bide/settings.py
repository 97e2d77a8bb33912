"""All settings: one line each with its unit, default and meaning.

Sources, the later wins: the default, `bide.toml`, the environment. `callback_timeout_s` is
`callback_timeout_s = 15` in the file and `BIDE_CALLBACK_TIMEOUT_S=15` in the environment; a secret can
also come from a file named by `BIDE_…_FILE`. A wrong or unknown value means no start.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from bide.errors import GatewayError

DAY_S = 86_400.0
CALLBACK_SCHEDULE_S = (
    0.0, 5.0, 30.0, 120.0, 600.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0,
)  # fmt: skip

HUGE = 1_000_000_000_000  # beyond any sense, so that `inf` is refused
Positive = Meta(gt=0, le=HUGE)
NotNegative = Meta(ge=0, le=HUGE)


class SettingsError(GatewayError):
    """A setting that is wrong, in one sentence that names it."""


class ChannelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[[channels]]` table of `bide.toml`: a configured account at an upstream."""

    name: Annotated[str, Meta(min_length=1, max_length=64, description="unique name, shown to operators, and to callers by `dry_run`")]
    provider: Annotated[str, Meta(description="the dialect it speaks: `sandbox`, `openai_images`, or a package's own")]
    base_url: Annotated[str, Meta(description="where the upstream is, up to and with its version path")] = ""
    key: Annotated[str, Meta(description="the upstream's key")] = ""
    key_file: Annotated[str, Meta(description="a file that holds the upstream's key")] = ""
    capabilities: Annotated[tuple[str, ...], Meta(description="what it may be asked for; empty: all its provider can do")] = ()
    model_map: Annotated[dict[str, str], Meta(description="client's model name to upstream's name; `*` is any other")] = {}
    models: Annotated[tuple[str, ...], Meta(description="patterns of the models it answers; empty: every model")] = ()
    applications: Annotated[tuple[str, ...], Meta(description="ids or names of the applications that may use it; empty: every one")] = ()
    priority: Annotated[int, Meta(ge=-1_000, le=1_000, description="the channels with the highest are asked first; others when none of them can")] = 0
    weight: Annotated[float, Meta(gt=0, le=HUGE, description="share of the calls among channels of the same priority that can answer")] = 1.0
    cost: Annotated[float, Meta(ge=0, le=HUGE, description="what a call costs beside other channels: among equals the cheapest is asked")] = 0.0
    concurrency: Annotated[int, Meta(ge=0, description="attempts that may be open at once, over all processes and machines; the rest waits. 0: no bound")] = 0
    rate_per_minute: Annotated[int, Meta(ge=0, le=1_000_000, description="submissions it is given in a minute; 0: no bound")] = 0
    timeout_s: Annotated[float, Meta(gt=0, le=HUGE, description="seconds one call to the upstream may take")] = 300.0
    connect_s: Annotated[float, Meta(gt=0, le=600, description="seconds to connect to the upstream")] = 10.0
    proxy: Annotated[str, Meta(description="`http://…` or `https://…` of the proxy its calls go through; empty: none")] = ""
    on_unknown: Annotated[str, Meta(pattern="^(fail|resend)$", description="`fail` or `resend` when a submission's outcome is not known")] = "fail"
    options: Annotated[dict[str, Any], Meta(description="further settings of the provider")] = {}


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of one process. `bide settings` prints them with their sources."""

    # -- the process
    host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="port to listen on; 0: any free one")] = 8080
    processes: Annotated[int, Meta(ge=1, le=256, description="processes to run, each with its own event loop")] = 1
    data_dir: Annotated[str, Meta(description="directory of the SQLite file and of local results")] = "./bide-data"
    database_url: Annotated[str, Meta(description="`postgresql://…`; empty: SQLite in the data directory")] = ""
    public_url: Annotated[str, Meta(description="address callers reach this gateway at, for result URLs; empty: the Host header of the request")] = ""
    bootstrap_token: Annotated[str, Meta(description="token of the first credential; empty: made at random", extra={"secret": True})] = ""
    catalog_dir: Annotated[str, Meta(description="directory of further service files (`*.toml`); one that names a service of bide changes it: its prices, limits, operations")] = ""
    inline_services: Annotated[tuple[str, ...], Meta(description="services whose calls wait for their result unless they ask otherwise, although the catalogue says that they answer at once")] = ()
    bootstrap_credits: Annotated[float, Meta(ge=0, le=1_000_000_000_000, description="credits of the application that the first start makes")] = 1_000_000.0
    platform_token: Annotated[str, Meta(description="a superuser's token for the management API, beginning with `platform-`; empty: none but those that were made", extra={"secret": True})] = ""
    metrics_token: Annotated[str, Meta(description="bearer token that `/metrics` asks for; empty: none", extra={"secret": True})] = ""
    log_level: Annotated[str, Meta(pattern="^(debug|info|warning|error)$", description="`debug`, `info`, `warning` or `error`")] = "info"
    log_format: Annotated[str, Meta(pattern="^(auto|json|text)$", description="`json`, `text`, or `auto`: text on a terminal")] = "auto"
    stop_grace_s: Annotated[float, NotNegative, Meta(description="seconds a graceful stop waits for work it holds")] = 30.0

    # -- tasks
    worker_concurrency: Annotated[int, Positive, Meta(description="tasks one worker process works on at once")] = 5_000
    worker_poll_s: Annotated[float, Positive, Meta(description="seconds between looks for due rows when nothing wakes the worker")] = 0.5
    lease_s: Annotated[float, Meta(ge=0.5, description="seconds after which a silent worker's task is taken over")] = 7.0
    upstream_callback_url: Annotated[str, Meta(description="address upstreams reach this gateway at, to say that work is done; empty: `public_url`")] = ""
    attempts_max: Annotated[int, Positive, Meta(description="submissions of one task over all channels")] = 3
    retention_days: Annotated[float, Positive, Meta(description="days a finished task and its files are kept")] = 30.0
    audit_s: Annotated[float, NotNegative, Meta(description="seconds between the proofs of the books whose result is a metric; 0: none")] = 3_600.0
    inline_grace_s: Annotated[float, NotNegative, Meta(description="seconds the answer of an inline call is kept after its end")] = 600.0
    cache_bytes_max: Annotated[int, NotNegative, Meta(description="bytes of finished task documents kept in memory per process")] = 32 * 1024 * 1024
    cache_s: Annotated[float, Meta(ge=0, le=2, description="seconds a credential or a document may be answered from memory")] = 2.0

    # -- limits
    nodes: Annotated[int, Meta(ge=1, le=10_000, description="machines this gateway runs on: without `rates_url` each allows its share of every rate")] = 1
    queue_depth_max: Annotated[int, Positive, Meta(description="tasks of one application that may wait for a slot of the same channels; one more is refused")] = 10_000
    queue_age_s: Annotated[float, Positive, Meta(description="seconds a task may wait for a slot of a channel, within the time it may take in all")] = 3_600.0
    rates_url: Annotated[str, Meta(description="`redis://…` of a Redis or Valkey through which all machines share rates; empty: each machine counts for itself", extra={"secret": True})] = ""
    rates_timeout_s: Annotated[float, Positive, Meta(description="seconds that Redis may take to answer before rates are counted on each machine")] = 0.2

    # -- secrets at rest
    secret_key: Annotated[str, Meta(description="what the keys of channels in the database are sealed with, 32 characters or more; empty: the file `secret.key` in the data directory, made when it is first needed", extra={"secret": True})] = ""

    # -- callbacks
    webhook_secret: Annotated[str, Meta(description="Standard Webhooks secret (`whsec_…`) that signs callbacks; empty: unsigned", extra={"secret": True})] = ""
    callback_allow_private: Annotated[str, Meta(description="`true`, or CIDR ranges separated by commas, that callbacks and picture URLs may reach although not public")] = ""
    callback_schedule: Annotated[tuple[Annotated[float, NotNegative], ...], Meta(min_length=1, description="seconds before each attempt, counted from the one before")] = CALLBACK_SCHEDULE_S
    callback_timeout_s: Annotated[float, Positive, Meta(description="seconds the whole exchange with a receiver may take")] = 15.0
    callback_connect_s: Annotated[float, Positive, Meta(description="seconds to connect to a receiver")] = 5.0
    callback_concurrency: Annotated[int, Meta(ge=8, description="callbacks one process has open at once")] = 2048
    callback_shape: Annotated[str, Meta(pattern="^(nested|flat)$", description="body of OpenAI callbacks: `nested` (answer below `data`) or `flat`")] = "nested"

    # -- results
    storage_url: Annotated[str, Meta(description="`s3://bucket/prefix`; empty: the data directory")] = ""
    s3_endpoint: Annotated[str, Meta(description="address of an S3-compatible server; empty: AWS")] = ""
    s3_region: Annotated[str, Meta(description="region of the bucket")] = "us-east-1"
    s3_access_key_id: Annotated[str, Meta(description="access key of the bucket; empty: from the usual AWS places")] = ""
    s3_secret_access_key: Annotated[str, Meta(description="secret key of the bucket", extra={"secret": True})] = ""
    file_bytes_max: Annotated[int, Positive, Meta(description="bytes of one result file")] = 64 * 1024 * 1024
    answer_bytes_max: Annotated[int, Positive, Meta(description="bytes of one upstream answer, pictures in it included")] = 256 * 1024 * 1024

    # -- what callers may send
    json_bytes_max: Annotated[int, Positive, Meta(description="bytes of a JSON body")] = 1024 * 1024
    json_depth_max: Annotated[int, Meta(gt=0, le=200, description="nesting depth of a JSON body")] = 64
    upload_bytes_max: Annotated[int, Positive, Meta(description="bytes of one multipart body")] = 256 * 1024 * 1024
    upload_file_bytes_max: Annotated[int, Positive, Meta(description="bytes of one uploaded or fetched picture")] = 50 * 1024 * 1024
    upload_pixels_max: Annotated[int, Positive, Meta(description="pixels of an uploaded or fetched picture")] = 50_000_000
    batch_ids_max: Annotated[int, Positive, Meta(description="ids in one retrieve_batch, and its largest limit")] = 100
    request_read_s: Annotated[float, Positive, Meta(description="seconds in which a request must arrive; large uploads get a second more per 256 KiB received")] = 30.0
    keep_alive_s: Annotated[float, Positive, Meta(description="seconds an idle connection is kept")] = 65.0

    # -- the sandbox
    sandbox_delay_s: Annotated[float, NotNegative, Meta(description="seconds the sandbox pretends to work")] = 1.0

    # -- channels
    channels: Annotated[tuple[ChannelSettings, ...], Meta(description="`[[channels]]` tables; empty: the sandbox alone")] = ()

    @property
    def sqlite_path(self) -> str:
        return str(Path(self.data_dir) / "bide.db")

    @property
    def retention_ms(self) -> int:
        return int(self.retention_days * DAY_S * 1000)


FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}
LISTS = frozenset({"callback_schedule", "inline_services"})
"""What is separated by commas in the environment."""


def is_secret(name: str) -> bool:
    return bool((_meta(name).extra or {}).get("secret"))


def meaning(name: str) -> str:
    return _meta(name).description or ""


def variable(name: str) -> str:
    """`callback_timeout_s` → `BIDE_CALLBACK_TIMEOUT_S`."""
    return f"BIDE_{name.upper()}"


def load(environ: Mapping[str, str], *, directory: Path | None = None) -> tuple[Settings, dict[str, str]]:
    """The settings, and for each one that is not a default where it came from.

    `BIDE_CONFIG` names the settings file (default `bide.toml` in `directory`, if it is there).
    Raises `SettingsError` with a sentence that names the setting.
    """
    values, sources = _from_file(environ, directory or Path())
    for name, value in _from_environment(environ).items():
        values[name], sources[name] = value, "environment"
    checked: dict[str, Any] = {}
    for name, value in values.items():
        try:
            checked[name] = msgspec.convert(value, FIELDS[name].type, strict=sources[name] != "environment")
        except msgspec.ValidationError as error:
            raise SettingsError(f"{variable(name)} ({sources[name]}): {error}; it is: {meaning(name)}") from None
    return Settings(**checked), sources


def _from_file(environ: Mapping[str, str], directory: Path) -> tuple[dict[str, Any], dict[str, str]]:
    named = environ.get("BIDE_CONFIG")
    path = Path(named) if named else directory / "bide.toml"
    if not path.exists():
        if named:
            raise SettingsError(f"BIDE_CONFIG: there is no file {path}")
        return {}, {}
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path.name}: {error}") from None
    if "callback_schedule" in values and isinstance(values["callback_schedule"], list):
        values["callback_schedule"] = [float(v) for v in values["callback_schedule"] if isinstance(v, int | float)]
    unknown = sorted(set(values) - set(FIELDS))
    if unknown:
        raise SettingsError(f"{path.name}: there is no setting {unknown[0]!r}")
    return values, dict.fromkeys(values, path.name)


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in FIELDS:
        if name == "channels":
            continue  # tables: only in the file
        value = environ.get(variable(name))
        path = environ.get(f"{variable(name)}_FILE") if is_secret(name) or name == "database_url" else None
        if path:
            try:
                value = Path(path).read_text("utf-8").strip()
            except OSError as error:
                raise SettingsError(f"{variable(name)}_FILE: {error.strerror}: {path}") from None
        if value is not None:
            values[name] = [part.strip() for part in value.split(",") if part.strip()] if name in LISTS else value
    unknown = sorted(
        key for key in environ
        if key.startswith("BIDE_") and key not in OTHER_VARIABLES
        and key.removeprefix("BIDE_").removesuffix("_FILE").lower() not in FIELDS
    )  # fmt: skip
    if unknown:
        raise SettingsError(f"{unknown[0]}: there is no such setting")
    return values


OTHER_VARIABLES = frozenset({"BIDE_CONFIG", "BIDE_TOKEN", "BIDE_CHILD"})


def _meta(name: str) -> Meta:
    """All `Meta` of a field as one: the description and the marks."""
    description, extra = None, None
    for part in getattr(Settings.__annotations__[name], "__metadata__", ()):
        description = part.description or description
        extra = part.extra or extra
    return Meta(description=description, extra=extra)

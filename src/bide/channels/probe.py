"""Whether a channel works: one smallest real call, and in words what was seen.

The request is the smallest that an operation of the catalogue with the capability takes. It is real: an upstream that
takes money for it takes money for this one. Where it would go on working, and can be told to stop, it is told.
What it makes is not kept.
"""

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from bide.catalog.load import Catalog
from bide.channels.choose import upstream_model
from bide.channels.load import Channel
from bide.clock import Clock
from bide.errors import BadRequest, GatewayError
from bide.log import log
from bide.providers import errors, redact
from bide.providers.base import (
    Call,
    Failed,
    FileTooLarge,
    Input,
    NotMedia,
    Outcome,
    Pending,
    Stored,
    Succeeded,
    Unknown,
)
from bide.settings import Settings
from bide.storage.sniff import HEAD_BYTES, content_type

Verdict = Literal["answered", "accepted", "refused", "not_reachable", "unknown"]

SECONDS_MAX = 180.0
SIDE: Final = 256
SMALLEST: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "prompt.shorten": ("midjourney/shorten", {"prompt": "a grey circle on a white ground"}),
    "text.translate": ("midjourney/translate", {"content": "圆"}),
    "music.lyrics": ("suno/lyrics", {"prompt": "two lines about a pond"}),
    "music.style": ("suno/style", {"prompt": "quiet piano"}),
    "image.generate": ("openai/images/generations", {"prompt": "a grey circle"}),
    "image.edit": ("openai/images/generations", {"prompt": "a grey circle"}),
    "speech.generate": ("fish/tts", {"text": "One."}),
    "grid.generate": ("midjourney/imagine", {"prompt": "a grey circle"}),
    "music.generate": ("suno/audios", {"prompt": "quiet piano"}),
    "video.generate": ("sora/videos", {"prompt": "a grey circle"}),
}
"""What is asked for, by capability: a body that this operation takes, with its defaults. Of a channel the first it
has is tried, since those above cost less."""

_NOT_REACHED = errors.not_sent(OSError()).message


@dataclass(frozen=True, slots=True)
class Saw:
    """What came of it. `words` is a sentence, `detail` the upstream's own text; neither holds the key."""

    verdict: Verdict
    words: str
    capability: str
    model: str
    """The upstream's name of it; empty: none was named."""
    elapsed_ms: int = 0
    code: str | None = None
    status: int | None = None
    """The upstream's HTTP status."""
    detail: str = ""

    @property
    def works(self) -> bool:
        return self.verdict in ("answered", "accepted")

    def document(self) -> dict[str, Any]:
        shown = asdict(self)
        return {**shown, "elapsed": shown.pop("elapsed_ms") / 1000}


@dataclass(slots=True)
class _Discarded:
    """A sink that keeps nothing but what a file is."""

    size_max: int
    size: int = 0
    head: bytearray = field(default_factory=bytearray)

    async def write(self, data: bytes) -> None:
        self.size += len(data)
        self.head += data[: HEAD_BYTES - len(self.head)]
        if self.size > self.size_max:
            raise FileTooLarge

    async def close(self) -> Stored:
        found = content_type(bytes(self.head))
        if found is None:
            raise NotMedia
        return Stored("probe", self.size, found)

    async def abort(self) -> None:
        """Nothing was kept."""


async def probe(
    channel: Channel, catalog: Catalog, settings: Settings, clock: Clock, *, capability: str = "", model: str = ""
) -> Saw:
    """Asks once. Raises `BadRequest` with a sentence when there is no smallest request."""
    wanted = _capability(channel, capability)
    request, usual = _request(catalog, wanted)
    named = upstream_model(dict(channel.settings.model_map), model or _model(channel, usual))
    call = Call(
        task_id=clock.new_id(clock.now_ms()), capability=wanted, model=named,
        request={**request, "model": named} if named else request,
        inputs=(_picture(),) if wanted == "image.edit" else (), http=channel.http, key=channel.key,
        options=channel.options, sink=lambda: _Discarded(settings.file_bytes_max),
        answer_bytes_max=settings.answer_bytes_max, asked_at=clock.now_ms(),
    )  # fmt: skip
    began = clock.monotonic()
    outcome = await _asked(channel, call)
    verdict, words = await _words(channel, call, outcome)
    failed = outcome if isinstance(outcome, Failed) else None
    detail = outcome.detail if isinstance(outcome, Failed | Unknown) else ""
    return Saw(
        verdict, words, wanted, named, round((clock.monotonic() - began) * 1000), failed.code if failed else None,
        outcome.status if isinstance(outcome, Failed | Unknown) else None, redact.secrets(detail, channel.key),
    )  # fmt: skip


async def _asked(channel: Channel, call: Call) -> Outcome:
    seconds = min(channel.settings.timeout_s, SECONDS_MAX)
    try:
        async with asyncio.timeout(seconds):
            return await channel.provider.submit(call)
    except TimeoutError:
        return Unknown(f"The upstream did not answer within {seconds:g} s.")
    except Exception as error:  # code that is not ours
        log.exception("provider failed", channel=channel.name)
        return Unknown("The upstream's answer could not be handled.", detail=repr(error))


async def _words(channel: Channel, call: Call, outcome: Outcome) -> tuple[Verdict, str]:
    match outcome:
        case Succeeded():
            files = sum(len(item.assets) for item in outcome.items) + len(outcome.assets)
            made = f" with {files} file{'s' if files != 1 else ''}" if files else ""
            return "answered", f"It did {call.capability}{made}."
        case Pending():
            stopped = await _stopped(channel, call, outcome.upstream_id)
            end = " and was told to stop" if stopped else "; what comes of it is not looked at"
            return "accepted", f"It accepted {call.capability} as {outcome.upstream_id}{end}."
        case Failed(message=message) if message == _NOT_REACHED:
            return "not_reachable", f"It cannot be reached at {_host(channel)}."
        case Failed():
            status = f", HTTP {outcome.status}" if outcome.status else ""
            return "refused", f"It refused {call.capability} ({outcome.code}{status}): {outcome.message}"
        case Unknown():
            return "unknown", f"Nobody knows whether it did {call.capability}: {outcome.message}"


def _host(channel: Channel) -> str:
    proxy = " through its proxy" if channel.settings.proxy else ""
    return f"{channel.settings.base_url or 'its address'}{proxy}"


async def _stopped(channel: Channel, call: Call, upstream_id: str) -> bool:
    cancel = getattr(channel.provider, "cancel", None)
    if cancel is None:
        return False
    try:
        async with asyncio.timeout(10):
            return bool(await cancel(call, upstream_id))
    except Exception:  # code that is not ours; it was only a courtesy
        log.exception("provider failed", channel=channel.name)
        return False


# -- the smallest request


def _capability(channel: Channel, wanted: str) -> str:
    if wanted and wanted not in channel.capabilities:
        offered = ", ".join(sorted(channel.capabilities))
        raise BadRequest(f"The channel does not offer {wanted!r}; it offers: {offered}.")
    if wanted and wanted not in SMALLEST:
        raise BadRequest(f"{wanted!r} cannot be tried by itself; try one of: {', '.join(SMALLEST)}.")
    found = wanted or next((one for one in SMALLEST if one in channel.capabilities), "")
    if not found:
        raise BadRequest(f"Nothing the channel offers can be tried by itself; that could be: {', '.join(SMALLEST)}.")
    return found


def _request(catalog: Catalog, capability: str) -> tuple[dict[str, Any], str]:
    """The smallest request in the words of the capability, and the model it is for."""
    key, body = SMALLEST[capability]
    service, _, path = key.partition("/")
    try:
        operation = catalog.operation(service, path)
        values = operation.check(body)
    except (KeyError, GatewayError):  # the operator's catalogue has another idea of it
        return dict(body), ""
    return dict(operation.for_provider(values)), operation.model(values)


def _model(channel: Channel, usual: str) -> str:
    """A model that the channel is for: the first it names, else the usual one."""
    named = [*(one for one in channel.settings.models if not set(one) & set("*?[")), *channel.settings.model_map]
    return next((one for one in named if one != "*"), usual)


def _picture() -> Input:
    """A small grey picture to be edited."""
    rows = zlib.compress((b"\x00" + b"\x80" * SIDE) * SIDE)
    chunked = ((b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunked
    )

    async def chunks() -> AsyncIterator[bytes]:
        yield data

    return Input("image", "probe.png", "image/png", len(data), chunks)

"""The sandbox: an upstream without a key, without a network and without a bill, that makes real media.

It answers after `delay_s` seconds (option of the channel), as an upstream does that takes its time. Words in the
prompt, or any other text of the request, steer it, so that a client's whole error handling can be tried:

    [fail:CODE]     fails with that error code, after the delay
    [moderation]    fails with `forbidden`, after the delay
    [rate]          is refused at once with `too_many_requests`
    [unknown]       breaks off at once: nobody knows whether the work was done
    [crash]         raises in the middle, with half a file written, as a defect in a provider would
    [delay:S]       takes S seconds instead, 3600 at most
    [partial:N]     only N of the results succeed; 0: the task fails with `api_error`
    [next:WORD]     the same for whatever follows up on what is made: `[next:fail:forbidden]`

The last word of a kind wins, and a word that is none of these is part of the prompt. The same request makes
the same result.

What takes time is `Pending`, and made when it is asked for; that needs no memory between the two. Only a call
that somebody watches waits here, with unfinished pictures or reports spread over the time.

Each capability has a module of its own with

    CAPABILITIES            which
    check(call)             raises `Refused` for what cannot be made
    make(call, steps)       makes it; processor time is spent in threads (`drawing_kept.paint`)
    watched(call, steps, progress)   optional: the same for somebody who watches
    unfinished(call, steps, percent)   optional: how far it is at that many percent, for somebody who wants to know
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from bide.clock import Clock
from bide.errors import ERRORS
from bide.providers import (
    sandbox_images,
    sandbox_lyrics,
    sandbox_midjourney,
    sandbox_midjourney_films,
    sandbox_midjourney_words,
    sandbox_song_forms,
    sandbox_songs,
    sandbox_speech,
    sandbox_video,
)
from bide.providers.base import Call, Failed, Outcome, Pending, Progress, Unknown
from bide.providers.drawing_files import Refused
from bide.providers.sandbox_steps import Steps, steps_of


class Maker(Protocol):
    """See the module's docstring."""

    @property
    def CAPABILITIES(self) -> frozenset[str]: ...
    @property
    def check(self) -> Callable[[Call], None]: ...
    @property
    def make(self) -> Callable[[Call, Steps], Awaitable[Outcome]]: ...


MAKERS: tuple[Maker, ...] = (
    sandbox_images, sandbox_lyrics, sandbox_midjourney, sandbox_midjourney_films, sandbox_midjourney_words,
    sandbox_song_forms, sandbox_songs, sandbox_speech, sandbox_video,
)  # fmt: skip
_BY_CAPABILITY: dict[str, Any] = {name: maker for maker in MAKERS for name in maker.CAPABILITIES}

CAPABILITIES = frozenset(_BY_CAPABILITY)
TAKES_OUR_ID = True
POLLS_WITH_INPUTS = True

REPORTED = (0, 25, 50, 75)
_clock = Clock()


async def submit(call: Call) -> Outcome:
    """Makes it at once, or says when to ask again."""
    maker, steps = _BY_CAPABILITY[call.capability], steps_of(call)
    try:
        maker.check(call)
    except Refused as refusal:
        return Failed("bad_request", str(refusal))
    if steps.rate:
        return Failed("too_many_requests", "The sandbox was asked to refuse this.", status=429)
    if steps.unknown:
        return Unknown("The sandbox broke off before it answered.", detail="[unknown] in the prompt")
    if call.progress is not None and call.partial_images > 0 and not steps.fails and hasattr(maker, "watched"):
        return await _made(maker.watched(call, steps, call.progress))
    if call.report is not None and hasattr(maker, "unfinished"):
        return await _made(_reported(call, maker, steps, call.report))
    if steps.delay_s > 0:
        return Pending(f"sandbox-{call.task_id}", steps.delay_s)
    return await _finish(call, maker, steps)


async def poll(call: Call, upstream_id: str) -> Outcome:
    """The delay is over: the caller comes back when it was told to."""
    return await _finish(call, _BY_CAPABILITY[call.capability], steps_of(call))


async def _reported(
    call: Call, maker: Any, steps: Steps, report: Callable[[Progress], Awaitable[None]]
) -> Outcome:
    """Somebody wants to know how far it is: told while the time passes."""
    for percent in REPORTED:
        await report(await maker.unfinished(call, steps, percent))
        await _clock.sleep(steps.delay_s / len(REPORTED))
    return await _finish(call, maker, steps)


async def _finish(call: Call, maker: Maker, steps: Steps) -> Outcome:
    """Makes it, or fails as the words say."""
    if steps.fail:
        known = ERRORS.get(steps.fail)
        return Failed(steps.fail, known.meaning if known else "The sandbox was asked to fail with a code of its own.")
    if steps.partial == 0:
        return Failed("api_error", "The sandbox was asked to let nothing succeed.")
    return await _made(maker.make(call, steps))


async def _made(making: Awaitable[Outcome]) -> Outcome:
    try:
        return await making
    except Refused as refusal:
        return Failed("bad_request", str(refusal))

"""`bide serve`, `bide api`, `bide worker`: the processes. Each stays in the foreground and logs to stdout."""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import click

from bide.accounts import platform
from bide.accounts import store as accounts
from bide.accounts.tokens import LONGEST, PLATFORM_PREFIX, SHORTEST, is_token
from bide.app import Worker, listen, open_gateway, run_server, run_worker
from bide.cli.shared import one_sentence, run, settings_of
from bide.credits.pricing import micro
from bide.db import Tx, write_one
from bide.gateway import Gateway
from bide.log import configure, log
from bide.settings import Settings, SettingsError

STAYS_S = 60.0
"""A process that lived this long is started again at once when it dies."""
PAUSE_S_MAX = 30.0
PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--processes", type=click.IntRange(1, 256), help="Processes to run (BIDE_PROCESSES)."),
        click.option("--port", type=click.IntRange(0, 65535), help="Port (BIDE_PORT); 0: any free one."),
        click.option("--host", help="Address to listen on (BIDE_HOST)."),
    ):
        command = option(command)
    return command


@click.command()
@_options
@one_sentence
def serve(host: str | None, port: int | None, processes: int | None) -> None:
    """Runs the gateway: it answers requests and does the work."""
    settings = settings_of(host=host, port=port, processes=processes)
    _start("serve", settings, listen(settings.host, settings.port) if not _inherited() else None)


@click.command()
@_options
@one_sentence
def api(host: str | None, port: int | None, processes: int | None) -> None:
    """Answers requests; the work is left to `bide worker`."""
    settings = settings_of(host=host, port=port, processes=processes)
    _start("api", settings, listen(settings.host, settings.port) if not _inherited() else None)


@click.command()
@click.option("--processes", type=click.IntRange(1, 256), help="Processes to run (BIDE_PROCESSES).")
@click.option("--provider", default="", help="Work for the channels of this provider alone, one task at a time.")
@one_sentence
def worker(processes: int | None, provider: str) -> None:
    """Does the work: asks upstreams and delivers callbacks.

    With --provider it computes for channels that no other worker asks, such as those of diffusers.
    """
    _start("worker", settings_of(processes=processes), None, provider)


def _inherited() -> str | None:
    """`number:file descriptor:its parent`, in a process that a supervisor of ours started."""
    return os.environ.get("BIDE_CHILD")


def _start(role: str, settings: Settings, listener: socket.socket | None, provider: str = "") -> None:
    configure(settings.log_level, settings.log_format)
    _raise_file_limit()
    child = _inherited()
    if child is None and settings.processes > 1:
        sys.exit(_supervise(role, settings, listener, provider))
    first = True
    if child is not None:
        number, descriptor, parent = child.split(":")
        _die_with_parent(int(parent))
        first = number == "0"
        if descriptor:
            listener = socket.socket(fileno=int(descriptor))
    run(_serve(role, settings, listener, provider, first=first))


async def _serve(
    role: str, settings: Settings, listener: socket.socket | None, provider: str, *, first: bool
) -> None:
    async with open_gateway(settings, provider=provider) as gateway:
        token = await _bootstrap(gateway) if first and listener is not None else None
        if listener is None:
            await run_worker(gateway, lambda: log.info("worker is ready"))
            return
        port = listener.getsockname()[1]

        def ready() -> None:
            log.info("listening", host=settings.host, port=port, role=role)
            if token:
                _show_token(token, f"http://{settings.host}:{port}")

        await run_server(gateway, listener, Worker(gateway) if role == "serve" else None, ready)


async def _bootstrap(gateway: Gateway) -> str | None:
    """The first start makes an owner with a credential. Answers a token that was made at random, to be shown."""
    fixed = gateway.settings.bootstrap_token
    if fixed and not is_token(fixed):
        raise SettingsError(f"BIDE_BOOTSTRAP_TOKEN: a token has {SHORTEST} to {LONGEST} letters, digits or signs")
    token = fixed or gateway.clock.token()
    clock, credit = gateway.clock, micro(gateway.settings.bootstrap_credits)
    made = await write_one(gateway.db, lambda tx: accounts.bootstrap(tx, clock, token, credit))
    if fixed and not made:
        await write_one(gateway.db, lambda tx: accounts.ensure_credential(tx, clock, fixed))
    if gateway.settings.platform_token:
        await write_one(gateway.db, partial(_ensure_platform_token, gateway))
    return token if made and not fixed else None


async def _ensure_platform_token(gateway: Gateway, tx: Tx) -> None:
    token = gateway.settings.platform_token
    if not token.startswith(PLATFORM_PREFIX) or not is_token(token.removeprefix(PLATFORM_PREFIX)):
        raise SettingsError(f"BIDE_PLATFORM_TOKEN: {PLATFORM_PREFIX!r} and at least {SHORTEST} characters more")
    owner = await accounts.default_application(tx)
    if owner is not None:
        await platform.ensure(tx, gateway.clock, owner[1], token)


def _show_token(token: str, url: str) -> None:
    click.echo(
        "\nThis token is shown once; 'bide credential create' makes another.\n\n"
        f"    export BIDE_TOKEN={token}\n\n"
        "Try it:\n\n"
        f"    curl {url}/openai/images/generations \\\n"
        f"      -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' \\\n"
        '      -d \'{"prompt": "a lighthouse at dusk", "size": "1024x1024"}\'\n'
    )


# -- several processes


async def _prepare(settings: Settings, provider: str, *, answers: bool) -> str | None:
    """What is done, or refused, once and before any of the processes starts. The token to be shown, if any."""
    async with open_gateway(settings, provider=provider) as gateway:
        return await _bootstrap(gateway) if answers else None


def _supervise(role: str, settings: Settings, listener: socket.socket | None, provider: str) -> int:
    """Starts the processes and starts one again that died; ends them when it is told to end."""
    token = run(_prepare(settings, provider, answers=listener is not None))
    if token and listener is not None:
        _show_token(token, f"http://{settings.host}:{listener.getsockname()[1]}")
    environment = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="bide-metrics-") as metrics:
        environment["PROMETHEUS_MULTIPROC_DIR"] = metrics
        if listener is not None:
            os.set_inheritable(listener.fileno(), True)
        children = [
            _spawn(role, settings, listener, number, environment, provider) for number in range(settings.processes)
        ]
        ending = _on_signals(children)
        again = [Again(time.monotonic()) for _ in children]
        while not ending:
            for number, child in enumerate(children):
                if child.poll() is not None and not ending and again[number].may_start(time.monotonic()):
                    log.warning("process died", number=number, code=child.returncode, after_s=again[number].pause_s)
                    children[number] = _spawn(role, settings, listener, number, environment, provider)
            time.sleep(0.2)
        return max(abs(child.wait()) for child in children)


class Again:
    """When a process that died may be started once more: at once, then ever later while it does not stay."""

    def __init__(self, now: float) -> None:
        self._started, self._was_brief, self.pause_s = now, False, 0.0
        self._due: float | None = None

    def may_start(self, now: float) -> bool:
        """Asked again and again while the process is dead; `now` in seconds."""
        if self._due is None:
            brief, before = now - self._started < STAYS_S, self._was_brief
            self.pause_s = min(max(1.0, 2 * self.pause_s), PAUSE_S_MAX) if brief and before else 0.0
            self._was_brief, self._due = brief, now + self.pause_s
        if now < self._due:
            return False
        self._started, self._due = now, None
        return True


def _spawn(
    role: str, settings: Settings, listener: socket.socket | None, number: int, environment: dict[str, str],
    provider: str,
) -> "subprocess.Popen[bytes]":
    descriptor = "" if listener is None else str(listener.fileno())
    arguments = [sys.executable, "-m", "bide", role]
    if listener is not None:
        arguments += ["--host", settings.host, "--port", str(settings.port)]
    if provider:
        arguments += ["--provider", provider]
    return subprocess.Popen(
        arguments, env=environment | {"BIDE_CHILD": f"{number}:{descriptor}:{os.getpid()}"},
        pass_fds=() if listener is None else (listener.fileno(),),
    )  # fmt: skip


def _on_signals(children: list["subprocess.Popen[bytes]"]) -> list[int]:
    """A list that is no longer empty once this process was told to end; the children are told too."""
    ending: list[int] = []

    def end(number: int, _frame: Any) -> None:
        ending.append(number)
        for child in children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    return ending


def _die_with_parent(parent: int) -> None:
    """A supervisor that is killed takes its processes with it; else they would go on with its socket.

    In a container the supervisor is often process 1, so its number says nothing but whether it is still there.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the supervisor is gone")


def _raise_file_limit() -> None:
    """A connection is a file; many systems allow far more of them than they give by default."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

"""The sessions and the gate: what is dialled, whatever was checked before."""

import asyncio
import contextlib
import datetime
import ipaddress
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bide import __version__
from bide.callbacks.send import post
from bide.outbound.address import ForbiddenAddress, Ranges
from bide.outbound.client import Names, Outbound, Refused, guarded_connector, system_lookup
from bide.settings import Settings, SettingsError

if sys.platform != "win32":
    import uvloop

    LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]
else:
    LOOPS = [asyncio.new_event_loop]

LOOPBACK = "127.0.0.0/8"


class Listener:
    """A server on loopback that answers every request with 200 and keeps the heads it was sent."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.connections = 0
        self.port = 0

    def url(self, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/"

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while True:
                    self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
                    writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n")
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    listener = Listener()
    server = await asyncio.start_server(listener.connected, "127.0.0.1", 0)
    listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        server.close()
        await asyncio.sleep(0)


class Time:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def now_ms(self) -> int:
        return int(self.now * 1000)


def run(
    scenario: Callable[[Outbound, Listener], Coroutine[Any, Any, None]], allow: str = "",
    loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop, **options: Any,
) -> None:  # fmt: skip
    async def inside() -> None:
        async with listening() as listener:
            outbound = Outbound(Settings(callback_allow_private=allow), **options)
            try:
                await scenario(outbound, listener)
            finally:
                await outbound.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(inside())


async def get(session: aiohttp.ClientSession, url: str, **options: Any) -> int:
    async with session.get(url, **options) as answer:
        return answer.status


# -- the gate


@pytest.mark.parametrize("loop", LOOPS)
def test_a_literal_address_is_judged_when_it_is_dialled(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def scenario(outbound: Outbound, listener: Listener) -> None:
        for session in (outbound.callbacks, outbound.fetches):
            for host in ("127.0.0.1", "[::ffff:127.0.0.1]"):
                with pytest.raises(aiohttp.ClientConnectorError) as caught:
                    await get(session, listener.url(host))
                assert isinstance(caught.value.os_error, Refused)
        assert listener.connections == 0

    run(scenario, loop=loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_opened_address_is_dialled(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def scenario(outbound: Outbound, listener: Listener) -> None:
        assert await get(outbound.callbacks, listener.url()) == 200
        assert await get(outbound.fetches, listener.url("hooks.example.com")) == 200

    run(scenario, LOOPBACK, loop, lookup=lambda host: ("127.0.0.1",))


@pytest.mark.parametrize(
    "addresses", [("127.0.0.1",), ("8.8.8.8", "127.0.0.1"), ("::ffff:127.0.0.1",), ("::1",), ("fe80::1%lo",)]
)
def test_a_name_with_any_private_address_is_not_dialled(addresses: tuple[str, ...]) -> None:
    async def scenario(outbound: Outbound, listener: Listener) -> None:
        with pytest.raises(aiohttp.ClientConnectorDNSError) as caught:
            await get(outbound.callbacks, listener.url("hooks.example.com"))
        assert isinstance(caught.value.os_error, Refused)
        assert listener.connections == 0

    run(scenario, lookup=lambda host: addresses)


def test_a_name_that_is_rebound_after_the_check_is_not_dialled() -> None:
    answers = iter([("8.8.8.8",), ("127.0.0.1",)])
    time = Time()

    async def scenario(outbound: Outbound, listener: Listener) -> None:
        url = listener.url("rebound.example.com")
        await outbound.checker.check(url)  # public at submit
        time.now += 60.0
        sent = await post(outbound.callbacks, url, b"{}", {}, timeout_s=60.0, connect_s=60.0, ranges=outbound.ranges)
        assert (sent.status, sent.error) == (None, "address")
        assert listener.connections == 0

    run(scenario, clock=time, lookup=lambda host: next(answers))


def test_the_address_that_was_judged_is_the_one_dialled() -> None:
    """Within the life of an answer the name service is not asked again: it has no second chance to lie."""
    answers = iter([("127.0.0.1",)])

    async def scenario(outbound: Outbound, listener: Listener) -> None:
        url = listener.url("hooks.example.com")
        await outbound.checker.check(url)
        for _ in range(2):
            sent = await post(
                outbound.callbacks, url, b"{}", {}, timeout_s=60.0, connect_s=60.0, ranges=outbound.ranges
            )
            assert sent.status == 200

    run(scenario, LOOPBACK, lookup=lambda host: next(answers))


class LyingResolver(AbstractResolver):
    """A resolver without a guard, which sends every name to loopback."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in ("127.0.0.1", "127.0.0.2")
        ]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("loop", LOOPS)
def test_the_last_gate_holds_even_if_the_resolver_does_not(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def scenario(outbound: Outbound, listener: Listener) -> None:
        async with aiohttp.ClientSession(connector=guarded_connector(LyingResolver(), Ranges())) as session:
            with pytest.raises(aiohttp.ClientConnectorError) as caught:
                await get(session, listener.url("example.com"))
            assert isinstance(caught.value.os_error, Refused)
            sent = await post(
                session, listener.url("example.com"), b"{}", {}, timeout_s=60.0, connect_s=60.0, ranges=Ranges()
            )
            assert sent.error == "address"
        assert listener.connections == 0

    run(scenario, loop=loop)


def test_a_redirect_that_somebody_lets_be_followed_still_meets_the_gate() -> None:
    async def redirecting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.2:1/\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def scenario(outbound: Outbound, listener: Listener) -> None:
        server = await asyncio.start_server(redirecting, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await get(outbound.fetches, f"http://127.0.0.1:{port}/", allow_redirects=True)
        assert isinstance(caught.value.os_error, Refused)
        server.close()

    run(scenario, "127.0.0.1")


def test_a_refusal_names_no_address() -> None:
    assert "127" not in str(Refused())


# -- the sessions


def test_guarded_sessions_use_nothing_of_the_environment_and_keep_no_cookies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async def scenario(outbound: Outbound, listener: Listener) -> None:
        for session in (outbound.callbacks, outbound.fetches, outbound.channel_session(listener.url(), "", 60.0)):
            for _ in range(2):
                assert await get(session, listener.url()) == 200
        assert not any("cookie" in head.lower() for head in listener.heads)
        assert all(f"User-Agent: bide/{__version__}\r\n" in head for head in listener.heads)

    run(scenario, LOOPBACK)


def test_a_channel_has_its_base_url_and_key_and_may_be_on_a_private_address() -> None:
    async def scenario(outbound: Outbound, listener: Listener) -> None:
        for base in (f"{listener.url()}v1", f"{listener.url()}v1/"):
            assert await get(outbound.channel_session(base, "sk-secret", 60.0), "images/generations") == 200
            assert listener.heads[-1].startswith("GET /v1/images/generations HTTP/1.1\r\n")
            assert "Authorization: Bearer sk-secret\r\n" in listener.heads[-1]
        assert await get(outbound.channel_session(listener.url(), "", 60.0), "x") == 200
        assert "authorization" not in listener.heads[-1].lower()
        assert await get(outbound.channel_session("", "", 60.0), listener.url()) == 200
        named = outbound.channel_session(listener.url("upstream.internal"), "", 60.0)
        assert await get(named, "x") == 200
        assert named.timeout.total == 60.0

    run(scenario, lookup=lambda host: ("127.0.0.1",))


def test_closing_ends_all_sessions() -> None:
    async def scenario(outbound: Outbound, listener: Listener) -> None:
        channel = outbound.channel_session(listener.url(), "", 60.0)
        await outbound.close()
        assert channel.closed
        assert outbound.callbacks.closed
        assert outbound.fetches.closed

    run(scenario)


def test_a_wrong_setting_means_no_start_and_names_itself() -> None:
    async def scenario() -> None:
        Outbound(Settings(callback_allow_private="10.0.0.0/99"))

    with pytest.raises(SettingsError, match=r"^BIDE_CALLBACK_ALLOW_PRIVATE: '10.0.0.0/99' is neither"):
        asyncio.run(scenario())


def test_the_checker_refuses_at_submit_what_a_name_leads_to() -> None:
    async def scenario(outbound: Outbound, listener: Listener) -> None:
        with pytest.raises(ForbiddenAddress):
            await outbound.checker.check("http://hooks.example.com/")
        assert (await outbound.checker.check("http://8.8.8.8/")).port == 80

    run(scenario, lookup=lambda host: ("10.0.0.1",))


# -- names


def test_the_systems_resolver_tells_each_address_once() -> None:
    found = system_lookup("localhost")
    assert len(found) == len(set(found))
    assert set(found) <= {"127.0.0.1", "::1"}
    assert found


class Blocking:
    """A name service that hangs for names that begin with `slow` until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str) -> tuple[str, ...]:
        self.asked.append(host)
        if host.startswith("slow"):
            self.let_go.wait(30)
        if host.startswith("gone"):
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return ("8.8.8.8",)


def with_names(scenario: Callable[[Names, Blocking, Time], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def inside() -> None:
        service, time = Blocking(), Time()
        names = Names(time.monotonic, service, **options)
        try:
            await scenario(names, service, time)
        finally:
            service.let_go.set()
            names.close()
            await asyncio.sleep(0)

    asyncio.run(inside())


def test_a_name_is_asked_for_once_however_many_wait() -> None:
    async def scenario(names: Names, service: Blocking, time: Time) -> None:
        assert set(await asyncio.gather(*(names.addresses("a.example.com") for _ in range(50)))) == {("8.8.8.8",)}
        time.now += 29.0
        await names.addresses("a.example.com")
        assert service.asked == ["a.example.com"]
        time.now += 1.0
        await names.addresses("a.example.com")
        assert service.asked == ["a.example.com"] * 2

    with_names(scenario)


def test_a_failure_is_remembered_for_a_moment_only() -> None:
    async def scenario(names: Names, service: Blocking, time: Time) -> None:
        for _ in range(3):
            with pytest.raises(socket.gaierror):
                await names.addresses("gone.example.com")
        assert len(service.asked) == 1
        time.now += 2.0
        with pytest.raises(socket.gaierror):
            await names.addresses("gone.example.com")
        assert len(service.asked) == 2

    with_names(scenario)


def test_hanging_names_delay_no_name_that_answered_before() -> None:
    async def scenario(names: Names, service: Blocking, time: Time) -> None:
        await names.addresses("good.example.com")
        time.now += 60.0  # its answer is old, so it is asked for again
        hanging = [asyncio.create_task(names.addresses(f"slow{n}.example.com")) for n in range(20)]
        await asyncio.sleep(0)
        assert await names.addresses("good.example.com") == ("8.8.8.8",)
        assert not any(task.done() for task in hanging)
        service.let_go.set()
        await asyncio.gather(*hanging)

    with_names(scenario, unknown_max=2)


def test_nobody_waits_longer_than_the_bound_and_a_late_answer_is_kept() -> None:
    async def scenario(names: Names, service: Blocking, time: Time) -> None:
        for _ in range(2):
            with pytest.raises(socket.gaierror, match="did not answer in time"):
                await names.addresses("slow.example.com")
        service.let_go.set()
        found: tuple[str, ...] = ()
        while not found:  # each round waits for the lookup that is under way, never for a new one
            with contextlib.suppress(socket.gaierror):
                found = await names.addresses("slow.example.com")
        assert service.asked == ["slow.example.com"]

    with_names(scenario, wait_s=0.02)


def test_a_lookup_nobody_waits_for_any_more_is_not_begun() -> None:
    async def scenario(names: Names, service: Blocking, time: Time) -> None:
        first = asyncio.create_task(names.addresses("slow1.example.com"))
        second = asyncio.create_task(names.addresses("slow2.example.com"))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        service.let_go.set()
        await first
        assert await names.addresses("third.example.com") == ("8.8.8.8",)
        assert service.asked == ["slow1.example.com", "third.example.com"]

    with_names(scenario, unknown_max=1)


def test_no_more_answers_are_kept_than_there_is_room_for() -> None:
    async def scenario(names: Names, service: Blocking, time: Time) -> None:
        for n in (0, 1, 2, 2, 1, 0):
            await names.addresses(f"{n}.example.com")
        assert service.asked == [f"{n}.example.com" for n in (0, 1, 2, 0)]

    with_names(scenario, names_max=2)


# -- certificates


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A key and a self-signed certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bide test")])
    now = datetime.datetime.now(datetime.UTC)
    host = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign",
         "encipher_only", "decipher_only"), False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([host]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=True, **usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file


SEND = """
import asyncio, sys
from bide.callbacks.send import post
from bide.outbound.client import Outbound
from bide.settings import Settings

async def main():
    outbound = Outbound(Settings(callback_allow_private="127.0.0.1"))
    sent = await post(outbound.callbacks, sys.argv[1], b"{}", {}, timeout_s=60, connect_s=60, ranges=outbound.ranges)
    await outbound.close()
    print(sent.status, sent.error)

asyncio.run(main())
"""


def test_certificates_are_checked_and_ssl_cert_file_is_honoured(tmp_path: Path) -> None:
    certificate_file, key_file = _certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate_file, key_file)

    async def sent_with(environment: dict[str, str]) -> str:
        listener = Listener()
        server = await asyncio.start_server(listener.connected, "127.0.0.1", 0, ssl=context)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SEND, url, stdout=subprocess.PIPE, env={**os.environ, **environment}
        )
        printed, _ = await process.communicate()
        server.close()
        await asyncio.sleep(0)
        return printed.decode().strip()

    async def both() -> list[str]:
        return await asyncio.gather(sent_with({}), sent_with({"SSL_CERT_FILE": str(certificate_file)}))

    assert asyncio.run(both()) == ["None tls", "200"]

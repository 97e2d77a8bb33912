"""Which URLs and addresses the gateway connects to: a table of hostile spellings, and the rules behind it."""

import asyncio
import ipaddress
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bide.outbound.address import (
    Checker,
    ForbiddenAddress,
    Ranges,
    check_resolved,
    check_url,
    permitted,
)

NOTHING = Ranges()


def table(text: str) -> list[str]:
    return text.split()


REFUSED_ADDRESSES = table(
    """
    0.0.0.0 0.0.0.1 0.255.255.255 10.0.0.0 10.0.0.1 10.255.255.255 100.64.0.0 100.100.100.200 100.127.255.255
    127.0.0.0 127.0.0.1 127.255.255.255 168.63.129.16 169.254.0.0 169.254.169.254 169.254.170.2 169.254.255.255
    172.16.0.0 172.17.0.1 172.31.255.255 192.0.0.0 192.0.0.8 192.0.0.170 192.0.0.192 192.0.0.255 192.0.2.1
    192.88.99.1 192.168.0.0 192.168.1.1 192.168.255.255 198.18.0.0 198.19.255.255 198.51.100.7 203.0.113.9
    224.0.0.0 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.254 255.255.255.255
    :: ::1 ::2 ::127.0.0.1 ::8.8.8.8 ::10.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254
    ::ffff:0.0.0.0 ::ffff:0:127.0.0.1 ::ffff:0:8.8.8.8 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b::10.0.0.1
    64:ff9b::8.8.8.8 64:ff9b:1::1 64:ff9b:1::a9fe:a9fe 64:ff9b:1:ffff:ffff:ffff:ffff:ffff 100::1 100:0:0:1::1
    2001::1 2001:0:7f00:1:: 2001:0:808:808:0:0:f5ff:fffe 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1
    2001:10::1 2001:20::1 2001:30::1 2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff 2001:db8::1 2001:db8:ffff::1
    2002:7f00:1::1 2002:a00:1::1 2002:a9fe:a9fe::1 2002:808:808::1 3ffe::1 3fff::1 3fff:fff:ffff::1 4000::1
    5f00::1 8000::1 fc00::1 fd00::1 fd00:ec2::254 fd20:ce::254 fdff:ffff::1 fe80::1 fe80::a9fe:a9fe febf::1
    fec0::1 feff::1 ff00::1 ff02::1 ff05::2 ff0e::1 1:: 200::1 400::1
    """
)

PUBLIC_ADDRESSES = table(
    """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 168.63.129.15
    168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.0.3.0
    192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0
    203.0.112.255 203.0.114.0 223.255.255.255 ::ffff:8.8.8.8 2001:200:: 2001:4860:4860::8888 2001:db7::1
    2001:db9::1 2001:ffff::1 2003::1 2606:4700::1111 2a00:1450::1 3ffd::1 3fff:1000::1
    """
)


@pytest.mark.parametrize("address", REFUSED_ADDRESSES)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not permitted(address, NOTHING)
    assert not permitted(ipaddress.ip_address(address), NOTHING)


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_a_public_address_is_permitted(address: str) -> None:
    assert permitted(address, NOTHING)


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "1.2.3", "1.2.3.4.5", "::g", "01.1.1.1", "8.8.8.8 "])
def test_text_that_is_not_an_address_is_not_permitted(text: str) -> None:
    assert not permitted(text, NOTHING)


def test_a_zone_does_not_hide_a_link_local_address() -> None:
    assert not permitted("fe80::1%eth0", NOTHING)
    assert not permitted("::1%lo", NOTHING)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_what_python_calls_private_is_never_permitted(value: int) -> None:
    for address in (ipaddress.IPv4Address(value), ipaddress.IPv6Address(0xFFFF << 32 | value)):
        assert not (permitted(address, NOTHING) and ipaddress.IPv4Address(value).is_private)


@settings(deadline=None)
@given(st.integers(0, 2**128 - 1))
def test_no_ipv6_address_is_permitted_that_python_calls_anything_but_global(value: int) -> None:
    address = ipaddress.IPv6Address(value)
    assert not permitted(address, NOTHING) or address.is_global


# -- ranges


@pytest.mark.parametrize("text", ["", " ", "false", "False"])
def test_nothing_is_opened_by_default(text: str) -> None:
    assert Ranges.parse(text).nothing


@pytest.mark.parametrize("text", ["true", "True", " true "])
def test_true_opens_everything(text: str) -> None:
    ranges = Ranges.parse(text)
    assert all(permitted(address, ranges) for address in REFUSED_ADDRESSES)


@pytest.mark.parametrize(
    "text", ["yes", "1.2.3.4/33", "10.0.0.1/8", "10.0.0.0/8,", "10.0.0.0/8 fd00::/8", "fd00::/129", "localhost", "*"]
)
def test_a_wrong_range_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is neither `true` nor an address range"):
        Ranges.parse(text)


def test_opened_ranges_are_permitted_and_nothing_beside_them() -> None:
    ranges = Ranges.parse("127.0.0.0/8, 10.1.0.0/16,fd00::/8,192.168.7.7")
    for address in ("127.0.0.1", "::ffff:7f00:1", "10.1.2.3", "::ffff:a01:203", "fd12::1", "192.168.7.7", "1.1.1.1"):
        assert permitted(address, ranges), address
    for address in ("10.2.0.1", "::1", "fc00::1", "192.168.7.8", "169.254.169.254", "::ffff:10.2.0.1", "fe80::1"):
        assert not permitted(address, ranges), address


def test_a_range_may_be_named_in_mapped_form() -> None:
    ranges = Ranges.parse("::ffff:10.0.0.0/104")
    assert permitted("10.9.9.9", ranges)
    assert permitted("::ffff:10.9.9.9", ranges)


def test_opening_an_address_does_not_open_the_gateways_that_lead_to_it() -> None:
    ranges = Ranges.parse("127.0.0.0/8")
    for address in ("::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1", "::ffff:0:127.0.0.1"):
        assert not permitted(address, ranges), address


def test_opening_a_gateway_opens_only_what_is_permitted_behind_it() -> None:
    ranges = Ranges.parse("64:ff9b::/96,2002::/16,2001::/32,10.0.0.0/8")
    for address in ("64:ff9b::8.8.8.8", "64:ff9b::10.0.0.1", "2002:808:808::1", "2001:0:808:808:0:0:f7f7:f7f7"):
        assert permitted(address, ranges), address
    for address in (
        "64:ff9b::169.254.169.254", "64:ff9b::127.0.0.1", "2002:7f00:1::1",
        "2001:0:808:808:0:0:80ff:fffe", "2001:0:7f00:1:0:0:f7f7:f7f7",
    ):  # fmt: skip
        assert not permitted(address, ranges), address


# -- URLs

FORBIDDEN_HOSTS = table(
    """
    127.0.0.1 127.0.0.1. 127.1 127.0.1 127.255.255.254 0 0.0.0.0 0x0 0x 00 017700000001 2130706433 0x7f000001
    0X7F000001 0x7f.1 0x7f.0.0.1 0x7F.0x0.0x0.0x1 0177.0.0.1 0177.1 0177.0.1 00000177.0.0.1 127.0.0.0x1 127.0x1
    127.0.00.01 0x7f.0.01 2130706433. 0x7f.1. %31%32%37.0.0.1 127%2e0%2e0%2e1 %31%32%37%2E1 %30x7f.1
    １２７.０.０.１ １２７．０．０．１ 127。0。0。1 127｡0｡0｡1 ①②⑦.⓪.⓪.① 𝟏𝟐𝟕.𝟎.𝟎.𝟏 １２７．１ ２１３０７０６４３３
    %EF%BC%91%EF%BC%92%EF%BC%97.1
    169.254.169.254 2852039166 0xa9fea9fe 0251.0376.0251.0376 0xA9.0xFE.0xA9.0xFE 169.254.43518 169.16689662
    100.100.100.200 192.0.0.192 168.63.129.16 10.0.0.1 167772161 012.0.0.1 0xa.1 192.168.0.1 0300.0250.0.1
    172.16.0.1 100.64.0.1 198.18.0.1 224.0.0.1 255.255.255.255 4294967295 0xffffffff 3232235777
    [::] [::1] [0:0:0:0:0:0:0:1] [0000::0001] [::127.0.0.1] [::7f00:1] [::ffff:127.0.0.1] [::ffff:7f00:1]
    [::FFFF:169.254.169.254] [0:0:0:0:0:ffff:a00:1] [::ffff:0:127.0.0.1] [64:ff9b::127.0.0.1] [64:ff9b::a9fe:a9fe]
    [64:ff9b:1::1] [2002:7f00:1::] [2002:a9fe:a9fe::1] [2001:0:7f00:1::] [2001::1] [fc00::1] [fd00:ec2::254]
    [fe80::1] [FE80::1] [fec0::1] [ff02::1] [2001:db8::1] [3fff::1] [5f00::1] [100::1]
    localhost LOCALHOST localhost. LocalHost. a.localhost a.b.localhost. ｌｏｃａｌｈｏｓｔ %6cocalhost loc%61lhost
    ⓛocalhost printer.local metadata.google.internal metadata.google.internal. METADATA.internal router.home.arpa
    localhost.localdomain
    """
)


@pytest.mark.parametrize("host", FORBIDDEN_HOSTS)
@pytest.mark.parametrize("form", ["http://{}/", "https://{}:8443/x?y=z", "HTTP://{}"])
def test_every_spelling_of_a_private_host_is_refused(form: str, host: str) -> None:
    with pytest.raises(ForbiddenAddress, match="is not a public address"):
        check_url(form.format(host), NOTHING)


MALFORMED = [
    "", " ", "http", "http:", "http:/", "http://", "https://", "http:///path", "http://:80/", "http://?x", "http://#x",
    "//example.com/", "/relative", "example.com", "example.com:80/x", "http:example.com", "http:/example.com",
    "ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "javascript:alert(1)", "ws://example.com/",
    "data:text/plain,x", "unix:/run/x.sock", "http+unix://x/", "httpss://example.com/", "xhttp://example.com/",
    "http://user@example.com/", "http://user:password@example.com/", "http://@example.com/", "http://:@example.com/",
    "http://example.com@127.0.0.1/", "http://127.0.0.1@example.com/", "http://a:b@[::1]/", "http://a%40b@example.com/",
    "http://example.com:0/", "http://example.com:65536/", "http://example.com:99999/", "http://example.com:-1/",
    "http://example.com:+80/", "http://example.com:8 0/", "http://example.com:80:80/", "http://example.com:８０/",
    "http://example.com:0x50/", "http://example.com:" + "9" * 1500 + "/",
    " http://example.com/", "http://example.com/ ", "http://example.com/a b", "http://exa mple.com/",
    "http://example.com/\n", "\thttp://example.com/", "http://exam\tple.com/", "ht\ntp://example.com/",
    "http://example.com/\r\nx: y", "http://example.com/\x00", "http://exa\x00mple.com/", "http://example.com/\x7f",
    "http://example.com/\x85", "http://example.com/\u2028", "http://example.com/\u00a0", "http://example.com/\u3000",
    "http:\\\\example.com\\", "http://example.com\\@127.0.0.1/", "http://example.com/\\..", "http:/\\example.com/",
    "http://127.0.0.1\\.example.com/", "http://example.com/\ud800", "http://exa\udfffmple.com/",
    "http://a..b/", "http://.example.com/", "http://example.com../", "http://./", "http://../", "http://%2e/",
    "http://exa%mple.com/", "http://example.com%2f@127.0.0.1/", "http://example%2fcom/", "http://a%00b/", "http://%/",
    "http://%ff%fe/", "http://%5b::1%5d/", "http://exa$mple.com/", "http://exa'mple.com/", "http://*.example.com/",
    "http://exam,ple.com/", "http://(a).com/", "http://℀.com/", "http://a\u200bb.com/", "http://loc\u00adalhost/",
    "http://\u202eexample.com/", "http://" + "a" * 64 + ".com/", "http://" + "a." * 127 + "com/",
    "http://" + "é" * 70 + "/",
    "http://256.1.1.1/", "http://1.2.3.256/", "http://1.2.3.4.5/", "http://1.2.3.4.0x7f/", "http://4294967296/",
    "http://0x100000000/", "http://08.0.0.1/", "http://127.0.0.09/", "http://1..1/", "http://example.1/",
    "http://1.16777216/", "http://1.2.65536/", "http://0xg.1/", "http://a.0x/", "http://127.0.0.1../",
    "http://" + "9" * 1000 + "/",
    "http://[::1/", "http://::1/", "http://[]/", "http://[127.0.0.1]/", "http://[::1]x/", "http://x[::1]/",
    "http://[[::1]]/", "http://[::g]/", "http://[v1.fe80::1]/", "http://[fe80::1%25eth0]/", "http://[fe80::1%eth0]/",
    "http://[::1%25lo]/", "http://[2606:4700::1%25eth0]/", "http://[1::2::3]/", "http://[::ffff:0177.0.0.1]/",
    "http://[::ffff:127.1]/", "http://[::1]:x/", "http://[%3a:1]/", "http://example.com]/", "http://[example.com]/",
]  # fmt: skip


@pytest.mark.parametrize("url", MALFORMED)
@pytest.mark.parametrize("ranges", [NOTHING, Ranges.parse("true")], ids=["public", "everything"])
def test_a_malformed_url_is_refused_whatever_is_open(url: str, ranges: Ranges) -> None:
    with pytest.raises(ForbiddenAddress) as refusal:
        check_url(url, ranges)
    message = str(refusal.value)
    assert message.startswith("The URL")
    assert message.endswith(".")


@pytest.mark.parametrize(
    ("url", "host", "port", "sent"),
    [
        ("http://example.com", "example.com", 80, "http://example.com/"),
        ("https://Example.COM:443/a", "example.com", 443, "https://example.com/a"),
        ("https://example.com.:8443/", "example.com", 8443, "https://example.com:8443/"),
        ("http://example.com:/a", "example.com", 80, "http://example.com/a"),
        ("HTTPS://h_1.example.com/?", "h_1.example.com", 443, "https://h_1.example.com/"),
        ("http://example.com?x=1", "example.com", 80, "http://example.com/?x=1"),
        ("http://example.com#f", "example.com", 80, "http://example.com/"),
        ("http://example.com/a@b:c/?u=http://[::1]/#x@y", "example.com", 80,
         "http://example.com/a@b:c/?u=http://[::1]/"),
        ("https://example.com/a%2Fb/../%c3%A4?sig=a%2Fb%2B+c==&d=%zz", "example.com", 443,
         "https://example.com/a%2Fb/../%c3%A4?sig=a%2Fb%2B+c==&d=%zz"),
        ("http://example.com/ä?ö={1}", "example.com", 80, "http://example.com/%C3%A4?%C3%B6=%7B1%7D"),
        ("http://bücher.example.com/", "xn--bcher-kva.example.com", 80, "http://xn--bcher-kva.example.com/"),
        ("http://ex%61mple.com/", "example.com", 80, "http://example.com/"),
        ("http://ｅxample。com/", "example.com", 80, "http://example.com/"),
        ("http://redis:6379/", "redis", 6379, "http://redis:6379/"),
        ("http://notlocalhost/", "notlocalhost", 80, "http://notlocalhost/"),
        ("http://localhost.example.com/", "localhost.example.com", 80, "http://localhost.example.com/"),
        ("http://127.0.0.1.example.com/", "127.0.0.1.example.com", 80, "http://127.0.0.1.example.com/"),
        ("http://8.8.8.8:65535/", "8.8.8.8", 65535, "http://8.8.8.8:65535/"),
        ("http://134744072/", "8.8.8.8", 80, "http://8.8.8.8/"),
        ("http://0x8.8.0x808/", "8.8.8.8", 80, "http://8.8.8.8/"),
        ("http://[2606:4700:0::1]:00080/", "2606:4700::1", 80, "http://[2606:4700::1]/"),
        ("http://[::ffff:8.8.8.8]:81/", "::ffff:808:808", 81, "http://[::ffff:808:808]:81/"),
    ],
)  # fmt: skip
def test_a_public_url_is_read_once_and_sent_as_it_was_judged(url: str, host: str, port: int, sent: str) -> None:
    target = check_url(url, NOTHING)
    assert (target.host, target.port, str(target.url)) == (host, port, sent)
    assert target.url.raw_host == host
    assert target.url.port == port
    assert (target.address is not None) == (target.host.replace(".", "").isdigit() or ":" in target.host)


def test_a_url_of_2048_characters_passes_and_a_longer_one_does_not() -> None:
    url = "http://example.com/".ljust(2048, "a")
    check_url(url, NOTHING)
    with pytest.raises(ForbiddenAddress, match="longer than 2,048 characters"):
        check_url(url + "a", NOTHING)
    check_url(url + "a", NOTHING, length_max=4096)


def test_localhost_is_open_where_loopback_is() -> None:
    for text in ("127.0.0.0/8", "::1/128", "true"):
        assert check_url("http://localhost:8000/", Ranges.parse(text)).address is None
        assert check_url("http://a.localhost/", Ranges.parse(text)).host == "a.localhost"
    with pytest.raises(ForbiddenAddress):
        check_url("http://localhost/", Ranges.parse("10.0.0.0/8"))


def test_private_names_are_left_to_the_name_service_where_a_range_is_open() -> None:
    assert check_url("http://hooks.cluster.local/", Ranges.parse("10.0.0.0/8")).host == "hooks.cluster.local"


def test_numeric_spellings_of_an_opened_address_are_dialled_in_its_usual_form() -> None:
    for host in ("127.0.0.1", "2130706433", "0177.1", "0x7f.1", "１２７.1", "127.0.0.1."):
        assert str(check_url(f"http://{host}:81/x", Ranges.parse("127.0.0.0/8")).url) == "http://127.0.0.1:81/x"


def _spelled(value: int, parts: int, bases: list[int]) -> str:
    """`value` in `parts` parts, each in the base asked for (8, 10 or 16), as inet_aton reads it."""
    numbers = [value >> 8 * (3 - place) & 255 for place in range(parts - 1)]
    numbers.append(value & (256 ** (5 - parts) - 1))
    return ".".join({8: f"0{n:o}", 10: str(n), 16: f"0x{n:x}"}[base] for n, base in zip(numbers, bases, strict=False))


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 2**32 - 1) | st.integers(0x7F000000, 0x7F0000FF) | st.integers(0xA9FE0000, 0xA9FEFFFF),
    st.integers(1, 4),
    st.lists(st.sampled_from([8, 10, 16]), min_size=4, max_size=4),
    st.booleans(),
)
def test_numeric_hosts_are_read_as_the_system_does(value: int, parts: int, bases: list[int], wide: bool) -> None:
    text = _spelled(value, parts, bases)
    meant = ipaddress.IPv4Address(socket.inet_aton(text))
    assert int(meant) == value
    host = text.translate({ord(c): ord(c) + 0xFEE0 for c in "0123456789x."}) if wide else text
    assert check_url(f"http://{host}/", Ranges.parse("true")).address == meant
    if permitted(meant, NOTHING):
        assert check_url(f"http://{host}/", NOTHING).host == str(meant)
    else:
        with pytest.raises(ForbiddenAddress):
            check_url(f"http://{host}/", NOTHING)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=60), st.sampled_from(["", "http://", "https://[", "http://x/"]))
def test_any_text_is_either_read_or_refused(text: str, start: str) -> None:
    try:
        target = check_url(start + text, NOTHING)
    except ForbiddenAddress:
        return
    assert target.url.raw_host == target.host
    assert str(target.url).isascii()
    assert check_url(str(target.url), NOTHING).url == target.url


# -- names


class Service:
    """A name service with a table; it counts what it was asked."""

    def __init__(self, table: dict[str, list[str]]) -> None:
        self.table, self.asked = table, []

    async def __call__(self, name: str) -> list[str]:
        self.asked.append(name)
        if name not in self.table:
            raise OSError("no such name")
        if not self.table[name]:
            await asyncio.Event().wait()
        return self.table[name]


SERVICE = {
    "good.example.com": ["8.8.8.8", "2606:4700::1"],
    "loopback.example.com": ["127.0.0.1"],
    "mixed.example.com": ["8.8.8.8", "10.0.0.7"],
    "mapped.example.com": ["::ffff:169.254.169.254"],
    "translated.example.com": ["64:ff9b::a9fe:a9fe"],
    "slow.example.com": [],
}


@pytest.mark.parametrize("name", ["loopback", "mixed", "mapped", "translated"])
def test_a_name_with_any_private_address_is_refused_without_telling_which(name: str) -> None:
    with pytest.raises(ForbiddenAddress) as refusal:
        asyncio.run(check_resolved(f"http://{name}.example.com/", NOTHING, Service(SERVICE)))
    assert not any(address in str(refusal.value) for address in SERVICE[f"{name}.example.com"])


def test_a_public_name_an_unknown_name_and_a_slow_name_pass() -> None:
    for name in ("good", "unknown", "slow"):
        asyncio.run(check_resolved(f"http://{name}.example.com/", NOTHING, Service(SERVICE), wait_s=0.02))


def test_the_name_service_is_not_asked_about_literals_or_where_everything_is_open() -> None:
    service = Service(SERVICE)
    asyncio.run(check_resolved("http://8.8.8.8/", NOTHING, service))
    asyncio.run(check_resolved("http://loopback.example.com/", Ranges.parse("true"), service))
    asyncio.run(Checker(Ranges.parse("true"), service, lambda: 0.0).check("http://loopback.example.com/"))
    assert service.asked == []


def test_opened_ranges_hold_for_resolved_addresses() -> None:
    asyncio.run(check_resolved("http://mixed.example.com/", Ranges.parse("10.0.0.0/8"), Service(SERVICE)))


def test_a_verdict_is_kept_for_its_time_and_no_longer() -> None:
    now = [100.0]
    service = Service(dict(SERVICE))
    checker = Checker(NOTHING, service, lambda: now[0], ttl_s=30.0, wait_s=0.02)

    async def scenario() -> None:
        for _ in range(3):
            assert (await checker.check("http://good.example.com:81/x")).port == 81
            await checker.check("http://slow.example.com/")
            with pytest.raises(ForbiddenAddress):
                await checker.check("http://loopback.example.com/")
        assert service.asked == ["good.example.com", "slow.example.com", "loopback.example.com"]
        service.table["good.example.com"] = ["10.0.0.1"]
        now[0] += 30.0
        with pytest.raises(ForbiddenAddress):
            await checker.check("http://good.example.com/")

    asyncio.run(scenario())


def test_no_more_verdicts_are_kept_than_there_is_room_for() -> None:
    service = Service({f"{n}.example.com": ["8.8.8.8"] for n in range(5)})
    checker = Checker(NOTHING, service, lambda: 0.0, names_max=2)

    async def scenario() -> None:
        for n in (0, 1, 2, 2, 1, 0):
            await checker.check(f"http://{n}.example.com/")

    asyncio.run(scenario())
    assert service.asked == [f"{n}.example.com" for n in (0, 1, 2, 0)]

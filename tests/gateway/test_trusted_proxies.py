"""The client's address behind proxies, and forged headers."""

import pytest
from multidict import CIMultiDict

from gateway.config.types import ProxyHeader
from gateway.ingest.client import RemoteAddress, TrustedProxies, parse_ip

TRUSTED = ("10.0.0.0/8", "::1/128", "fd00::/8")


def caller(
    peer: str,
    *lines: tuple[str, str],
    header: ProxyHeader = "x-forwarded-for",
    trusted: bool = True,
) -> RemoteAddress:
    """Return the client for *lines* of headers."""
    return TrustedProxies(TRUSTED if trusted else (), header).caller(peer, CIMultiDict(lines))


def told(*values: str, peer: str = "10.0.0.1") -> str:
    """Return the address behind a trusted proxy that sends *values*, one header each."""
    return caller(peer, *(("X-Forwarded-For", value) for value in values)).ip


def element(*values: str) -> RemoteAddress:
    """Return the client from a ``Forwarded`` header (RFC 7239)."""
    return caller("10.0.0.1", *(("Forwarded", value) for value in values), header="forwarded")


def test_without_trusted_proxies_the_peer_called() -> None:
    """Without a trusted proxy the client's address is the connection's."""
    said = ("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-Proto", "https")
    assert caller("198.51.100.1", *said, trusted=False) == ("198.51.100.1", False)
    assert caller("198.51.100.1", *said) == ("198.51.100.1", False)
    assert caller("10.0.0.1", *said, trusted=False) == ("10.0.0.1", False)


@pytest.mark.parametrize(
    ("value", "ip"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:51234", "203.0.113.7"),
        ("  203.0.113.7 ,10.1.2.3,  10.9.9.9", "203.0.113.7"),
        ("203.0.113.7,, ,", "203.0.113.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("2001:DB8:0::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, fd00::2, ::1", "203.0.113.7"),
        ("203.0.113.7, ::ffff:10.0.0.9", "203.0.113.7"),
    ],
)
def test_a_trusted_proxys_header_is_used(value: str, ip: str) -> None:
    """The client's address is the last one that is no trusted proxy's, without a port."""
    assert told(value) == ip


@pytest.mark.parametrize("peer", ["::ffff:10.0.0.1", "::1", "fd00::7"])
def test_a_trusted_peer_is_known_in_every_spelling(peer: str) -> None:
    """An IPv4-mapped IPv6 peer counts as the IPv4 address."""
    assert told("203.0.113.7", peer=peer) == "203.0.113.7"


def test_forged_addresses_are_ignored() -> None:
    """Addresses left of the first untrusted one are ignored, since the client may forge them."""
    assert told("10.0.0.5, 1.1.1.1, 203.0.113.7") == "203.0.113.7"
    assert told("1.1.1.1", "10.0.0.5, 203.0.113.7, 10.0.0.2") == "203.0.113.7"
    assert told("x" * 4000 + ", 203.0.113.7") == "203.0.113.7"


@pytest.mark.parametrize("garbage", ["unknown", "_hidden", "300.1.1.1", "1.2.3", "shop.example"])
def test_an_invalid_address_is_unknown(garbage: str) -> None:
    """If a trusted proxy sends no valid address, the client's address is unknown."""
    assert told(garbage) == ""
    assert told(f"203.0.113.7, {garbage}, 10.0.0.3") == ""


def test_callers_within_the_trusted_networks_are_callers() -> None:
    """If all addresses are trusted, the first is the client; without any, the peer is."""
    assert told("10.3.3.3, 10.2.2.2") == "10.3.3.3"
    assert told() == "10.0.0.1"
    assert told("") == "10.0.0.1"


def test_a_unix_socket_peer_has_no_address() -> None:
    """A Unix socket peer has no address, and its headers are not trusted."""
    assert caller("", ("X-Forwarded-For", "203.0.113.7")) == ("", False)


@pytest.mark.parametrize(
    ("proto", "secure"), [("https", True), ("HTTPS, http", True), ("http", False)]
)
def test_the_outermost_proxy_decides_on_tls(proto: str, *, secure: bool) -> None:
    """The outermost proxy's header decides whether the client used TLS."""
    lines = ("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-Proto", proto)
    assert caller("10.0.0.1", *lines) == ("203.0.113.7", secure)


@pytest.mark.parametrize(
    ("value", "ip", "secure"),
    [
        ("for=203.0.113.7", "203.0.113.7", False),
        ('For="[2001:db8:cafe::17]:4711";proto=https;by=10.0.0.1', "2001:db8:cafe::17", True),
        ("for=192.0.2.43, for=203.0.113.7 ; proto=http, for=10.1.1.1", "203.0.113.7", False),
        ("proto=https;for=203.0.113.7", "203.0.113.7", True),
        ("for=unknown", "", False),
        ("for=_gazonk, for=10.0.0.4", "", False),
        ("by=10.0.0.4", "", False),
        ('for="', "", False),
    ],
)
def test_rfc_7239(value: str, ip: str, *, secure: bool) -> None:
    """If configured, ``Forwarded`` is read as RFC 7239 defines it."""
    assert element(value) == (ip, secure)


@pytest.mark.parametrize("forged", ['for=6.6.6.6;x="', 'for="6.6.6.6', 'for=6.6.6.6;x="\\'])
def test_an_open_quote_hides_no_proxy(forged: str) -> None:
    """An unclosed quote from the client does not hide the proxy's element after it."""
    assert element(f'{forged}, for="[2001:db8::7]"').ip == "2001:db8::7"
    assert element(forged, "for=203.0.113.7").ip == "203.0.113.7"


def test_only_the_named_header_counts() -> None:
    """Only the configured header is read, since proxies forward others unchanged."""
    lines = ("X-Forwarded-For", "203.0.113.7"), ("Forwarded", "for=6.6.6.6")
    assert caller("10.0.0.1", *lines).ip == "203.0.113.7"
    assert caller("10.0.0.1", *lines, header="forwarded").ip == "6.6.6.6"


@pytest.mark.parametrize(
    "text", ["", " ", "[", "[]", ":", "::1::", "[::1", "1.2.3.4:port", "1.2.3.4:"]
)
def test_no_address(text: str) -> None:
    """An invalid address is read as None, without an error."""
    assert parse_ip(text) is None

"""The client behind a request: address, user agent and device id.

Segment fills ``context.ip`` for client libraries only, and leaves one that the sender names
(https://segment.com/docs/connections/spec/common/#context-fields-automatically-collected).

A proxy says for whom it calls in a header, and so can anybody else. Only what a trusted proxy
added is believed: the addresses are read from the right, where the nearest proxy wrote, until
one is not trusted. Further left stands what that one said of itself.

``X-Forwarded-For``: https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/X-Forwarded-For;
``Forwarded``: RFC 7239.
"""

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple, Protocol

from aiohttp import web

from gateway.config.types import YEAR, ClientKind, ProxyHeader
from gateway.http import ClientInfo

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NODE = re.compile(r"\[([^\]]*)\](?::\d+)?|([^:]*):\d+")
"""An address in brackets, with or without a port, or one without colons and with a port."""


class MultiValueHeaders(Protocol):
    """Headers of which one name may have several values."""

    def getall(self, key: str, default: list[str], /) -> list[str]:
        """Return the values of *key*, in their order."""


class RemoteAddress(NamedTuple):
    """Who called."""

    ip: str
    """Its address; empty where that cannot be told."""
    secure: bool
    """It called over TLS, says the proxy that ended it."""


class _Hop(NamedTuple):
    address: Address | None
    proto: str


class TrustedProxies:
    """The proxies whose word is taken.

    Args:
        trusted: the networks that they are in; with none, nobody's word is.
        header: the one header in which they tell; the other is the sender's own invention.
    """

    def __init__(
        self, trusted: Iterable[str] = (), header: ProxyHeader = "x-forwarded-for"
    ) -> None:
        self._trusted: Sequence[Network] = [ip_network(network) for network in trusted]
        self._header = header

    def caller(self, peer: str, headers: MultiValueHeaders) -> RemoteAddress:
        """Return who called, from the address of *peer*, whose connection it is.

        Where every address is trusted, it is the first one. Where a trusted proxy names none
        that can be read, it cannot be told who it is.
        """
        here = parse_ip(peer)
        if here is None:
            return RemoteAddress("", secure=False)
        if not self._trusts(here):
            return RemoteAddress(str(here), secure=False)
        proto = next(iter(headers.getall("x-forwarded-proto", [])), "").partition(",")[0]
        found: Address | None = here
        for hop in self._hops(headers.getall(self._header, [])):
            found, proto = hop.address, hop.proto or proto
            if found is None or not self._trusts(found):
                break
        return RemoteAddress("" if found is None else str(found), proto.strip().lower() == "https")

    def trusts(self, peer: str) -> bool:
        """Tell whether the address of *peer* is a trusted proxy's."""
        here = parse_ip(peer)
        return here is not None and self._trusts(here)

    def _trusts(self, found: Address) -> bool:
        return any(found in network for network in self._trusted)

    def _hops(self, lines: Iterable[str]) -> Iterator[_Hop]:
        """Yield what the proxies said, the nearest one first.

        A comma always ends an element, in quotes too: no address has one, and a quote that the
        sender left open would otherwise swallow what the proxies added behind it.
        """
        elements = ",".join(lines).split(",")
        for element in filter(None, map(str.strip, reversed(elements))):
            if self._header == "x-forwarded-for":
                yield _Hop(parse_ip(element), "")
                continue
            pairs = (pair.partition("=") for pair in element.split(";"))
            said = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
            yield _Hop(parse_ip(said.get("for", "")), said.get("proto", ""))


def parse_ip(text: str) -> Address | None:
    """Return the address in *text*, without a port, brackets or zone; None where it is none.

    An IPv4 address that is written as IPv6 (RFC 4291, section 2.5.5.2) is the IPv4 one.
    """
    text = text.strip()
    node = _NODE.fullmatch(text)
    if node is not None:
        text = node[1] or node[2] or ""
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}", re.ASCII)
"""What a cookie must hold to be taken for an id; other values are replaced by a new one."""


class ClientCookie(NamedTuple):
    """A first-party cookie that holds an id."""

    name: str
    domain: str = ""
    """The domain whose hosts share it; empty for the gateway's own host alone."""
    max_age: float = YEAR
    """Seconds for which a browser keeps it after the last request."""

    def header(self, value: str, *, secure: bool) -> str:
        """Return the ``set-cookie`` header (RFC 6265, section 4.1)."""
        parts = [f"{self.name}={value}", "Path=/", f"Max-Age={round(self.max_age)}"]
        if self.domain:
            parts.append(f"Domain={self.domain}")
        if secure or self.name.startswith("__"):
            parts.append("Secure")
        return "; ".join([*parts, "HttpOnly", "SameSite=Lax"])


class Identified(NamedTuple):
    """Who sent a request, and what its answer tells that device."""

    client: ClientInfo | None
    set_cookie: str = ""
    """A header; empty for none."""


NOBODY = Identified(None)


class ClientIdentifier:
    """Tells who is behind the requests of one source.

    Args:
        kind: whose requests they are.
        proxies: those whose word is taken for an address.
        cookie: holds an id for people whom a request does not name; None for none.
    """

    def __init__(
        self,
        kind: ClientKind = "auto",
        proxies: TrustedProxies | None = None,
        cookie: ClientCookie | None = None,
    ) -> None:
        self._kind = kind
        self._proxies = proxies or TrustedProxies()
        self._cookie = cookie

    def address(self, http: "web.BaseRequest") -> str:
        """Return the address of whoever sent *http*, person or backend."""
        remote = http.remote or ""
        return self._proxies.caller(remote, http.headers).ip or remote

    def identify(self, http: "web.BaseRequest") -> Identified:
        """Return who sent *http*."""
        if self._kind == "server" or (self._kind == "auto" and not sent_by_browser(http.headers)):
            return NOBODY
        caller = self._proxies.caller(http.remote or "", http.headers)
        cookie = self._cookie
        if cookie is None:
            return Identified(ClientInfo(caller.ip))
        known = http.cookies.get(cookie.name, "")
        one = known if _ID.fullmatch(known) else str(uuid.uuid4())
        return Identified(ClientInfo(caller.ip, one), cookie.header(one, secure=caller.secure))


def sent_by_browser(headers: Mapping[str, str]) -> bool:
    """Tell whether a browser sent these *headers* for a page.

    Browsers name the origin with every POST, and say how the two sites relate
    (https://fetch.spec.whatwg.org/#origin-header,
    https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header). Node's ``fetch`` sends
    ``sec-fetch-mode`` too, so that one does not count; it sent ``origin: client`` for a while
    (https://github.com/nodejs/undici/pull/3235).
    """
    origin = headers.get("origin")
    if origin is None:
        return "sec-fetch-site" in headers
    return "://" in origin or origin == "null"


def _blank(text: str | None) -> bool:
    return text is None or not text.strip()

"""Identify the client of a request: its address, user agent and device id.

Segment fills ``context.ip`` for client libraries only, and keeps one that the sender sets
(https://segment.com/docs/connections/spec/common/#context-fields-automatically-collected).

A proxy puts the client's address into a header, but so can anybody. Only addresses added by
trusted proxies count: the header is read from the right, where the nearest proxy wrote, up to the
first address that is not trusted. Everything to the left of it came from that client itself.

``X-Forwarded-For``: https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/X-Forwarded-For;
``Forwarded``: RFC 7239.
"""

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple, Protocol

from aiohttp import web
from aiohttp.hdrs import HOST, ORIGIN, REFERER
from multidict import istr

from gateway.config.types import YEAR, ClientKind, ProxyHeader
from gateway.errors import Fault, Rejected
from gateway.http import ClientInfo

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NODE = re.compile(r"\[([^\]]*)\](?::\d+)?|([^:]*):\d+")
"""An address in brackets, with or without a port, or an IPv4 address or name with a port."""


class MultiValueHeaders(Protocol):
    """Headers in which a name may have several values."""

    def getall(self, key: str, default: list[str], /) -> list[str]:
        """Return the values of *key* in their order."""


class RemoteAddress(NamedTuple):
    """The address of a client."""

    ip: str
    """Its address; empty if unknown."""
    secure: bool
    """Whether it used TLS, according to the proxy."""


class _Hop(NamedTuple):
    address: Address | None
    proto: str


class TrustedProxies:
    """The proxies whose headers are trusted.

    Args:
        trusted: their networks; if empty, no proxy is trusted.
        header: the header that they set; others are ignored, since any sender can set them.
    """

    def __init__(
        self, trusted: Iterable[str] = (), header: ProxyHeader = "x-forwarded-for"
    ) -> None:
        self._trusted: Sequence[Network] = [ip_network(network) for network in trusted]
        self._header = header

    def caller(self, peer: str, headers: MultiValueHeaders) -> RemoteAddress:
        """Return the address of the client; *peer* is the address of the connection.

        If all addresses are trusted, it is the first in the header. If a trusted proxy sends one
        that cannot be read, the client is unknown.
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
        """Return whether *peer* is the address of a trusted proxy."""
        here = parse_ip(peer)
        return here is not None and self._trusts(here)

    def _trusts(self, found: Address) -> bool:
        return any(found in network for network in self._trusted)

    def _hops(self, lines: Iterable[str]) -> Iterator[_Hop]:
        """Yield the addresses that the proxies added, the nearest proxy first.

        A comma always ends an element, even in quotes: no address contains one, and an open quote
        of the sender could otherwise hide the addresses that the proxies added after it.
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
    """Return the address in *text*, without port, brackets and zone; None if there is none.

    An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2) becomes the IPv4 address.
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
"""Valid values of the cookie; any other value is replaced by a new id."""


class ClientCookie(NamedTuple):
    """A first-party cookie with the id of a device."""

    name: str
    domain: str = ""
    """The domain whose hosts share it; empty for only the gateway's own host."""
    max_age: float = YEAR
    """Seconds that a browser keeps it after the last request."""

    def header(self, value: str, *, secure: bool) -> str:
        """Return the ``set-cookie`` header (RFC 6265, section 4.1)."""
        parts = [f"{self.name}={value}", "Path=/", f"Max-Age={round(self.max_age)}"]
        if self.domain:
            parts.append(f"Domain={self.domain}")
        if secure or self.name.startswith("__"):
            parts.append("Secure")
        return "; ".join([*parts, "HttpOnly", "SameSite=Lax"])


class Identified(NamedTuple):
    """The client of a request, and the cookie to set in the response."""

    client: ClientInfo | None
    set_cookie: str = ""
    """The ``set-cookie`` header; empty if there is none."""


NOBODY = Identified(None)


class ClientIdentifier:
    """Identifies the clients of one source.

    Args:
        kind: whether browsers, devices or servers send the requests.
        proxies: the trusted proxies.
        cookie: the cookie for users that a request does not identify; None for no cookie.
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
        """Return the address of the sender of *http*, whether a device or a server."""
        remote = http.remote or ""
        return self._proxies.caller(remote, http.headers).ip or remote

    def base_url(self, http: "web.BaseRequest") -> str:
        """Return scheme and host as the sender of *http* sees them.

        The scheme is ``https`` if a trusted proxy says so, or if a page was loaded so, since such a
        page may call nothing else (https://www.w3.org/TR/mixed-content/).

        Raises:
            Rejected: the request names no host.
        """
        headers = http.headers
        host = headers.get(HOST, "")
        if not host:
            raise Rejected("$", "the request has no host header", Fault.MALFORMED)
        page = headers.get(ORIGIN, "") or headers.get(REFERER, "")
        caller = self._proxies.caller(http.remote or "", headers)
        secure = caller.secure or page.lower().startswith("https://")
        return f"{'https' if secure else 'http'}://{host}"

    def identify(self, http: "web.BaseRequest") -> Identified:
        """Return the client that sent *http*."""
        if self._kind == "server" or (self._kind == "auto" and not sent_by_browser(http.headers)):
            return NOBODY
        caller = self._proxies.caller(http.remote or "", http.headers)
        cookie = self._cookie
        if cookie is None:
            return Identified(ClientInfo(caller.ip))
        known = http.cookies.get(cookie.name, "")
        one = known if _ID.fullmatch(known) else str(uuid.uuid4())
        return Identified(ClientInfo(caller.ip, one), cookie.header(one, secure=caller.secure))


SEC_FETCH_SITE = istr("sec-fetch-site")


def sent_by_browser(headers: Mapping[str, str]) -> bool:
    """Return whether a page in a browser sent these *headers*.

    Browsers send ``origin`` with every POST, and ``sec-fetch-site``
    (https://fetch.spec.whatwg.org/#origin-header,
    https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header). ``sec-fetch-mode`` does not
    count, since Node's ``fetch`` sends it too; Node also sent ``origin: client`` for a while
    (https://github.com/nodejs/undici/pull/3235).
    """
    origin = headers.get(ORIGIN)
    if origin is None:
        return SEC_FETCH_SITE in headers
    return "://" in origin or origin == "null"


def _blank(text: str | None) -> bool:
    return text is None or not text.strip()

"""Who called, behind the proxies that we trust.

A proxy says for whom it calls in a header, and so can anybody else. Only what a trusted proxy
added is believed: the addresses are read from the right, where the nearest proxy wrote, until
one is not trusted. Further left stands what that one said of itself.

``X-Forwarded-For``: https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/X-Forwarded-For;
``Forwarded``: RFC 7239.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal, NamedTuple, Protocol

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Header = Literal["x-forwarded-for", "forwarded"]

_NODE = re.compile(r"\[([^\]]*)\](?::\d+)?|([^:]*):\d+")
"""An address in brackets, with or without a port, or one without colons and with a port."""


class Headers(Protocol):
    """Headers of which one name may have several values."""

    def getall(self, key: str, default: list[str], /) -> list[str]:
        """Return the values of *key*, in their order."""


class Caller(NamedTuple):
    """Who called."""

    ip: str
    """Its address; empty where that cannot be told."""
    secure: bool
    """It called over TLS, says the proxy that ended it."""


class _Hop(NamedTuple):
    address: Address | None
    proto: str


class Proxies:
    """The proxies whose word is taken.

    Args:
        trusted: the networks that they are in; with none, nobody's word is.
        header: the one header in which they tell; the other is the sender's own invention.
    """

    def __init__(self, trusted: Iterable[str] = (), header: Header = "x-forwarded-for") -> None:
        self._trusted: Sequence[Network] = [ip_network(network) for network in trusted]
        self._header = header

    def caller(self, peer: str, headers: Headers) -> Caller:
        """Return who called, from the address of *peer*, whose connection it is.

        Where every address is trusted, it is the first one. Where a trusted proxy names none
        that can be read, it cannot be told who it is.
        """
        here = address(peer)
        if here is None:
            return Caller("", secure=False)
        if not self._trusts(here):
            return Caller(str(here), secure=False)
        proto = next(iter(headers.getall("x-forwarded-proto", [])), "").partition(",")[0]
        found: Address | None = here
        for hop in self._hops(headers.getall(self._header, [])):
            found, proto = hop.address, hop.proto or proto
            if found is None or not self._trusts(found):
                break
        return Caller("" if found is None else str(found), proto.strip().lower() == "https")

    def trusts(self, peer: str) -> bool:
        """Tell whether the address of *peer* is a trusted proxy's."""
        here = address(peer)
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
                yield _Hop(address(element), "")
                continue
            pairs = (pair.partition("=") for pair in element.split(";"))
            said = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
            yield _Hop(address(said.get("for", "")), said.get("proto", ""))


def address(text: str) -> Address | None:
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

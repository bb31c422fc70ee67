"""The head of an HTTP/1.1 request as bytes, up to its content-length.

Destinations get nearly the same head for every event, so heads are remembered.
"""

from collections.abc import Mapping
from typing import NamedTuple

from yarl import URL

from gateway.http import NO_HEADERS, Request, as_basic

HEAD_CACHE_SIZE = 256
"""Heads kept for a destination; forwarded requests have queries of the senders' own."""
_FRAMING = frozenset({"connection", "content-length", "host", "transfer-encoding"})
"""Headers that are written here and not taken from a request."""
_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """A server that connections are made to."""

    host: str
    port: int
    tls: bool


class RequestHead(NamedTuple):
    """Where a request goes and how it begins."""

    origin: Origin
    start: bytes
    """The head up to the digits of its content-length."""


class RequestHeads:
    """Builds heads, and remembers those of the same method, address and headers object.

    A plugin may use one object for all its requests and change it, so its values are compared.

    Args:
        added: headers of every request, by lower-case names.
    """

    def __init__(self, added: Mapping[str, str] = NO_HEADERS) -> None:
        self._added = added
        self._known: dict[tuple[str, str, int], tuple[RequestHead, dict[str, str]]] = {}

    def of(self, request: Request) -> RequestHead:
        """Return the head of *request*.

        Raises:
            ValueError: it cannot be sent: a line break in a header, an address that is none.
        """
        key = (request.method, request.url, id(request.headers))
        known = self._known.get(key)
        if known is not None and known[1] == request.headers:
            return known[0]
        head = build_head(request, self._added)
        if len(self._known) >= HEAD_CACHE_SIZE:
            self._known.clear()
        self._known[key] = head, dict(request.headers)
        return head


def build_head(request: Request, added: Mapping[str, str] = NO_HEADERS) -> RequestHead:
    """Return the head of *request*; what frames it is the gateway's, the rest as it is.

    The *added* headers replace those of the same names, which a sender may have written.

    Raises:
        ValueError: it cannot be sent: a line break in a header, an address that is none.
    """
    url = URL(request.url, encoded=True)
    host = url.raw_host
    if url.scheme not in _PORTS or not host:
        raise ValueError(f"{request.url[:200]!r} is no http or https address")
    if not host.isascii():
        url = url.with_host(host)
        host = url.raw_host or host
    origin = Origin(host, url.port or _PORTS[url.scheme], url.scheme == "https")
    given = {name.lower(): value for name, value in request.headers.items()}
    fields = [("host", given.get("host") or url.host_port_subcomponent or host)]
    replaced = _FRAMING.union(added)
    fields += [(n, v) for n, v in request.headers.items() if n.lower() not in replaced]
    fields += added.items()
    if "content-type" not in given:
        fields.append(("content-type", "application/octet-stream"))
    if url.user is not None and "authorization" not in given:
        fields.append(("authorization", as_basic(url.user, url.password or "")))
    line = f"{request.method} {url.raw_path_qs} HTTP/1.1"
    lines = [line, *(f"{name}: {value}" for name, value in fields)]
    if line.count(" ") != 2:  # noqa: PLR2004 - RFC 9112, section 3
        raise ValueError("the method or the address has a space in it")
    if any(not name or not name.isascii() or set(name) & set(" :\t") for name, _ in fields):
        raise ValueError("the name of a header is none")
    start = ("\r\n".join(lines) + "\r\ncontent-length: ").encode()
    if start.count(b"\n") != len(lines) or start.count(b"\r") != len(lines) or b"\0" in start:
        raise ValueError("a header or the address holds a line break or NUL")
    return RequestHead(origin, start)

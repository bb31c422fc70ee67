"""HTTP requests and responses as plain values, and helpers for headers and authorization."""

import base64
import re
from collections.abc import Collection, Mapping
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple, final
from urllib.parse import quote, unquote_plus

import msgspec
from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE
from multidict import CIMultiDict, MultiMapping

from gateway.event import EPOCH

NO_HEADERS: Mapping[str, str] = {}
SHORT_HEADER = 256
"""Characters up to which what an ``authorization`` header says is remembered."""
REQUEST_ID = "x-gateway-request-id"
"""Response header that names the request, for traces."""
TRACE_CONTEXT = frozenset({"traceparent", "tracestate"})
"""Request headers with the caller's trace (https://www.w3.org/TR/trace-context/). They may be
stored with a request, but are never sent on."""


class ClientInfo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The end user's device that sent a request; its user agent is in the headers."""

    ip: str = ""
    """Its address, as seen by the gateway or a trusted proxy; empty if unknown."""
    id: str = ""
    """The id in its first-party cookie; stored only if the request identifies no user."""


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A request that the gateway received, or one that it will send.

    A received request has a ``url`` in origin form (``/push?x=1``, without the source's mount),
    lower-case header names, the decompressed body, and the gateway's ``id`` and arrival time. A
    request to send has an absolute ``url``.
    """

    method: str
    url: str
    headers: Mapping[str, str] = NO_HEADERS
    body: bytes = b""
    id: str = ""
    """The gateway's id of a received request; the ids of its events derive from it."""
    received_at: datetime = EPOCH
    """Arrival time, UTC."""
    client: ClientInfo | None = None
    """The device that sent a received request; None if a backend sent it."""
    also: "tuple[Request, ...]" = ()
    """Further requests that deliver the rest of the event. Each is sent after the vendor accepted
    the one before. A retry sends all of them again."""

    @property
    def path(self) -> str:
        """Return the path of the URL, without the query."""
        return self.url.partition("?")[0]

    @property
    def query(self) -> str:
        """Return the query of the URL, without the question mark."""
        return self.url.partition("?")[2]

    @property
    def client_id(self) -> str:
        """Return the id in the client's first-party cookie; empty if there is none."""
        return self.client.id if self.client is not None else ""


def with_query_values(url: str, values: Mapping[str, str]) -> str:
    """Return *url* with the query's values replaced by *values*, by name; all else stays."""
    path, mark, query = url.partition("?")
    return f"{path}?{in_form(query, values)}" if mark else url


def with_added_headers(request: Request, added: Mapping[str, str]) -> Request:
    """Return *request* with the *added* headers, which replace those of the same names.

    Args:
        request: the request.
        added: headers with lower-case names.
    """
    if not added:
        return request
    others = {name: text for name, text in request.headers.items() if name.lower() not in added}
    return msgspec.structs.replace(request, headers={**others, **added})


def in_form(text: str, values: Mapping[str, str]) -> str:
    """Return the form *text* with its values replaced by *values*, by name; all else stays."""
    parts = []
    for part in text.split("&"):
        name, equals, _ = part.partition("=")
        new = values.get(unquote_plus(name)) if equals else None
        parts.append(part if new is None else f"{name}={quote(new, safe='')}")
    return "&".join(parts)


@final
class Response(msgspec.Struct, frozen=True, gc=False):
    """A response of the gateway or of a vendor."""

    status: int
    headers: Mapping[str, str] = NO_HEADERS
    body: bytes = b""
    truncated: bool = False
    """Whether the body was longer than the part that was read."""
    unread: str = ""
    """Why headers or body could not be read; empty if they could."""


class Basic(NamedTuple):
    """User and password of a Basic header (RFC 7617, section 2)."""

    user: str
    password: str


def bearer(request: Request) -> str | None:
    """Return the token of a Bearer ``authorization`` header (RFC 6750, section 2.1)."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def basic(request: Request) -> Basic | None:
    """Return user and password of a Basic ``authorization`` header; None if it is not valid.

    The user ends at the first colon (RFC 7617, section 2); without a colon there is no password.
    Text that is not UTF-8 is not valid.
    """
    header = request.headers.get("authorization", "")
    return _known_basic(header) if len(header) <= SHORT_HEADER else _basic(header)


def _basic(header: str) -> Basic | None:
    scheme, _, packed = header.partition(" ")
    if scheme.lower() != "basic" or not packed.strip():
        return None
    try:
        text = base64.b64decode(packed.strip(), validate=True).decode()
    except ValueError:
        return None
    user, _, password = text.partition(":")
    return Basic(user, password)


_known_basic = lru_cache(256)(_basic)
"""Most senders use the same key for all their requests."""


def as_basic(user: str, password: str = "") -> str:
    """Return the value of a Basic ``authorization`` header (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
    "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
"""Headers of one connection, never forwarded (RFC 9110, section 7.6.1). ``proxy-*`` are for a proxy
that the client chose."""


FRAMING = HOP_BY_HOP | {"content-length", "expect", "host"}
"""Headers that whoever sends a message makes; no configuration sets them."""
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header's name (RFC 9110, section 5.1)."""


def header_name_problem(name: str, example: str) -> str:
    """Return why no message can have a header *name* set by a configuration; empty if it can."""
    if not HEADER_NAME.fullmatch(name):
        return f"{name!r} is not a header name; write {example}"
    if name.lower() in FRAMING:
        return f"cannot have {name}, which the gateway sets itself; remove it"
    return ""


def header_value_problem(text: str) -> str:
    """Return why *text* is not the value of a header that can be sent; empty if it is."""
    if not text.strip():
        return "the header's value is empty; write one, or remove the header"
    if not (text.isascii() and text.isprintable()):
        return "the header's value must be printable ASCII on one line"
    return ""


_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]+")
"""Characters that no header and no reason phrase may contain (RFC 9110, section 5.5). aiohttp
accepts them from servers but refuses to send them."""
FINAL = 200
"""The lowest status of a final response (RFC 9110, section 15)."""


def check_final_status(status: int) -> None:
    """Check that *status* is final. 101 is not: the gateway never asks to switch protocols.

    Raises:
        ValueError: the status is below 200.
    """
    if status < FINAL:
        raise ValueError(f"status {status} is not a final status")


def header_text(value: str) -> str:
    """Return a header's *value* as text that can be stored and sent.

    aiohttp turns bytes that are not UTF-8 into lone surrogates. They are read as ISO 8859-1, which
    such senders use (RFC 9110, section 5.5).
    """
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape").decode("latin-1")
    return value


def clean_header_text(value: str) -> str:
    """Return a header's *value* as `header_text` does, with spaces for control characters."""
    return _CONTROL.sub(" ", header_text(value))


def end_to_end_headers(
    headers: MultiMapping[str], without: Collection[str] = ()
) -> CIMultiDict[str]:
    """Return *headers* without those of the connection (`HOP_BY_HOP`); repeated headers stay.

    Control characters in a value become spaces.

    Args:
        headers: as received.
        without: lower-case names of further headers to remove.
    """
    named = ",".join(headers.getall("connection", ())).lower()
    dropped = {name.strip() for name in named.split(",")} if named else set[str]()
    kept: CIMultiDict[str] = CIMultiDict()
    for name, value in headers.items():
        low = name.lower()
        if low not in HOP_BY_HOP and low not in without and low not in dropped:
            kept.add(name, clean_header_text(value))
    return kept


def reason(said: str | None) -> str | None:
    """Return a reason phrase that can be sent: control characters become spaces."""
    return None if said is None else clean_header_text(said).strip()


NOSNIFF = {"x-content-type-options": "nosniff"}
"""The header that forbids browsers to guess the type of a response."""


def harden(response: web.StreamResponse) -> None:
    """Forbid content sniffing, and remove aiohttp's ``server`` header with its versions."""
    for name, value in NOSNIFF.items():
        response.headers.setdefault(name, value)
    if response.headers.get("server") == SERVER_SOFTWARE:
        del response.headers["server"]

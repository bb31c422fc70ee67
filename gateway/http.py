"""HTTP messages as plain values: requests, responses, headers, authorization."""

import base64
import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple
from urllib.parse import quote, unquote_plus

import msgspec
from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE
from multidict import CIMultiDict, MultiMapping

from gateway.event import EPOCH

NO_HEADERS: Mapping[str, str] = {}
REQUEST_ID = "x-gateway-request-id"
"""Response header that names the request, for traces."""
TRACE_CONTEXT = frozenset({"traceparent", "tracestate"})
"""Request headers that name the caller's trace (https://www.w3.org/TR/trace-context/). They may be
stored with a request, and never go on with it."""


class ClientInfo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The person's device behind a received request; its user agent is among the headers."""

    ip: str = ""
    """Its address as the entrance saw it; empty where that cannot be told."""
    id: str = ""
    """The id in its first-party cookie; stored only where the request names nobody else."""


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A request that the gateway received, or one that it is about to send.

    A received one has the origin form as its ``url`` (``/push?x=1``, a source's mount
    removed), lower-case header names, the body as sent after inflating, and the gateway's
    own ``id`` and arrival time. One to be sent has an absolute ``url``.
    """

    method: str
    url: str
    headers: Mapping[str, str] = NO_HEADERS
    body: bytes = b""
    id: str = ""
    """The gateway's id of a received request; ids of its events derive from it."""
    received_at: datetime = EPOCH
    """Arrival, UTC."""
    client: ClientInfo | None = None
    """Who sent a received request; None where that is a backend, which is nobody."""
    also: "tuple[Request, ...]" = ()
    """Further requests that one to be sent needs to say all of its event, each after the one
    before was taken. All are sent again where the event is tried again."""

    @property
    def path(self) -> str:
        """Return the path without the query."""
        return self.url.partition("?")[0]

    @property
    def query(self) -> str:
        """Return the query without its question mark."""
        return self.url.partition("?")[2]

    @property
    def client_id(self) -> str:
        """Return the id in the client's cookie, which names whom nothing else names; or empty."""
        return self.client.id if self.client is not None else ""


def with_query_values(url: str, values: Mapping[str, str]) -> str:
    """Return *url* with *values* in place of those that stand in its query; all else stays."""
    path, mark, query = url.partition("?")
    return f"{path}?{in_form(query, values)}" if mark else url


def in_form(text: str, values: Mapping[str, str]) -> str:
    """Return a form with *values* in place of those that stand in it; all else stays."""
    parts = []
    for part in text.split("&"):
        name, equals, _ = part.partition("=")
        new = values.get(unquote_plus(name)) if equals else None
        parts.append(part if new is None else f"{name}={quote(new, safe='')}")
    return "&".join(parts)


class Response(msgspec.Struct, frozen=True, gc=False):
    """An answer that the gateway gives, or one that a vendor gave."""

    status: int
    headers: Mapping[str, str] = NO_HEADERS
    body: bytes = b""
    truncated: bool = False
    """There was more of the body than was read."""
    unread: str = ""
    """Why what follows the status line could not be read; empty where it could."""


class Basic(NamedTuple):
    """What a Basic header says (RFC 7617, section 2)."""

    user: str
    password: str


def bearer(request: Request) -> str | None:
    """Return the token of a Bearer ``authorization`` header (RFC 6750, section 2.1)."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def basic(request: Request) -> Basic | None:
    """Return what a Basic ``authorization`` header says; None where it is none, or is not UTF-8.

    The user ends at the first colon (RFC 7617, section 2); without one there is no password.
    """
    scheme, _, packed = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic" or not packed.strip():
        return None
    try:
        text = base64.b64decode(packed.strip(), validate=True).decode()
    except ValueError:
        return None
    user, _, password = text.partition(":")
    return Basic(user, password)


def as_basic(user: str, password: str = "") -> str:
    """Return the ``authorization`` header of a user who may have a password (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
    "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
"""RFC 9110, section 7.6.1; ``proxy-*`` are between the client and a proxy of its choice."""


_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]+")
"""What no header and no reason phrase may hold (RFC 9110, section 5.5). aiohttp takes it from
servers and refuses to send it on."""
FINAL = 200
"""The least status of an answer (RFC 9110, section 15)."""


def check_final_status(status: int) -> None:
    """Pass the *status* of an answer; 101 goes over to another protocol, and nobody asked for that.

    Raises:
        ValueError: it is none.
    """
    if status < FINAL:
        raise ValueError(f"status {status} is no answer")


def header_text(value: str) -> str:
    """Return a header's *value* as text that can be stored and sent.

    Bytes that are no UTF-8 come in as lone surrogates; they are read as ISO 8859-1, which is what
    such senders mean (RFC 9110, section 5.5).
    """
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape").decode("latin-1")
    return value


def end_to_end_headers(
    headers: MultiMapping[str], without: Collection[str] = ()
) -> CIMultiDict[str]:
    """Return *headers*, repeated ones included, but for those of the connection.

    Control characters in a value become spaces.

    Args:
        headers: as received.
        without: lower-case names of further ones to leave out.
    """
    named = ",".join(headers.getall("connection", ())).lower()
    dropped = {name.strip() for name in named.split(",")} if named else set[str]()
    kept: CIMultiDict[str] = CIMultiDict()
    for name, value in headers.items():
        low = name.lower()
        if low not in HOP_BY_HOP and low not in without and low not in dropped:
            kept.add(name, _CONTROL.sub(" ", header_text(value)))
    return kept


def reason(said: str | None) -> str | None:
    """Return a reason phrase as it can be sent on: control characters become spaces."""
    return None if said is None else _CONTROL.sub(" ", header_text(said)).strip()


async def harden(_: web.Request, answer: web.StreamResponse) -> None:
    """Let no browser guess what an answer is, and tell nobody which versions run here."""
    answer.headers.setdefault("x-content-type-options", "nosniff")
    if answer.headers.get("server") == SERVER_SOFTWARE:
        del answer.headers["server"]

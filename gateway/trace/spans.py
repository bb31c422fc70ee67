"""What a span says of a record: plain values, of records that hold no credential.

Names of attributes follow https://opentelemetry.io/docs/specs/semconv/http/http-spans/ and
https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/; what is the gateway's own
begins with ``gateway.``. Bodies, headers, queries and users' ids are not among them.
"""

from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from gateway.doors import Source
from gateway.exchange import Request
from gateway.trace.interface import Received, Tried

SYSTEM = "cdp-gateway"
REFUSED = 400
BROKEN = 500
METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)
"""Any other is ``_OTHER``, so that a sender cannot invent values."""
OTHER = "_OTHER"

Kind = Literal["server", "client", "internal"]
Attributes = dict[str, str | int]


class Span(NamedTuple):
    """What a span says, its place in a trace aside."""

    name: str
    kind: Kind
    at: float
    """Unix seconds at which it began."""
    seconds: float
    attributes: Attributes
    failed: bool
    reason: str
    """Why it failed."""


def received(record: Received, request: Request, source: Source) -> Span:
    """Return the span of a *request* that *source* was sent.

    Its name has the path only where that is one of the vendor's: others are the sender's to invent.
    An answer below 500 is no failure of the one who gives it, as the conventions have it.
    """
    method = _method(record.message.method)
    name = "HTTP" if method == OTHER else method
    attributes: Attributes = {
        "url.path": source.mount + record.message.url.partition("?")[0],
        "url.scheme": "http",
        "http.request.body.size": record.message.size,
        "gateway.request.id": record.request,
        "gateway.source": record.source,
        "gateway.vendor": record.vendor,
        "gateway.events": record.events,
        "gateway.credential": record.credential,
        "gateway.outcome": record.fault or "accepted",
        "gateway.reason": record.reason,
    }
    if source.translates(request.method, request.path):
        attributes["http.route"] = source.mount + request.path
        name = f"{name} {source.mount}{request.path}"
    failed = (record.status or 0) >= BROKEN
    attributes |= _answered(method, record.status, failed=failed)
    seconds = record.seconds or 0.0
    said = _said(attributes)
    return Span(name, "server", record.at, seconds, said, failed, record.reason)


def tried(record: Tried) -> Span:
    """Return the span of a try; it takes no time, and is internal, where nothing was sent."""
    attributes: Attributes = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": "deliver",
        "messaging.operation.type": "send",
        "messaging.destination.name": record.destination,
        "messaging.message.id": record.event,
        "gateway.request.id": record.request,
        "gateway.source": record.source,
        "gateway.vendor": record.vendor,
        "gateway.route": record.route,
        "gateway.event.name": record.name,
        "gateway.outcome": record.outcome,
        "gateway.reason": record.reason,
        "gateway.attempt": record.number,
    }
    kind: Kind = "internal"
    if record.sent is not None:
        kind = "client"
        method = _method(record.sent.method)
        attributes |= _answered(method, record.status, failed=record.failed)
        attributes |= _address(record.sent.url)
    if record.number > 1:
        attributes["http.request.resend_count"] = record.number - 1
    name, seconds = f"deliver {record.destination}", record.seconds or 0.0
    said = _said(attributes)
    return Span(name, kind, record.at, seconds, said, record.failed, record.reason)


def _said(attributes: Attributes) -> Attributes:
    return {key: value for key, value in attributes.items() if value != ""}


def _method(method: str) -> str:
    return method if method in METHODS else OTHER


def _answered(method: str, status: int | None, *, failed: bool) -> Attributes:
    found: Attributes = {"http.request.method": method}
    if status:
        found["http.response.status_code"] = status
    if failed:
        found["error.type"] = str(status) if status and status >= REFUSED else OTHER
    return found


def _address(url: str) -> Attributes:
    """Return where a request went, without its query, in which some vendors have credentials."""
    bare = url.partition("?")[0]
    parts = urlsplit(bare)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {"url.full": bare, "server.address": parts.hostname or "", "server.port": port}

"""HTTP as plain values, so that plugins translate and never do I/O."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, unquote_plus

import msgspec

NO_HEADERS: Mapping[str, str] = {}
REQUEST_ID = "x-gateway-request-id"
"""Response header that names the request, for traces."""
TRACE_CONTEXT = frozenset({"traceparent", "tracestate"})
"""Request headers that name the caller's trace (https://www.w3.org/TR/trace-context/). They may be
stored with a request, and never go on with it."""
EPOCH = datetime.fromtimestamp(0, UTC)


class Client(msgspec.Struct, frozen=True, array_like=True, gc=False):
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
    client: Client | None = None
    """Who sent a received request; None where that is a backend, which is nobody."""

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


def in_query(url: str, values: Mapping[str, str]) -> str:
    """Return *url* with *values* in place of those that stand in its query; all else stays."""
    path, mark, query = url.partition("?")
    if not mark:
        return url
    parts = []
    for part in query.split("&"):
        name, equals, _ = part.partition("=")
        new = values.get(unquote_plus(name)) if equals else None
        parts.append(part if new is None else f"{name}={quote(new, safe='')}")
    return f"{path}?{'&'.join(parts)}"


class Response(msgspec.Struct, frozen=True, gc=False):
    """An answer that the gateway gives, or one that a vendor gave."""

    status: int
    headers: Mapping[str, str] = NO_HEADERS
    body: bytes = b""
    cut: bool = False
    """There was more of the body than was read."""


class Declined(msgspec.Struct, frozen=True):
    """A destination's format has no way to say this event; ``reason`` names why."""

    reason: str


class Delivered(msgspec.Struct, frozen=True):
    """The vendor has it."""


class RetryLater(msgspec.Struct, frozen=True):
    """The vendor may take it later; keep it in the spool.

    ``after`` is the least wait in seconds that the vendor asked for. ``cause`` is one of
    ``connect``, ``timeout``, ``reset``, ``protocol``, ``server`` (5xx), ``limit`` (429) and
    ``credential`` (401, 403: a person must mend the key, the event is fine).
    """

    reason: str
    after: float | None = None
    cause: str = "server"


class Refused(msgspec.Struct, frozen=True):
    """The vendor will never take it; it becomes a dead letter."""

    reason: str


Verdict = Delivered | RetryLater | Refused

TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})


def verdict_by_status(response: Response, now: datetime | None = None) -> Verdict:
    """Judge an answer by its status alone, as most vendors allow (RFC 9110, RFC 6585).

    ``now`` is needed only to read a ``retry-after`` that names a date.
    """
    status = response.status
    if 200 <= status < 300:  # noqa: PLR2004 - RFC 9110, section 15.3
        return Delivered()
    said = response.body[:200].decode("utf-8", "replace")
    reason = f"HTTP {status}: {said}" if said else f"HTTP {status}"
    if status in TEMPORARY or status > 504:  # noqa: PLR2004 - 5xx beyond 504 are all the server's
        cause = "limit" if status == 429 else "server"  # noqa: PLR2004 - RFC 6585
        return RetryLater(reason, retry_after(response.headers, now), cause)
    if status in {401, 403}:
        return RetryLater(reason, cause="credential")
    return Refused(reason)


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds that a ``retry-after`` header asks for (RFC 9110, section 10.2.3)."""
    asked = headers.get("retry-after", "").strip()
    if asked.isdigit():
        return float(asked)
    if not asked or now is None:
        return None
    try:
        return max(0.0, (parsedate_to_datetime(asked) - now).total_seconds())
    except (TypeError, ValueError):
        return None

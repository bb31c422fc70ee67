"""HTTP as plain values, so that plugins translate and never do I/O."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, unquote_plus, urlsplit

import msgspec
import orjson

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


def in_query(url: str, values: Mapping[str, str]) -> str:
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
    cut: bool = False
    """There was more of the body than was read."""
    unread: str = ""
    """Why what follows the status line could not be read; empty where it could."""


class Declined(msgspec.Struct, frozen=True):
    """A destination's format has no way to say this event; ``reason`` names why."""

    reason: str


class Delivered(msgspec.Struct, frozen=True):
    """The vendor has it."""


class RetryLater(msgspec.Struct, frozen=True):
    """The vendor may take it later; keep it in the spool.

    ``after`` is the least wait in seconds that the vendor asked for. ``cause`` is one of
    ``connect``, ``timeout``, ``reset``, ``protocol``, ``server`` (5xx), ``limit`` (429),
    ``credential`` (401, 403: a person must mend the key, the event is fine) and ``moved`` (a
    redirect: a person must mend the URL, the event is fine).
    """

    reason: str
    after: float | None = None
    cause: str = "server"


class Refused(msgspec.Struct, frozen=True):
    """The vendor will never take it; it becomes a dead letter."""

    reason: str


Verdict = Delivered | RetryLater | Refused

TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
MOVED = frozenset({301, 302, 303, 307, 308})
SAID = 200
"""Bytes of an answer that a reason quotes."""
LONGEST_AFTER = 366 * 24 * 3600.0
"""Seconds; a vendor that asks for more asks for that. Destinations have a bound of their own."""
EPOCH_SECONDS = 1e9
"""A number of seconds as large as this is a point in time, as some vendors' headers have it."""
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]*)?")


def verdict_by_status(response: Response, now: datetime | None = None) -> Verdict:
    """Judge an answer by its status alone, as most vendors allow (RFC 9110, RFC 6585).

    ``now`` is needed only to read a ``retry-after`` that names a date.
    """
    if 200 <= response.status < 300:  # noqa: PLR2004 - RFC 9110, section 15.3
        return Delivered()
    return _failed(response, response.status, f"HTTP {response.status}", now)


def verdict_as_told(response: Response, told: int, now: datetime | None = None) -> Verdict:
    """Judge an answer whose body tells another status, *told*, than its status line does."""
    return _failed(response, told, f"HTTP {response.status}, and its body says {told}", now)


def verdict_by_envelope(
    response: Response, failed: Callable[[Mapping[str, Any]], bool], now: datetime | None = None
) -> Verdict:
    """Judge an answer by its status, and by its body where that tells of a failure in a 2xx.

    A body that cannot be read, or is no JSON object, leaves the word to the status line.

    Args:
        response: the vendor's answer.
        failed: tells whether a body says that nothing was taken. A status between 400 and 599 in
            its ``code`` is taken for the answer's; without one the event is refused.
        now: for a ``retry-after`` that names a date.
    """
    said = envelope(response)
    if not said or not failed(said):
        return verdict_by_status(response, now)
    code = said.get("code")
    if type(code) is int and 400 <= code < 600:  # noqa: PLR2004 - RFC 9110, section 15.5 and 15.6
        return verdict_as_told(response, code, now)
    return Refused(_quoting(f"HTTP {response.status}, and its body says it failed", response))


def envelope(response: Response) -> Mapping[str, Any]:
    """Return the JSON object in an answer that says it went well; an empty one if there is none."""
    if not 200 <= response.status < 300:  # noqa: PLR2004 - RFC 9110, section 15.3
        return {}
    try:
        said = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        return {}
    return said if type(said) is dict else {}


def _quoting(what: str, response: Response) -> str:
    said = response.body[:SAID].decode("utf-8", "replace")
    return f"{what}: {said}" if said else what


def _failed(response: Response, status: int, what: str, now: datetime | None) -> Verdict:
    reason = _quoting(what, response)
    if status in TEMPORARY or status > 504:  # noqa: PLR2004 - 5xx beyond 504 are all the server's
        cause = "limit" if status == 429 else "server"  # noqa: PLR2004 - RFC 6585
        return RetryLater(reason, retry_after(response.headers, now), cause)
    if status in {401, 403}:
        return RetryLater(reason, cause="credential")
    if status in MOVED:
        return RetryLater(_moved(status, response), cause="moved")
    return Refused(reason)


def _moved(status: int, response: Response) -> str:
    """Return what a redirect asks for; what stands in its query is nobody's business."""
    try:
        parts = urlsplit(response.headers.get("location", ""))
        to = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    except ValueError:
        to = ""
    where = f"to {to}" if to else "and does not say where to"
    return f"HTTP {status}: the vendor moved {where}; change the url of this destination"


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds that a ``retry-after`` header asks for (RFC 9110, section 10.2.3).

    None where there is none, or it is neither a number nor a date, or it is negative; 0 where it
    is in the past. A fraction, which the RFC does not have, is taken as it is.
    """
    asked = headers.get("retry-after", "").strip()
    if (seconds := wait_of(asked)) is not None or not asked or now is None:
        return seconds
    try:
        moment = parsedate_to_datetime(asked)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return _bounded((moment - now).total_seconds())
    except (TypeError, ValueError, OverflowError, IndexError):
        return None


def wait_of(asked: str, now: datetime | None = None) -> float | None:
    """Return the wait in seconds that a header asks for as a number; None where it is none.

    Args:
        asked: seconds; where *now* is given, also the time in seconds since 1970.
        now: when the answer came.
    """
    if not _SECONDS.fullmatch(asked.strip()):
        return None
    seconds = float(asked)
    if now is not None and EPOCH_SECONDS <= seconds < 100 * EPOCH_SECONDS:
        seconds -= now.timestamp()
    return _bounded(seconds)


def _bounded(seconds: float) -> float:
    return min(max(0.0, seconds), LONGEST_AFTER)

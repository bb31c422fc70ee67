"""Verdicts: what a vendor's response means for a delivery."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, final
from urllib.parse import urlsplit

import msgspec
import orjson

from gateway.http import Response


@final
class Declined(msgspec.Struct, frozen=True):
    """The destination's format cannot express this event; ``reason`` says why."""

    reason: str


@final
class Delivered(msgspec.Struct, frozen=True):
    """The vendor accepted the event."""


@final
class RetryLater(msgspec.Struct, frozen=True):
    """The vendor may accept the event later: it stays in the spool.

    ``after`` is the shortest wait in seconds that the vendor asked for. ``cause`` is one of
    ``connect``, ``timeout``, ``reset``, ``protocol``, ``server`` (5xx), ``limit`` (429),
    ``credential`` (401, 403: the key is wrong, not the event) and ``moved`` (a redirect: the URL
    is wrong, not the event).
    """

    reason: str
    after: float | None = None
    cause: str = "server"


@final
class Refused(msgspec.Struct, frozen=True):
    """The vendor will never accept the event: it becomes a dead letter."""

    reason: str


Verdict = Delivered | RetryLater | Refused
"""What `Output.verdict` returns."""

TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
MOVED = frozenset({301, 302, 303, 307, 308})
SAID = 200
"""Bytes of the response body that a reason quotes."""
LONGEST_AFTER = 366 * 24 * 3600.0
"""Longest wait in seconds; a longer one is shortened to it. Destinations have their own limit."""
EPOCH_SECONDS = 1e9
"""From this number of seconds on, a value is a Unix time: some vendors send one in headers."""
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]*)?")


def verdict_by_status(response: Response, now: datetime | None = None) -> Verdict:
    """Judge a response by its status alone, as most vendors allow (RFC 9110, RFC 6585).

    ``now`` is only needed to read a ``retry-after`` with a date.
    """
    if 200 <= response.status < 300:  # noqa: PLR2004 - RFC 9110, section 15.3
        return Delivered()
    return _failed(response, response.status, f"HTTP {response.status}", now)


def verdict_as_told(response: Response, told: int, now: datetime | None = None) -> Verdict:
    """Judge a response whose body contains another status, *told*, than its status line."""
    return _failed(response, told, f"HTTP {response.status}, but status {told} in the body", now)


def verdict_by_envelope(
    response: Response, failed: Callable[[Mapping[str, Any]], bool], now: datetime | None = None
) -> Verdict:
    """Judge a response by its status, and a 2xx also by its body.

    If the body is not a JSON object, only the status counts.

    Args:
        response: the vendor's response.
        failed: returns whether a body reports a failure. Then a status between 400 and 599 in its
            ``code`` replaces the response's status; without one the event is refused.
        now: for a ``retry-after`` with a date.
    """
    said = envelope(response)
    if not said or not failed(said):
        return verdict_by_status(response, now)
    code = said.get("code")
    if type(code) is int and 400 <= code < 600:  # noqa: PLR2004 - RFC 9110, section 15.5 and 15.6
        return verdict_as_told(response, code, now)
    return Refused(_quoting(f"HTTP {response.status}, but a failure in the body", response))


def envelope(response: Response) -> Mapping[str, Any]:
    """Return the JSON object in the body of a 2xx response; an empty one if there is none."""
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
    """Return the reason for a redirect; the query of its URL may hold secrets and is left out."""
    try:
        parts = urlsplit(response.headers.get("location", ""))
        to = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    except ValueError:
        to = ""
    where = f"to {to}" if to else "without a new address"
    return f"HTTP {status}: redirected {where}; change the url of this destination"


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the wait in seconds of a ``retry-after`` header (RFC 9110, section 10.2.3).

    None if there is no header, or its value is negative or neither a number nor a date; 0 if the
    date is in the past. Fractions are accepted, although the RFC has none.
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
    """Return the wait in seconds of a header with a number; None for anything else.

    Args:
        asked: seconds; with *now*, also a Unix time.
        now: when the response came.
    """
    if not _SECONDS.fullmatch(asked.strip()):
        return None
    seconds = float(asked)
    if now is not None and EPOCH_SECONDS <= seconds < 100 * EPOCH_SECONDS:
        seconds -= now.timestamp()
    return _bounded(seconds)


def _bounded(seconds: float) -> float:
    return min(max(0.0, seconds), LONGEST_AFTER)

"""Verdicts: what a vendor's response means for the delivery."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec
import orjson

from gateway.http import Response


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

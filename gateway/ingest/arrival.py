"""Request ids, the context of one request, and the observer of all requests."""

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from gateway.errors import Fault, Rejected
from gateway.event import Event
from gateway.http import Request
from gateway.ingest.sources import Source
from gateway.routing.router import RouteOutcome

FIRST = 1_600_000_000
"""Unix seconds; no id is older."""

_ID = re.compile(r"([0-9a-f]{16})[0-9a-f]{8}(?:-\d+)?")


def time_of_id(identity: str) -> float | None:
    """Return the arrival time in an id of a request or event, in Unix seconds.

    None if it is not such an id.
    """
    found = _ID.fullmatch(identity)
    at = int(found[1], 16) / 1e9 if found else 0.0
    return at if FIRST <= at <= time.time() else None


class RequestIdGenerator:
    """Generates ids such as ``18a3f0c2b7d4e100a1b2c3d4``, unique and in order of arrival.

    The first 16 hexadecimal digits are Unix nanoseconds, increased if the clock does not rise. The
    last 8 are random per process. The last digit is odd if the request is traced, so that this is
    known after a restart too (`gateway.trace.recorder`).
    """

    def __init__(self) -> None:
        own = secrets.randbits(32)
        self._own = (f"{own & ~1:08x}", f"{own | 1:08x}")
        self._last = 0

    def next(self, *, traced: bool = False) -> str:
        """Return a new id."""
        now = time.time_ns()
        self._last = now if now > self._last else self._last + 1
        return f"{self._last:016x}{self._own[traced]}"


MARKS = frozenset("13579bdf")
"""Last digits of the ids of traced requests."""


def is_sampled(request_id: str) -> bool:
    """Return whether the request with that id was selected for tracing."""
    return request_id[-1:] in MARKS


NO_EVENTS: frozenset[int] = frozenset()
NOBODY: Mapping[int, Mapping[str, bool]] = {}


class RequestContext:
    """The facts about one request, collected while it is processed.

    Attributes:
        request: as received, with all headers, without its body.
        source: its source; any candidate if the key could not decide.
        candidate: the first source that it could be for, which its sampling counts for.
        key: the key that the client sent.
        stored: the request as the spool stores it; None if it did not get so far.
        events: its events.
        kept: its events without duplicates; None if none were stored.
        consented: stored consent of the events' users, by event index.
        turns: the outcome of each route for each event.
        suppressed: the indexes of events about people on the suppression list; nothing of them is
            in ``events``.
        private: all its events are about such people: nothing of it may be recorded.
        refused: why it was rejected.
        relayed: it was not an event; it was relayed, or answered by the gateway.
        status: status of the response.
        seconds: seconds until the response was ready.
    """

    __slots__ = (
        "candidate", "consented", "events", "kept", "key", "private", "refused", "relayed",
        "request", "seconds", "source", "status", "stored", "suppressed", "turns",
    )  # fmt: skip

    def __init__(self, request: Request, source: Source) -> None:
        self.request = request
        self.source = source
        self.candidate = source.name
        self.key: str | None = None
        self.stored: Request | None = None
        self.events: Sequence[Event] = ()
        self.kept: Sequence[Event] | None = None
        self.consented = NOBODY
        self.turns: Sequence[Sequence[RouteOutcome]] = ()
        self.suppressed = NO_EVENTS
        self.private = False
        self.refused: Rejected | None = None
        self.relayed = False
        self.status = 0
        self.seconds = 0.0


class IngestObserver(Protocol):
    """Observes every incoming request."""

    def sample(self, source: str) -> bool:
        """Return whether to trace the next request, which is for *source*."""

    def no_source(self, fault: Fault = Fault.NOT_FOUND) -> None:
        """Count a request for no source."""

    def failed(self, arrival: RequestContext) -> None:
        """Count a relayed request that failed because of a bug."""

    def received(self, arrival: RequestContext) -> None:
        """Record a request whose response is ready."""

"""Ids of requests: unique over processes and restarts, and in order of arrival."""

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
"""Unix seconds before which there was no id."""

_ID = re.compile(r"([0-9a-f]{16})[0-9a-f]{8}(?:-\d+)?")


def time_of_id(identity: str) -> float | None:
    """Return the Unix seconds at which the request of an id came; None where it is no such id.

    The id may be that of an event of it.
    """
    found = _ID.fullmatch(identity)
    at = int(found[1], 16) / 1e9 if found else 0.0
    return at if FIRST <= at <= time.time() else None


class RequestIdGenerator:
    """A source of ids such as ``18a3f0c2b7d4e100a1b2c3d4``.

    Sixteen hexadecimal digits of Unix nanoseconds, made to rise even where the clock does not,
    then eight that are this process's own. The last of these is odd where the request is traced,
    so that whoever has the id knows, after a restart too (`gateway.trace.recorder`).
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
"""The last digit of a request id that is traced (`gateway.ingest.arrival`)."""


def is_sampled(request_id: str) -> bool:
    """Tell whether the request of that id was chosen to be traced when it came."""
    return request_id[-1:] in MARKS


NOBODY: Mapping[int, Mapping[str, bool]] = {}


class RequestContext:
    """A request on its way in; whoever learns something of it notes it here.

    Attributes:
        request: as received, with every header, without its body.
        source: that it is for; any of several where the credential could not tell.
        key: the credential that came along.
        stored: as the spool keeps it; None where it did not come so far.
        events: those in it.
        kept: those that do not repeat what came before; None where none does.
        consented: what was remembered of the events' users, by the event's index.
        turns: what the routes did with each event.
        refused: why it became no events.
        relayed: it was no event, and was passed through or answered.
        status: of the answer.
        seconds: until the answer was ready.
    """

    __slots__ = (
        "consented", "events", "kept", "key", "refused", "relayed", "request", "seconds",
        "source", "status", "stored", "turns",
    )  # fmt: skip

    def __init__(self, request: Request, source: Source) -> None:
        self.request = request
        self.source = source
        self.key: str | None = None
        self.stored: Request | None = None
        self.events: Sequence[Event] = ()
        self.kept: Sequence[Event] | None = None
        self.consented = NOBODY
        self.turns: Sequence[Sequence[RouteOutcome]] = ()
        self.refused: Rejected | None = None
        self.relayed = False
        self.status = 0
        self.seconds = 0.0


class IngestObserver(Protocol):
    """What sees every request on its way in."""

    def sample(self) -> bool:
        """Tell whether the request that comes now is traced."""

    def no_source(self, fault: Fault = Fault.NOT_FOUND) -> None:
        """Count a request that was for no source."""

    def failed(self, arrival: RequestContext) -> None:
        """Count a request that met a mistake of ours."""

    def received(self, arrival: RequestContext) -> None:
        """Note that the answer to a request is ready."""

"""What a trace is, and how it is looked at: the values, and what serves them.

A trace is what became of one request: what was received, what it was parsed into, what each route
said of each event, and every try to deliver it. No credential is in any of it: they are hidden
before anything is written or handed to those who watch.
"""

from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Literal, Protocol, Self

import msgspec

from gateway.event import Event
from gateway.trace.records import (
    FAILED,
    Change,
    Decided,
    Loss,
    Message,
    Outcome,
    Parsed,
    Received,
    Trace,
    Tried,
)

__all__ = [
    "EVERYTHING",
    "FAILED",
    "Change",
    "Decided",
    "Hub",
    "Kind",
    "Line",
    "Loss",
    "Message",
    "Observability",
    "Outcome",
    "Parsed",
    "Received",
    "Subscription",
    "Trace",
    "Traces",
    "Tried",
    "Which",
]

Kind = Literal["request", "event", "delivery"]


class Line(msgspec.Struct, frozen=True):
    """One thing that happened, in short: what ``gateway tail`` prints."""

    number: int
    """Rises; where to go on from. 0 for what is shown and not kept."""
    kind: Kind
    at: float
    """Unix seconds."""
    request: str
    source: str
    outcome: Outcome
    event: str = ""
    """Its id; empty for a request."""
    destination: str = ""
    name: str = ""
    user_id: str = ""
    anonymous_id: str = ""
    reason: str = ""
    status: int | None = None
    seconds: float | None = None

    @property
    def failed(self) -> bool:
        """Tell whether something went wrong."""
        return self.outcome in FAILED


class Which(msgspec.Struct, frozen=True):
    """Which lines; every field that is set must hold."""

    source: str | None = None
    destination: str | None = None
    """Deliveries to this one."""
    name: str | None = None
    """The neutral name of the event."""
    user: str | None = None
    """A user id or an anonymous id."""
    failed: bool = False
    """Only what went wrong."""
    since: float | None = None
    """Unix seconds, inclusive."""
    until: float | None = None
    """Unix seconds, exclusive."""

    def takes(self, line: Line) -> bool:
        """Tell whether *line* is one of them."""
        return (
            self.source in {None, line.source}
            and self.destination in {None, line.destination}
            and self.name in {None, line.name}
            and (self.user is None or self.user in {line.user_id, line.anonymous_id})
            and (line.failed or not self.failed)
            and (self.since is None or line.at >= self.since)
            and (self.until is None or line.at < self.until)
        )

    def concerns(self, source: str, to: str, events: Sequence[Event], *, failed: bool) -> bool:
        """Tell whether lines may be among them that are about *events* of *source*.

        They are on their way to *to*, or it is empty, and they have just come; they *failed*, or
        not.
        """
        # Asked about every event while anybody watches: what is not wanted must cost nothing.
        if (
            (self.failed and not failed)
            or (self.source is not None and self.source != source)
            or (self.destination is not None and self.destination != to)
            or (self.name is not None and all(self.name != (e.name or e.type) for e in events))
        ):
            return False
        user = self.user
        return user is None or any(user in (one.user_id, one.anonymous_id) for one in events)


EVERYTHING = Which()


class Traces(Protocol):
    """The traces that are kept. Raises TraceError where they cannot be read."""

    async def find(
        self, which: Which = EVERYTHING, before: int | None = None, limit: int = 50
    ) -> list[Line]:
        """Return the newest lines, the newest first; *before* goes on behind a line's number."""
        ...

    async def show(self, identity: str, limit: int = 20) -> list[Trace]:
        """Return what is kept under an id, the newest first.

        It is the id of a request or an event, a message id, a user id or an anonymous id.
        """
        ...


class Subscription(Protocol):
    """Lines as they happen, until the reader leaves or is too slow.

    It is a context manager and an iterator: ``with hub.subscribe(which) as lines: async for``.
    The iterator ends where the reader did not keep up, or the gateway stops.
    """

    dropped: bool
    """The reader was too slow, so that it gets no more."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening."""
        ...

    def __aiter__(self) -> AsyncIterator[Line]:
        """Return the lines to come."""
        ...

    def batches(self) -> AsyncIterator[Sequence[Line]]:
        """Return the lines to come, each time as many as there are by then."""
        ...


class Hub(Protocol):
    """Hands out what happens to those who watch; nobody waits for them."""

    def subscribe(self, which: Which = EVERYTHING, room: int = 1000) -> Subscription:
        """Return the lines to come; one who lets *room* of them pile up is dropped.

        While anybody watches, whatever happens is handed out, sampled or not. Call it, and leave
        it, on the event loop.
        """
        ...


class Observability(Protocol):
    """What the running gateway gives to those who show it: ``Gateway.observed``."""

    @property
    def traces(self) -> Traces:
        """Return the traces that are kept."""

    @property
    def hub(self) -> Hub:
        """Return what happens now."""

"""Replays: jobs that deliver retained requests again, and the store that keeps both."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import msgspec

from gateway.event import Event
from gateway.spool.values import Entry

ReplayState = Literal["running", "paused", "done", "cancelled"]


class ReplaySelection(msgspec.Struct, frozen=True):
    """The retained events that a replay delivers, and how; every filter that is set must match."""

    to: str
    """The destination."""
    since: float
    """Unix seconds at which the request arrived, inclusive."""
    until: float | None = None
    """Exclusive; None for the time at which the replay began."""
    source: str | None = None
    name: str | None = None
    """The neutral name of the event."""
    when: str | None = None
    """A condition, as in a route."""
    through_routes: bool = False
    """Only events that a route leads to the destination now, with the steps of that route."""
    again: bool = False
    """Also events that the destination got or was meant to get."""
    rate: float | None = None
    """Most events per second; None for no limit."""
    dry_run: bool = False
    """Count the events, and deliver nothing."""


class ReplayCounts(msgspec.Struct, frozen=True):
    """What a replay did so far."""

    requests: int = 0
    """Retained requests that it read."""
    queued: int = 0
    """Events that it gave to the destination; in a dry run those that it would give."""
    repeated: int = 0
    """Events that it left out because the destination had them already."""
    unreadable: int = 0
    """Requests whose plugin is gone or no longer reads them."""


class ReplayJob(msgspec.Struct, frozen=True):
    """A replay: a cursor over the log."""

    id: int
    selection: ReplaySelection
    state: ReplayState
    began: float
    """Unix seconds."""
    first: int
    """The seq after which it began."""
    position: int
    """The seq up to which it has read the log."""
    upto: int
    """The seq at which it ends."""
    counts: ReplayCounts = ReplayCounts()

    @property
    def progress(self) -> float:
        """Return how much of the log it has read, from 0 to 1."""
        whole = self.upto - self.first
        return (self.position - self.first) / whole if whole else 1.0


class ReplayStep(msgspec.Struct, frozen=True):
    """A move of a replay's cursor. It counts only if the replay runs and is still at ``after``."""

    job: int
    after: int
    upto: int
    counts: ReplayCounts
    """What is added to the counts."""


class RetainedEntry(NamedTuple):
    """A request in the log that can be replayed."""

    seq: int
    at: float
    """Unix seconds at which it was stored, by the clock of the spool."""
    entry: Entry
    replayed: frozenset[int]
    """Deliveries of it that replays gave to the destination."""


@runtime_checkable
class ReplayableStore(Protocol):
    """A spool that retains what is delivered, and keeps replays of it."""

    async def begin_replay(self, selection: ReplaySelection) -> ReplayJob:
        """Store a new replay of what is in the log now.

        Raises:
            GatewayError: a replay to the same destination is not finished.
            SpoolError: the store fails.
        """
        ...

    async def replays(self) -> list[ReplayJob]:
        """Return the last replays, the newest first."""
        ...

    async def replay(self, job: int) -> ReplayJob | None:
        """Return a replay, as it is once all steps before are recorded."""
        ...

    async def set_replay(self, job: int, state: ReplayState) -> ReplayJob | None:
        """Set the state of a replay that is not finished; return it, None for an unknown one."""
        ...

    async def retained(self, job: ReplayJob, after: int, limit: int) -> Sequence[RetainedEntry]:
        """Return the next requests of a replay after seq *after*, without replayed copies."""
        ...

    async def replay_entry(
        self, entry: Entry, events: Sequence[Event], step: ReplayStep
    ) -> int | None:
        """Append a copy of a retained entry, and move the replay, both or neither.

        Returns:
            The seq of the copy; None if the replay does not run or is elsewhere.

        Raises:
            SpoolFull: at a limit.
            SpoolError: the store fails.
        """
        ...

    async def skip_replayed(self, step: ReplayStep) -> bool:
        """Move a replay past requests of which it delivers nothing; return whether it moved."""
        ...

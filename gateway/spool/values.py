"""Value types of the spool's interface."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from gateway.errors import SpoolError
from gateway.http import Request

Cause = Literal["refused", "expired", "unrenderable", "overflow"]
REPLAYS = "\0replays"
"""The lane of replayed deliveries; no source can have this name."""


Deliveries = tuple[int, ...]
"""The numbers of deliveries to one destination, sorted: see `delivery_number`."""
Routes = dict[str, dict[str, Deliveries]]
_EVENTS = 1 << 32
"""Greater than the number of events of any request."""


def delivery_number(event: int, way: int = 0) -> int:
    """Return the number of a delivery, unique per request and destination.

    For the first delivery of an event to a destination it is the event's index. Further deliveries
    of the same event have *way* 1, 2 and so on.
    """
    return event + way * _EVENTS


def event_index(number: int) -> int:
    """Return the index of the event that delivery *number* delivers."""
    return number % _EVENTS


def copy_number(number: int) -> int:
    """Return the number of deliveries of the same event before delivery *number*."""
    return number // _EVENTS


class SpoolFull(SpoolError):
    """A limit is reached; the sender should try again.

    Attributes:
        retry_after: seconds after which to try again.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Outdated(SpoolError):
    """The spool evicted deliveries (`Evicted`) after the report was made."""


class Fenced(SpoolError):
    """Another process has taken the shard over: whoever worked on it stops, and reports nothing."""


class Unreachable(SpoolError):
    """Nothing answers where the spool is; it may do so again, and what was asked may be done."""


class DiskFull(SpoolError):
    """The disk is full: stored deliveries go on, new entries are not accepted."""


MOVE_WINDOW = 900.0
"""Seconds for which a spool knows what was moved to it, so that a repeat is not stored again."""
NO_ROUTES: Mapping[str, Deliveries] = {}


class Entry(msgspec.Struct, frozen=True):
    """One accepted request and the destinations of its events."""

    id: str
    """The gateway's request id. A replayed entry keeps the id of the original request."""
    source: str
    request: Request
    targets: Mapping[str, Deliveries]
    """Deliveries by destination name; see `delivery_number`."""
    vendor: str = ""
    """The vendor whose format the request is in; needed to parse it again."""
    routes: Mapping[str, Mapping[str, Deliveries]] = {}
    """Deliveries by destination name and route, for routes with steps. A delivery that is not in it
    takes the event as it came."""
    dropped: Mapping[int, tuple[tuple[str | int, ...], ...]] = {}
    """Paths that the source's tracking plan removed, by event index. Each path is valid after the
    removals before it."""
    users: tuple[int, ...] = ()
    """The `Intake.user_hash` of each event's user. Empty in entries of earlier versions."""
    replay: int = 0
    """The replay that delivers a retained request again with this entry; 0 for none."""

    @property
    def lane(self) -> str:
        """Return whose turns its deliveries take: those of its source, or of replays."""
        return REPLAYS if self.replay else self.source

    def user(self, number: int) -> int:
        """Return the user hash of a delivery; 0 if it has no user, or the user is unknown."""
        event = number % _EVENTS
        return self.users[event] if event < len(self.users) else 0

    def route(self, destination: str, number: int) -> str:
        """Return the route whose steps apply to a delivery; empty if there are none."""
        for route, numbers in self.routes.get(destination, NO_ROUTES).items():
            if number in numbers:
                return route
        return ""


class DedupWindow(msgspec.Struct, frozen=True):
    """The events of an entry to deduplicate, and for how long."""

    ids: Mapping[int, str]
    """The sender's event ids, by event index; ids of other sources are different ids."""
    window: float
    """Seconds after the first occurrence; repeats do not extend it."""


class Appended(msgspec.Struct, frozen=True):
    """Where an entry is in the log, and what it lost on the way."""

    seq: int
    """0 if nothing of it was left to store."""
    repeats: frozenset[int] = frozenset()
    """Indexes of the events that are known to be duplicates."""


class ConsentRecord(msgspec.Struct, frozen=True):
    """The latest consent of one user for one category."""

    granted: bool
    at: float
    """Unix seconds."""


class StoredConsent(msgspec.Struct, frozen=True):
    """All stored consent of a user."""

    user: bytes
    until: float
    """Unix seconds at which it is deleted."""
    records: Mapping[str, ConsentRecord]
    """By category."""


class ReplyWanted(NamedTuple):
    """A client waits for the vendor's response to an entry."""

    node: str
    """The gateway whose client it is."""
    seconds: float
    """How long it waits, at most, from when the entry is stored."""


class LogRecord(msgspec.Struct, frozen=True):
    """An entry with its seq: its position in the log."""

    seq: int
    entry: Entry
    reply: ReplyWanted | None = None
    """Who waits for the vendor's response. Only the followers of a shared log get it."""


class UnreadEntry(msgspec.Struct, frozen=True):
    """The pending deliveries of one entry for one destination."""

    seq: int
    lane: str
    """As in `Entry.lane`."""
    vendor: str
    numbers: Deliveries
    users: tuple[int, ...]
    """The user hash of each delivery, as in `Entry.users`; 0 if unknown."""


class UnreadPage(msgspec.Struct, frozen=True):
    """One page of the pending deliveries of a destination, without the requests."""

    items: list[UnreadEntry]
    scanned: int
    """The page covers all entries up to this seq: continue after it."""


class Attempt(msgspec.Struct, frozen=True):
    """One attempt to deliver by HTTP."""

    at: float
    """Unix seconds."""
    status: int | None
    """None if no response came."""
    latency: float
    """Seconds."""
    response_excerpt: str
    """The start of the response, or the error."""
    isolated: float = 0.0
    """Share of other users' events that the vendor accepted since the previous attempt: from 0
    (none) to 1 (nearly all)."""


class DeliveryRef(msgspec.Struct, frozen=True):
    """One delivery of a destination: number ``index`` of the request at ``seq``."""

    seq: int
    index: int

    @property
    def event(self) -> int:
        """Return the index of the event within its request."""
        return self.index % _EVENTS

    @property
    def copy(self) -> int:
        """Return the number of deliveries of the same event before this one."""
        return self.index // _EVENTS


class WaitingDelivery(msgspec.Struct, frozen=True):
    """A delivery that waits for its next attempt or, ``parked``, for its user's earlier event."""

    mark: DeliveryRef
    due: float
    """Unix seconds of the next attempt; ignored for a parked delivery."""
    attempts: tuple[Attempt, ...] = ()
    reason: str = ""
    user: str = ""
    """The ordering key; empty if the event has no user."""
    event_name: str = ""
    parked: bool = False


class FailedDelivery(msgspec.Struct, frozen=True):
    """A delivery that its worker gave up: the spool makes it a dead letter."""

    mark: DeliveryRef
    cause: Cause
    reason: str
    at: float
    """Unix seconds."""
    attempts: tuple[Attempt, ...] = ()
    rendered: bytes = b""
    """The last request sent, as JSON with the key redacted; may be empty."""
    event_name: str = ""
    user: str = ""


class Progress(msgspec.Struct, frozen=True):
    """A worker's report about its destination, applied completely or not at all.

    ``cursor``: every delivery at or before it is finished or an exception, including the exceptions
    of this report. It never moves back; 0 leaves it unchanged. ``later`` adds or replaces waiting
    deliveries. ``done`` lists finished deliveries that waited, that are after the cursor, or that
    the spool evicted (``Evicted``) but that arrived nevertheless. ``dead`` lists deliveries,
    waiting or not, that become dead letters.

    ``moved`` lists deliveries, waiting or not, that another spool has now: here they are neither
    pending nor accepted any more.

    ``delivered``, ``declined`` and ``shadowed`` are total counts of the destination's deliveries
    with that outcome, including this report. They continue from ``Shard.balances`` at the worker's
    start and never decrease; None leaves them unchanged.
    """

    cursor: int = 0
    later: Sequence[WaitingDelivery] = ()
    done: Sequence[DeliveryRef] = ()
    dead: Sequence[FailedDelivery] = ()
    moved: Sequence[DeliveryRef] = ()
    delivered: int | None = None
    declined: int | None = None
    shadowed: int | None = None


class Balance(msgspec.Struct, frozen=True):
    """The number of accepted deliveries of one destination since the start, and their outcomes."""

    accepted: int
    """Deliveries of appended entries, without duplicates. A delivery that succeeds after its dead
    letter was dropped or replayed counts again."""
    delivered: int
    declined: int
    shadowed: int
    dead_letters: int
    """Those that exist."""
    dropped: int
    """Dead letters that an operator deleted, and deliveries dropped by the policy ``drop``."""
    pending: int
    """In the backlog, retrying or parked."""

    @property
    def unaccounted(self) -> int:
        """Return how many accepted deliveries have no outcome and are not pending; 0 is right."""
        ended = self.delivered + self.declined + self.shadowed
        return self.accepted - (ended + self.dead_letters + self.dropped + self.pending)


class BacklogLimit(msgspec.Struct, frozen=True):
    """How much may be pending for one destination, and what happens above that.

    ``refuse``: append raises SpoolFull. ``dead_letter``: the oldest become dead letters (overflow).
    ``drop``: the oldest and the expired are dropped; nothing becomes a dead letter.
    """

    max_backlog: int | None = None
    """Entries after the cursor plus waiting deliveries."""
    overflow: Literal["refuse", "dead_letter", "drop"] = "refuse"


class SpoolLimits(msgspec.Struct, frozen=True):
    """Limits of the whole store.

    ``max_bytes``: used pages, including dead letters; the write-ahead log adds a few MB.
    ``max_age``: seconds after which a pending delivery becomes a dead letter (expired).
    ``retain``: seconds for which an entry stays after it was appended, even if all its deliveries
    are finished; less if more than half of ``max_bytes`` is used. None is for not at all.
    """

    max_bytes: int | None = None
    max_age: float | None = None
    retain: float | None = None


class GivenUp(msgspec.Struct, frozen=True):
    """How many deliveries the spool evicted by itself since it was opened."""

    dead: int = 0
    """Deliveries that became dead letters."""
    dropped: int = 0
    """Dropped deliveries, and dead letters deleted to free space."""


class QueueDepth(msgspec.Struct, frozen=True):
    """The queue of one destination."""

    cursor: int
    """0 if it is the sum of several shards."""
    backlog: int
    """Entries after the cursor that target the destination."""
    retrying: int
    parked: int
    dead_letters: int
    oldest: float | None
    """Unix seconds at which the oldest pending delivery was appended; None if none is pending."""
    oldest_unread: float | None
    """The same of the oldest entry after the cursor: it waits for neither a retry nor an earlier
    event of its user."""


class DeadLettersReplayed(msgspec.Struct, frozen=True):
    """Notice: dead letters were replayed, by this or another process; read the exceptions again."""

    destination: str


class Evicted(msgspec.Struct, frozen=True):
    """Notice: the spool evicted deliveries by itself (expired, overflow).

    The worker must no longer deliver those at or before ``cursor`` in the log, and the waiting ones
    in ``marks``. If one succeeds nevertheless (it was in flight, or not yet settled), report it in
    ``Progress.done``, which deletes its dead letter. After a disk failure a notice may come twice.
    """

    destination: str
    cursor: int
    marks: tuple[DeliveryRef, ...]
    dropped: int = 0
    """Number of deliveries dropped without a dead letter."""
    letters: tuple[int, ...] = ()
    """Ids of the new dead letters; only the first if there are many."""
    dead: int = 0
    """Number of new dead letters."""


SpoolNotice = DeadLettersReplayed | Evicted


Waits = Mapping[tuple[str, int], WaitingDelivery | None]


class PendingRequest(msgspec.Struct, frozen=True):
    """A request in the log and its pending deliveries."""

    entry: Entry
    """The original entry; if only replays are in the log, the first of them with its targets."""
    waits: Waits
    """Pending deliveries by destination and number: None for one in the backlog, else the retrying
    or parked delivery."""
    whole: bool = True
    """Whether the entry is the original one with all targets."""


class FoundEvents(msgspec.Struct, frozen=True):
    """Stored events of somebody: the message id of each, by event index and seq of its request."""

    log: Mapping[int, Mapping[int, str]]
    letters: Mapping[int, Mapping[int, str]]
    """In the requests of dead letters."""
    destinations: frozenset[str]
    """Those with a pending delivery or a dead letter of such a request."""


class ErasedEvents(msgspec.Struct, frozen=True):
    """What an erasure took from the spool."""

    deliveries: Mapping[str, int]
    """Pending deliveries, by destination."""
    dead_letters: Mapping[str, int]
    """By destination."""
    requests: int
    """Stored requests that were emptied or deleted."""
    shared_requests: int
    """Stored requests that stay because events of others in them are pending or dead letters."""
    message_ids: int
    """Ids that were remembered for deduplication."""
    consents: int
    """Records of consent."""

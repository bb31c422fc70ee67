"""The values that a spool takes and gives."""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from gateway.errors import SpoolError
from gateway.http import Request

Cause = Literal["refused", "expired", "unrenderable", "overflow"]


Deliveries = tuple[int, ...]
"""The numbers of deliveries to one destination, sorted: see `numbered`."""
Routes = dict[str, dict[str, Deliveries]]
_EVENTS = 1 << 32
"""More than any request has events."""


def delivery_number(event: int, way: int = 0) -> int:
    """Return the number of a delivery among those of its request to one destination.

    It is the event's index for the first delivery of an event to the destination, and unlike any
    other's for each further one (*way* counts from 0).
    """
    return event + way * _EVENTS


def event_index(number: int) -> int:
    """Return the index of the event that delivery *number* delivers."""
    return number % _EVENTS


def copy_number(number: int) -> int:
    """Return how many deliveries of the same event go before delivery *number*."""
    return number // _EVENTS


class SpoolFull(SpoolError):
    """A bound is reached; the sender should try again.

    Attributes:
        retry_after: seconds after which trying again makes sense.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Outdated(SpoolError):
    """The spool took something from the worker (`Evicted`) that the report does not know of yet."""


class DiskFull(SpoolError):
    """The disk has no room left; what is there is delivered, and nothing new is taken."""


NO_ROUTES: Mapping[str, Deliveries] = {}


class Entry(msgspec.Struct, frozen=True):
    """One accepted request and where its events go."""

    id: str
    """The gateway's request id. A replayed entry keeps the id of the request that it repeats."""
    source: str
    request: Request
    targets: Mapping[str, Deliveries]
    """Destination name to the deliveries that it gets: for each, the event's index, or what
    `numbered` makes of it for a further delivery of the same event."""
    vendor: str = ""
    """Whose format the request is in; kept for whoever parses it again."""
    routes: Mapping[str, Mapping[str, Deliveries]] = {}
    """Destination name to names of routes, to the deliveries that are made after the steps of
    that route. A delivery that is not in it is of the event as it came."""
    dropped: Mapping[int, tuple[tuple[str | int, ...], ...]] = {}
    """An event's index to the paths that its source's tracking plan left out of it, each as it is
    after those before it."""
    users: tuple[int, ...] = ()
    """For each event, what `Spool.user_hash` makes of its user's key. Empty where it is not known:
    in entries of earlier versions."""

    def user(self, number: int) -> int:
        """Return the hash of the user of a delivery; 0 where it is nobody's, or not known."""
        event = event_index(number)
        return self.users[event] if event < len(self.users) else 0

    def route(self, destination: str, number: int) -> str:
        """Return the route whose steps a delivery takes; empty where it takes none."""
        for route, numbers in self.routes.get(destination, NO_ROUTES).items():
            if number in numbers:
                return route
        return ""


class DedupWindow(msgspec.Struct, frozen=True):
    """Which of an entry's events count only once, and for how long."""

    ids: Mapping[int, str]
    """Event index to the sender's own id; the same id from another source is another."""
    window: float
    """Seconds from the first time, which further times do not prolong."""


class ConsentRecord(msgspec.Struct, frozen=True):
    """One user's last word on one category of consent."""

    granted: bool
    at: float
    """Unix seconds."""


class LogRecord(msgspec.Struct, frozen=True):
    """An entry with its place in the log."""

    seq: int
    entry: Entry


class UnreadEntry(msgspec.Struct, frozen=True):
    """An entry's place in the log and what of it is pending for one destination."""

    seq: int
    source: str
    vendor: str
    numbers: Deliveries
    users: tuple[int, ...]
    """The hash of each delivery's user, as in `Entry.users`; 0 where it is not known."""


class UnreadPage(msgspec.Struct, frozen=True):
    """One page of what is pending for a destination, without the requests."""

    items: list[UnreadEntry]
    scanned: int
    """Every entry up to this seq was looked at: read on after it."""


class Attempt(msgspec.Struct, frozen=True):
    """One HTTP try of a delivery."""

    at: float
    """Unix seconds."""
    status: int | None
    """None where no answer came."""
    latency: float
    """Seconds."""
    response_excerpt: str
    """The start of the answer, or the error."""
    isolated: float = 0.0
    """How far the vendor took other users' events since the attempt before: from 0, not at all,
    to 1, nearly all."""


class DeliveryRef(msgspec.Struct, frozen=True):
    """One delivery of a destination: number ``index`` of the request at ``seq``."""

    seq: int
    index: int

    @property
    def event(self) -> int:
        """Return the index of the event within its request."""
        return event_index(self.index)

    @property
    def copy(self) -> int:
        """Return how many deliveries of the same event go before this one."""
        return copy_number(self.index)


class WaitingDelivery(msgspec.Struct, frozen=True):
    """A delivery that waits: for its next try, or, ``parked``, behind its user's earlier event."""

    mark: DeliveryRef
    due: float
    """Unix seconds of the next try; a parked delivery's is of no consequence."""
    attempts: tuple[Attempt, ...] = ()
    reason: str = ""
    user: str = ""
    """The ordering key; empty where the event stands alone."""
    event_name: str = ""
    parked: bool = False


class FailedDelivery(msgspec.Struct, frozen=True):
    """A delivery that its worker gives up: the spool makes a dead letter of it."""

    mark: DeliveryRef
    cause: Cause
    reason: str
    at: float
    """Unix seconds."""
    attempts: tuple[Attempt, ...] = ()
    rendered: bytes = b""
    """The request that was last sent, as JSON, its credential already redacted; may be empty."""
    event_name: str = ""
    user: str = ""


class Progress(msgspec.Struct, frozen=True):
    """What a worker reports about its destination, applied whole or not at all.

    ``cursor`` says that every delivery at or before it is finished or stands as an exception,
    those of this same report included; it never moves back, and 0 leaves it alone. ``later``
    adds or replaces waiting deliveries. ``done`` names deliveries that are over: they waited, or
    stand ahead of the cursor, or the spool took them (``Evicted``) and they arrived all the
    same. ``dead`` names deliveries, waiting or not, that ended badly.

    ``delivered``, ``declined`` and ``shadowed`` say how many of the destination's deliveries
    ended so, ever: of those that the cursor has passed and those that ``done`` named, up to and
    with this report. They go on from what ``Spool.balances`` says at a worker's start, never move
    back, and None leaves them alone.
    """

    cursor: int = 0
    later: Sequence[WaitingDelivery] = ()
    done: Sequence[DeliveryRef] = ()
    dead: Sequence[FailedDelivery] = ()
    delivered: int | None = None
    declined: int | None = None
    shadowed: int | None = None


class Balance(msgspec.Struct, frozen=True):
    """What became of the deliveries that were accepted for one destination, ever."""

    accepted: int
    """Deliveries of the entries that were appended, without repeats. One that arrives after its
    dead letter was dropped or replayed counts once more."""
    delivered: int
    declined: int
    shadowed: int
    dead: int
    """Dead letters that exist."""
    dropped: int
    """Thrown away: dead letters by an operator, and what the policy ``drop`` forgot."""
    waiting: int
    """Pending: its turn has not come, or it waits for its next try or behind its user's events."""

    @property
    def missing(self) -> int:
        """Return how many of the accepted are nowhere: 0 when all is well."""
        ended = self.delivered + self.declined + self.shadowed
        return self.accepted - (ended + self.dead + self.dropped + self.waiting)


class BacklogLimit(msgspec.Struct, frozen=True):
    """How much may be pending for one destination, and what happens past that.

    ``refuse``: append raises SpoolFull. ``dead``: the oldest become dead letters (overflow).
    ``drop``: they are forgotten, and so is what is too old; nothing becomes a dead letter.
    """

    max_backlog: int | None = None
    """Entries past their source's position plus waiting deliveries."""
    overflow: Literal["refuse", "dead_letter", "drop"] = "refuse"


class SpoolLimits(msgspec.Struct, frozen=True):
    """What the whole store may hold.

    ``max_bytes``: pages in use, dead letters included; the write-ahead log adds a few MB.
    ``max_age``: seconds after which a pending delivery becomes a dead letter (expired).
    """

    max_bytes: int | None = None
    max_age: float | None = None


class GivenUp(msgspec.Struct, frozen=True):
    """How many deliveries the spool gave up by itself, since it was opened."""

    dead: int = 0
    """They became dead letters."""
    dropped: int = 0
    """They were forgotten, or were dead letters that had to make room."""


class QueueDepth(msgspec.Struct, frozen=True):
    """How things stand for one destination."""

    cursor: int
    backlog: int
    """Entries past their source's position that target it."""
    retrying: int
    parked: int
    dead: int
    oldest: float | None
    """Unix seconds at which the oldest pending delivery was appended; None: nothing is pending."""


class DeadLettersReplayed(msgspec.Struct, frozen=True):
    """Notice: dead letters came back, here or from another process; look at the exceptions."""

    destination: str


class Evicted(msgspec.Struct, frozen=True):
    """Notice: the spool made dead letters of deliveries by itself (expired, overflow).

    The deliveries at or before ``cursor`` that stood in the log, and the waiting ones in
    ``marks``, are no longer the worker's. One that nevertheless ended well (it was in flight,
    or not yet settled) goes into ``Progress.done``, which withdraws its dead letter again.
    It may come twice, after a failure of the disk.
    """

    destination: str
    cursor: int
    marks: tuple[DeliveryRef, ...]
    dropped: int = 0
    """How many deliveries were forgotten without becoming dead letters."""
    letters: tuple[int, ...] = ()
    """The ids of the dead letters that were made; of many the first."""
    dead: int = 0
    """How many were made."""


SpoolNotice = DeadLettersReplayed | Evicted


Waits = Mapping[tuple[str, int], WaitingDelivery | None]


class PendingRequest(msgspec.Struct, frozen=True):
    """A request in the log, and those of its deliveries that are not over."""

    entry: Entry
    """What is left of it, where only replays are in the log, with their targets."""
    waits: Waits
    """By destination and number. None is for one whose turn has not come; another waits for its
    next try, or behind an earlier event of its user."""
    whole: bool = True
    """The entry is the request as it was appended, with all of its targets."""

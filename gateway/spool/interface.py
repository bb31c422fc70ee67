"""What a spool is: the durable log between accepting and delivering, and the values it speaks in.

A spool holds requests exactly as they came, one log row each, and per destination a cursor: every
delivery at or before it is finished or stands as an exception. An exception is a delivery that
waits (``WaitingDelivery``) or that ended badly (``DeadLetter``).
No spool knows a vendor, an event or HTTP.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from gateway.spool.clock import Clock
from gateway.spool.dead_letters import (
    ALL_DEAD_LETTERS,
    DeadLetter,
    DeadLetterFilter,
    DeadLetterGroup,
)
from gateway.spool.values import (
    BacklogLimit,
    Balance,
    ConsentRecord,
    DedupWindow,
    Entry,
    GivenUp,
    LogRecord,
    PendingRequest,
    Progress,
    QueueDepth,
    SpoolNotice,
    UnreadPage,
    WaitingDelivery,
)


class Spool(Protocol):
    """A durable log with a cursor per destination.

    Everything here is called on one event loop. Every method that touches the store raises
    SpoolError, with a message that says where and what to do, when the store cannot serve.
    """

    @property
    def clock(self) -> Clock:
        """Return the clock that it goes by."""
        ...

    def spares(self, what: Callable[[], None]) -> None:
        """Call *what*, from any thread, when the disk is full: it gives up what matters less."""
        ...

    async def open(self) -> None:
        """Open the store, creating or migrating it; it may be tried again.

        Raises DiskFull where there is no room for even that, and SpoolError where another gateway
        uses it, or a newer one wrote it. With little room it opens, and takes nothing new.
        """
        ...

    async def close(self) -> None:
        """Finish what is queued, then close."""
        ...

    def health(self) -> str | None:
        """Return why nothing is appended, None when appends work.

        It turns both ways by itself, and asks what appends ask (``gateway.spool.sqlite.room``).
        """
        ...

    def refusing(self) -> Mapping[str, str]:
        """Return the destinations that take nothing new, and why.

        An entry for one of them and for others is appended for the others; what the one refuses
        becomes dead letters (overflow), or is dropped where it is past its share of the store.
        """
        ...

    async def register(self, destinations: Mapping[str, BacklogLimit]) -> None:
        """Say which destinations there are, all of them; new ones start at the log's end.

        One that is no longer named keeps its cursor and all that is pending (``orphans``).
        """
        ...

    async def orphans(self) -> dict[str, QueueDepth]:
        """Return the destinations that are known and not registered."""
        ...

    async def forget(self, destination: str) -> int:
        """Give up an orphan's cursor and pending deliveries; return how many were pending.

        Its dead letters stay. Raises SpoolError for a registered or unknown destination.
        """
        ...

    async def pause(self, destination: str, *, paused: bool) -> None:
        """Remember that an operator paused the destination, or does so no more.

        It is remembered until the destination is forgotten, restarts included, and changes nothing
        here. Raises SpoolError for an unknown destination.
        """
        ...

    async def paused(self) -> frozenset[str]:
        """Return the destinations that are paused, registered or not."""
        ...

    def append(
        self,
        entry: Entry,
        accepted: Callable[[LogRecord], None] | None = None,
        once: DedupWindow | None = None,
    ) -> Awaitable[int]:
        """Return the entry's seq once it is durable.

        ``accepted`` is called on the loop at that point, in the order of the log, before the
        waiter resumes, and also if the waiter was cancelled meanwhile: it is the place to hand
        the entry to the workers. Raises SpoolFull at a bound, SpoolError otherwise; then
        nothing of it is kept. Every target must be registered. Where some targets are at a bound
        and refuse, the item that ``accepted`` gets is without them (see ``refusing``).

        With ``once``, an event whose id was appended before, from the same source and within
        the window of that time, leaves ``entry.targets``: the item that ``accepted`` gets, and
        that is read again, is without it. Where no target is left, nothing is stored,
        ``accepted`` is not called, and the seq is 0. An id counts from when its entry is
        durable, and only if the event goes anywhere; what repeats an entry that is still on
        its way waits for how that ends. Ids are kept whatever becomes of the entry, count
        towards ``max_bytes``, and are forgotten once their window has passed, not earlier.
        """
        ...

    def settle(self, destination: str, progress: Progress) -> Awaitable[None]:
        """Record a worker's progress in one transaction; done when it is durable.

        Raises SpoolError where it could not be recorded: report the same again. Reporting
        twice does no harm. Raises Outdated, which tells so, where the spool took something from
        the destination of which the listeners had not heard when the report was made: report
        again, with what ended well of that.
        """
        ...

    def save_consent(
        self, said: Mapping[bytes, Mapping[str, ConsentRecord]], window: float
    ) -> Awaitable[None]:
        """Remember what users said of consent; done when it is durable.

        By user, and then by category, of which the last word stays. What is known of a user is
        forgotten ``window`` seconds after their last word. It counts towards ``max_bytes``:
        raises SpoolFull there.
        """
        ...

    async def load_consent(self, users: Sequence[bytes]) -> dict[bytes, dict[str, ConsentRecord]]:
        """Return what is remembered of these users, without those of whom nothing is."""
        ...

    def subscribe(self, listener: Callable[[SpoolNotice], None]) -> None:
        """Call ``listener`` on the loop for every notice."""
        ...

    def user_hash(self, user: str) -> int:
        """Return 32 bits that stand for a user's key in ``Entry.users``; 0 for the empty one.

        They are the same after a restart, and another spool's are others: a secret of the store's
        own goes into them, so that nobody can make keys that meet another user's.
        """
        ...

    def position(self) -> int:
        """Return the seq of the last entry, 0 in a new spool.

        It never runs ahead of ``accepted``: what stands at or before it has been handed over.
        """
        ...

    def cursor(self, destination: str) -> int:
        """Return the destination's cursor; raises SpoolError for an unknown one."""
        ...

    async def unread(self, destination: str, after: int, upto: int, limit: int) -> UnreadPage:
        """Return what of up to ``limit`` entries past ``after`` is pending for the destination.

        Nothing past ``upto`` is looked at, no request is read, and what the cursor has passed,
        stands as an exception or is over is left out.
        """
        ...

    async def balances(self) -> dict[str, Balance]:
        """Return what became of all that was accepted, for every known destination.

        All of it is counted at one moment. A file of an earlier version begins with what it holds.
        """
        ...

    async def entries(self, seqs: Sequence[int]) -> list[LogRecord]:
        """Return the entries at these places, in the order of the log, without the missing."""
        ...

    async def pending(self, request_id: str) -> PendingRequest | None:
        """Return a request in the log and which of its deliveries are not over, replays included.

        None where it is not in the log. That ids rise in the order of the log is relied on.
        """
        ...

    async def retrying(
        self, destination: str, due_before: float, limit: int, after: WaitingDelivery | None = None
    ) -> list[WaitingDelivery]:
        """Return retrying deliveries due at or before ``due_before``, by due time, seq, index.

        ``after`` continues behind the last one of an earlier page.
        """
        ...

    async def parked(self, destination: str, user: str, limit: int) -> list[WaitingDelivery]:
        """Return a user's parked deliveries, by seq and index."""
        ...

    async def blocked(self, destination: str) -> dict[str, int]:
        """Return how many deliveries wait, per user; those without a user are left out."""
        ...

    async def depths(self) -> dict[str, QueueDepth]:
        """Return how things stand for every known destination."""
        ...

    def given_up(self) -> Mapping[str, GivenUp]:
        """Return what was given up by itself, without being told to, by destination."""
        ...

    def unaccounted(self) -> Mapping[str, int]:
        """Return how many deliveries are missing (``Balance.missing``), as of a few seconds ago.

        The spool looks by itself, at its start and again and again, and logs ``balance_wrong``
        when something is missing. It counts once two looks in a row find it.
        """
        ...

    async def size(self) -> int:
        """Return how many bytes the store uses, of those that ``max_bytes`` bounds."""
        ...

    async def dead_letters(
        self, which: DeadLetterFilter = ALL_DEAD_LETTERS, after: int = 0, limit: int = 50
    ) -> list[DeadLetter]:
        """Return dead letters by id; ``after`` is the last id of the page before."""
        ...

    async def letter_groups(
        self, which: DeadLetterFilter = ALL_DEAD_LETTERS, limit: int = 50
    ) -> list[DeadLetterGroup]:
        """Return dead letters by destination, cause and alike reasons, the largest groups first."""
        ...

    async def dead_letter(self, number: int) -> DeadLetter | None:
        """Return one dead letter by its id."""
        ...

    async def delete_dead_letters(self, which: Sequence[int] | DeadLetterFilter) -> int:
        """Throw dead letters away, by ids or by filter; return how many there were."""
        ...

    async def replay_dead_letters(self, which: Sequence[int] | DeadLetterFilter) -> int:
        """Move dead letters back, by ids or by filter; return how many there were.

        Each becomes a fresh entry that targets its destination alone and waits as retrying,
        due now. Raises SpoolError if a destination is not known any more.
        """
        ...

"""The Protocols of a spool: the durable log between ingest and delivery.

A spool stores requests exactly as received. Its log consists of shards: all entries of a user are
in one of them, in the order in which they were accepted. For each shard and destination there is a
cursor: every delivery at or before the cursor is finished or recorded as an exception. An exception
is a waiting delivery (``WaitingDelivery``) or a dead letter (``DeadLetter``).

Ingest appends (`Intake`), the delivery engine reads and settles (`Shard`), operators look and
decide (`SpoolAdmin`). A spool knows nothing of vendors or HTTP; parsed events only pass through it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

from gateway.event import Event
from gateway.spool.clock import Clock
from gateway.spool.cluster import ClusterState, Peers
from gateway.spool.dead_letters import (
    ALL_DEAD_LETTERS,
    DeadLetter,
    DeadLetterFilter,
    DeadLetterGroup,
)
from gateway.spool.values import (
    Appended,
    BacklogLimit,
    Balance,
    ConsentRecord,
    DedupWindow,
    Entry,
    ErasedEvents,
    FoundEvents,
    GivenUp,
    LogRecord,
    PendingRequest,
    Progress,
    QueueDepth,
    SpoolNotice,
    StoredConsent,
    UnreadPage,
    WaitingDelivery,
)

Offer = Callable[[LogRecord, Sequence[Event] | None], None]
"""Gets each new entry of a shard, with its parsed events where they are at hand."""


class Intake(Protocol):
    """Accepts requests, and stores users' consent.

    All methods of a spool are called on one event loop. Every method that uses the store raises
    SpoolError if the store fails; the message says where and what to do.
    """

    @property
    def clock(self) -> Clock:
        """Return the clock of the spool."""
        ...

    def health(self) -> str | None:
        """Return why appends fail; None while they work.

        It recovers by itself, and applies the same rule as appends.
        """
        ...

    def refusing(self) -> Mapping[str, str]:
        """Return the destinations that accept nothing new, each with the reason.

        An entry for such a destination and others is appended for the others. Its own deliveries
        become dead letters (overflow), or are dropped if it exceeds its share of the store.
        """
        ...

    def append(
        self,
        entry: Entry,
        events: Sequence[Event] | None = None,
        once: DedupWindow | None = None,
        accepted_at: float | None = None,
        reply_within: float = 0.0,
    ) -> Awaitable[Appended]:
        """Return where the entry is in the log once it is durable.

        The followers of its shard get it (`Shard.follow`) even if the waiter was cancelled: before
        that with one process, about then where several share the log. *events* are its parsed
        events, for the followers. Raises SpoolFull at a limit and SpoolError for other failures;
        then nothing is stored. Every target must be registered. The stored entry lacks the targets
        that refuse it (see ``refusing``).

        With ``once``, events are removed from ``entry.targets`` if the same source sent the same
        id of the same user within the window before. The stored entry lacks them. If no target is
        left, nothing is stored. An id counts once its entry is durable, and only if the event has a
        target; a repeat of an entry that is being written waits for its result. Ids are kept for
        the whole window, even if the entry is deleted, and count towards ``max_bytes``. Where
        several processes share the log, the owner of the shard removes them afterwards: the result
        may name none.

        *accepted_at* are the Unix seconds at which another spool accepted the entry, which was
        moved from there: its age counts from then on.

        *reply_within* are the seconds for which a client of this process waits for the vendor's
        response, 0 for no client. Where several processes share the log, the followers of the
        entry's owner learn it (`LogRecord.reply`), even if no target is left.
        """
        ...

    def save_consent(
        self, records: Mapping[bytes, Mapping[str, ConsentRecord]], window: float
    ) -> Awaitable[None]:
        """Store users' consent; done when it is durable.

        *records* has one by user and category; the newest record of a category wins. The records
        of a user are deleted ``window`` seconds after the last change. They count towards
        ``max_bytes``; at that limit it raises SpoolFull.
        """
        ...

    async def load_consent(self, users: Sequence[bytes]) -> dict[bytes, dict[str, ConsentRecord]]:
        """Return the stored consent of *users*; users without any are left out."""
        ...

    def user_hash(self, user: str) -> int:
        """Return a 32-bit hash of a user's key for ``Entry.users``; 0 for the empty key.

        It is stable across restarts and differs between spools: it uses a secret of the store, so
        that nobody can construct keys that collide with another user's.
        """
        ...


class Shard(Protocol):
    """One part of the log, as its only reader: the delivery engine of this process.

    Seqs rise in the order of the log, with gaps, and differ between shards. Any method raises
    `Fenced` once another process has taken the shard over.
    """

    @property
    def number(self) -> int:
        """Return the number of the shard, from 0 on."""
        ...

    def follow(self, offer: Offer) -> None:
        """Call *offer* on the loop for each entry that is appended from now on.

        The calls are in the order of the log. An entry that a replay appended is left out: it
        begins as a retrying delivery (`DeadLettersReplayed`). An exception of *offer* goes to the
        loop's exception handler.
        """
        ...

    def subscribe(self, listener: Callable[[SpoolNotice], None]) -> None:
        """Call ``listener`` on the loop for every notice about the shard."""
        ...

    def user_hash(self, user: str) -> int:
        """Return the hash of a user's key (see `Intake.user_hash`)."""
        ...

    def position(self) -> int:
        """Return the seq of the last entry, 0 in a new spool.

        The followers have got every entry at or before it.
        """
        ...

    def cursor(self, destination: str) -> int:
        """Return the destination's cursor; raises SpoolError for an unknown one."""
        ...

    async def balances(self) -> dict[str, Balance]:
        """Return the balance of every known destination, of this shard's deliveries."""
        ...

    async def depths(self) -> dict[str, QueueDepth]:
        """Return the queue depth of every known destination, of this shard's deliveries."""
        ...

    async def unread(self, destination: str, after: int, upto: int, limit: int) -> UnreadPage:
        """Return the pending deliveries of up to ``limit`` entries after ``after``.

        Entries after ``upto`` are not read, and no requests are. Deliveries that the cursor has
        passed, that are exceptions or that ended are left out.
        """
        ...

    async def entries(self, seqs: Sequence[int]) -> list[LogRecord]:
        """Return the entries with these seqs in the order of the log, without missing ones."""
        ...

    async def times(self, seqs: Sequence[int]) -> dict[int, float]:
        """Return when pending entries were accepted, in Unix seconds, without missing ones."""
        ...

    async def retrying(
        self, destination: str, due_before: float, limit: int, after: WaitingDelivery | None = None
    ) -> list[WaitingDelivery]:
        """Return retrying deliveries due at or before ``due_before``, by due time, seq, index.

        ``after`` is the last delivery of the previous page.
        """
        ...

    async def parked(self, destination: str, user: str, limit: int) -> list[WaitingDelivery]:
        """Return a user's parked deliveries, by seq and index."""
        ...

    async def blocked(self, destination: str) -> dict[str, int]:
        """Return the number of waiting deliveries per user; those without a user are left out."""
        ...

    def settle(
        self, destination: str, progress: Progress, *, soon: bool = False
    ) -> Awaitable[None]:
        """Record a worker's progress, completely or not at all; done when it is durable.

        Without *soon* the record may wait some tenths of a second, to be written with others.
        Reports are recorded in the order of the calls. Raises SpoolError if it could not be
        recorded: report the same again. Reporting twice does no harm. Raises Outdated if the spool
        evicted deliveries and the listeners had not got the notice when the report was made: report
        again, with the evicted deliveries that succeeded.
        """
        ...

    def hurry(self) -> None:
        """Write at once what `settle` was given without *soon*."""
        ...


class SpoolAdmin(Protocol):
    """Destinations, counts and dead letters: what operators see and decide.

    All of it concerns the whole spool, whichever process owns its shards.
    """

    async def register(self, destinations: Mapping[str, BacklogLimit]) -> None:
        """Set all destinations; new ones start at the end of the log.

        A destination that is no longer named keeps its cursor and pending deliveries
        (``orphans``).
        """
        ...

    async def orphans(self) -> dict[str, QueueDepth]:
        """Return the destinations in the store that are not registered."""
        ...

    async def forget(self, destination: str) -> int:
        """Delete an orphan's cursor and pending deliveries; return how many were pending.

        Its dead letters stay. Raises SpoolError for a registered or unknown destination.
        """
        ...

    async def pause(self, destination: str, *, paused: bool) -> None:
        """Store whether an operator paused the destination.

        The mark survives restarts, until the destination is forgotten. The spool itself ignores
        it. Raises SpoolError for an unknown destination.
        """
        ...

    async def paused(self) -> frozenset[str]:
        """Return the destinations that are paused, registered or not."""
        ...

    async def balances(self) -> dict[str, Balance]:
        """Return the balance of every known destination: accepted deliveries and their outcomes.

        All counts are of the same moment. In a file of an earlier version, ``accepted`` starts
        with what the file contains.
        """
        ...

    async def pending(self, request_id: str) -> PendingRequest | None:
        """Return a request in the log and its pending deliveries, including replays.

        None if the request is not in the log. Request ids must rise in the order of the log.
        """
        ...

    async def depths(self) -> dict[str, QueueDepth]:
        """Return the queue depth of every known destination."""
        ...

    def given_up(self) -> Mapping[str, GivenUp]:
        """Return how many deliveries the spool evicted by itself, by destination."""
        ...

    def unaccounted(self) -> Mapping[str, int]:
        """Return the number of unaccounted deliveries (``Balance.unaccounted``) a few seconds ago.

        The spool audits itself at the start and every few seconds, and logs ``balance_wrong`` for
        unaccounted deliveries. They count after two audits in a row found them.
        """
        ...

    async def size(self) -> int:
        """Return the used bytes of the store, which ``max_bytes`` limits."""
        ...

    async def dead_letters(
        self, which: DeadLetterFilter = ALL_DEAD_LETTERS, after: int = 0, limit: int = 50
    ) -> list[DeadLetter]:
        """Return dead letters by id; ``after`` is the last id of the previous page."""
        ...

    async def letter_groups(
        self, which: DeadLetterFilter = ALL_DEAD_LETTERS, limit: int = 50
    ) -> list[DeadLetterGroup]:
        """Return groups by destination, cause and reason pattern, the largest first."""
        ...

    async def dead_letter(self, number: int) -> DeadLetter | None:
        """Return one dead letter by its id."""
        ...

    async def delete_dead_letters(self, which: Sequence[int] | DeadLetterFilter) -> int:
        """Delete dead letters, by ids or by filter; return how many there were."""
        ...

    async def replay_dead_letters(self, which: Sequence[int] | DeadLetterFilter) -> int:
        """Replay dead letters, by ids or by filter; return how many there were.

        Each becomes a new entry for its destination alone that is retrying and due now. Raises
        SpoolError if a destination is no longer known.
        """
        ...


class SpoolTransfer(Protocol):
    """What moves from one spool to another besides entries (`gateway.spool.transfer`)."""

    def message_ids(self) -> AsyncIterator[dict[bytes, float]]:
        """Yield the dedup keys that are remembered, with the Unix seconds at which each expires."""
        ...

    async def restore_message_ids(self, ids: Mapping[bytes, float]) -> None:
        """Remember dedup keys of another spool; one that is known keeps the later time."""
        ...

    def consents(self) -> AsyncIterator[list[StoredConsent]]:
        """Yield the stored consent of all users."""
        ...

    async def restore_consents(self, consents: Sequence[StoredConsent]) -> None:
        """Store consent of another spool; the newest record of each category wins."""
        ...

    async def restore_dead_letters(self, letters: Mapping[bytes, DeadLetter]) -> None:
        """Store dead letters of another spool, with new ids, by keys that name them for good.

        A key is remembered for `MOVE_WINDOW`: a letter that comes again is not stored again. Raises
        SpoolError if a destination is unknown; then none is stored in its shard.
        """
        ...

    async def delete_moved_letters(self, ids: Sequence[int]) -> None:
        """Delete dead letters that another spool has now: they are not accepted here any more."""
        ...


EventSearch = Callable[[Entry], Mapping[int, str]]
"""Returns the wanted events of a request, by index, each with its message id or an empty text. It
is called in another thread."""


@runtime_checkable
class ErasableStore(Protocol):
    """A spool from which the events of a person can be erased."""

    async def find_events(self, wanted: EventSearch) -> FoundEvents:
        """Return the wanted events in all stored requests, delivered ones included."""
        ...

    async def erase_events(self, found: FoundEvents, users: Collection[bytes]) -> ErasedEvents:
        """Erase events, with all that is stored for them, and the consent of *users*.

        Nothing may be delivered to the destinations concerned meanwhile. Deliveries and dead
        letters count as dropped. A request with events of others stays until they are finished.
        """
        ...

    async def overwrite_erased(self) -> None:
        """Remove what was deleted from the store's files, now and earlier.

        Raises SpoolError if another process reads them for so long.
        """
        ...


class ShardRunner(Protocol):
    """Delivers what is in the shards that this process owns."""

    def start_shard(self, shard: Shard) -> None:
        """Deliver a shard from now on; it hands nothing over before this returns."""
        ...

    async def finish_shard(self, shard: Shard) -> None:
        """Begin no more attempts, wait for those under way, and record them.

        The shard is one of `Spool.shards` no more.
        """
        ...

    def abandon_shard(self, shard: Shard) -> None:
        """Begin no more attempts, and record nothing: the shard is, or may be, another's."""
        ...


class Spool(Intake, SpoolAdmin, SpoolTransfer, Protocol):
    """A durable log as a whole."""

    @property
    def node(self) -> str:
        """Return this gateway's name among those that share the log; empty if it is alone."""
        ...

    @property
    def shards(self) -> Sequence[Shard]:
        """Return the shards that this process owns now."""
        ...

    @property
    def leased(self) -> Callable[[], bool] | None:
        """Return what tells whether attempts may begin now; None if they always may."""
        ...

    def follow_pauses(self, listener: Callable[[frozenset[str]], None]) -> None:
        """Call *listener* on the loop with all paused destinations when another process changes it.

        It may be called without a change, too. Call this before `open`.
        """
        ...

    @property
    def cluster(self) -> Callable[[], Awaitable[ClusterState]] | None:
        """Return what reads the state of the cluster; None if this process is alone."""
        ...

    @property
    def peers(self) -> Peers | None:
        """Return the other processes; None if this one is alone."""
        ...

    @property
    def configs_differ(self) -> Callable[[], bool] | None:
        """Return what tells whether another process has another configuration; None if alone."""
        ...

    def set_config(self, digest: str) -> None:
        """Tell the other processes which configuration this one delivers by."""
        ...

    def leads(self) -> bool:
        """Return whether this process speaks for all that share the log; True if it is alone."""
        ...

    def joined(self) -> bool:
        """Return whether this process may own shards, or could since its start."""
        ...

    def share(self) -> float:
        """Return the part of all shards that this process owns: 1 if it is alone."""
        ...

    def run_shards(self, runner: ShardRunner) -> None:
        """Tell *runner* of each shard that this process owns, now and later."""
        ...

    async def own_all(self) -> None:
        """Wait until this process owns all shards; raises SpoolError if another one runs."""
        ...

    def spares(self, what: Callable[[], None]) -> None:
        """Call *what*, from any thread, when the disk is full; it frees less important space."""
        ...

    async def open(self) -> None:
        """Open the store, and create or migrate it if needed; a failed call may be repeated.

        With little disk space the store opens but accepts no new entries. Raises DiskFull if there
        is not even room to open it, and SpoolError if another gateway uses the store or a newer
        version wrote it.
        """
        ...

    async def close(self) -> None:
        """Finish queued work, then close."""
        ...

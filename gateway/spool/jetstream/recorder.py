"""Write workers' reports into the journal: many in one record, one record at a time."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import structlog

from gateway.errors import SpoolError
from gateway.spool.jetstream.destination_state import Change
from gateway.spool.jetstream.journal import ShardJournal
from gateway.spool.jetstream.letter_messages import (
    destination_of,
    letter_messages,
    read_letters,
)
from gateway.spool.jetstream.messages import StoredMessage, StreamMessage
from gateway.spool.jetstream.shard_state import Changes, ShardState
from gateway.spool.values import (
    DeliveryRef,
    Entry,
    Evicted,
    FailedDelivery,
    Fenced,
    Outdated,
    Progress,
    WaitingDelivery,
)

PACE = 0.15
"""Seconds between two records that nobody waits for.

All shards of a gateway write them at the same moments: the servers store what comes together at a
fraction of the cost.
"""
SNAPSHOT_INTERVAL = 400
"""Records after which the state is written as a whole."""
MAX_RECORD_BYTES = 512 * 1024
"""Bytes of waiting deliveries and dead letters at which a report is written in several records."""
_MAX_DECISION_BYTES = 128 * 1024
"""Bytes of decisions that share a record with other changes."""
NAMED = 20
"""Most dead letters that a notice names."""
_MAX_LETTERS = 256
"""Dead letters of one record; a batch has room for 1,000 messages."""
_ROW_BYTES = 128
"""Bytes of a waiting delivery or a dead letter besides its texts and attempts."""

log = structlog.get_logger()
_encode = msgspec.msgpack.Encoder().encode
ReadEntries = Callable[[str, Sequence[DeliveryRef]], Awaitable[Mapping[int, Entry]]]


class _Report(NamedTuple):
    destination: str
    progress: Progress
    future: asyncio.Future[None]
    evictions: int
    """Of its destination, when it was made."""


class Eviction(NamedTuple):
    """The oldest deliveries of a destination, to be given up."""

    progress: Progress
    waited: tuple[DeliveryRef, ...]
    dropped: Sequence[DeliveryRef] = ()
    """All of them, if they become no dead letters."""


class ProgressRecorder:
    """The only writer of an owned shard's journal.

    Args:
        journal: claimed.
        state: what the journal's records make.
        read_entries: returns the entries of a destination's deliveries by seq, for dead letters.
        dead_letters: the subject of dead letters.
        max_payload: bytes of the largest message.
        on_ended: called when the shard turns out to be another gateway's, or damaged.
    """

    def __init__(  # noqa: PLR0913 - all that a record needs
        self,
        journal: ShardJournal,
        state: ShardState,
        read_entries: ReadEntries,
        dead_letters: str,
        max_payload: int,
        *,
        on_ended: Callable[[], None],
    ) -> None:
        self._on_ended = on_ended
        self._journal, self._state = journal, state
        self._read_entries, self._dead_letters = read_entries, dead_letters
        self._max_payload = max_payload
        self._reports: list[_Report] = []
        self._evictions: Counter[str] = Counter()
        self._open: set[asyncio.Future[None]] = set()
        self._lock = asyncio.Lock()
        self._work, self._hurried = asyncio.Event(), asyncio.Event()
        self._since_snapshot = 0
        self._parts = 1
        """Records of the last snapshot: a large one is written less often."""
        self._task: asyncio.Task[None] | None = None
        self._ended: SpoolError | None = None

    def start(self) -> None:
        """Write reports from now on."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def report(self, destination: str, progress: Progress, *, soon: bool) -> asyncio.Future[None]:
        """Return a future that is done when the report is in the journal."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._ended:
            future.set_exception(self._ended)
            return future
        evictions = self._evictions[destination]
        self._reports.append(_Report(destination, progress, future, evictions))
        self._open.add(future)
        future.add_done_callback(self._open.discard)
        self._work.set()
        if soon:
            self._hurried.set()
        return future

    def hurry(self) -> None:
        """Write at once what was reported."""
        if self._reports:
            self._hurried.set()

    async def finish(self) -> None:
        """Write all that was reported, then end."""
        while self._open and not self._ended:
            self._hurried.set()
            await asyncio.wait(self._open)
        await self.stop(SpoolError("the shard is released"))

    async def stop(self, why: SpoolError) -> None:
        """End; what is not written fails."""
        self._ended = self._ended or why
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        reports, self._reports = self._reports, []
        _fail(reports, self._ended)

    def end(self, error: Fenced) -> None:
        """Write nothing more; what was reported fails."""
        self._ended = error
        reports, self._reports = self._reports, []
        _fail(reports, error)
        self._on_ended()

    async def _run(self) -> None:
        while not self._ended:
            await self._work.wait()
            rest = PACE - time.monotonic() % PACE
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await self._hurried.wait()
            if self._ended:
                return
            reports = self._gather()
            try:
                async with self._lock:
                    await self._record(self._up_to_date(reports))
                    await self._snapshot()
            except asyncio.CancelledError:
                _fail(reports, SpoolError("the shard is given up; it is not known what is written"))
                raise
            except Exception as error:
                log.exception("record_failed")
                _fail(reports, SpoolError(f"a report cannot be written: {error!r}"))

    def _gather(self) -> list[_Report]:
        """Take the oldest report of each destination that one record has room for.

        A report with dead letters is taken alone, since they need a batch of their own.
        """
        taken: dict[str, _Report] = {}
        left: list[_Report] = []
        size = 0
        for report in self._reports:
            first = not taken and not left
            size += _size(report.progress)
            fits = first or (size < MAX_RECORD_BYTES and not report.progress.dead)
            if fits and not left and report.destination not in taken:
                taken[report.destination] = report
                if report.progress.dead:
                    size = MAX_RECORD_BYTES
            else:
                left.append(report)
        self._reports = left
        if not left:
            self._work.clear()
            self._hurried.clear()
        return list(taken.values())

    def _up_to_date(self, reports: Sequence[_Report]) -> list[_Report]:
        """Return the reports that know of all evictions; the others fail."""
        good = []
        for report in reports:
            if report.evictions == self._evictions[report.destination]:
                good.append(report)
            else:
                name = report.destination
                _fail([report], Outdated(f"{name}: deliveries were evicted; report again"))
        return good

    async def _record(self, reports: Sequence[_Report]) -> None:
        if not reports:
            return
        pieces = [list(_pieces(report.progress)) for report in reports]
        try:
            if len(reports) == 1:
                for piece in pieces[0]:
                    await self._write([await self._prepare(reports[0].destination, piece)])
                _finish(reports)
                return
        except SpoolError as error:
            self._note(error)
            _fail(reports, error)
            return
        prepared, ready = [], []
        for report in reports:
            try:
                prepared.append(await self._prepare(report.destination, report.progress))
            except SpoolError as error:
                _fail([report], error)
            else:
                ready.append(report)
        try:
            await self._write(prepared)
        except SpoolError as error:
            self._note(error)
            _fail(ready, error)
        else:
            _finish(ready)

    async def _prepare(
        self, destination: str, progress: Progress
    ) -> tuple[Change, list[StreamMessage]]:
        """Return a report's change, and its dead letters as messages."""
        if not progress.dead:
            return self._change(destination, progress), []
        entries = await self._read_entries(destination, [one.mark for one in progress.dead])
        there = [one for one in progress.dead if one.mark.seq in entries]
        change = self._change(destination, msgspec.structs.replace(progress, dead=there))
        marks = set(change.dead)
        dead = [one for one in there if (one.mark.seq, one.mark.index) in marks]
        try:
            messages = list(letter_messages(destination, dead, entries, self._max_payload))
        except ValueError as error:
            raise SpoolError(f"{destination}: a dead letter cannot be written: {error}") from error
        return change, [StreamMessage(self._dead_letters, message) for message in messages]

    def _change(self, destination: str, progress: Progress) -> Change:
        change = self._state[destination].change(progress)
        try:
            _encode(change)
        except ValueError as error:
            raise SpoolError(f"{destination}: a report cannot be written: {error}") from error
        return change

    async def evict(
        self, destination: str, plan: Callable[[], Awaitable[Eviction | None]]
    ) -> Evicted | None:
        """Record what *plan* gives up, and return the notice; None if it is nothing.

        It is asked when no record is on its way. Reports from before fail as `Outdated`.
        """
        async with self._lock:
            try:
                if (eviction := await plan()) is None:
                    return None
                change, messages = await self._prepare(destination, eviction.progress)
                change.dropped += len(eviction.dropped)
                record = await self._write([(change, messages)])
            except SpoolError as error:
                self._note(error)
                raise
            self._evictions[destination] += 1
            found = self._state[destination]
            first = record - len(messages)
            letters = {
                (letter.mark.seq, letter.mark.index): letter.id
                for place, one in enumerate(messages)
                for letter in read_letters(StoredMessage(first + place, one.data, 0.0))
            }
            found.evicted(letters, [(mark.seq, mark.index) for mark in eviction.dropped])
            ids = tuple(list(letters.values())[:NAMED])
            dropped = len(eviction.dropped)
            return Evicted(destination, found.cursor, eviction.waited, dropped, ids, len(letters))

    async def _write(self, prepared: Sequence[tuple[Change, list[StreamMessage]]]) -> int:
        body = Changes(self._state.position, [change for change, _ in prepared])
        messages = [message for _, messages in prepared for message in messages]
        return await self._store(body, messages)

    async def store(self, make: Callable[[], Changes]) -> None:
        """Record other changes than reports; *make* is called when no record is on its way."""
        async with self._lock:
            try:
                await self._store(make(), [])
            except SpoolError as error:
                self._note(error)
                raise

    async def restore(self, letters: Mapping[bytes, bytes], now: float) -> None:
        """Record dead letters of another spool, as messages (see `restored_letter`) by key."""
        async with self._lock:
            names = {key: destination_of(data) for key, data in letters.items()}
            body, new = self._state.restoring(names, now)
            if not new:
                return
            messages = [StreamMessage(self._dead_letters, letters[key]) for key in new]
            try:
                await self._store(body, messages)
            except SpoolError as error:
                self._note(error)
                raise

    async def _store(self, body: Changes, beside: Sequence[StreamMessage]) -> int:
        """Return the record's sequence; the messages *beside* it are directly before."""
        new = self._state.new - {change.destination for change in body.changes}
        body.changes += [self._state.destinations[name].snapshot() for name in new]
        *early, body.decisions = self._state.decisions(body.position, _MAX_DECISION_BYTES)
        for decisions in early:
            begun = [self._state.destinations[name].snapshot() for name in self._state.new]
            await self._write_changes(Changes(decisions[-1].seq, begun, decisions=decisions), [])
        return await self._write_changes(body, beside)

    async def _write_changes(self, body: Changes, beside: Sequence[StreamMessage]) -> int:
        withdrawn = [letter for change in body.changes for letter in change.withdrawn]
        self._state.removing = {*body.removed, *withdrawn}
        body.end = self._state.end
        try:
            record = await self._journal.write("settle", _encode(body), beside=beside)
            self._state.apply(body)
        finally:
            self._state.removing = set()
        self._since_snapshot += 1
        return record

    async def _snapshot(self) -> None:
        """Write the whole state when it is time, and delete the records before it."""
        if self._since_snapshot < SNAPSHOT_INTERVAL * self._parts or self._ended:
            return
        try:
            first = await self._write_snapshot()
            self._since_snapshot = 0
            await self._journal.purge(first)
        except SpoolError as error:
            self._note(error)
            log.warning("snapshot_failed", reason=str(error))

    async def _write_snapshot(self) -> int:
        """Return the sequence of the snapshot's first part."""
        parts = self._state.snapshot(MAX_RECORD_BYTES)
        seqs = [
            await self._journal.write("snapshot", _encode(part), part=number, parts=len(parts))
            for number, part in enumerate(parts, 1)
        ]
        self._parts = len(parts)
        self._state.new -= {change.destination for part in parts for change in part.changes}
        return seqs[0]

    def _note(self, error: SpoolError) -> None:
        """End if the shard is somebody else's."""
        if isinstance(error, Fenced):
            self.end(error)


def _pieces(progress: Progress) -> Iterator[Progress]:
    """Yield the report in pieces that a record has room for; each is right by itself.

    Waiting deliveries and dead letters come first, as exceptions ahead of the cursor.
    """
    start, size = 0, 0
    for end, later in enumerate(progress.later, 1):
        size += _bytes(later)
        if size >= MAX_RECORD_BYTES:
            yield Progress(later=progress.later[start:end])
            start, size = end, 0
    rest = progress.later[start:]
    start = 0
    for end, failed in enumerate(progress.dead, 1):
        size += _bytes(failed)
        if size >= MAX_RECORD_BYTES or end - start == _MAX_LETTERS:
            yield Progress(later=rest, dead=progress.dead[start:end])
            start, size, rest = end, 0, ()
    yield msgspec.structs.replace(progress, later=rest, dead=progress.dead[start:])


def _size(progress: Progress) -> int:
    return sum(map(_bytes, progress.later)) + sum(map(_bytes, progress.dead))


def _bytes(one: WaitingDelivery | FailedDelivery) -> int:
    attempts = sum(64 + len(attempt.response_excerpt) for attempt in one.attempts)
    rendered = len(one.rendered) if isinstance(one, FailedDelivery) else 0
    return _ROW_BYTES + attempts + len(one.reason) + rendered


def _fail(reports: Sequence[_Report], error: SpoolError) -> None:
    for report in reports:
        if not report.future.done():
            report.future.set_exception(error)


def _finish(reports: Sequence[_Report]) -> None:
    for report in reports:
        if not report.future.done():
            report.future.set_result(None)

"""Write traces in a thread.

The event loop collects snapshots and passes them on ten times per second, so that an event costs no
lock and no wake-up. The thread builds the records and writes them. After each two milliseconds of
work it sleeps for as long, because the event loop cannot run meanwhile: Python runs one thread at a
time. If the thread is too slow, further snapshots are dropped and counted.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple, Protocol

import apsw
import structlog

from gateway.errors import TraceError
from gateway.ingest.arrival import RequestContext
from gateway.person import Person
from gateway.trace.live import LiveFeed
from gateway.trace.record_builder import AttemptSnapshot, RecordBuilder
from gateway.trace.records import TraceLine
from gateway.trace.store import BESIDE, Record, TraceWriter, line_of

GATHERED = 0.1
"""Seconds for which snapshots are collected."""
MOST = 10_000
"""Snapshots that may be queued."""
MOST_BYTES = 32 * 1024 * 1024
"""Bytes of their bodies that may be queued."""
WORK = 0.002
"""Seconds of CPU time after which the thread rests. The event loop waits so long at most; but each
change between the threads costs it 0.1 to 0.2 ms, since its data have left the processor's caches.
"""
QUIET = 60.0
"""Seconds between two log lines about failures."""

Raw = RequestContext | AttemptSnapshot
Batch = list[tuple[Raw, bool]]
"""Each with whether it is stored; otherwise it is only for live viewers."""

log = structlog.get_logger()


class SpanSink(Protocol):
    """Sends traces to a collector.

    All methods except the counters are called in the recorder's thread.
    """

    @property
    def sent(self) -> int:
        """Return how many spans the collector accepted."""

    @property
    def dropped(self) -> int:
        """Return how many spans were dropped."""

    def add(self, raw: Raw, records: Sequence[Record]) -> None:
        """Add a snapshot with its records; never wait."""
        ...

    def close(self) -> None:
        """Send the queued spans, for a few seconds at most."""
        ...


class Recorder:
    """Records what happens.

    Args:
        builder: builds records.
        hub: the live viewers.
        store: opens the file; None stores nothing.
        spans: starts the export to a collector; None exports nothing.

    Attributes:
        dropped: snapshots that could not be recorded, since the start.
        recorded: snapshots that were written, since the start.
        cpu: seconds of CPU time that the thread used, since the start.
        spans: the export to a collector; None without one.
    """

    def __init__(
        self,
        builder: RecordBuilder,
        hub: LiveFeed,
        store: "TraceFile | None",
        spans: Callable[[], SpanSink] | None = None,
    ) -> None:
        self.dropped = 0
        self.recorded = 0
        self.cpu = 0.0
        self.builder = builder
        self._hub = hub
        self._opens = store
        self._store: TraceWriter | None = None
        self._begins = spans
        self.spans: SpanSink | None = None
        self._pending: Batch = []
        self._count = self._bytes = 0
        self._queue: SimpleQueue[tuple[Batch, int] | _Erasure | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ending = False
        self._gathering: asyncio.TimerHandle | None = None
        self._gathered = 0
        self._logged = -QUIET
        self._gives_up = False
        self._resumes = 0.0

    def start(self) -> None:
        """Start the thread; call it on the event loop. A second call does nothing."""
        if self._thread is not None:
            return
        self._loop = asyncio.get_running_loop()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def give_up_file(self) -> None:
        """Delete the traces' file, because the disk is full (from any thread).

        A new file is created after a while, when there may be space again.
        """
        if self._thread is None:
            self._lose_file()
        else:
            self._gives_up = True
            self._queue.put(([], 0))

    def _lose_file(self) -> None:
        self._gives_up = False
        self._resumes = time.monotonic() + QUIET
        if self._opens is not None:
            if self._store is not None:
                self._store.close()
                self._store = None
            self._opens.remove()
            log.warning("traces_deleted", reason="the disk is full; events need the space")

    async def erase(self, person: Person) -> int:
        """Erase all traces of *person*, also those that are queued; return how many records.

        Raises:
            TraceError: the file cannot be written.
        """
        self._hand_over()
        asked = _Erasure(person, self._loop.create_future())
        self._queue.put(asked)
        return await asked.done

    async def stop(self) -> None:
        """Write the queued records, and end the thread."""
        if self._thread is None:
            return
        self._hand_over()
        self._ending = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._thread = None

    def put(self, raw: Raw, size: int, *, keep: bool) -> None:
        """Queue a snapshot; *size* is the number of bytes that it holds."""
        if self._count >= MOST or self._bytes >= MOST_BYTES:
            self.dropped += 1
            return
        self._count += 1
        self._bytes += size
        self._gathered += size
        self._pending.append((raw, keep))
        if self._gathering is None:
            self._gathering = self._loop.call_later(GATHERED, self._hand_over)

    def _hand_over(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        if self._pending:
            self._queue.put((self._pending, self._gathered))
            self._pending, self._gathered = [], 0

    def _done(self, count: int, size: int, written: "_Written") -> None:
        self._count -= count
        self._bytes -= size
        self.dropped += written.lost
        self.recorded += written.recorded
        self._hub.publish(written.lines)

    # In the thread

    def _run(self) -> None:
        self.spans = self._begins() if self._begins else None
        while (found := self._queue.get()) is not None:
            if self._gives_up:
                self._lose_file()
            if isinstance(found, _Erasure):
                self._erase(found)
                continue
            batch, size = found
            began = time.thread_time()
            written = self._write(batch)
            self.cpu += time.thread_time() - began
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._done, len(batch), size, written)
        if self._store is not None:
            self._store.close()
        if self.spans is not None:
            self.spans.close()

    def _erase(self, asked: "_Erasure") -> None:
        erased, error = 0, None
        try:
            if self._opens is not None:
                self._store = self._store or self._opens()
                erased = self._store.erase(asked.person)
        except Exception as failed:  # noqa: BLE001 - the thread must survive it; the caller raises it
            error = failed
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(asked.settle, erased, error)

    def _write(self, batch: Batch) -> "_Written":
        """Write the records of *batch* that are to be stored."""
        kept: list[Record] = []
        shown: list[Record] = []
        recorded = lost = 0
        rested = time.thread_time()
        for raw, keep in batch:
            try:
                made = self._made(raw)
                if keep and self.spans is not None:
                    self.spans.add(raw, made)
            except Exception as error:  # noqa: BLE001 - one bad event must not end the thread
                lost += 1
                self._say("trace_failed", repr(error))
                continue
            (kept if keep else shown).extend(made)
            recorded += keep
            worked = time.thread_time() - rested
            if worked >= WORK and not self._ending:
                time.sleep(worked)
                rested = time.thread_time()
        numbers = self._stored(kept)
        if numbers is None:
            recorded, lost = 0, lost + recorded
            numbers = {}
        if not self._hub.lines:
            return _Written([], recorded, lost)
        both = [(one, numbers.get(place, 0)) for place, one in enumerate(kept)]
        both += [(one, 0) for one in shown]
        found = (line_of(one, number) for one, number in both)
        lines = sorted((line for line in found if line), key=lambda line: line.at)
        return _Written(lines, recorded, lost)

    def _stored(self, kept: Sequence[Record]) -> dict[int, int] | None:
        """Write *kept*; return their numbers by index, or None if all of them are lost."""
        if not kept or self._opens is None:
            return {}
        if time.monotonic() < self._resumes:
            return None
        try:
            self._store = self._store or self._opens()
            return self._store.add(kept)
        except TraceError as error:
            self._say("traces_not_written", str(error))
            if isinstance(error.__cause__, apsw.FullError):
                self._lose_file()
        except Exception as error:  # noqa: BLE001 - one bad record must not end the thread
            self._say("trace_failed", repr(error))
        return None

    def _made(self, raw: Raw) -> Sequence[Record]:
        if isinstance(raw, RequestContext):
            return list(self.builder.arrived(raw))
        return list(self.builder.tried(raw))

    def _say(self, event: str, what: str) -> None:
        now = time.monotonic()
        if now - self._logged >= QUIET:
            self._logged = now
            log.warning(event, reason=what)


class _Erasure(NamedTuple):
    """A person whose traces are to be erased, and the number of records once it is done."""

    person: Person
    done: "asyncio.Future[int]"

    def settle(self, erased: int, error: Exception | None) -> None:
        """Set the result, on the loop."""
        if self.done.done():  # nobody waits any more
            return
        if error is None:
            self.done.set_result(erased)
        else:
            self.done.set_exception(error)


class _Written(NamedTuple):
    lines: Sequence[TraceLine]
    """The lines for live viewers."""
    recorded: int
    """How many requests and attempts were stored."""
    lost: int
    """How many should have been stored or shown, and were not."""


class TraceFile(NamedTuple):
    """The settings of the traces' file, for the thread that writes it."""

    path: Path
    keep: float
    max_size: int
    clock: Callable[[], float]

    def __call__(self) -> TraceWriter:
        """Open the file."""
        return TraceWriter(*self)

    def erase(self, person: Person) -> int:
        """Erase all traces of *person* from a file that nobody writes; return how many records.

        Raises:
            TraceError: it cannot be written.
        """
        if not self.path.exists():
            return 0
        writer = self()
        try:
            return writer.erase(person)
        finally:
            writer.close()

    def remove(self) -> None:
        """Delete the file, and free its space even while others have it open."""
        for ending in ("", *BESIDE):
            path = self.path.with_name(self.path.name + ending)
            with contextlib.suppress(OSError):
                if not ending.endswith("shm"):  # that file is mapped into memory
                    os.truncate(path, 0)
                path.unlink()

"""Make traces from the spool for requests that were not sampled."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from gateway.errors import SpoolError
from gateway.event import Event
from gateway.ingest.arrival import is_sampled, time_of_id
from gateway.ingest.events import parse_stored
from gateway.plugin.vendor import Output
from gateway.spool import DeadLetter, Entry, Evicted, SpoolAdmin, SpoolNotice, event_index
from gateway.spool.dead_letters import format_time
from gateway.trace.live import LiveFeed
from gateway.trace.record_builder import AttemptSnapshot, RecordBuilder
from gateway.trace.recorder import Recorder
from gateway.trace.records import EventRecord, RequestRecord, Trace
from gateway.trace.sampling import RateSampler

RATE = 20
"""Deliveries per second and destination that are recorded; an outage can end thousands at once."""

Parse = Callable[[Entry], Sequence[Event]]
OutputOf = Callable[[str], Output | None]
"""Returns a destination's output; None if it is no longer configured."""


class EvictionRecorder:
    """Records the deliveries that the spool gives up, as far as its notices name them.

    Args:
        spool: has the dead letters.
        recorder: takes the records.
        hub: the live viewers.
        parse: returns the events of a stored request.
        output_of: returns a destination's output.
        keep: traces are stored.
    """

    def __init__(  # noqa: PLR0913 - one parameter per collaborator
        self,
        spool: SpoolAdmin,
        recorder: Recorder,
        hub: LiveFeed,
        *,
        parse: Parse,
        output_of: OutputOf,
        keep: bool,
    ) -> None:
        self._spool, self._recorder, self._hub = spool, recorder, hub
        self._parse, self._output_of, self._keep = parse, output_of, keep
        self._samplers: dict[str, RateSampler] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def noticed(self, notice: SpoolNotice) -> None:
        """Record the deliveries in a notice of the spool; call it on the event loop."""
        if (
            not isinstance(notice, Evicted)
            or not notice.dead
            or not (self._keep or self._hub.lines)
        ):
            return
        sampler = self._samplers.setdefault(notice.destination, RateSampler(RATE))
        letters = [number for number in notice.letters if sampler.take()]
        if self._keep:
            self._recorder.dropped += notice.dead - len(letters)
        if letters:
            task = asyncio.get_running_loop().create_task(self._record(letters), name="given up")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Finish the records in progress."""
        await asyncio.gather(*self._tasks)

    async def _record(self, letters: Sequence[int]) -> None:
        for number in letters:
            try:
                dead = await self._spool.dead_letter(number)
            except SpoolError:
                self._recorder.dropped += 1
                continue
            if dead is None:  # it was delivered after all, or replayed or deleted meanwhile
                continue
            output = self._output_of(dead.destination)
            trial = await asyncio.to_thread(snapshot_of_dead_letter, dead, self._parse, output)
            self._recorder.put(trial, len(dead.entry.request.body), keep=self._keep)


def snapshot_of_dead_letter(
    dead: DeadLetter, parse: Parse, output: Output | None
) -> AttemptSnapshot:
    """Return the end of a delivery from its dead letter."""
    entry = dead.entry
    return AttemptSnapshot(
        at=dead.at,
        entry=entry,
        event=_event(dead, parse),
        mark=dead.mark,
        steps=None,
        sent=None,
        forwarded=False,
        number=0,
        destination=dead.destination,
        output=output,
        outcome="dead_letter",
        reason=f"{dead.cause}: {dead.reason}",
        attempt=None,
    )


def _event(dead: DeadLetter, parse: Parse) -> Event:
    try:
        return parse(dead.entry)[dead.index]
    except Exception:  # noqa: BLE001 - the current plugin cannot parse the stored request
        name = dead.event_name or None
        return Event(type="track", name=name, id=f"{dead.entry.id}-{dead.index}")


def trace_from_spool(entry: Entry, builder: RecordBuilder, *, whole: bool) -> Trace:
    """Return the trace of a request from its entry in the spool.

    Args:
        entry: the entry.
        builder: makes the records.
        whole: the entry has all targets of the request. Other destinations in the routes' decisions
            got nothing: the event was a duplicate, or the routes were different then.
    """
    events: Sequence[Event] = ()
    try:
        events = parse_stored(entry, builder.setting.inputs)
    except Exception:  # noqa: BLE001 - the plugin rejects it now, or is not installed
        events = ()
    received: RequestRecord | None = None
    parsed: list[EventRecord] = []
    for record in builder.stored(entry, dict(enumerate(events))):
        if isinstance(record, RequestRecord):
            received = record
        elif isinstance(record, EventRecord):
            parsed.append(_routed(record, entry) if whole else record)
    return Trace(entry.id, received, tuple(parsed), ())


def _routed(parsed: EventRecord, entry: Entry) -> EventRecord:
    index = int(parsed.event.rpartition("-")[2])
    routed = {to for to, numbers in entry.targets.items() if index in map(event_index, numbers)}
    decisions = tuple(
        replace(one, routed_to=tuple(to for to in one.routed_to if to in routed))
        for one in parsed.decisions
    )
    return replace(parsed, decisions=decisions)


_EXPIRES = "expired (see [trace] retention and max_bytes)"
_SAMPLED = "sampled (see [trace] success_rate_limit and cpu_share)"


def explain_missing(identity: str, file: Path, *, asked: bool = True) -> str:
    """Return a message for an id without a trace.

    Args:
        identity: the id.
        file: the traces' file, which was read.
        asked: the spool was read, and has nothing either.
    """
    spool = "; nothing of it is pending, and it has no dead letter" if asked else ""
    at = time_of_id(identity)
    if at is None:
        return (
            f"no trace of {identity!r} in {file}: the id is wrong, or its trace has {_EXPIRES}, or "
            f"the request was not {_SAMPLED}{spool}"
        )
    came = f"a request with this id arrived {format_time(at)} UTC"
    if is_sampled(identity.partition("-")[0]):
        return f"no trace of {identity!r} in {file}; {came}, and its trace has {_EXPIRES}"
    return f"no failure of {identity!r} in {file}; {came}, and was not {_SAMPLED}{spool}"

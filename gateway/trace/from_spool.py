"""Traces of requests that were not recorded, from the spool."""

import asyncio
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from gateway.errors import SpoolError
from gateway.event import Event
from gateway.ingest.arrival import is_sampled, time_of_id
from gateway.ingest.events import parse_stored
from gateway.plugin.vendor import Output
from gateway.spool import DeadLetter, Entry, Evicted, Spool, SpoolNotice, event_index
from gateway.spool.dead_letters import format_time
from gateway.trace.live import LiveFeed
from gateway.trace.record_builder import AttemptSnapshot, RecordBuilder
from gateway.trace.recorder import RateSampler, Recorder
from gateway.trace.records import EventRecord, RequestRecord, Trace

RATE = 20
"""Deliveries a second and destination that are recorded; an outage makes thousands at once."""

Parse = Callable[[Entry], Sequence[Event]]
OutputOf = Callable[[str], Output | None]
"""A destination's output; None where it is not configured any more."""


class EvictionRecorder:
    """Records what the spool gives up, as far as its notices name it.

    Args:
        spool: has the dead letters.
        recorder: takes the records.
        hub: those who watch.
        parse: returns the events of a stored request.
        output_of: returns a destination's output.
        keep: traces are kept.
    """

    def __init__(  # noqa: PLR0913 - what it takes to tell, each once
        self,
        spool: Spool,
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
        """Record what a notice says was given up; call it on the loop."""
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
        """Finish what is under way."""
        await asyncio.gather(*self._tasks)

    async def _record(self, letters: Sequence[int]) -> None:
        for number in letters:
            try:
                dead = await self._spool.dead_letter(number)
            except SpoolError:
                self._recorder.dropped += 1
                continue
            if dead is None:  # it arrived after all, or was moved meanwhile
                continue
            output = self._output_of(dead.destination)
            trial = await asyncio.to_thread(snapshot_of_dead_letter, dead, self._parse, output)
            self._recorder.put(trial, len(dead.entry.request.body), keep=self._keep)


def snapshot_of_dead_letter(
    dead: DeadLetter, parse: Parse, output: Output | None
) -> AttemptSnapshot:
    """Return the end of a delivery as it is recorded, by its dead letter."""
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
    except Exception:  # noqa: BLE001 - what is stored leads to no event any more
        name = dead.event_name or None
        return Event(type="track", name=name, id=f"{dead.entry.id}-{dead.index}")


def trace_from_spool(entry: Entry, maker: RecordBuilder, *, whole: bool) -> Trace:
    """Return a request as it would be traced, from what the spool has of it.

    Args:
        entry: as the spool has it.
        maker: makes the records.
        whole: the entry has all targets of the request. What the routes would give besides was
            not given: the event came before, or the routes were others.
    """
    events: Sequence[Event] = ()
    try:
        events = parse_stored(entry, maker.setting.inputs)
    except Exception:  # noqa: BLE001 - the plugin does not take it any more, or is not there
        events = ()
    received: RequestRecord | None = None
    parsed: list[EventRecord] = []
    for record in maker.stored(entry, dict(enumerate(events))):
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


def explain_missing(identity: str, *, asked: bool = True) -> str:
    """Return what to say where nothing is kept under an id.

    Args:
        identity: what was asked for.
        asked: the spool could be asked, and has nothing of it either.
    """
    at = time_of_id(identity)
    if at is None:
        return (
            f"nothing is kept under {identity!r}; it may be too old, or not traced: "
            f"see [trace] success_rate_limit"
        )
    came = f"a request of this id came {format_time(at)} UTC"
    if is_sampled(identity.partition("-")[0]):
        kept = "see [trace] retention and max_bytes"
        return f"nothing is kept under {identity!r} any more; {came}: {kept}"
    well = "; nothing of it waits, and it has no dead letter" if asked else ""
    return (
        f"nothing that went wrong is kept under {identity!r}; {came}, and was not chosen to be "
        f"traced (see [trace] success_rate_limit){well}"
    )

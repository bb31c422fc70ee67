"""What the spool gives up by itself: too old, or too much. It is recorded like a failed try."""

import asyncio
from collections.abc import Callable, Sequence

from gateway.errors import SpoolError
from gateway.event import Event
from gateway.plugin import Output
from gateway.spool import Dead, Entry, Notice, Spool, Taken
from gateway.trace.hub import LiveHub
from gateway.trace.raw import Trial
from gateway.trace.recorder import Recorder
from gateway.trace.sampling import Sampler

RATE = 20
"""Deliveries a second and destination that are recorded; an outage makes thousands at once."""

Parse = Callable[[Entry], Sequence[Event]]
OutputOf = Callable[[str], Output | None]
"""A destination's output; None where it is not configured any more."""


class GivenUp:
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
        hub: LiveHub,
        *,
        parse: Parse,
        output_of: OutputOf,
        keep: bool,
    ) -> None:
        self._spool, self._recorder, self._hub = spool, recorder, hub
        self._parse, self._output_of, self._keep = parse, output_of, keep
        self._samplers: dict[str, Sampler] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def noticed(self, notice: Notice) -> None:
        """Record what a notice says was given up; call it on the loop."""
        if not isinstance(notice, Taken) or not notice.dead or not (self._keep or self._hub.lines):
            return
        sampler = self._samplers.setdefault(notice.destination, Sampler(RATE))
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
            trial = await asyncio.to_thread(trial_of, dead, self._parse, output)
            self._recorder.put(trial, len(dead.entry.request.body), keep=self._keep)


def trial_of(dead: Dead, parse: Parse, output: Output | None) -> Trial:
    """Return the end of a delivery as it is recorded, by its dead letter."""
    entry = dead.entry
    return Trial(
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
        outcome="dead",
        reason=f"{dead.cause}: {dead.reason}",
        attempt=None,
    )


def _event(dead: Dead, parse: Parse) -> Event:
    try:
        return parse(dead.entry)[dead.index]
    except Exception:  # noqa: BLE001 - what is stored leads to no event any more
        name = dead.event_name or None
        return Event(type="track", name=name, id=f"{dead.entry.id}-{dead.index}")

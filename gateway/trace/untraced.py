"""Requests of which nothing is traced: what the spool has of them, and what to say of others."""

from collections.abc import Sequence

from msgspec.structs import replace

from gateway.event import Event
from gateway.ids import came_at
from gateway.letter import written
from gateway.spool import Entry, event_of
from gateway.stored import events_of
from gateway.trace.interface import Parsed, Received, Trace
from gateway.trace.making import Maker
from gateway.trace.sampling import chosen


def stored(entry: Entry, maker: Maker, *, whole: bool) -> Trace:
    """Return a request as it would be traced, from what the spool has of it.

    Args:
        entry: as the spool has it.
        maker: makes the records.
        whole: the entry has all targets of the request. What the routes would give besides was
            not given: the event came before, or the routes were others.
    """
    events: Sequence[Event] = ()
    try:
        events = events_of(entry, maker.setting.inputs)
    except Exception:  # noqa: BLE001 - the plugin does not take it any more, or is not there
        events = ()
    received: Received | None = None
    parsed: list[Parsed] = []
    for record in maker.stored(entry, dict(enumerate(events))):
        if isinstance(record, Received):
            received = record
        elif isinstance(record, Parsed):
            parsed.append(_given(record, entry) if whole else record)
    return Trace(entry.id, received, tuple(parsed), ())


def _given(parsed: Parsed, entry: Entry) -> Parsed:
    index = int(parsed.event.rpartition("-")[2])
    given = {to for to, numbers in entry.targets.items() if index in map(event_of, numbers)}
    decisions = tuple(
        replace(one, gives=tuple(to for to in one.gives if to in given)) for one in parsed.decisions
    )
    return replace(parsed, decisions=decisions)


def nothing(identity: str, *, asked: bool = True) -> str:
    """Return what to say where nothing is kept under an id.

    Args:
        identity: what was asked for.
        asked: the spool could be asked, and has nothing of it either.
    """
    at = came_at(identity)
    if at is None:
        return (
            f"nothing is kept under {identity!r}; it may be too old, or not traced: "
            f"see [trace] successes_per_second"
        )
    came = f"a request of this id came {written(at)} UTC"
    if chosen(identity.partition("-")[0]):
        return f"nothing is kept under {identity!r} any more; {came}: see [trace] keep and max_size"
    well = "; nothing of it waits, and it has no dead letter" if asked else ""
    return (
        f"nothing that went wrong is kept under {identity!r}; {came}, and was not chosen to be "
        f"traced (see [trace] successes_per_second){well}"
    )

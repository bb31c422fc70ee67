"""What a source's tracking plan had against events, and what it left out of them."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from gateway.clients import introduced
from gateway.event import Event
from gateway.trace.raw import Arrival
from gateway.tracking import Plan
from gateway.tracking.plan import LEFT_OUT
from gateway.tracking.violations import Path, written

Hide = Callable[[str], str]
"""Takes credentials out of a text."""


class Planned(NamedTuple):
    """What there is to say of one event; see `gateway.trace.records.Parsed`."""

    said: tuple[str, ...] = ()
    left_out: tuple[Path, ...] = ()


NOTHING = Planned()


def planned(arrival: Arrival, hide: Hide) -> Iterator[Planned]:
    """Yield what there is to say of each event of a request.

    The way in hands over the events as they go on. So those that something may have been left out
    of are parsed again.
    """
    plan = arrival.source.plan
    if plan is None:
        yield from (NOTHING for _ in arrival.events)
        return
    for came, event in zip(_came(arrival, plan), arrival.events, strict=True):
        yield _judged(plan, came, event, hide)


def left_out(paths: Sequence[Path], hide: Hide) -> Planned:
    """Return what there is to say where no more is known than the *paths* that were left out."""
    return Planned(tuple(hide(written(path)) + LEFT_OUT for path in paths), _hidden(paths, hide))


def _came(arrival: Arrival, plan: Plan) -> Sequence[Event]:
    stored = arrival.stored
    if plan.violations != "drop-field" or stored is None:
        return arrival.events
    return introduced(arrival.source.reads.parse(stored), stored)


def _judged(plan: Plan, came: Event, event: Event, hide: Hide) -> Planned:
    found = plan.judge(came)
    if found is None:
        return NOTHING
    told = dict(found.told())
    left = plan.judge(event) if found.dropped else None
    if left is not None:  # without what was left out, something else may be wrong
        told |= {what: False for what, _ in left.told() if what not in told}
    said = tuple(hide(what) + (LEFT_OUT if gone else "") for what, gone in told.items())
    return Planned(said, _hidden(found.dropped, hide))


def _hidden(paths: Sequence[Path], hide: Hide) -> tuple[Path, ...]:
    """Return *paths* without credentials, which a sender might use as names."""
    return tuple(
        tuple(hide(step) if isinstance(step, str) else step for step in path) for path in paths
    )

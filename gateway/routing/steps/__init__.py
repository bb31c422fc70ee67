"""The steps of routes, ready to be taken.

A step either changes an event, purely, or filters: it says whether the event goes at all. An event
is frozen, and a change makes another one, so that no route sees what another one did.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.config import steps as written
from gateway.config.steps import Step
from gateway.errors import Unrenderable
from gateway.event import NOTHING, Event
from gateway.routing.steps import filters, naming, privacy, times, values
from gateway.routing.steps.filters import Filter
from gateway.routing.steps.rereading import rereading
from gateway.routing.steps.values import Change

CHANGES: Mapping[type[Step], Callable[[Any], Change]] = {
    written.Rename: naming.rename,
    written.Set: values.set_values,
    written.Default: values.default_values,
    written.Copy: values.copy_values,
    written.Drop: values.drop_values,
    written.Keep: values.keep_values,
    written.Hash: privacy.hash_values,
    written.Mask: privacy.mask_values,
    written.Map: values.map_value,
    written.Timestamp: times.clamp,
    written.TruncateIp: privacy.truncate_ips,
}
FILTERS: Mapping[type[Step], Callable[[Any], Filter]] = {
    written.Sample: filters.sample,
    written.Consent: filters.consent,
}


class Taken(NamedTuple):
    """One step, as it was taken."""

    word: str
    before: Event
    after: Event
    kept_back: str = ""
    """Why a filter lets the event go no further."""


class Steps:
    """The steps of one route, in order.

    Args:
        route: its name.
        steps: as the configuration has them.
    """

    def __init__(self, route: str, steps: Sequence[Step]) -> None:
        self.route = route
        self.asks_consent = any(isinstance(step, written.Consent) for step in steps)
        self._steps: list[tuple[str, Change | None, Filter | None]] = []
        for step in steps:
            kind = type(step)
            change = rereading(CHANGES[kind](step)) if kind in CHANGES else None
            judge = FILTERS[kind](step) if kind in FILTERS else None
            self._steps.append((step.word, change, judge))
        last = max((n for n, (_, _, judge) in enumerate(self._steps) if judge), default=-1)
        self._judging = self._steps[: last + 1]
        self._changes = [
            (n, word, change) for n, (word, change, _) in enumerate(self._steps, start=1) if change
        ]
        self._last: tuple[Event, Event] | None = None

    @property
    def filters(self) -> bool:
        """Tell whether some step may keep events back."""
        return bool(self._judging)

    @property
    def changes(self) -> bool:
        """Tell whether some step changes events."""
        return bool(self._changes)

    def kept_back(self, event: Event, remembered: Mapping[str, bool] = NOTHING) -> str:
        """Return why a filter keeps *event* back; empty where it goes.

        Args:
            event: as accepted; each filter judges it as the steps before it left it.
            remembered: what the user consented to before.
        """
        for word, change, judge in self._judging:
            if judge is not None:
                reason = judge(event, remembered)
                if reason:
                    return f"{word}: {reason}"
            elif change is not None:
                event = change(event)
        return ""

    def apply(self, event: Event) -> Event:
        """Return what the steps make of *event*.

        Destinations of one route that keep pace share the work.

        Raises:
            Unrenderable: a step failed; the message says which.
        """
        if self._last is not None and self._last[0] is event:
            return self._last[1]
        changed = self.made(event)
        self._last = (event, changed)
        return changed

    def made(self, event: Event) -> Event:
        """Return what the steps make of *event*; unlike `apply` it may be called in any thread.

        Raises:
            Unrenderable: a step failed; the message says which.
        """
        changed = event
        for number, word, change in self._changes:
            try:
                changed = change(changed)
            except Exception as error:
                what = f"step {number} ({word}) of route {self.route!r} failed: {error!r}"
                raise Unrenderable(what) from error
        return changed

    def each(self, event: Event, remembered: Mapping[str, bool] = NOTHING) -> Iterator[Taken]:
        """Yield the steps one by one, until a filter keeps the event back."""
        for word, change, judge in self._steps:
            reason = judge(event, remembered) if judge else ""
            after = change(event) if change else event
            yield Taken(word, event, after, reason)
            if reason:
                return
            event = after

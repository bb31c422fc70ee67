"""Steps of a route: filters, renames, times; values and privacy beside it.

A step either changes an event, purely, or filters: it says whether the event goes at all. An event
is frozen, and a change makes another one, so that no route sees what another one did.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from fnmatch import translate
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from gateway.config import steps as written
from gateway.config.steps import Consent, Rename, SampleStep, StepConfig, Timestamp
from gateway.errors import Unrenderable
from gateway.event import NOTHING, Event
from gateway.plugin.spec_spellings import spec_name
from gateway.routing import step_privacy, step_values
from gateway.routing.step_spellings import rereading
from gateway.routing.step_values import Change

Filter = Callable[[Event, Mapping[str, bool]], str]
"""Returns why an event is kept back, given what is remembered of its user; empty where it goes."""


def sample(step: SampleStep) -> Filter:
    """Return what the step says."""
    least = int(step.sample * 2**64)
    seed = step.seed.encode() + b"\0"

    def sampled(event: Event, _: Mapping[str, bool]) -> str:
        who = event.user_key or event.message_id or event.id
        drawn = blake2b(seed + who.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        if int.from_bytes(drawn, "big") < least:
            return ""
        return f"not among the {step.sample:.4g} of the users who are sampled"

    return sampled


def consent(step: Consent) -> Filter:
    """Return what the step says."""

    def consented(event: Event, remembered: Mapping[str, bool]) -> str:
        for category in step.consent:
            granted = event.consent.get(category)
            if granted is None:
                granted = remembered.get(category)
                if granted is None:
                    return f"no consent to {category} is known"
            if granted is not True:
                return f"the user has not consented to {category}"
        return ""

    return consented


def rename(step: Rename) -> Callable[[Event], Event]:
    """Return what the step does.

    An old name that is the Spec's in another spelling stands for the Spec's: events are read so.
    """
    exact = {old: new for old, new in step.rename.items() if not _is_pattern(old)}
    exact = {spec_name(old): new for old, new in exact.items()} | exact
    patterns = [
        (re.compile(_groups(old)), new.split("*"))
        for old, new in step.rename.items()
        if _is_pattern(old)
    ]

    def rename_event(event: Event) -> Event:
        if event.name is None:
            return event
        new = exact.get(event.name)
        if new is None:
            for pattern, pieces in patterns:
                found = pattern.match(event.name)
                if found:
                    stars = [*found.groups(), ""]
                    new = "".join(
                        a + b for a, b in zip(pieces, [*stars[: len(pieces) - 1], ""], strict=True)
                    )
                    break
        return event if new is None else msgspec.structs.replace(event, name=new)

    return rename_event


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*?[")


def _groups(pattern: str) -> str:
    """Return *pattern* as a regular expression with a group for each star.

    What a star stood for is settled as soon as what follows it is found (only the last one reaches
    to the end), so that no name makes the search go back: names are the senders' own.
    """
    first, *parts = [translate(part)[len("(?s:") : -len(r")\Z")] for part in pattern.split("*")]
    if not parts:
        return rf"(?s:{first})\Z"
    *inner, last = parts
    settled = "".join(f"(?>(.*?){part})" for part in inner)
    return rf"(?s:{first}{settled}(.*){last})\Z"


def clamp_timestamp(step: Timestamp) -> Change:
    """Return what the step does. Arrival is stored, so that a later try comes to the same."""
    past = None if step.past is None else timedelta(seconds=step.past)
    future = timedelta(seconds=step.future)

    def clamp_event(event: Event) -> Event:
        if event.timestamp is None:
            return event
        latest = event.received_at + future
        if event.timestamp > latest:
            return msgspec.structs.replace(event, timestamp=latest)
        if past is not None and event.timestamp < event.received_at - past:
            return msgspec.structs.replace(event, timestamp=event.received_at - past)
        return event

    return clamp_event


CHANGES: Mapping[type[StepConfig], Callable[[Any], Change]] = {
    written.Rename: rename,
    written.Set: step_values.set_values,
    written.Default: step_values.default_values,
    written.Copy: step_values.copy_values,
    written.Drop: step_values.drop_values,
    written.Keep: step_values.keep_values,
    written.Hash: step_privacy.hash_values,
    written.Mask: step_privacy.mask_values,
    written.Map: step_values.map_value,
    written.Timestamp: clamp_timestamp,
    written.TruncateIp: step_privacy.truncate_ips,
}
FILTERS: Mapping[type[StepConfig], Callable[[Any], Filter]] = {
    written.SampleStep: sample,
    written.Consent: consent,
}


class StepResult(NamedTuple):
    """One step, as it was taken."""

    word: str
    before: Event
    after: Event
    kept_back: str = ""
    """Why a filter lets the event go no further."""


class StepChain:
    """The steps of one route, in order.

    Args:
        route: its name.
        steps: as the configuration has them.
    """

    def __init__(self, route: str, steps: Sequence[StepConfig]) -> None:
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

    def filtered_by(self, event: Event, remembered: Mapping[str, bool] = NOTHING) -> str:
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

    def each(self, event: Event, remembered: Mapping[str, bool] = NOTHING) -> Iterator[StepResult]:
        """Yield the steps one by one, until a filter keeps the event back."""
        for word, change, judge in self._steps:
            reason = judge(event, remembered) if judge else ""
            after = change(event) if change else event
            yield StepResult(word, event, after, reason)
            if reason:
                return
            event = after

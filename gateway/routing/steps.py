"""Steps of a route: filters, renames, times, and the chain of all steps.

A step either changes an event, as a pure function, or filters it. Events are frozen and a change
makes a new one, so routes do not affect each other.
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
"""Returns why an event is filtered, given its user's stored consent; empty if it is not."""


def sample(step: SampleStep) -> Filter:
    """Return the filter of a ``sample`` step."""
    least = int(step.sample * 2**64)
    seed = step.seed.encode() + b"\0"

    def sampled(event: Event, _: Mapping[str, bool]) -> str:
        who = event.user_key or event.message_id or event.id
        drawn = blake2b(seed + who.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        if int.from_bytes(drawn, "big") < least:
            return ""
        return f"the user is not in the sample of {step.sample:.4g}"

    return sampled


def consent(step: Consent) -> Filter:
    """Return the filter of a ``consent`` step."""

    def consented(event: Event, remembered: Mapping[str, bool]) -> str:
        for category in step.consent:
            granted = event.consent.get(category)
            if granted is None:
                granted = remembered.get(category)
                if granted is None:
                    return f"no recorded consent to {category}"
            if granted is not True:
                return f"the user has not consented to {category}"
        return ""

    return consented


def rename(step: Rename) -> Callable[[Event], Event]:
    """Return the change of a ``rename`` step.

    An old name in another spelling of a Spec name means the Spec name, because inputs read it so.
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

    Each star but the last matches as little as possible, in an atomic group, so that the search
    never backtracks: senders can invent names that would make it slow.
    """
    first, *parts = [translate(part)[len("(?s:") : -len(r")\Z")] for part in pattern.split("*")]
    if not parts:
        return rf"(?s:{first})\Z"
    *inner, last = parts
    settled = "".join(f"(?>(.*?){part})" for part in inner)
    return rf"(?s:{first}{settled}(.*){last})\Z"


def clamp_timestamp(step: Timestamp) -> Change:
    """Return the change of a ``timestamp`` step; it uses the stored arrival, so retries agree."""
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
    """The result of one step."""

    word: str
    before: Event
    after: Event
    filtered: str = ""
    """Why the step filters the event; empty if it does not."""


class StepChain:
    """The steps of one route, in order.

    Args:
        route: name of the route.
        steps: as configured.
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
        """Return whether any step may filter events."""
        return bool(self._judging)

    @property
    def changes(self) -> bool:
        """Return whether any step changes events."""
        return bool(self._changes)

    def filtered_by(self, event: Event, remembered: Mapping[str, bool] = NOTHING) -> str:
        """Return why *event* is filtered; empty if it is not.

        Args:
            event: as accepted; each filter gets it after the steps before it.
            remembered: stored consent of the user.
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
        """Return *event* after all steps.

        The last result is cached, so that several destinations of a route share the work.

        Raises:
            Unrenderable: a step failed; the message says which.
        """
        if self._last is not None and self._last[0] is event:
            return self._last[1]
        changed = self.made(event)
        self._last = (event, changed)
        return changed

    def made(self, event: Event) -> Event:
        """Return *event* after all steps; unlike `apply`, it may be called in any thread.

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
        """Yield the result of each step, until one filters the event."""
        for word, change, judge in self._steps:
            reason = judge(event, remembered) if judge else ""
            after = change(event) if change else event
            yield StepResult(word, event, after, reason)
            if reason:
                return
            event = after

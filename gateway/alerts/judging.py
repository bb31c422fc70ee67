"""What is to be told, from how the destinations are doing: values in, values out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec

from gateway.config.alerting import AlertsConfig

Kind = Literal[
    "destination_paused",
    "backlog_old",
    "dead_letters",
    "unaccounted",
    "not_accepting",
    "destination_full",
]
GATEWAY = ""
"""Stands for the gateway itself where a destination's name would be."""


class Now(NamedTuple):
    """What time it is."""

    wall: float
    """Unix seconds."""
    steady: float
    """Seconds of a clock that never jumps."""


class Reading(NamedTuple):
    """How a destination, or the gateway itself, is doing."""

    destination: str
    trouble: str = ""
    """Why nothing is sent, or taken; empty where something is."""
    oldest: float | None = None
    """Unix seconds at which the oldest event that is owed to it came."""
    owed: int = 0
    """Requests that are owed to it."""
    dead: int = 0
    """Its dead letters."""
    full: str = ""
    """Why no new events are taken for it; empty where they are."""
    missing: int = 0
    """Accepted for it and nowhere now; below 0 where more ended than was accepted."""


class Alert(msgspec.Struct, frozen=True):
    """What somebody is told.

    ``text`` says it in a sentence, under the name that chat programs read
    (https://api.slack.com/messaging/webhooks).
    """

    text: str
    kind: Kind
    state: Literal["firing", "resolved"]
    destination: str
    """Empty where it is about the gateway itself."""
    since: float
    """Unix seconds at which it began."""
    at: float
    """Unix seconds at which it was noticed."""
    reason: str
    value: float
    """How long it has lasted or how old the oldest event is, in seconds; how many dead letters."""
    bound: float
    """What the configuration allows of that."""


class _Symptom(NamedTuple):
    reason: str
    bound: float
    age: float | None = None
    """Seconds; None where it is as old as it has been seen."""


@dataclass
class _Case:
    """A symptom that is there, and when it was last told of."""

    began: Now
    told: float | None = None


@dataclass
class _Count:
    """How many dead letters a destination had when they were last told of, and when that was."""

    dead: int
    told: float | None = None


class Judge:
    """Remembers what has been told, and decides what is to be told next.

    Args:
        config: the bounds.
    """

    def __init__(self, config: AlertsConfig) -> None:
        self.config = config
        self._cases: dict[tuple[str, Kind], _Case] = {}
        self._counts: dict[str, _Count] = {}

    def due(self, readings: Sequence[Reading], now: Now) -> list[Alert]:
        """Return what is to be told of *readings*; it stays due until it is `told`."""
        symptoms = {key: found for r in readings for key, found in self._symptoms(r, now)}
        alerts = [self._fires(*key, symptom, now) for key, symptom in symptoms.items()]
        for key, case in list(self._cases.items()):
            if key not in symptoms and case.told is None:
                del self._cases[key]
            elif key not in symptoms:
                alerts.append(_resolved(*key, case, now))
        alerts += [self._added(reading, now) for reading in readings]
        return [alert for alert in alerts if alert is not None]

    def told(self, alert: Alert, now: Now) -> None:
        """Note that *alert* has reached somebody."""
        if alert.kind == "dead_letters":
            count = self._counts[alert.destination]
            count.dead += int(alert.value)
            count.told = now.steady
        elif alert.state == "resolved":
            del self._cases[alert.destination, alert.kind]
        else:
            self._cases[alert.destination, alert.kind].told = now.steady

    def _symptoms(self, reading: Reading, now: Now) -> Iterator[tuple[tuple[str, Kind], _Symptom]]:
        name, bounds = reading.destination, self.config
        if reading.trouble:
            kind: Kind = "not_accepting" if name == GATEWAY else "destination_paused"
            yield (name, kind), _Symptom(reading.trouble, bounds.paused_for)
        if reading.full:
            yield (name, "destination_full"), _Symptom(reading.full, bounds.paused_for)
        age = 0.0 if reading.oldest is None else now.wall - reading.oldest
        if age > bounds.backlog_age:
            reason = "1 request is" if reading.owed == 1 else f"{reading.owed} requests are"
            reason += " owed to it" + (f"; {reading.trouble}" if reading.trouble else "")
            yield (name, "backlog_old"), _Symptom(reason, bounds.backlog_age, age)
        if reading.missing:
            count = abs(reading.missing)
            reason = "1 delivery" if count == 1 else f"{count} deliveries"
            reason += " fewer ended or wait" if reading.missing > 0 else " more ended or wait"
            yield (name, "unaccounted"), _Symptom(f"{reason} than were accepted for it", 0)

    def _fires(self, name: str, kind: Kind, symptom: _Symptom, now: Now) -> Alert | None:
        case = self._cases.setdefault((name, kind), _Case(now))
        age = now.steady - case.began.steady if symptom.age is None else symptom.age
        if age < symptom.bound or self._rests(case.told, now):
            return None
        text = _BEGINS[kind].format(name=name, reason=symptom.reason, time=_time(age))
        return Alert(
            text, kind, "firing", name, now.wall - age, now.wall, symptom.reason,
            round(age, 3), symptom.bound,
        )  # fmt: skip

    def _added(self, reading: Reading, now: Now) -> Alert | None:
        name, dead = reading.destination, reading.dead
        count = self._counts.setdefault(name, _Count(dead))
        count.dead = min(count.dead, dead)
        added = dead - count.dead
        if added < self.config.dead_letters or self._rests(count.told, now):
            return None
        text = f"{name} has {added} more dead letters, {dead} in all; to see why: "
        text += f"gateway dead list --destination {name}"
        return Alert(
            text, "dead_letters", "firing", name, now.wall, now.wall, f"{dead} in all",
            added, self.config.dead_letters,
        )  # fmt: skip

    def _rests(self, told: float | None, now: Now) -> bool:
        return told is not None and now.steady - told < self.config.again


_BEGINS: dict[Kind, str] = {
    "destination_paused": "Nothing is sent to {name}, for {time} now: {reason}",
    "backlog_old": "{name} is {time} behind: {reason}",
    "unaccounted": "Events for {name} are unaccounted for: {reason}",
    "not_accepting": "The gateway takes no events, for {time} now: {reason}",
    "destination_full": "No new events are taken for {name}, for {time} now: {reason}",
}
_ENDS: dict[Kind, str] = {
    "destination_paused": "Events are sent to {name} again, after {time}",
    "backlog_old": "{name} is not behind any more, after {time}",
    "unaccounted": "All events for {name} are accounted for again, after {time}",
    "not_accepting": "The gateway takes events again, after {time}",
    "destination_full": "New events are taken for {name} again, after {time}",
}


def _resolved(name: str, kind: Kind, case: _Case, now: Now) -> Alert:
    lasted = now.steady - case.began.steady
    text = _ENDS[kind].format(name=name, time=_time(lasted))
    return Alert(text, kind, "resolved", name, case.began.wall, now.wall, "", round(lasted, 3), 0)


def _time(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"

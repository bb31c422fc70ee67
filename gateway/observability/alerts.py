"""Alerts: which are due, and how they are sent.

`AlertRules` decides which are due, `AlertWebhook` sends them, `AlertWatcher` asks again and again.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec
import structlog

from gateway.config.operations import AlertsConfig
from gateway.delivery.transport import HttpTransport
from gateway.errors import SpoolError, TransportError
from gateway.http import Request
from gateway.observability.status import GatewayStatus
from gateway.redact import Redactor

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


class Moment(NamedTuple):
    """What time it is."""

    wall: float
    """Unix seconds."""
    steady: float
    """Seconds of a clock that never jumps."""


class DestinationReading(NamedTuple):
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

    began: Moment
    told: float | None = None


@dataclass
class _Count:
    """How many dead letters a destination had when they were last told of, and when that was."""

    dead: int
    told: float | None = None


class AlertRules:
    """Remembers what has been told, and decides what is to be told next.

    Args:
        config: the bounds.
    """

    def __init__(self, config: AlertsConfig) -> None:
        self.config = config
        self._cases: dict[tuple[str, Kind], _Case] = {}
        self._counts: dict[str, _Count] = {}

    def evaluate(self, readings: Sequence[DestinationReading], now: Moment) -> list[Alert]:
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

    def mark_sent(self, alert: Alert, now: Moment) -> None:
        """Note that *alert* has reached somebody."""
        if alert.kind == "dead_letters":
            count = self._counts[alert.destination]
            count.dead += int(alert.value)
            count.told = now.steady
        elif alert.state == "resolved":
            del self._cases[alert.destination, alert.kind]
        else:
            self._cases[alert.destination, alert.kind].told = now.steady

    def _symptoms(
        self, reading: DestinationReading, now: Moment
    ) -> Iterator[tuple[tuple[str, Kind], _Symptom]]:
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

    def _fires(self, name: str, kind: Kind, symptom: _Symptom, now: Moment) -> Alert | None:
        case = self._cases.setdefault((name, kind), _Case(now))
        age = now.steady - case.began.steady if symptom.age is None else symptom.age
        if age < symptom.bound or self._rests(case.told, now):
            return None
        text = _BEGINS[kind].format(name=name, reason=symptom.reason, time=_time(age))
        return Alert(
            text, kind, "firing", name, now.wall - age, now.wall, symptom.reason,
            round(age, 3), symptom.bound,
        )  # fmt: skip

    def _added(self, reading: DestinationReading, now: Moment) -> Alert | None:
        name, dead = reading.destination, reading.dead
        count = self._counts.setdefault(name, _Count(dead))
        count.dead = min(count.dead, dead)
        added = dead - count.dead
        if added < self.config.dead_letters or self._rests(count.told, now):
            return None
        text = f"{name} has {added} more dead letters, {dead} in all; to see why: "
        text += f"gateway dead-letters list --destination {name}"
        return Alert(
            text, "dead_letters", "firing", name, now.wall, now.wall, f"{dead} in all",
            added, self.config.dead_letters,
        )  # fmt: skip

    def _rests(self, told: float | None, now: Moment) -> bool:
        return told is not None and now.steady - told < self.config.repeat_interval


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


def _resolved(name: str, kind: Kind, case: _Case, now: Moment) -> Alert:
    lasted = now.steady - case.began.steady
    text = _ENDS[kind].format(name=name, time=_time(lasted))
    return Alert(text, kind, "resolved", name, case.began.wall, now.wall, "", round(lasted, 3), 0)


def _time(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


TIMEOUT = 10.0
"""Seconds for one alert."""

log = structlog.get_logger()


class AlertWebhook:
    """Posts alerts as JSON.

    Args:
        config: where to, and with which headers.
    """

    def __init__(self, config: AlertsConfig) -> None:
        self._url = config.url.get_secret_value()
        headers = {name: value.get_secret_value() for name, value in config.headers.items()}
        self._headers = {"content-type": "application/json"} | headers
        self._redactor = Redactor(config)
        self._transport = HttpTransport(timeout=TIMEOUT, connections=1)

    async def post(self, alert: Alert) -> bool:
        """Return whether *alert* was taken: answered with 2xx. What goes wrong is logged."""
        request = Request(
            method="POST", url=self._url, headers=self._headers, body=msgspec.json.encode(alert)
        )
        try:
            answer = await self._transport.send(request)
        except TransportError as error:
            reason = str(error)
        else:
            if answer.status // 100 == 2:  # noqa: PLR2004 - 2xx, RFC 9110 section 15.3
                return True
            said = answer.body[:200].decode(errors="replace")
            reason = f"answered {answer.status}: {said}"
        log.warning(
            "alert_failed",
            destination=alert.destination,
            kind=alert.kind,
            reason=self._redactor.text(reason),
        )
        return False

    async def close(self) -> None:
        """Close its connection."""
        await self._transport.close()


class AlertWatcher:
    """Tells somebody what is wrong with a running gateway, as its configuration says."""

    def __init__(self, gateway: GatewayStatus) -> None:
        self._gateway = gateway
        self._task: asyncio.Task[None] | None = None

    async def configure(self, config: AlertsConfig | None) -> None:
        """Go by *config* from now on; what was told before is told again where it lasts."""
        await self.stop()
        if config is not None:
            self._task = asyncio.get_running_loop().create_task(self._watch(config))

    async def stop(self) -> None:
        """Tell nothing more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _watch(self, config: AlertsConfig) -> None:
        judge, webhook = AlertRules(config), AlertWebhook(config)
        try:
            while True:
                try:
                    await self._look(judge, webhook)
                except Exception:
                    log.exception("alert_check_failed")  # the next look may go well
                await asyncio.sleep(config.check_interval)
        finally:
            await webhook.close()

    async def _look(self, judge: AlertRules, webhook: AlertWebhook) -> None:
        readings = await self._readings()
        for alert in judge.evaluate(readings, self._now()):
            log.warning("alert", destination=alert.destination, kind=alert.kind, state=alert.state)
            if await webhook.post(alert):
                judge.mark_sent(alert, self._now())

    async def _readings(self) -> list[DestinationReading]:
        gateway = self._gateway
        itself = DestinationReading(GATEWAY, gateway.not_ready_reason() or "")
        try:
            depths = await gateway.spool.depths()
        except SpoolError as error:
            return [DestinationReading(GATEWAY, itself.trouble or str(error))]
        found, refusing = [itself], gateway.refusing()
        missing = gateway.spool.unaccounted()
        for name, worker in gateway.workers.items():
            state, depth = worker.status(), depths.get(name)
            trouble = ""
            if state.paused:
                trouble = "an operator paused it"
            elif state.circuit != "closed":
                trouble = state.reason
            if depth is not None:
                full, lost = refusing.get(name, ""), missing.get(name, 0)
                found.append(
                    DestinationReading(
                        name,
                        trouble,
                        depth.oldest,
                        depth.backlog,
                        depth.dead_letters,
                        full,
                        missing=lost,
                    )
                )
        return found

    def _now(self) -> Moment:
        return Moment(self._gateway.spool.clock.of_day(), time.monotonic())

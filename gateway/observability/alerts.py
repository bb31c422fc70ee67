"""Decide which alerts are due, and send them.

`AlertRules` decides which alerts are due, `AlertWebhook` sends them, `AlertWatcher` repeats both.
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
from gateway.config.proxy import proxy_of
from gateway.delivery.transport import HttpTransport
from gateway.errors import SpoolError, TransportError
from gateway.http import Request
from gateway.observability.health_model import DestinationHealth, SourceHealth
from gateway.observability.health_monitor import MonitoredGateway
from gateway.observability.health_texts import spoken
from gateway.redact import Redactor

Kind = Literal[
    "destination_paused",
    "backlog_old",
    "dead_letters",
    "unaccounted",
    "not_accepting",
    "destination_full",
    "destination_failing",
    "source_refusing",
    "cluster",
]
OF_ONE_GATEWAY: frozenset[Kind] = frozenset({"not_accepting", "source_refusing", "unaccounted"})
"""Alerts that each gateway of a cluster sends of itself; one sends all others for all."""
GATEWAY = ""
"""The destination's name in an alert about the gateway itself."""


class Moment(NamedTuple):
    """A time on two clocks."""

    wall: float
    """Unix seconds."""
    steady: float
    """Seconds of a monotonic clock."""


class DestinationReading(NamedTuple):
    """The state of a destination, or of the gateway itself."""

    destination: str
    trouble: str = ""
    """Why nothing is sent, or no events are accepted; empty otherwise."""
    oldest: float | None = None
    """Unix seconds at which its oldest pending event arrived."""
    owed: int = 0
    """Its pending requests."""
    dead: int = 0
    """Its dead letters."""
    full: str = ""
    """Why no new events are accepted for it; empty otherwise."""
    missing: int = 0
    """Accepted deliveries that are neither finished nor pending; below 0 if there are more of these
    than were accepted."""
    failing: str = ""
    """Why attempts fail, although some are made; empty otherwise."""
    cluster: str = ""
    """What is wrong with the cluster that the gateway belongs to; empty otherwise."""


class SourceReading(NamedTuple):
    """The state of a source."""

    source: str
    refusing: str = ""
    """Why it refuses requests; empty otherwise."""


class Alert(msgspec.Struct, frozen=True):
    """An alert as it is posted.

    ``text`` is a sentence; chat programs show the field of that name
    (https://api.slack.com/messaging/webhooks).
    """

    text: str
    kind: Kind
    state: Literal["firing", "resolved"]
    since: float
    """Unix seconds at which the condition began."""
    at: float
    """Unix seconds at which it was noticed."""
    reason: str
    value: float
    """The duration of the condition or the age of the oldest event in seconds, or a number of dead
    letters."""
    bound: float
    """The configured limit of that value."""
    destination: str = ""
    """Empty for an alert about the gateway itself or a source."""
    source: str = ""
    """The source that it is about; empty otherwise."""
    node: str = ""
    """The gateway of a cluster that noticed it; empty if it is alone."""


class _Symptom(NamedTuple):
    reason: str
    bound: float
    age: float | None = None
    """Seconds; None if it is measured from when the symptom was first seen."""


@dataclass
class _Case:
    """A present symptom, and when its last alert was sent."""

    began: Moment
    sent_at: float | None = None


@dataclass
class _Count:
    """The number of a destination's dead letters at the last alert, and when that was sent."""

    dead: int
    sent_at: float | None = None


class AlertRules:
    """Decides which alerts are due, and remembers which were sent.

    Args:
        config: the limits.
    """

    def __init__(self, config: AlertsConfig) -> None:
        self.config = config
        self._cases: dict[tuple[str, Kind], _Case] = {}
        self._counts: dict[str, _Count] = {}

    def evaluate(
        self,
        readings: Sequence[DestinationReading],
        now: Moment,
        sources: Sequence[SourceReading] = (),
    ) -> list[Alert]:
        """Return the alerts that are due; an alert stays due until `mark_sent` is called."""
        symptoms = {key: found for r in readings for key, found in self._symptoms(r, now)}
        symptoms |= {
            (one.source, "source_refusing"): _Symptom(one.refusing, self.config.paused_for)
            for one in sources
            if one.refusing
        }
        alerts = [self._fires(*key, symptom, now) for key, symptom in symptoms.items()]
        for key, case in list(self._cases.items()):
            if key not in symptoms and case.sent_at is None:
                del self._cases[key]
            elif key not in symptoms:
                alerts.append(_resolved(*key, case, now))
        alerts += [self._added(reading, now) for reading in readings]
        return [alert for alert in alerts if alert is not None]

    def mark_sent(self, alert: Alert, now: Moment) -> None:
        """Record that *alert* was delivered."""
        if alert.kind == "dead_letters":
            count = self._counts[alert.destination]
            count.dead += int(alert.value)
            count.sent_at = now.steady
        elif alert.state == "resolved":
            del self._cases[alert.destination or alert.source, alert.kind]
        else:
            self._cases[alert.destination or alert.source, alert.kind].sent_at = now.steady

    def _symptoms(
        self, reading: DestinationReading, now: Moment
    ) -> Iterator[tuple[tuple[str, Kind], _Symptom]]:
        name, bounds = reading.destination, self.config
        if reading.trouble:
            kind: Kind = "not_accepting" if name == GATEWAY else "destination_paused"
            yield (name, kind), _Symptom(reading.trouble, bounds.paused_for)
        if reading.failing:
            yield (name, "destination_failing"), _Symptom(reading.failing, bounds.paused_for)
        if reading.cluster:
            yield (name, "cluster"), _Symptom(reading.cluster, bounds.paused_for)
        if reading.full:
            yield (name, "destination_full"), _Symptom(reading.full, bounds.paused_for)
        age = 0.0 if reading.oldest is None else now.wall - reading.oldest
        if age > bounds.backlog_age:
            reason = "1 request is" if reading.owed == 1 else f"{reading.owed} requests are"
            reason += " pending" + (f"; {reading.trouble}" if reading.trouble else "")
            yield (name, "backlog_old"), _Symptom(reason, bounds.backlog_age, age)
        if reading.missing:
            count = abs(reading.missing)
            reason = "1 delivery" if count == 1 else f"{count} deliveries"
            reason += " missing" if reading.missing > 0 else " more than were accepted"
            yield (name, "unaccounted"), _Symptom(reason, 0)

    def _fires(self, name: str, kind: Kind, symptom: _Symptom, now: Moment) -> Alert | None:
        case = self._cases.setdefault((name, kind), _Case(now))
        age = now.steady - case.began.steady if symptom.age is None else symptom.age
        if age < symptom.bound or self._rests(case.sent_at, now):
            return None
        text = _BEGINS[kind].format(name=name, reason=symptom.reason, time=spoken(age))
        return Alert(
            text, kind, "firing", now.wall - age, now.wall, symptom.reason, round(age, 3),
            symptom.bound, **_subject(name, kind),
        )  # fmt: skip

    def _added(self, reading: DestinationReading, now: Moment) -> Alert | None:
        name, dead = reading.destination, reading.dead
        count = self._counts.setdefault(name, _Count(dead))
        count.dead = min(count.dead, dead)
        added = dead - count.dead
        if added < self.config.dead_letters or self._rests(count.sent_at, now):
            return None
        text = f"{name} has {added} new dead letters, {dead} in total. To see why, run "
        text += f"gateway dead-letters list --destination {name}"
        return Alert(
            text, "dead_letters", "firing", now.wall, now.wall, f"{dead} in total", added,
            self.config.dead_letters, destination=name,
        )  # fmt: skip

    def _rests(self, sent_at: float | None, now: Moment) -> bool:
        return sent_at is not None and now.steady - sent_at < self.config.repeat_interval


_BEGINS: dict[Kind, str] = {
    "destination_paused": "Nothing has been sent to {name} for {time}: {reason}",
    "backlog_old": "{name} is {time} behind: {reason}",
    "unaccounted": "Deliveries to {name} are unaccounted for: {reason}",
    "not_accepting": "The gateway has accepted no events for {time}: {reason}",
    "destination_full": "No new events have been accepted for {name} for {time}: {reason}",
    "destination_failing": "Attempts for {name} have failed for {time}: {reason}",
    "source_refusing": "{name} has refused requests for {time}: {reason}",
    "cluster": "Something has been wrong with the cluster for {time}: {reason}",
}
_ENDS: dict[Kind, str] = {
    "destination_paused": "Events are sent to {name} again, after {time}",
    "backlog_old": "{name} is no longer behind, after {time}",
    "unaccounted": "All deliveries to {name} are accounted for again, after {time}",
    "not_accepting": "The gateway accepts events again, after {time}",
    "destination_full": "New events are accepted for {name} again, after {time}",
    "destination_failing": "Attempts for {name} succeed again, after {time}",
    "source_refusing": "{name} accepts requests again, after {time}",
    "cluster": "The cluster is well again, after {time}",
}


def _resolved(name: str, kind: Kind, case: _Case, now: Moment) -> Alert:
    lasted = now.steady - case.began.steady
    text = _ENDS[kind].format(name=name, time=spoken(lasted))
    return Alert(
        text, kind, "resolved", case.began.wall, now.wall, "", round(lasted, 3), 0,
        **_subject(name, kind),
    )  # fmt: skip


def _subject(name: str, kind: Kind) -> dict[str, str]:
    return {"source" if kind == "source_refusing" else "destination": name}


TIMEOUT = 10.0
"""Seconds for one request."""

log = structlog.get_logger()


class AlertWebhook:
    """Posts alerts as JSON.

    Args:
        config: the URL and the headers.
    """

    def __init__(self, config: AlertsConfig) -> None:
        self._url = config.url.get_secret_value()
        headers = {name: value.get_secret_value() for name, value in config.headers.items()}
        self._headers = {"content-type": "application/json"} | headers
        self._redactor = Redactor(config)
        self._transport = HttpTransport(
            timeout=TIMEOUT, connections=1, proxy=proxy_of(config.proxy)
        )

    async def post(self, alert: Alert) -> bool:
        """Post *alert*; return whether the response was 2xx. Failures are logged."""
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
            excerpt = answer.body[:200].decode(errors="replace")
            reason = f"HTTP {answer.status}: {excerpt}"
        log.warning(
            "alert_failed",
            destination=alert.destination,
            kind=alert.kind,
            reason=self._redactor.text(reason),
        )
        return False

    async def close(self) -> None:
        """Close the connection."""
        await self._transport.close()


class AlertWatcher:
    """Checks a running gateway at intervals and sends the alerts that are due."""

    def __init__(self, gateway: MonitoredGateway) -> None:
        self._gateway = gateway
        self._task: asyncio.Task[None] | None = None

    async def configure(self, config: AlertsConfig | None) -> None:
        """Use *config* from now on; alerts whose cause lasts are sent again."""
        await self.stop()
        if config is not None:
            self._task = asyncio.get_running_loop().create_task(self._watch(config))

    async def stop(self) -> None:
        """Send no more alerts."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _watch(self, config: AlertsConfig) -> None:
        rules, webhook = AlertRules(config), AlertWebhook(config)
        try:
            while True:
                try:
                    await self._check(rules, webhook)
                except Exception:
                    log.exception("alert_check_failed")  # the next check may succeed
                await asyncio.sleep(config.check_interval)
        finally:
            await webhook.close()

    async def _check(self, rules: AlertRules, webhook: AlertWebhook) -> None:
        destinations, sources = await self._readings()
        spool = self._gateway.spool
        for found in rules.evaluate(destinations, self._now(), sources):
            alert = _signed(found, spool.node)
            if alert.kind not in OF_ONE_GATEWAY and not spool.leads():
                rules.mark_sent(alert, self._now())  # another gateway sends it
                continue
            about = {"source": alert.source} if alert.source else {"destination": alert.destination}
            log.warning("alert", kind=alert.kind, state=alert.state, **about)
            if await webhook.post(alert):
                rules.mark_sent(alert, self._now())

    async def _readings(self) -> tuple[list[DestinationReading], list[SourceReading]]:
        gateway = self._gateway
        health, missing = await gateway.monitor.read(), gateway.spool.unaccounted()
        wrong = "; ".join(one.text for one in health.findings if one.subject == "cluster")
        itself = DestinationReading(GATEWAY, gateway.not_ready_reason() or "", cluster=wrong)
        try:
            depths = await gateway.spool.depths()
        except SpoolError as error:
            return [itself if wrong else itself._replace(trouble=itself.trouble or str(error))], []
        found = [itself]
        for one in health.destinations:
            if (depth := depths.get(one.name)) is None:
                continue
            told = _told(one)
            found.append(
                DestinationReading(
                    one.name,
                    told if one.state in {"paused", "refused", "stopped"} else "",
                    depth.oldest,
                    depth.backlog,
                    depth.dead_letters,
                    one.full,
                    missing=missing.get(one.name, 0),
                    failing=told if one.state == "failing" else "",
                )
            )
        if itself.trouble:
            return found, []  # one alert, not one for each source
        errors = {(one.subject, one.name) for one in health.findings if one.level == "error"}
        return found, [
            SourceReading(one.name, _told(one))
            for one in health.sources
            if ("source", one.name) in errors
        ]

    def _now(self) -> Moment:
        return Moment(self._gateway.spool.clock.of_day(), time.monotonic())


def _signed(alert: Alert, node: str) -> Alert:
    """Return an alert with the name of the gateway that noticed it."""
    if not node:
        return alert
    text = f"{node}: {alert.text}" if alert.kind in OF_ONE_GATEWAY else alert.text
    return msgspec.structs.replace(alert, node=node, text=text)


def _told(one: DestinationHealth | SourceHealth) -> str:
    """Return what is wrong, what to do, and what the vendor said; empty if nothing is wrong."""
    detail = one.detail if isinstance(one, DestinationHealth) else ""
    said = f" ({detail})" if detail else ""
    return f"{one.headline}: {one.cure}{said}" if one.headline else ""

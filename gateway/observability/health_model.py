"""Judge the health of sources, destinations and the spool, from one snapshot.

Every page, probe, alert and metric shows these states. The functions are pure: they read no clock
and no counter. docs/operations/health.md explains the states and the thresholds.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from gateway.delivery.circuit_breaker import BreakerState
from gateway.delivery.file_uploads import UploadStatus
from gateway.errors import RefusalCause
from gateway.observability import health_texts
from gateway.observability.health_texts import Advice
from gateway.observability.recent_traffic import WINDOW, RecentOutcomes
from gateway.spool.cluster import ClusterState

DestinationState = Literal["healthy", "behind", "failing", "refused", "paused", "stopped"]
GatewayState = Literal["healthy", "attention", "degraded", "down"]
SourceState = Literal["accepting", "refusing"]
FindingLevel = Literal["error", "warning", "note"]
SpoolState = Literal["accepting", "filling", "refusing"]
LEVELS: tuple[FindingLevel, ...] = ("error", "warning", "note")
DESTINATION_STATES: tuple[DestinationState, ...] = (
    "healthy", "behind", "failing", "refused", "paused", "stopped",
)  # fmt: skip
SOURCE_STATES: tuple[SourceState, ...] = ("accepting", "refusing")

BEHIND = 60.0
"""Seconds that the oldest deliverable event waits, from which a destination is behind."""
FAILED_SHARE = 0.2
"""Share of failed attempts, or of refused requests, in a minute of traffic that is too high."""
FAILED_LEAST = 3
"""So many must have failed, unless none succeeded."""
RECOVERED = 10.0
"""Seconds in which attempts succeed and none fails, after which a destination has recovered."""
LONG_PAUSE = 10.0
"""Seconds of a pause that a vendor asked for, from which a destination is stopped."""
REMEMBERED = 3600.0
"""Seconds after which the last minute of a source's traffic no longer counts."""
FILLING = 0.8
"""Used share of the spool's ``max_bytes`` above which it is filling."""

WELL = ("delivered", "declined", "shadowed")
FAILED = ("retry", "dead_letter")
ACCEPTED = "accepted"
"""The outcome of an accepted or relayed request; the others are refusal causes."""
CLIENT_KEY = "client_key"
"""The cause if the vendor refuses the key that the client sent."""
OWN_CAUSES = frozenset({
    RefusalCause.NOT_ACCEPTING, RefusalCause.SPOOL_FULL, RefusalCause.SPOOL_FAILED,
    RefusalCause.MEMORY, RefusalCause.RELAY_FULL, RefusalCause.RELAY_FAILED, RefusalCause.INTERNAL,
})  # fmt: skip
"""Causes for which the gateway is responsible, not the sender."""


class DestinationFacts(NamedTuple):
    """What is known of a destination."""

    name: str
    vendor: str
    credential: str
    """The keys of its table that hold credentials, such as ``api_key``."""
    paused: bool
    circuit: BreakerState
    cause: str
    """The cause of the last failure, as in `gateway.verdict.RetryLater`, or `CLIENT_KEY`; empty if
    the last attempt did not fail."""
    reason: str
    """The reason of the last failure, as the vendor gave it, without credentials."""
    opens_in: float
    """Seconds until an open circuit lets a probe through."""
    asked_to_wait: float
    """Remaining seconds of a pause that the vendor asked for."""
    pause_length: float
    """Seconds of this pause in all."""
    full: str
    """Why it accepts no new events; empty if it does."""
    behind: float
    """Seconds since its oldest deliverable event arrived; 0 without one."""
    pending: int
    dead_letters: int
    unaccounted: int
    recent: RecentOutcomes
    """Its attempts, by the outcome as in `gateway.delivery.job.DeliveryOutcome`."""
    uploads: UploadStatus | None = None
    """The uploads of its files; None if there are none. What failed is without credentials."""


class SourceFacts(NamedTuple):
    """What is known of a source."""

    name: str
    vendor: str
    destinations: tuple[str, ...]
    """The destinations that routes lead its events to, without shadows."""
    recent: RecentOutcomes
    """Its requests: `ACCEPTED`, or the `RefusalCause`."""


class SpoolFacts(NamedTuple):
    """What is known of the spool."""

    trouble: str
    """Why it accepts nothing; empty if it does."""
    used: int
    """Bytes."""
    max_bytes: int


class RemovedDestination(NamedTuple):
    """What is left of a destination that is configured no more."""

    pending: int
    dead_letters: int


class HealthSnapshot(NamedTuple):
    """All facts at one moment."""

    now: float
    """Unix seconds."""
    not_ready: str
    """Why the gateway accepts no events; empty if it does."""
    sources: Sequence[SourceFacts]
    destinations: Sequence[DestinationFacts]
    spool: SpoolFacts
    elsewhere: RecentOutcomes = RecentOutcomes()
    """Requests for which there is no source, by `RefusalCause`."""
    failed_conditions: Mapping[str, int] = {}
    """By route: events for which a condition or filter failed since the start."""
    config_warnings: Sequence[str] = ()
    """One sentence for each suspicious but allowed setting."""
    removed: Mapping[str, RemovedDestination] = {}
    """What is left of destinations that are configured no more."""
    cluster: ClusterState | None = None
    """None if the gateway is alone, or its cluster cannot be read."""


class HealthFinding(msgspec.Struct, frozen=True):
    """A problem: what it is, and what to do about it."""

    level: FindingLevel
    """A ``note`` does not change the state of the gateway."""
    subject: Literal["gateway", "source", "destination", "route", "spool", "config", "cluster"]
    name: str
    """The source, destination or route; of a cluster the first gateway, shard, stream or server
    concerned; empty for other subjects."""
    headline: str
    cure: str
    detail: str
    """What the vendor said; may be empty."""
    page: str
    """The page of the console that shows more, such as ``destinations/crm``."""

    @property
    def text(self) -> str:
        """Return the problem and its cure as one sentence."""
        return f"{self.headline}: {self.cure}" if self.cure else self.headline


class DestinationHealth(msgspec.Struct, frozen=True):
    """The health of a destination."""

    name: str
    vendor: str
    state: DestinationState
    """``refused``: the vendor, or the storage of its files, refuses its key. ``stopped``: its
    circuit is open, or the vendor asked to wait."""
    headline: str
    """What is wrong; empty if it is healthy."""
    cure: str
    """What to do; empty if it is healthy."""
    detail: str
    """What the vendor said last, if that is the problem."""
    until: float | None
    """Unix seconds of the next attempt of a stopped or refused destination; null if it may come at
    any time."""
    full: str
    """Why no new events are accepted for it; empty if they are."""
    pending: int
    dead_letters: int
    behind: float
    """Seconds since the oldest event arrived that waits for its first attempt; 0 without one."""
    delivered_rate: float
    """Deliveries per second in the last minute."""
    failed_rate: float
    """Failed attempts per second in the last minute."""
    failed_share: float
    """Share of failed attempts in the latest minute with attempts, from 0 to 1."""


class SourceHealth(msgspec.Struct, frozen=True):
    """The health of a source."""

    name: str
    vendor: str
    state: SourceState
    cause: str
    """Why most refused requests are refused, such as ``forbidden``; empty if it is accepting."""
    headline: str
    """What is wrong; empty if it is accepting."""
    cure: str
    """What to do; empty if it is accepting."""
    accepted_rate: float
    """Accepted requests per second in the last minute."""
    refused_rate: float
    """Refused requests per second in the last minute."""
    refused_share: float
    """Share of refused requests in the latest minute with requests, from 0 to 1."""


class SpoolHealth(msgspec.Struct, frozen=True):
    """The health of the spool."""

    state: SpoolState
    headline: str
    """What is wrong; empty if it is accepting."""
    cure: str
    """What to do; empty if it is accepting."""
    used_share: float
    """Used share of ``max_bytes``, from 0 to 1."""


class GatewayHealth(msgspec.Struct, frozen=True):
    """The health of the whole gateway."""

    now: float
    """Unix seconds of the gateway's clock."""
    state: GatewayState
    """``down``: it accepts no events. ``degraded``: there is an error. ``attention``: there are
    only warnings."""
    headline: str
    """The worst finding, or that all is well."""
    findings: list[HealthFinding]
    """All problems, the worst first; at most one for each destination, source and the spool."""
    sources: list[SourceHealth]
    destinations: list[DestinationHealth]
    spool: SpoolHealth


def judge(found: HealthSnapshot) -> GatewayHealth:
    """Return the health of a gateway."""
    destinations = [_destination(one, found.now) for one in found.destinations]
    sources = [_source(one, found) for one in found.sources]
    spool = _spool(found.spool)
    findings = _worst_first(
        [
            *_gateway_findings(found),
            *_spool_findings(spool),
            *(judge_cluster(found.cluster) if found.cluster else ()),
            *_destination_findings(found.destinations, destinations),
            *_source_findings(sources),
            *_config_findings(found),
        ]
    )
    state, headline = _overall(found, findings)
    return GatewayHealth(found.now, state, headline, findings, sources, destinations, spool)


def judge_cluster(found: ClusterState) -> list[HealthFinding]:
    """Return what is wrong with a cluster, the worst first."""
    return _worst_first(_cluster_findings(found))


def _worst_first(found: Iterable[HealthFinding]) -> list[HealthFinding]:
    return sorted(found, key=lambda one: LEVELS.index(one.level))


def _overall(found: HealthSnapshot, findings: Sequence[HealthFinding]) -> tuple[GatewayState, str]:
    """Return the state of the gateway, and the headline for it."""
    if not findings or findings[0].level == "note":
        return "healthy", "Everything is healthy"
    if found.not_ready:
        return "down", findings[0].text
    return "degraded" if findings[0].level == "error" else "attention", findings[0].text


def _too_many(bad: int, total: int) -> bool:
    """Return whether *bad* of *total* outcomes are too many."""
    if not bad:
        return False
    return bad == total or (bad >= FAILED_LEAST and bad >= FAILED_SHARE * total)


def _failed(recent: RecentOutcomes) -> int:
    return sum(recent.counts.get(one, 0) for one in FAILED)


def _is_failing(one: DestinationFacts) -> bool:
    """Return whether too many attempts fail; the last ones count until nothing is left of them."""
    recent = one.recent
    over = recent.age >= WINDOW and not (one.pending or one.dead_letters)
    if over or _last(recent, FAILED) - _last(recent, WELL) >= RECOVERED:
        return False
    return _too_many(_failed(recent), recent.total)


def _last(recent: RecentOutcomes, outcomes: Sequence[str]) -> float:
    """Return the seconds since one of *outcomes* occurred last; the longest time if none did."""
    return min((recent.ages.get(one, math.inf) for one in outcomes), default=math.inf)


def _destination_state(one: DestinationFacts) -> DestinationState:
    if one.paused:
        return "paused"
    failing = _is_failing(one)
    if one.cause == "credential" and (failing or one.circuit != "closed"):
        return "refused"
    if one.uploads is not None and one.uploads.cause == "credential":
        return "refused"
    if one.circuit != "closed" or (one.asked_to_wait and one.pause_length >= LONG_PAUSE):
        return "stopped"
    if failing or (one.uploads is not None and one.uploads.problem):
        return "failing"
    return "behind" if one.behind >= BEHIND else "healthy"


def _destination(one: DestinationFacts, now: float) -> DestinationHealth:
    state = _destination_state(one)
    wait = max(one.opens_in, one.asked_to_wait) if state in {"refused", "stopped"} else 0.0
    recent, uploads, advice = one.recent, one.uploads, _advice(one, state)
    if uploads is not None and uploads.problem and state != "paused":
        advice = health_texts.not_uploaded(one.name, uploads, stopped=one.circuit != "closed")
    return DestinationHealth(
        name=one.name,
        vendor=one.vendor,
        state=state,
        headline=advice.headline,
        cure=advice.cure,
        detail=one.reason if state in {"refused", "stopped", "failing"} else "",
        until=now + wait if wait else None,
        full=one.full,
        pending=one.pending,
        dead_letters=one.dead_letters,
        behind=one.behind,
        delivered_rate=recent.rate("delivered"),
        failed_rate=recent.rate(*FAILED),
        failed_share=_failed(recent) / recent.total if recent.total else 0.0,
    )


def _advice(one: DestinationFacts, state: DestinationState) -> Advice:
    """Return what is wrong with a destination in *state*, and what to do."""
    if one.vendor == "http":
        advice = _advice(one._replace(vendor=health_texts.ANY_API), state)
        return advice._replace(headline=re.sub(r"\Athe", "The", advice.headline))
    name, vendor = one.name, one.vendor
    if state == "paused":
        return health_texts.paused(name, one.pending)
    if state == "refused":
        return health_texts.key_refused(name, vendor, one.credential)
    if state == "behind":
        return health_texts.behind(name, one.behind, one.pending)
    if state == "stopped":
        if vendor == "file":
            return health_texts.unwritable(name, _without_status(one.reason))
        return health_texts.stopped(name, vendor, one.cause)
    if state == "failing":
        dead, failed = one.recent.counts.get("dead_letter", 0), _failed(one.recent)
        share = f"{failed} of the last {one.recent.total} attempts"
        if dead * 2 >= failed:
            return health_texts.events_refused(
                name, vendor, share, clients_key=one.cause == CLIENT_KEY
            )
        if vendor == "file":
            return health_texts.unwritable(name, _without_status(one.reason), share)
        return health_texts.failing(name, vendor, one.cause, share)
    return Advice("", "")


def _without_status(reason: str) -> str:
    """Return the reason of a failed attempt without the status, which a file does not have."""
    return re.sub(r"\AHTTP \d{3}: ", "", reason)


_STATE_LEVELS: Mapping[DestinationState, FindingLevel] = {
    "behind": "warning", "paused": "warning", "failing": "error", "refused": "error",
    "stopped": "error",
}  # fmt: skip


def _destination_findings(
    facts: Sequence[DestinationFacts], found: Sequence[DestinationHealth]
) -> Iterator[HealthFinding]:
    """Yield at most one finding for each destination, with everything that is wrong with it."""
    for one, health in zip(facts, found, strict=True):
        level = _STATE_LEVELS.get(health.state, "warning")
        more = list(_consequences(one, health))
        advice = Advice(health.headline, health.cure)
        page = f"destinations/{one.name}"
        if one.full or one.unaccounted:
            level = "error"
        if health.state == "healthy":
            if one.full:
                advice = health_texts.full(one.name, one.full)
            elif one.unaccounted:
                advice = health_texts.unaccounted(one.name, one.unaccounted)
            elif one.dead_letters:
                advice = health_texts.dead_letters(one.name, one.dead_letters)
                page, more = f"dead-letters?destination={one.name}", []
            else:
                continue
        headline = ", ".join([advice.headline, *more])
        yield HealthFinding(
            level, "destination", one.name, headline, advice.cure, health.detail, page
        )


def _consequences(one: DestinationFacts, health: DestinationHealth) -> Iterator[str]:
    """Yield what else is to say about a destination beside the headline of its state."""
    if health.state in {"failing", "refused", "stopped"} and one.pending:
        yield f"{one.pending:,} pending"
    if one.full and health.state != "healthy":
        yield "its queue is full"
    if one.dead_letters:
        yield health_texts.counted(one.dead_letters, "dead letter")
    if one.unaccounted and (health.state != "healthy" or one.full):
        yield f"{abs(one.unaccounted):,} unaccounted for"


def _source(one: SourceFacts, found: HealthSnapshot) -> SourceHealth:
    recent = one.recent
    refused = {cause: n for cause, n in recent.counts.items() if cause != ACCEPTED}
    count = sum(refused.values())
    full = [to.name for to in found.destinations if to.full and to.name in one.destinations]
    cause = ""
    if found.not_ready or (one.destinations and len(full) == len(one.destinations)):
        cause = RefusalCause.SPOOL_FULL if full else RefusalCause.NOT_ACCEPTING
    elif recent.age < REMEMBERED and _too_many(count, recent.total):
        cause = max(refused, key=lambda one: refused[one])
    advice = Advice("", "")
    if cause:
        share = f"{count} of the last {recent.total} requests" if count else "every request"
        advice = health_texts.refusing(one.name, one.vendor, cause, share, full)
    return SourceHealth(
        name=one.name,
        vendor=one.vendor,
        state="refusing" if cause else "accepting",
        cause=str(cause),
        headline=advice.headline,
        cure=advice.cure,
        accepted_rate=recent.rate(ACCEPTED),
        refused_rate=recent.rate(*refused),
        refused_share=count / recent.total if recent.total else 0.0,
    )


def _source_findings(found: Sequence[SourceHealth]) -> Iterator[HealthFinding]:
    for one in found:
        if one.state == "refusing" and one.cause != RefusalCause.NOT_ACCEPTING:
            serious = one.cause in OWN_CAUSES or one.refused_share == 1
            page = f"events?source={one.name}&failed=true"
            level: FindingLevel = "error" if serious else "warning"
            yield HealthFinding(level, "source", one.name, one.headline, one.cure, "", page)


def _spool(found: SpoolFacts) -> SpoolHealth:
    share = found.used / found.max_bytes
    if found.trouble:
        return SpoolHealth("refusing", *health_texts.spool_refuses(found.trouble), share)
    if share >= FILLING:
        return SpoolHealth("filling", *health_texts.spool_filling(share), share)
    return SpoolHealth("accepting", "", "", share)


def _spool_findings(one: SpoolHealth) -> Iterator[HealthFinding]:
    if one.state != "accepting":
        yield HealthFinding("error", "spool", "", one.headline, one.cure, "", "destinations")


def _gateway_findings(found: HealthSnapshot) -> Iterator[HealthFinding]:
    if found.not_ready and not found.spool.trouble:
        advice = health_texts.not_ready(found.not_ready)
        yield HealthFinding("error", "gateway", "", advice.headline, advice.cure, "", "config")
    lost = found.elsewhere.counts.get(RefusalCause.NOT_FOUND, 0)
    taken = any(one.recent.counts.get(ACCEPTED) for one in found.sources)
    if lost and not taken and found.elsewhere.age < REMEMBERED:
        advice = health_texts.no_source(lost)
        yield HealthFinding("warning", "gateway", "", advice.headline, advice.cure, "", "config")


def _cluster_findings(found: ClusterState) -> Iterator[HealthFinding]:
    def finding(level: FindingLevel, advice: Advice, name: str) -> HealthFinding:
        return HealthFinding(level, "cluster", name, advice.headline, advice.cure, "", "cluster")

    if unled := [one.name for one in found.streams if not one.current]:
        yield finding("error", health_texts.streams_unled(unled), unled[0])
    if lonely := [one.number for one in found.shards if not one.owner]:
        yield finding("error", health_texts.shards_unowned(lonely), str(lonely[0]))
    if behind := sorted({server for one in found.streams for server in one.behind}):
        yield finding("warning", health_texts.servers_behind(behind), behind[0])
    for node in found.nodes:
        if node.state == "gone":
            yield finding("warning", health_texts.node_gone(node.name, node.silent), node.name)
    if differ := [one.name for one in found.alive if one.config != found.config]:
        yield finding("warning", health_texts.configs_differ(found.node, differ), differ[0])


_FILE = re.compile(r"\S+:[0-9]+: ")
"""The place before a warning."""


def _config_findings(found: HealthSnapshot) -> Iterator[HealthFinding]:
    for name, left in found.removed.items():
        advice = health_texts.removed(name, left.pending, left.dead_letters)
        yield HealthFinding("warning", "config", name, advice.headline, advice.cure, "", "config")
    for route, count in found.failed_conditions.items():
        advice = health_texts.condition_failed(route, count)
        yield HealthFinding("warning", "route", route, advice.headline, advice.cure, "", "config")
    for warning in found.config_warnings:
        named = _FILE.match(warning)
        headline = warning if named else f"{warning[:1].upper()}{warning[1:]}"
        yield HealthFinding("note", "config", "", headline, "", "", "config")

"""Read the facts that the health of a running gateway is judged by."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Protocol

from pydantic import SecretStr

from gateway.config import DestinationConfig
from gateway.config.models import destinations_of, keys_of
from gateway.errors import RefusalCause, SpoolError
from gateway.observability.health_model import (
    ACCEPTED,
    CLIENT_KEY,
    DestinationFacts,
    GatewayHealth,
    HealthSnapshot,
    RemovedDestination,
    SourceFacts,
    SpoolFacts,
    judge,
)
from gateway.observability.recent_traffic import RecentOutcomes, RecentTraffic
from gateway.observability.status import GatewayStatus
from gateway.spool import Balance, QueueDepth
from gateway.spool.cluster import ClusterState

SAMPLE_INTERVAL = 5.0
"""Seconds between two samples of the counters; a look at the health is one too."""
FRESH = 0.25
"""Seconds for which a snapshot is used again."""
PATIENCE = 2.0
"""Seconds to wait for the spool, since a disk may hang."""
KEY_REFUSED = frozenset({401, 403})
"""Statuses by which a vendor refuses a key (RFC 9110, section 15.5)."""
ACCEPTED_OUTCOMES = frozenset({"accepted", "relayed"})
NOTHING = QueueDepth(0, 0, 0, 0, 0, None, None)


class HealthMonitor:
    """Watches a running gateway, and judges its health when it is asked.

    Args:
        gateway: the gateway.
    """

    def __init__(self, gateway: GatewayStatus) -> None:
        self._gateway = gateway
        self._began = time.monotonic()
        self._traffic: dict[tuple[str, str], RecentTraffic] = {}
        self._stopped: set[str] = set()
        self._known: tuple[float, GatewayHealth] | None = None
        self._reading = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Sample the counters from now on."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="health")

    async def stop(self) -> None:
        """Sample no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._sample()
            await asyncio.sleep(SAMPLE_INTERVAL)

    async def read(self) -> GatewayHealth:
        """Return the present health; one that is up to `FRESH` seconds old may be used again."""
        async with self._reading:
            ready, known = self._gateway.not_ready_reason() is None, self._known
            if (
                known is not None
                and time.monotonic() - known[0] < FRESH
                and ready == (known[1].state != "down")
            ):
                return known[1]
            found = judge(await self._snapshot())
            self._known = time.monotonic(), found
            return found

    def forget(self) -> None:
        """Make the next reading a fresh one, after an operator has changed something."""
        self._known = None

    def _sample(self) -> None:
        """Record the counters."""
        now, counts, config = time.monotonic(), self._gateway.observer.counts, self._gateway.config
        for name, team in self._gateway.teams.items():
            outcomes = counts.destinations[name].outcomes
            if team.breaker.state != "closed":
                self._stopped.add(name)
            elif name in self._stopped:  # attempts while it was stopped say nothing about now
                self._stopped.discard(name)
                self._traffic["destination", name] = RecentTraffic(now, outcomes)
            self._record(("destination", name), now, outcomes)
        requests: dict[str, dict[str, int]] = {name: {} for name in ("", *config.sources)}
        for (name, outcome), count in counts.requests.items():
            if name in config.sources and outcome in ACCEPTED_OUTCOMES:
                held = requests[name]
                held[ACCEPTED] = held.get(ACCEPTED, 0) + count
        for (name, cause), count in counts.refused.items():
            if name in requests and cause != RefusalCause.SUPPRESSED:  # refused on purpose
                requests[name][cause] = count
        for name, totals in requests.items():
            self._record(("source", name), now, totals)

    def _record(self, key: tuple[str, str], now: float, totals: Mapping[str, int]) -> None:
        known = self._traffic.get(key)
        if known is None:
            known = self._traffic[key] = RecentTraffic(self._began, {})
        known.add(now, totals)

    def _recent(self, kind: str, name: str) -> RecentOutcomes:
        return self._traffic[kind, name].outcomes(time.monotonic())

    async def _snapshot(self) -> HealthSnapshot:
        gateway = self._gateway
        depths: Mapping[str, QueueDepth] = {}
        balances: Mapping[str, Balance] = {}
        used = 0
        with contextlib.suppress(SpoolError, TimeoutError):  # the reason is in `not_ready`
            async with asyncio.timeout(PATIENCE):
                depths, used = await gateway.spool.depths(), await gateway.spool.size()
                balances = await gateway.spool.balances()
        cluster = await self._cluster()
        self._sample()
        config, now = gateway.config, gateway.spool.clock.of_day()
        refusing, missing = gateway.refusing(), gateway.spool.unaccounted()
        shadows = {name for name, to in config.destinations.items() if to.shadow}
        return HealthSnapshot(
            now,
            gateway.not_ready_reason() or "",
            [
                SourceFacts(
                    name,
                    source.vendor,
                    tuple(sorted(destinations_of(config.routes, name) - shadows)),
                    self._recent("source", name),
                )
                for name, source in config.sources.items()
            ],
            [
                self._destination(
                    name, to, depths.get(name, NOTHING), now,
                    full=refusing.get(name, ""), unaccounted=missing.get(name, 0),
                    pending=balances[name].pending if name in balances else 0,
                )
                for name, to in config.destinations.items()
                if name in gateway.teams
            ],
            SpoolFacts(gateway.spool.health() or "", used, config.spool.max_bytes),
            self._recent("source", ""),
            dict(gateway.router.failures.counts),
            config.warnings,
            {
                name: RemovedDestination(balance.pending, depths.get(name, NOTHING).dead_letters)
                for name, balance in balances.items()
                if name not in config.destinations
                and (balance.pending or depths.get(name, NOTHING).dead_letters)
            },
            cluster,
        )  # fmt: skip

    async def _cluster(self) -> ClusterState | None:
        read = self._gateway.spool.cluster
        if read is None:
            return None
        with contextlib.suppress(SpoolError):  # likewise
            return await read()
        return None

    def _destination(  # noqa: PLR0913 - all facts about a destination
        self,
        name: str,
        config: DestinationConfig,
        depth: QueueDepth,
        now: float,
        *,
        full: str,
        pending: int,
        unaccounted: int,
    ) -> DestinationFacts:
        state = self._gateway.teams[name].status()
        counts = self._gateway.observer.counts.destinations[name]
        clients = config.credentials == "client"
        cause = state.cause
        if clients and not cause and counts.last_failed_status in KEY_REFUSED:
            cause = CLIENT_KEY
        return DestinationFacts(
            name=name,
            vendor=config.vendor,
            credential=credential_keys(config),
            paused=state.paused,
            circuit=state.circuit,
            cause=cause,
            reason=self._gateway.observer.redactor.text(state.reason or counts.last_failure),
            opens_in=state.opens_in,
            asked_to_wait=state.paused_for,
            pause_length=state.pause_length,
            full=full,
            behind=0.0 if depth.oldest_unread is None else max(0.0, now - depth.oldest_unread),
            pending=pending,
            dead_letters=depth.dead_letters,
            unaccounted=unaccounted,
            recent=self._recent("destination", name),
            uploads=state.uploads
            and state.uploads._replace(
                problem=self._gateway.observer.redactor.text(state.uploads.problem)
            ),
        )


def credential_keys(config: DestinationConfig) -> str:
    """Return the keys of a destination's table that hold credentials, such as ``api_key``."""
    found = [
        key
        for name, key in zip(
            type(config.settings).model_fields, keys_of(type(config.settings)), strict=True
        )
        if isinstance(getattr(config.settings, name), SecretStr)
    ]
    return " or ".join(found) or "the key"


class MonitoredGateway(GatewayStatus, Protocol):
    """A running gateway with its monitor."""

    @property
    def monitor(self) -> HealthMonitor:
        """Return the monitor of its health."""

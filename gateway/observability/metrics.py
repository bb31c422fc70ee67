"""Collect Prometheus metrics and serve them.

Names and units follow https://prometheus.io/docs/practices/naming/. docs/operations.md lists them;
a test compares the two.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from gateway.delivery.file_uploads import UploadStatus
from gateway.errors import RefusalCause, SpoolError
from gateway.observability.counters import Histogram
from gateway.observability.health_model import (
    DESTINATION_STATES,
    SOURCE_STATES,
    GatewayHealth,
)
from gateway.observability.health_monitor import MonitoredGateway
from gateway.spool import QueueDepth
from gateway.spool.sums import sum_of_depths

CIRCUITS = ("closed", "half_open", "open")
OUTCOMES = ("accepted", "unavailable", "error")
DELIVERY_OUTCOMES = ("delivered", "declined", "retry", "dead_letter")
ROUTE_OUTCOMES = ("routed", "filtered")
CLOSED = (
    "body_timeout", "client_limit", "header_timeout", "limit", "memory", "refused",
    "write_timeout",
)  # fmt: skip
NOT_READ = (
    RefusalCause.NO_HTTP, RefusalCause.HEADER_TIMEOUT, RefusalCause.HEAD_TOO_LARGE,
    RefusalCause.NOT_FOUND,
)  # fmt: skip
PACKAGE = "cdp-gateway"
REFUSALS = ("no_token", "token", "origin", "host", "role")
"""Labels that are reported as zero before they first occur, for every source and destination:
Prometheus cannot compute an increase from a missing series
(https://prometheus.io/docs/practices/instrumentation/#avoid-missing-metrics)."""


class MetricsSnapshot(NamedTuple):
    """Values that must be read on the event loop before the metrics are written in a thread."""

    depths: Mapping[str, QueueDepth]
    spool_bytes: int
    trace_bytes: int
    ready: bool
    health: GatewayHealth


def counter(
    name: str,
    about: str,
    labels: tuple[str, ...],
    values: Mapping[str, int] | Mapping[tuple[str, str], int] | Mapping[tuple[str, str, str], int],
) -> Metric:
    """Return a counter; the keys of *values* are the label, or a tuple of labels."""
    family = CounterMetricFamily(name, about, labels=labels)
    found: dict[Any, int] = dict[Any, int](values)  # a copy: the event loop keeps counting
    for key, value in found.items():
        family.add_metric(key if isinstance(key, tuple) else (str(key),), value)
    return family


def histogram(name: str, about: str, label: str, values: Mapping[str, Histogram]) -> Metric:
    """Return a histogram in seconds with one label."""
    family = HistogramMetricFamily(name, about, labels=(label,))
    for key, one in dict(values).items():
        family.add_metric((key,), list(one.buckets()), one.sum)
    return family


def gauge(name: str, about: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    """Return a gauge with one label."""
    family = GaugeMetricFamily(name, about, labels=(label,))
    for key, value in values:
        family.add_metric((key,), value)
    return family


def metric_families(gateway: MonitoredGateway, snapshot: MetricsSnapshot) -> Iterator[Metric]:
    """Yield all metrics of a gateway."""
    yield GaugeMetricFamily(
        "cdp_gateway_ready", "1 while the gateway accepts events.", snapshot.ready
    )
    build = GaugeMetricFamily(
        "cdp_gateway_build_info", "1, by version and node.", labels=("version", "node")
    )
    build.add_metric((version(PACKAGE), gateway.spool.node), 1)
    yield build
    yield GaugeMetricFamily(
        "cdp_gateway_config_last_reload_successful",
        "1 if the last reload of the configuration succeeded.",
        gateway.last_reload.successful,
    )
    yield GaugeMetricFamily(
        "cdp_gateway_config_last_reload_timestamp_seconds",
        "When the configuration in effect was loaded, in Unix seconds.",
        gateway.last_reload.loaded_at,
    )
    yield counter(
        "cdp_gateway_admin_refused_total",
        "Rejected calls of the admin API, by reason.",
        ("reason",),
        dict.fromkeys(REFUSALS, 0) | dict(gateway.observer.counts.admin_refused),
    )
    yield from _coming_in(gateway)
    yield from _routes(gateway)
    yield from _going_out(gateway)
    yield from _teams(gateway)
    yield from _states(snapshot.health)
    yield from _losses(gateway)
    yield from _waiting(snapshot, gateway.spool.clock.of_day())
    yield gauge(
        "cdp_gateway_destination_unaccounted",
        "Accepted deliveries that are neither finished nor pending; other than 0, some were lost.",
        "destination",
        {**dict.fromkeys(gateway.config.destinations, 0), **gateway.spool.unaccounted()}.items(),
    )
    yield from _files(gateway, snapshot)


def _coming_in(gateway: MonitoredGateway) -> Iterator[Metric]:
    counts, config = gateway.observer.counts, gateway.config
    yield counter(
        "cdp_gateway_requests_total",
        "Requests by outcome: accepted, relayed, error, or the kind of rejection.",
        ("source", "outcome"),
        dict.fromkeys(product(config.sources, OUTCOMES), 0) | dict(counts.requests),
    )
    yield counter(
        "cdp_gateway_requests_refused_total",
        "Requests refused, by cause; no source where the path is nobody's, or was not read.",
        ("source", "cause"),
        dict.fromkeys([*product(config.sources, RefusalCause), *product([""], NOT_READ)], 0)
        | dict(counts.refused),
    )
    yield GaugeMetricFamily(
        "cdp_gateway_connections", "Open client connections.", len(gateway.guard)
    )
    yield counter(
        "cdp_gateway_connections_closed_total",
        "Client connections that the gateway closed or rejected, by reason.",
        ("reason",),
        dict.fromkeys(CLOSED, 0) | dict(counts.closed),
    )
    yield GaugeMetricFamily(
        "cdp_gateway_requests_held_bytes",
        "Bytes of unfinished requests in memory.",
        gateway.guard.held,
    )
    yield histogram(
        "cdp_gateway_request_duration_seconds",
        "Time until the response was ready.",
        "source",
        counts.answers,
    )
    yield counter("cdp_gateway_events_total", "Accepted events.", ("source", "type"), counts.events)
    yield counter(
        "cdp_gateway_events_deduplicated_total",
        "Duplicate events that were dropped, within the source's dedup window.",
        ("source",),
        counts.deduplicated,
    )
    yield counter(
        "cdp_gateway_events_suppressed_total",
        "Events about people on the suppression list, which were left out.",
        ("source",),
        counts.suppressed,
    )
    yield counter(
        "cdp_gateway_plan_violations_total",
        "Events that violate their tracking plan, by violation.",
        ("source", "schema", "violation"),
        _violations(gateway),
    )


def _violations(gateway: MonitoredGateway) -> Counter[tuple[str, str, str]]:
    """Return the counts of violations, redacted: a field's name may be a sender's credential."""
    hide = gateway.observer.redactor.text
    found = Counter[tuple[str, str, str]]()
    for (source, schema, kind), count in dict(gateway.tally.counts).items():
        found[source, schema, hide(kind)] += count
    return found


def _routes(gateway: MonitoredGateway) -> Iterator[Metric]:
    counts, config = gateway.observer.counts, gateway.config
    yield counter(
        "cdp_gateway_events_unrouted_total",
        "Accepted events that no route took.",
        ("source",),
        dict.fromkeys(config.sources, 0) | dict(counts.unrouted),
    )
    yield counter(
        "cdp_gateway_route_events_total",
        "Events that a route sent to destinations, or that its steps filtered.",
        ("route", "outcome"),
        dict.fromkeys(product((one.name for one in config.routes), ROUTE_OUTCOMES), 0)
        | dict(counts.routed),
    )
    yield counter(
        "cdp_gateway_route_errors_total",
        "Conditions and filters that failed with an error.",
        ("route",),
        {route.name: 0 for route in config.routes} | dict(gateway.router.failures.counts),
    )


def _going_out(gateway: MonitoredGateway) -> Iterator[Metric]:
    counts = dict(gateway.observer.counts.destinations)
    yield counter(
        "cdp_gateway_deliveries_total",
        "Attempts by outcome: delivered, declined, shadowed, retry or dead_letter; and deliveries "
        "that the spool gave up without an attempt: dead_letter or dropped.",
        ("destination", "outcome"),
        dict.fromkeys(product(gateway.config.destinations, (*DELIVERY_OUTCOMES, "dropped")), 0)
        | _ended(gateway),
    )
    yield counter(
        "cdp_gateway_attempts_total",
        "HTTP requests sent, by class of the response's status; none without a response.",
        ("destination", "status"),
        {
            (name, status): count
            for name, one in counts.items()
            for status, count in one.attempts().items()
        },
    )
    yield histogram(
        "cdp_gateway_attempt_duration_seconds",
        "Time until the destination's whole response was received.",
        "destination",
        {name: one.attempt_seconds for name, one in counts.items()},
    )
    yield histogram(
        "cdp_gateway_delivery_duration_seconds",
        "Time from a request's arrival until its event was delivered.",
        "destination",
        {name: one.delivery_seconds for name, one in counts.items()},
    )


def _ended(gateway: MonitoredGateway) -> Counter[tuple[str, str]]:
    """Return the outcomes of deliveries, including those that the spool gave up by itself."""
    ended = Counter[tuple[str, str]]()
    for name, counts in dict(gateway.observer.counts.destinations).items():
        for outcome, count in dict(counts.outcomes).items():
            ended[name, outcome] = count
    for name, given_up in gateway.spool.given_up().items():
        ended[name, "dead_letter"] += given_up.dead
        ended[name, "dropped"] += given_up.dropped
    return ended


def _teams(gateway: MonitoredGateway) -> Iterator[Metric]:
    states = {name: team.status() for name, team in dict(gateway.teams).items()}
    family = GaugeMetricFamily(
        "cdp_gateway_breaker_state",
        "1 for the current state of the circuit breaker.",
        labels=("destination", "state"),
    )
    for name, state in states.items():
        for known in CIRCUITS:
            family.add_metric((name, known), known == state.circuit)
    yield family
    yield gauge(
        "cdp_gateway_destination_paused",
        "1 while an operator has paused the destination.",
        "destination",
        ((name, state.paused) for name, state in states.items()),
    )
    refusing = gateway.refusing()
    yield gauge(
        "cdp_gateway_destination_full",
        "1 while the destination is at a limit and gets no new events.",
        "destination",
        ((name, name in refusing) for name in states),
    )
    yield gauge(
        "cdp_gateway_deliveries_in_flight",
        "Deliveries that a worker holds in memory.",
        "destination",
        ((name, state.in_flight) for name, state in states.items()),
    )
    yield from _uploads({n: one.uploads for n, one in states.items() if one.uploads is not None})


def _uploads(found: Mapping[str, UploadStatus]) -> Iterator[Metric]:
    """Yield the uploads of destinations that have any."""
    counts = ((n, {"uploaded": one.uploaded, "failed": one.failed}) for n, one in found.items())
    yield counter(
        "cdp_gateway_uploads_total",
        "Uploads of files by outcome: uploaded or failed.",
        ("destination", "outcome"),
        {(name, outcome): n for name, by in counts for outcome, n in by.items()},
    )
    yield gauge(
        "cdp_gateway_upload_waiting_files",
        "Complete files that wait for their upload.",
        "destination",
        ((name, one.files) for name, one in found.items()),
    )
    yield gauge(
        "cdp_gateway_upload_waiting_bytes",
        "Size of the complete files that wait for their upload.",
        "destination",
        ((name, one.size) for name, one in found.items()),
    )


def _states(health: GatewayHealth) -> Iterator[Metric]:
    """Yield the states of `gateway.observability.health_model`, as every page shows them."""
    for label, found, states in (
        ("destination", health.destinations, DESTINATION_STATES),
        ("source", health.sources, SOURCE_STATES),
    ):
        family = GaugeMetricFamily(
            f"cdp_gateway_{label}_state",
            f"1 for the current state of the {label}.",
            labels=(label, "state"),
        )
        for one in found:
            for state in states:
                family.add_metric((one.name, state), one.state == state)
        yield family


def _losses(gateway: MonitoredGateway) -> Iterator[Metric]:
    meters = {name: team.sender.losses for name, team in dict(gateway.teams).items()}
    yield counter(
        "cdp_gateway_losses_sampled_total",
        "Delivered events that were examined for losses: a sample.",
        ("destination",),
        {name: meter.looked for name, meter in meters.items()},
    )
    yield counter(
        "cdp_gateway_losses_total",
        "Examined events with a lost or coerced field.",
        ("destination", "field", "kind"),
        {
            (name, field, kind): count
            for name, meter in meters.items()
            for (field, kind), count in dict(meter.counts).items()
        },
    )


def _waiting(snapshot: MetricsSnapshot, now: float) -> Iterator[Metric]:
    depths = snapshot.depths
    label = "destination"
    yield gauge(
        "cdp_gateway_backlog_requests",
        "Requests in the spool that are pending for a destination.",
        label,
        ((name, depth.backlog) for name, depth in depths.items()),
    )
    yield gauge(
        "cdp_gateway_backlog_oldest_seconds",
        "Age of the oldest pending request; 0 without one.",
        label,
        ((n, 0.0 if d.oldest is None else max(0.0, now - d.oldest)) for n, d in depths.items()),
    )
    yield gauge(
        "cdp_gateway_retrying_deliveries",
        "Deliveries that wait for their next attempt.",
        label,
        ((name, depth.retrying) for name, depth in depths.items()),
    )
    yield gauge(
        "cdp_gateway_parked_deliveries",
        "Deliveries that wait behind an earlier one of the same user.",
        label,
        ((name, depth.parked) for name, depth in depths.items()),
    )
    yield gauge(
        "cdp_gateway_dead_letters",
        "Stored dead letters.",
        label,
        ((name, depth.dead_letters) for name, depth in depths.items()),
    )


def _files(gateway: MonitoredGateway, snapshot: MetricsSnapshot) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "cdp_gateway_spool_bytes", "Size of the spool's files on disk.", snapshot.spool_bytes
    )
    yield GaugeMetricFamily(
        "cdp_gateway_spool_limit_bytes",
        "Size at which the spool accepts no more events.",
        gateway.config.spool.max_bytes,
    )
    recorder = gateway.observer.recorder
    yield CounterMetricFamily(
        "cdp_gateway_trace_records_total", "Traced requests and attempts.", recorder.recorded
    )
    yield CounterMetricFamily(
        "cdp_gateway_trace_dropped_total",
        "Requests and attempts whose traces were lost.",
        recorder.dropped,
    )
    yield CounterMetricFamily(
        "cdp_gateway_trace_cpu_seconds_total", "CPU time that traces took.", recorder.cpu
    )
    yield GaugeMetricFamily(
        "cdp_gateway_trace_success_rate_limit",
        "Events per second that are traced although nothing fails.",
        gateway.observer.successes.rate,
    )
    if recorder.spans is not None:
        yield counter(
            "cdp_gateway_trace_spans_total",
            "Spans that the collector accepted, and spans that were dropped.",
            ("outcome",),
            {"sent": recorder.spans.sent, "dropped": recorder.spans.dropped},
        )
    yield GaugeMetricFamily(
        "cdp_gateway_trace_bytes", "Size of the traces' file on disk.", snapshot.trace_bytes
    )


FRESH = 1.0
"""Seconds for which a page is cached, so that frequent scrapes cost nothing."""


class _Collected:
    """A snapshot as a collector for `prometheus_client`."""

    def __init__(self, gateway: MonitoredGateway, snapshot: MetricsSnapshot) -> None:
        self._gateway = gateway
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        return metric_families(self._gateway, self._snapshot)


class MetricsPage:
    """Writes the page in a thread."""

    def __init__(self, gateway: MonitoredGateway) -> None:
        self._gateway = gateway
        self._known: dict[str, tuple[float, bytes, str]] = {}
        self._writing = asyncio.Lock()

    async def get(self, accept: str = "") -> tuple[bytes, str]:
        """Return the page and its content type, in the format that *accept* prefers.

        https://prometheus.io/docs/instrumenting/content_negotiation/
        """
        async with self._writing:
            encoder, kind = choose_encoder(accept)
            known = self._known.get(kind)
            if known is not None and time.monotonic() - known[0] < FRESH:
                return known[1:]
            snapshot = await self._snapshot()

            def write() -> bytes:
                registry = CollectorRegistry()
                registry.register(_Collected(self._gateway, snapshot))
                ProcessCollector(registry=registry)
                return encoder(registry)

            page = await asyncio.to_thread(write)
            self._known = {**self._known, kind: (time.monotonic(), page, kind)}
            return page, kind

    async def _snapshot(self) -> MetricsSnapshot:
        gateway = self._gateway
        config = gateway.config
        try:
            depths = sum_of_depths([await shard.depths() for shard in gateway.spool.shards])
        except SpoolError:  # cdp_gateway_ready shows it; serve the other metrics
            depths = {}
        spool, trace = config.spool.path, config.trace.file(config.spool.path)
        return MetricsSnapshot(
            depths,
            await asyncio.to_thread(_size, spool / "spool.db"),
            await asyncio.to_thread(_size, trace),
            gateway.not_ready_reason() is None,
            await gateway.monitor.read(),
        )


def _size(file: Path) -> int:
    """Return the size in bytes of a SQLite file with its journal files."""
    return sum(one.stat().st_size for one in file.parent.glob(f"{file.name}*") if one.is_file())

"""Observe the data path: count everything, log and trace as much as the limits permit.

All of it runs for every event, so nothing in here waits.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import structlog

from gateway.config import Config
from gateway.config.models import redactor_of
from gateway.config.operations import TraceConfig
from gateway.delivery.job import Job
from gateway.errors import Fault, RefusalCause
from gateway.event import Event
from gateway.ingest.arrival import RequestContext, is_sampled
from gateway.log_limit import LogLimit
from gateway.observability.counters import Counters
from gateway.observability.log import redaction
from gateway.observability.replays import ReplayOutcomes
from gateway.person import Person
from gateway.plugin.vendor import Input, Output
from gateway.redact import Redactor
from gateway.routing.router import RouteOutcome, Router
from gateway.spool import Attempt
from gateway.trace.live import LiveFeed
from gateway.trace.record_builder import RecordBuilder, RecordSettings, snapshot_attempt
from gateway.trace.recorder import Recorder, SpanSink, TraceFile
from gateway.trace.records import FAILED, Outcome
from gateway.trace.sampling import RateSampler, SuccessSampler
from gateway.trace.store import StoredTraces

UNAUTHENTICATED_FAULTS = frozenset(
    {Fault.UNAUTHENTICATED, Fault.FORBIDDEN, Fault.NOT_FOUND, Fault.METHOD, Fault.UNSUPPORTED}
)
"""Rejections that anybody can cause without a key. They are sampled like successes, so that they do
not displace other traces and log lines."""

FAILURES = 50
"""Rejected requests that are logged and traced per second, source and kind of reason; senders can
cause these too."""
QUIET = 10.0
"""Seconds between two log lines about retries to the same destination."""

log = structlog.get_logger()


SHOWN = 20
"""Requests and attempts per second that are shown to live viewers but not stored; viewers must not
slow down the gateway."""


class Observer:
    """Counts, logs and traces what one gateway does.

    Args:
        config: the limits of logs and traces.
        setting: what records are made with.
        clock: returns Unix seconds; traces expire by it.

    Attributes:
        counts: the counters of the metrics.
        hub: the live viewers.
        traces: the stored traces.
        recorder: writes traces.
        successes: chooses the requests that are traced.
        replays: follows replayed dead letters.
    """

    def __init__(
        self, config: Config, setting: RecordSettings, clock: Callable[[], float] = time.time
    ) -> None:
        trace, rate = config.trace, config.log.success_rate_limit
        path = trace.file(config.spool.path)
        self.counts = Counters()
        self.hub = LiveFeed()
        self.replays = ReplayOutcomes()
        self.traces = StoredTraces(path)
        self._file = TraceFile(path, trace.retention, trace.max_bytes, clock)
        self.recorder = Recorder(
            RecordBuilder(setting, trace.max_body),
            self.hub,
            self._file if trace.enabled else None,
            make_span_sink(trace) if trace.enabled and trace.otlp_url else None,
        )
        redaction.redactor = setting.redactor
        self._on = trace.enabled
        most = trace.success_rate_limit if trace.enabled else 0
        self.successes = SuccessSampler(most, trace.cpu_share, lambda: self.recorder.cpu)
        self._strangers = RateSampler(most)
        self._shown = RateSampler(SHOWN)
        self._lines = RateSampler(rate)
        self._strange_lines = RateSampler(rate)
        self._refusals = LogLimit(FAILURES, 1.0)
        self.delivery_lines = RateSampler(rate)
        self.retry_lines = LogLimit(1, QUIET)

    async def erase(self, person: Person) -> int:
        """Erase all traces of *person*; return how many records.

        Raises:
            TraceError: the file cannot be written.
        """
        if self._on:
            return await self.recorder.erase(person)
        return await asyncio.to_thread(self._file.erase, person)

    def reconfigure(self, setting: RecordSettings) -> None:
        """Make later records with another *setting*."""
        self.recorder.builder.setting = setting
        redaction.redactor = setting.redactor

    @property
    def redactor(self) -> Redactor:
        """Return the redactor of the configuration in effect."""
        return self.recorder.builder.setting.redactor

    def sample(self, source: str) -> bool:
        """Return whether the next request, which is for *source*, is traced."""
        return self.successes.take(source)

    async def stop(self) -> None:
        """Write the pending records, and disconnect live viewers."""
        await self.recorder.stop()
        self.hub.close()

    def for_destination(self, destination: str, output: Output) -> "DestinationObserver":
        """Return the observer of a destination's deliveries."""
        return DestinationObserver(self, destination, output)

    def no_source(self, fault: Fault = Fault.NOT_FOUND) -> None:
        """Count a request that no source serves."""
        known = fault is Fault.NOT_FOUND
        cause = RefusalCause.NOT_FOUND if known else RefusalCause.HEAD_TOO_LARGE
        self.counts.requests["", fault.value] += 1
        self.counts.refused["", cause] += 1
        if not known:
            self._say_unreadable(fault.value)

    def unreadable(self, kind: str) -> None:
        """Count a request that is not valid HTTP; *kind* is the name of aiohttp's error."""
        self.counts.requests["", "unreadable"] += 1
        self.counts.refused["", RefusalCause.NO_HTTP] += 1
        self._say_unreadable(kind)

    def _say_unreadable(self, kind: str) -> None:
        if self._strange_lines.take():
            log.info("unreadable_request", error=kind)

    def late(self) -> None:
        """Count a request whose head did not arrive in time."""
        self.counts.refused["", RefusalCause.HEADER_TIMEOUT] += 1

    def closed(self, why: str) -> None:
        """Count a client connection that was closed or rejected."""
        self.counts.closed[why] += 1

    def failed(self, arrival: RequestContext) -> None:
        """Count a relayed request that failed because of a bug."""
        self.counts.requests[arrival.source.name, "error"] += 1

    def received(self, arrival: RequestContext) -> None:
        """Count, log and trace a request whose response is ready."""
        source, refused = arrival.source.name, arrival.refused
        outcome = "accepted" if refused is None and not arrival.relayed else _outcome(arrival)
        self._count(arrival, outcome)
        if arrival.private:
            return
        strange = refused is not None and refused.fault in UNAUTHENTICATED_FAULTS
        wrong = 0
        if refused is None:
            logs = self._lines.take()
        elif strange:
            logs = self._strange_lines.take()
        else:
            logs = bool(wrong := self._refusals.take((source, outcome)))
        if logs:
            self._say(arrival, outcome)
        events, chosen = arrival.events, is_sampled(arrival.request.id)
        if arrival.relayed:
            self.successes.charge(arrival.candidate, 0, chosen=chosen)
            return
        if chosen or len(events) > 1:
            self.successes.charge(arrival.candidate, len(events) or 1, chosen=chosen)
        keep = self._on and bool(chosen or wrong or (strange and self._strangers.take()))
        if keep or (
            self.hub.lines and self._watched(source, "", events, failed=refused is not None)
        ):
            size = 0 if arrival.stored is None else len(arrival.stored.body)
            self.recorder.put(arrival, size, keep=keep)

    def _count(self, arrival: RequestContext, outcome: str) -> None:
        counts, source, refused = self.counts, arrival.source.name, arrival.refused
        counts.requests[source, outcome] += 1
        counts.answers[source].observe(arrival.seconds)
        if refused is not None:
            counts.refused[source, refused.cause] += 1
        if arrival.suppressed:
            counts.suppressed[source] += len(arrival.suppressed)
        if refused is None and arrival.kept is not None:
            events, turns = _taken(arrival)
            counts.accepted(source, events, arrival.kept, turns)

    def _watched(self, source: str, to: str, events: Sequence[Event], *, failed: bool) -> bool:
        """Return whether to show live viewers, of whom there are some, a record not stored."""
        hub, shown = self.hub, self._shown
        if not shown.ready:
            return False
        return hub.wants(source, to, events, failed=failed) and shown.take()

    def _say(self, arrival: RequestContext, outcome: str) -> None:
        request, refused = arrival.request, arrival.refused
        log.info(
            "request",
            source=arrival.source.name,
            request=request.id,
            method=request.method,
            path=request.path,
            outcome=outcome,
            status=arrival.status,
            events=len(arrival.events),
            credential=arrival.source.key_name(arrival.key),
            seconds=round(arrival.seconds, 6),
            **({} if refused is None else {"reason": str(refused)}),
        )

    def record(
        self,
        job: Job,
        to: tuple[str, Output],
        outcome: Outcome,
        reason: str,
        attempt: Attempt | None,
    ) -> None:
        """Trace an attempt, if it is sampled, fails, or ends what failed before."""
        failed = outcome in FAILED
        keep = self._on and (failed or job.had_trouble or is_sampled(job.entry.id))
        if keep or (
            self.hub.lines and self._watched(job.entry.source, to[0], (job.event,), failed=failed)
        ):
            raw = snapshot_attempt(job, to, outcome, reason, attempt)
            self.recorder.put(raw, job.size, keep=keep)


def _taken(
    arrival: RequestContext,
) -> tuple[Sequence[Event], Sequence[Sequence[RouteOutcome]]]:
    """Return the events that were not suppressed, each with the outcomes of its routes."""
    left_out = arrival.suppressed
    if not left_out:
        return arrival.events, arrival.turns
    kept = [index for index in range(len(arrival.events)) if index not in left_out]
    return [arrival.events[index] for index in kept], [arrival.turns[index] for index in kept]


def _outcome(arrival: RequestContext) -> str:
    """Return the outcome of a request that is relayed or refused, as the metric says it."""
    refused = arrival.refused
    if arrival.relayed or refused is None:
        return "relayed"
    return "error" if refused.cause is RefusalCause.INTERNAL else refused.fault.value


class DestinationObserver:
    """Counts, logs and traces the deliveries to one destination."""

    def __init__(self, observed: Observer, destination: str, output: Output) -> None:
        self._to = destination, output
        self._observed = observed
        self._counts = observed.counts.destinations[destination]

    def on_attempt(
        self, job: Job, outcome: Outcome, reason: str = "", attempt: Attempt | None = None
    ) -> None:
        """Record the outcome of an attempt; *attempt* is None if nothing was sent."""
        counts, observed = self._counts, self._observed
        counts.outcomes[outcome] += 1
        if outcome in FAILED:
            counts.last_failure = reason
            counts.last_failed_status = None if attempt is None else attempt.status
        if attempt is not None:
            counts.statuses[attempt.status] += 1
            counts.attempt_seconds.observe(attempt.latency)
            if outcome == "delivered" and not job.entry.replay:  # the past is not a delay
                ended = attempt.at + attempt.latency
                waited = ended - job.entry.request.received_at.timestamp()
                counts.delivery_seconds.observe(waited)
        if observed.replays.follows() and outcome != "retry":
            observed.replays.ended(self._to[0], job.event.id, outcome)
        if outcome not in FAILED:
            if observed.delivery_lines.take():
                self._say(job, outcome, reason, attempt)
        elif outcome == "retry" and (times := observed.retry_lines.take(self._to[0])):
            self._say(job, outcome, reason, attempt, times=times)
        observed.record(job, self._to, outcome, reason, attempt)

    def _say(
        self,
        job: Job,
        outcome: Outcome,
        reason: str,
        attempt: Attempt | None,
        **more: int,
    ) -> None:
        log.info(
            "delivery",
            destination=self._to[0],
            delivery=job.event.id,
            outcome=outcome,
            attempts=len(job.attempts),
            **({} if attempt is None else _figures(attempt)),
            **({"reason": reason} if reason else {}),
            **more,
        )


def _figures(attempt: Attempt) -> dict[str, object]:
    return {"status": attempt.status, "seconds": round(attempt.latency, 6)}


def make_span_sink(trace: TraceConfig) -> Callable[[], SpanSink]:
    """Return a function that starts the export of spans; it needs the extra ``otel``."""
    from gateway.trace.otel import OtelExporter  # noqa: PLC0415 - the extra may not be installed

    headers = {name: value.get_secret_value() for name, value in trace.otlp_headers.items()}
    return partial(OtelExporter, trace.otlp_url, headers)


def record_settings(config: Config, router: Router, inputs: Mapping[str, Input]) -> RecordSettings:
    """Return what records are made with under a configuration."""
    keys = {
        name: "any" if source.keys == "any" else "keys[0]"
        for name, source in config.sources.items()
        if len(source.keys) == 1 or source.keys == "any"
    }
    headers = {name: to.shown_headers() for name, to in config.destinations.items()}
    consents = config.consent.retention is not None
    return RecordSettings(router, inputs, redactor_of(config), keys, headers, consents)

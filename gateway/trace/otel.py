"""Send trace records as spans over OTLP.

Only `gateway.observability.observer` imports this module, and only if a collector is configured.
Spans are made in the recorder's thread; a thread of the SDK sends them.

Attributes are named after https://opentelemetry.io/docs/specs/semconv/http/http-spans/ and
https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/; the gateway's own begin with
``gateway.``. Bodies, headers, queries and user ids are left out.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import (
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway.http import Request
from gateway.ingest.arrival import RequestContext, is_sampled
from gateway.ingest.sources import Source
from gateway.trace.record_builder import AttemptSnapshot
from gateway.trace.records import AttemptRecord, RequestRecord
from gateway.trace.store import Record

SYSTEM = "cdp-gateway"
REFUSED = 400
BROKEN = 500
METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)
"""Other methods become ``_OTHER``, so that senders cannot invent values."""
OTHER = "_OTHER"

Kind = Literal["server", "client", "internal"]
Attributes = dict[str, str | int]


class Span(NamedTuple):
    """A span without its place in a trace."""

    name: str
    kind: Kind
    at: float
    """Unix seconds of its start."""
    seconds: float
    attributes: Attributes
    failed: bool
    reason: str
    """Why it failed."""


def received(record: RequestRecord, request: Request, source: Source) -> Span:
    """Return the span of a *request* to *source*.

    Its name includes the path only if it is one of the vendor's, since senders can invent others.
    As the conventions say, a server's response below 500 is not an error.
    """
    method = _method(record.message.method)
    name = "HTTP" if method == OTHER else method
    attributes: Attributes = {
        "url.path": source.mount + record.message.url.partition("?")[0],
        "url.scheme": "http",
        "http.request.body.size": record.message.size,
        "gateway.request.id": record.request,
        "gateway.source": record.source,
        "gateway.vendor": record.vendor,
        "gateway.events": record.events,
        "gateway.credential": record.credential,
        "gateway.outcome": record.fault or "accepted",
        "gateway.reason": record.reason,
    }
    if source.translates(request.method, request.path):
        attributes["http.route"] = source.mount + request.path
        name = f"{name} {source.mount}{request.path}"
    failed = (record.status or 0) >= BROKEN
    attributes |= _answered(method, record.status, failed=failed)
    seconds = record.seconds or 0.0
    said = _said(attributes)
    return Span(name, "server", record.at, seconds, said, failed, record.reason)


def tried(record: AttemptRecord) -> Span:
    """Return the span of an attempt.

    Without an outgoing request it is internal and has no duration.
    """
    attributes: Attributes = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": "deliver",
        "messaging.operation.type": "send",
        "messaging.destination.name": record.destination,
        "messaging.message.id": record.event,
        "gateway.request.id": record.request,
        "gateway.source": record.source,
        "gateway.vendor": record.vendor,
        "gateway.route": record.route,
        "gateway.event.name": record.name,
        "gateway.outcome": record.outcome,
        "gateway.reason": record.reason,
        "gateway.attempt": record.number,
    }
    kind: Kind = "internal"
    if record.sent is not None:
        kind = "client"
        method = _method(record.sent.method)
        attributes |= _answered(method, record.status, failed=record.failed)
        attributes |= _address(record.sent.url)
    if record.number > 1:
        attributes["http.request.resend_count"] = record.number - 1
    name, seconds = f"deliver {record.destination}", record.seconds or 0.0
    said = _said(attributes)
    return Span(name, kind, record.at, seconds, said, record.failed, record.reason)


def _said(attributes: Attributes) -> Attributes:
    return {key: value for key, value in attributes.items() if value != ""}


def _method(method: str) -> str:
    return method if method in METHODS else OTHER


def _answered(method: str, status: int | None, *, failed: bool) -> Attributes:
    found: Attributes = {"http.request.method": method}
    if status:
        found["http.response.status_code"] = status
    if failed:
        found["error.type"] = str(status) if status and status >= REFUSED else OTHER
    return found


def _address(url: str) -> Attributes:
    """Return where a request went, without its query, which may contain a credential."""
    bare = url.partition("?")[0]
    parts = urlsplit(bare)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {"url.full": bare, "server.address": parts.hostname or "", "server.port": port}


PACKAGE = "cdp-gateway"
PATIENCE = 5.0
"""Seconds for sending one batch, retries included."""
GRACE = 2.0
"""Seconds after which retries end when the gateway stops."""
MOST = 4096
"""Spans that may be queued."""
QUIET = 60.0
"""Seconds between two log lines about failures of the collector."""
KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}


class _Seldom(logging.Filter):
    """Passes one record per `QUIET` seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._until = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether *record* is logged."""
        del record
        now = time.monotonic()
        if now < self._until:
            return False
        self._until = now + QUIET
        return True


logging.getLogger(OTLPSpanExporter.__module__).addFilter(_Seldom())


class _Collector(SpanExporter):
    """The exporter to the collector; it can be stopped while it sends.

    Attributes:
        sent: spans that the collector accepted.
        dropped: spans that it did not accept.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self.sent = 0
        self.dropped = 0
        self._otlp = OTLPSpanExporter(url, headers=headers, timeout=PATIENCE)
        self._ended = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send *spans*; drop them if that fails."""
        result = SpanExportResult.FAILURE if self._ended else self._otlp.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.sent += len(spans)
        else:
            self.dropped += len(spans)
        return result

    def shutdown(self) -> None:
        """Stop retrying, and send no more."""
        if not self._ended:
            self._ended = True
            self._otlp.shutdown()  # type: ignore[no-untyped-call]  # the library has no annotation


class _Ids(RandomIdGenerator):
    """Derives ids from the request's id, so that none must be stored.

    Attributes:
        trace: the trace id of the next span without a parent.
        span: the id of the next span; None for a random one.
    """

    def __init__(self) -> None:
        self.trace = 0
        self.span: int | None = None

    def generate_trace_id(self) -> int:
        """Return the id of a new trace."""
        return self.trace

    def generate_span_id(self) -> int:
        """Return the id of a span."""
        return super().generate_span_id() if self.span is None else self.span


class OtelExporter:
    """Sends spans to a collector (`gateway.trace.recorder.SpanSink`).

    Args:
        url: the URL of the collector, such as ``http://127.0.0.1:4318/v1/traces``.
        headers: the headers of the requests.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._ids = _Ids()
        self._collector = _Collector(url, headers)
        self._made = self._refused = 0
        own: dict[str, str] = {SERVICE_NAME: PACKAGE, SERVICE_VERSION: version(PACKAGE)}
        self._provider = TracerProvider(
            sampler=ParentBased(ALWAYS_ON),
            resource=Resource.create({**own, **OTELResourceDetector().detect().attributes}),
            shutdown_on_exit=False,
            id_generator=self._ids,
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._collector, MOST))
        self._tracer = self._provider.get_tracer(PACKAGE, own[SERVICE_VERSION])

    @property
    def sent(self) -> int:
        """Return how many spans the collector accepted."""
        return self._collector.sent

    @property
    def dropped(self) -> int:
        """Return how many spans were dropped."""
        return self._collector.dropped + self._refused

    def add(self, raw: RequestContext | AttemptSnapshot, records: Sequence[Record]) -> None:
        """Make a span; none if the caller's own trace is not sampled."""
        first, last = records[0], records[-1]
        if isinstance(raw, RequestContext) and isinstance(first, RequestRecord):
            self._ids.span = span_id(raw.request.id)
            span = received(first, raw.request, raw.source)
            self._send(span, raw.request, _caller(raw.request))
        elif isinstance(raw, AttemptSnapshot) and isinstance(last, AttemptRecord):
            self._ids.span = None
            request = raw.entry.request
            self._send(tried(last), request, _parent(request))

    def _send(self, said: Span, request: Request, context: Context) -> None:
        if self._made - self._collector.sent - self._collector.dropped >= MOST:
            self._refused += 1
            return
        self._ids.trace = trace_id(request.id)
        start = int(said.at * 1e9)
        span = self._tracer.start_span(
            said.name, context, KINDS[said.kind], said.attributes, start_time=start
        )
        if said.failed:
            span.set_status(Status(StatusCode.ERROR, said.reason))
        self._made += span.is_recording()
        span.end(start + int(said.seconds * 1e9))

    def close(self) -> None:
        """Send the queued spans, for a few seconds at most."""
        limit = threading.Timer(GRACE, self._collector.shutdown)
        limit.start()
        self._provider.shutdown()
        limit.cancel()


def trace_id(request: str) -> int:
    """Return the id of a trace that begins with a request: the request's id, padded with zeros.

    So the trace can be found by ``x-gateway-request-id``. W3C wants shorter ids to be right-aligned
    (https://www.w3.org/TR/trace-context/, "Considerations for trace-id field generation").
    """
    return int(request, 16)


def span_id(request: str) -> int:
    """Return the id of a request's span; it is the same after a restart."""
    return int.from_bytes(hashlib.sha256(request.encode()).digest()[:8])


def _caller(request: Request) -> Context:
    """Return the trace context in *request*'s headers; one without a span if there is none."""
    return TraceContextTextMapPropagator().extract(request.headers, Context())


def _parent(request: Request) -> Context:
    """Return the parent of a request's attempts: the request's span, if the request was sampled.

    Otherwise it is the parent that this span would have.
    """
    caller = _caller(request)
    if not is_sampled(request.id):
        return caller
    known = get_current_span(caller).get_span_context()
    own = SpanContext(
        trace_id=known.trace_id if known.is_valid else trace_id(request.id),
        span_id=span_id(request.id),
        is_remote=True,
        trace_flags=known.trace_flags if known.is_valid else TraceFlags(TraceFlags.SAMPLED),
        trace_state=known.trace_state,
    )
    return set_span_in_context(NonRecordingSpan(own), caller)

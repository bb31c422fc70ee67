"""Take a request through the ingest steps without storing it: find its source, read its events."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.config import Config
from gateway.config.inputs import source_input
from gateway.config.models import destinations_of
from gateway.errors import Fault, Rejected, UnknownName
from gateway.event import Event
from gateway.explain.models import ExplainRequest, ExplainRequestError, Refusal
from gateway.http import ClientInfo, Request, Response
from gateway.ingest.events import plan_events, read_events, without_unused_client_id
from gateway.ingest.sources import Source, SourceIndex
from gateway.ingest.suppression import (
    NOTHING,
    REASON,
    Suppression,
    rejection,
    suppression_of,
)
from gateway.plugin.registry import PluginRegistry
from gateway.plugin.vendor import JSON, json_response
from gateway.suggestions import check_name, did_you_mean
from gateway.tracking import PlannedEvents
from gateway.tracking.plan import PlanResult

REQUEST_ID = "request"
"""The id of explained requests; the ids of their events derive from it."""
PLAIN = "application/x-www-form-urlencoded"
"""The content type that HTTP libraries send by default."""


class DryRunRequest(NamedTuple):
    """A request after ingest: its source and events, or the reason why it has none."""

    request: Request
    source: str = ""
    vendor: str = ""
    events: Sequence[Event] = ()
    """The events as parsed, before the tracking plan."""
    kept: PlannedEvents = PlannedEvents(())
    suppressed: frozenset[int] = NOTHING
    """The indexes of events about people on the suppression list."""
    planned: tuple[PlanResult | None, ...] = ()
    """The result of the tracking plan for each event."""
    refusal: Refusal | None = None
    answer: Response | None = None


class DryRunIngest:
    """The sources of a configuration, for requests that are only explained."""

    def __init__(self, config: Config, registry: PluginRegistry) -> None:
        self._urls = {name: source.url for name, source in config.sources.items()}
        self._sources = {
            name: Source(
                name,
                source_input(config, registry, name),
                None if source.keys == "any" else [key.get_secret_value() for key in source.keys],
                source.mount,
                source.hosts,
                plan=config.plans.get(name),
                keeps_client_key=any(
                    config.destinations[to].credentials == "client"
                    for to in destinations_of(config.routes, name)
                ),
                max_events=config.server.max_events,
            )
            for name, source in config.sources.items()
        }
        self._suppression = suppression_of(config)
        self._index = SourceIndex(self._sources.values())

    def enter(self, asked: ExplainRequest) -> DryRunRequest:
        """Find the source of a request and read its events.

        Raises:
            ExplainRequestError: it is ambiguous which source or endpoint is meant, or there is
                none.
        """
        if asked.source or not asked.path:
            source = self._named(asked)
            request, taken = _found(source, asked)
            return taken if taken is not None else self._taken(source, request)
        method, path = _split(asked.path, "POST")
        found = self._index.find(path.partition("?")[0], asked.headers, method)
        if found is None:
            refusal = Refusal(
                "no source serves this path", json_response(404, {"error": "not found"})
            )
            return DryRunRequest(_request(asked, method, path), refusal=refusal)
        query = path.partition("?")[1:]
        request = _request(asked, method, found.path + "".join(query))
        source = found.source
        try:
            if source.translates(method, found.path):
                payload = source.input.decode(request) if source.input.credential_in_body else None
                source = found.for_key(source.input.credential(request, payload))
        except Rejected as error:
            if error.fault is Fault.UNAUTHENTICATED and len(self._sources) == 1:
                return self._taken(source, request)  # there is no other one that it could be for
            refused = _refused(source, request, error)
            if error.fault in {Fault.UNAUTHENTICATED, Fault.FORBIDDEN} and refused.refusal:
                name = asked.key.format("from")
                reason = f"{refused.refusal.reason}; name the source in {name} to skip the check"
                return refused._replace(refusal=Refusal(reason, refused.refusal.answer))
            return refused
        return self._taken(source, request)

    def _named(self, asked: ExplainRequest) -> Source:
        if asked.source:
            check_name("source", asked.source, self._sources)
            return self._sources[asked.source]
        if len(self._sources) == 1:
            return next(iter(self._sources.values()))
        known, name, path = ", ".join(self._sources), *map(asked.key.format, ("from", "path"))
        raise ExplainRequestError(
            f"there are several sources; name one of {known} in {name}, or give the {path}"
        )

    def _taken(self, source: Source, request: Request) -> DryRunRequest:
        """Read a request whose key is valid, or was not checked."""
        if source.offers(request.method, request.path):
            file = Refusal("it is a file for pages, no event", None)
            return DryRunRequest(request, source.name, source.input.name, refusal=file)
        if not source.translates(request.method, request.path):
            url = self._urls[source.name]
            if url:
                relayed = Refusal(f"it is relayed to {url}", None)
                return DryRunRequest(request, source.name, source.input.name, refusal=relayed)
            return _unread(source, request)
        try:
            return _read(source, request, self._suppression)
        except Rejected as error:
            return _refused(source, request, error)


def _read(source: Source, request: Request, suppression: Suppression | None) -> DryRunRequest:
    """Read the events of a request, as they are routed.

    Raises:
        Rejected: the vendor's input, the suppression list or the tracking plan rejects the request.
    """
    reads = source.input
    stored = source.to_stored(request, request.body)
    payload = reads.decode(stored)
    events = read_events(source, stored, payload)
    stored = without_unused_client_id(stored, events)
    left_out = NOTHING if suppression is None else suppression.among(events)
    if suppression is not None and left_out and len(left_out) == len(events):
        if suppression.refuses:
            raise rejection()
        dropped = Refusal(f"{REASON}; it is dropped", reads.accept(stored, events))
        return DryRunRequest(stored, source.name, reads.name, refusal=dropped)
    planned = tuple[PlanResult | None, ...]()
    if source.plan is not None:
        planned = tuple(source.plan.judge(event) for event in events)
    kept = plan_events(source, stored, payload, events)
    answer = reads.accept(stored, events)
    return DryRunRequest(
        stored, source.name, reads.name, events, kept, left_out, planned, answer=answer
    )


def _unread(source: Source, request: Request) -> DryRunRequest:
    """Explain a request that is no event and is not relayed."""
    refusal = source.rejection_for(request.method, request.path)
    try:
        endpoint = f"{request.method} {request.path}"
        known = endpoint in source.input.unsupported
        response = source.input.static_response(request, "0" * 32) if known else None
    except Rejected as error:
        refusal, response = error, None
    if response is None:
        return _refused(source, request, refusal)
    static = Refusal("the gateway responds to such reads itself", response)
    return DryRunRequest(request, source.name, source.input.name, refusal=static)


def _refused(source: Source, request: Request, error: Rejected) -> DryRunRequest:
    why = error.reason if error.path == "$" else str(error)
    refusal = Refusal(why, source.input.refuse(request, error))
    return DryRunRequest(request, source.name, source.input.name, refusal=refusal)


def _found(source: Source, asked: ExplainRequest) -> tuple[Request, DryRunRequest | None]:
    """Return the request with its endpoint; or else the rejection, if the only endpoint rejects it.

    Raises:
        ExplainRequestError: there is no such endpoint, or several accept the body.
    """
    if asked.path:
        return _request(asked, *_endpoint(source, asked.path)), None
    taken, refused = [], []
    for endpoint in source.input.endpoints:
        request = _request(asked, *endpoint.split(" ", 1))
        try:
            source.input.parse(request)
        except Rejected as error:
            refused.append((request, error))
        else:
            taken.append(request)
    if len(taken) > 1:
        paths = ", ".join(request.path for request in taken)
        which = asked.key.format("path")
        raise ExplainRequestError(f"several endpoints accept this body: {paths}; give the {which}")
    if taken:
        return taken[0], None
    if len(refused) == 1:
        return refused[0][0], _refused(source, *refused[0])
    reasons = "".join(f"\n  {one.method} {one.path}: {error}" for one, error in refused)
    raise ExplainRequestError(f"no endpoint of {source.input.name} accepts this body:{reasons}")


def _endpoint(source: Source, written: str) -> tuple[str, str]:
    """Return the method, and the path without the source's mount but with its query."""
    known = source.input.endpoints
    method, path = _split(written, "")
    if source.mount and path.startswith(f"{source.mount}/"):
        path = path.removeprefix(source.mount)
    plain = path.partition("?")[0]
    methods = [one for one in sorted(source.allowed(plain)) if source.translates(one, plain)]
    if not methods:
        paths = {endpoint.partition(" ")[2] for endpoint in known}
        vendor = source.input.name
        raise UnknownName(
            f"{vendor} has no endpoint {plain!r} for events; {did_you_mean(plain, paths)}"
        )
    default = "POST" if "POST" in methods else methods[0]
    return method or default, path


def _split(written: str, default: str) -> tuple[str, str]:
    method, blank, path = written.partition(" ")
    return (method, path) if blank else (default, written)


def _request(asked: ExplainRequest, method: str, url: str) -> Request:
    headers: Mapping[str, str] = asked.headers
    if asked.body and headers.get("content-type", PLAIN) == PLAIN and asked.body[:1] in b"{[":
        headers = {**headers, **JSON}
    return Request(
        method=method,
        url=url,
        headers=headers,
        body=asked.body,
        id=REQUEST_ID,
        received_at=asked.at,
        client=ClientInfo(asked.ip) if asked.ip else None,
    )

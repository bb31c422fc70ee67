"""The way in for a request that is only talked about: its source, and its events."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.clients import introduced, without_idle_id
from gateway.config import Config
from gateway.config.relaying import leads
from gateway.doors import Doors, Source
from gateway.errors import Fault, Rejected
from gateway.event import Event
from gateway.exchange import Client, Request, Response
from gateway.explain.values import Asked, AskedError, Refusal
from gateway.mapping import spelt
from gateway.plugin import JSON, json_response
from gateway.plugins import Registry
from gateway.tracking import Kept
from gateway.tracking.plan import Found
from gateway.words import nearest

REQUEST_ID = "request"
"""Stands for the id that the gateway would give; ids of events derive from it."""
PLAIN = "application/x-www-form-urlencoded"
"""What HTTP libraries write where nobody names a content type."""


class Entered(NamedTuple):
    """A request, as far as the way in takes it."""

    request: Request
    source: str = ""
    vendor: str = ""
    events: Sequence[Event] = ()
    """As they came."""
    kept: Kept = Kept(())
    planned: tuple[Found | None, ...] = ()
    """What the tracking plan has against each event."""
    refusal: Refusal | None = None
    answer: Response | None = None


class Entrance:
    """The sources of a configuration, for requests that nobody sends."""

    def __init__(self, config: Config, registry: Registry) -> None:
        self._urls = {name: source.url for name, source in config.sources.items()}
        self._sources = {
            name: Source(
                name,
                registry.inputs[source.vendor](),
                None if source.keys == "any" else [key.get_secret_value() for key in source.keys],
                source.mount,
                source.hosts,
                plan=config.plans.get(name),
                lends=any(
                    config.destinations[to].credentials == "client"
                    for to in leads(config.routes, name)
                ),
            )
            for name, source in config.sources.items()
        }
        self._doors = Doors(self._sources.values())

    def enter(self, asked: Asked) -> Entered:
        """Return what becomes of a request until it is routed.

        Raises:
            AskedError: it cannot be told which source or endpoint is meant.
        """
        if asked.source or not asked.path:
            source = self._named(asked.source)
            request, taken = _found(source, asked)
            return taken if taken is not None else self._taken(source, request)
        method, path = _split(asked.path, "POST")
        found = self._doors.find(path.partition("?")[0], asked.headers, method)
        if found is None:
            nobody = Refusal(
                "no source serves this path", json_response(404, {"error": "not found"})
            )
            return Entered(_request(asked, method, path), refusal=nobody)
        query = path.partition("?")[1:]
        request = _request(asked, method, found.path + "".join(query))
        source = found.source
        try:
            if source.translates(method, found.path):
                payload = source.reads.decode(request) if source.reads.credential_in_body else None
                source = found.keyed(source.reads.credential(request, payload))
        except Rejected as error:
            refused = _refused(source, request, error)
            if error.fault in {Fault.UNAUTHENTICATED, Fault.FORBIDDEN} and refused.refusal:
                reason = f"{refused.refusal.reason}; name the source to leave it aside"
                return refused._replace(refusal=Refusal(reason, refused.refusal.answer))
            return refused
        return self._taken(source, request)

    def _named(self, name: str) -> Source:
        if name in self._sources:
            return self._sources[name]
        if name:
            raise AskedError(f"there is no source {name!r}; {nearest(name, self._sources)}")
        if len(self._sources) == 1:
            return next(iter(self._sources.values()))
        known = ", ".join(self._sources)
        raise AskedError(
            f"say with `from` which source it comes through, or give its path; there are {known}"
        )

    def _taken(self, source: Source, request: Request) -> Entered:
        """Return what *source* makes of a request whose credential is fine."""
        if not source.translates(request.method, request.path):
            url = self._urls[source.name]
            if url:
                passed = Refusal(f"it is passed on to {url} at once", None)
                return Entered(request, source.name, source.reads.name, refusal=passed)
            return _unread(source, request)
        try:
            return _read(source, request)
        except Rejected as error:
            return _refused(source, request, error)


def _read(source: Source, request: Request) -> Entered:
    """Return the events of a request, as they are routed.

    Raises:
        Rejected: the vendor, or the tracking plan, refuses it.
    """
    reads = source.reads
    stored = source.stored(request, request.body)
    payload = reads.decode(stored)
    events = introduced(reads.read(stored, payload), stored)
    stored = without_idle_id(stored, events)
    kept, planned = Kept(events), tuple[Found | None, ...]()
    if source.plan is not None:
        planned = tuple(source.plan.judge(event) for event in events)

        def spell(event: Event, index: int, path: Sequence[str | int]) -> str:
            mapped = reads.endpoints[f"{stored.method} {stored.path}"]
            return spelt(mapped, payload, event, index, path)

        kept = source.plan.keeps(events, spell, stored.id, None)
    answer = reads.accept(stored, events)
    return Entered(stored, source.name, reads.name, events, kept, planned, answer=answer)


def _unread(source: Source, request: Request) -> Entered:
    """Return what becomes of a request that is no event, where nothing is passed on."""
    refusal = source.refusal(request.method, request.path)
    try:
        endpoint = f"{request.method} {request.path}"
        known = endpoint in source.reads.unsupported
        told = source.reads.answer(request, "0" * 32) if known else None
    except Rejected as error:
        refusal, told = error, None
    if told is None:
        return _refused(source, request, refusal)
    answered = Refusal("the gateway answers such reads by itself", told)
    return Entered(request, source.name, source.reads.name, refusal=answered)


def _refused(source: Source, request: Request, error: Rejected) -> Entered:
    why = error.reason if error.path == "$" else str(error)
    refusal = Refusal(why, source.reads.refuse(request, error))
    return Entered(request, source.name, source.reads.name, refusal=refusal)


def _found(source: Source, asked: Asked) -> tuple[Request, Entered | None]:
    """Return the request for the endpoint that is meant; with what it is refused, if it is.

    Raises:
        AskedError: there is no such endpoint, or several take the body.
    """
    if asked.path:
        return _request(asked, *_endpoint(source, asked.path)), None
    taken, refused = [], []
    for endpoint in source.reads.endpoints:
        request = _request(asked, *endpoint.split(" ", 1))
        try:
            source.reads.parse(request)
        except Rejected as error:
            refused.append((request, error))
        else:
            taken.append(request)
    if len(taken) > 1:
        paths = ", ".join(request.path for request in taken)
        raise AskedError(f"{paths} would all take this body; say with `path` where it is posted")
    if taken:
        return taken[0], None
    if len(refused) == 1:
        return refused[0][0], _refused(source, *refused[0])
    reasons = "".join(f"\n  {one.method} {one.path}: {error}" for one, error in refused)
    raise AskedError(f"no endpoint of {source.reads.name} takes this body:{reasons}")


def _endpoint(source: Source, written: str) -> tuple[str, str]:
    """Return the method and the path, as the vendor knows it, with its query."""
    known = source.reads.endpoints
    method, path = _split(written, "")
    if source.mount and path.startswith(f"{source.mount}/"):
        path = path.removeprefix(source.mount)
    plain = path.partition("?")[0]
    methods = [one for one in sorted(source.allowed(plain)) if source.translates(one, plain)]
    if not methods:
        paths = {endpoint.partition(" ")[2] for endpoint in known}
        vendor = source.reads.name
        raise AskedError(f"{vendor} has no endpoint {plain!r} for events; {nearest(plain, paths)}")
    default = "POST" if "POST" in methods else methods[0]
    return method or default, path


def _split(written: str, default: str) -> tuple[str, str]:
    method, blank, path = written.partition(" ")
    return (method, path) if blank else (default, written)


def _request(asked: Asked, method: str, url: str) -> Request:
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
        client=Client(asked.ip) if asked.ip else None,
    )

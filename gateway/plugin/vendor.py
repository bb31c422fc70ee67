"""What a vendor implements: `Vendor`, `Input`, `Output`.

    Input.parse    Request  -> [Event]         Output.render   Event -> Request | Declined
    Input.accept   [Event]  -> Response        Output.verdict  Response -> Verdict
    Input.refuse   Rejected -> Response

A plugin never opens a socket, never reads the clock, never awaits. The gateway does all of
that around it; docs/architecture.md gives the order.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import orjson

from gateway.errors import Rejected, Unrenderable
from gateway.event import Event
from gateway.http import TRACE_CONTEXT, Request, Response
from gateway.json_text import as_valid_json, dumps, is_too_deep, loads, not_json
from gateway.mapping import ISO8601, EventMapping, Loss, Stamp, Table, restore_leftovers
from gateway.mapping.losses import losses
from gateway.mapping.payload import is_object, replace_values
from gateway.plugin.context_properties import Included, include
from gateway.plugin.settings import Settings, apply_convention
from gateway.verdict import Declined, Verdict, verdict_by_status


def forwarded_headers(request: Request, ours: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with which *request* goes on: those stored with it, and *ours*.

    Ours hold where both have one, but for the label of the body: that is the client's. JSON is
    labelled as JSON all the same: pages label it as text so that their browser asks for no leave,
    and a vendor may go by the label. The caller's trace stays behind: it is no vendor's business.
    """
    own = {name: said for name, said in request.headers.items() if name not in TRACE_CONTEXT}
    headers = {**own, **ours}
    label = request.headers.get("content-type")
    if label is not None and ("json" in label.lower() or not _looks_like_json(request.body)):
        headers["content-type"] = label
    return headers


def _looks_like_json(body: bytes) -> bool:
    return body[:64].lstrip()[:1] in {b"{", b"["}


JSON = {"content-type": "application/json"}
"""The headers of a body in JSON."""


class Vendor(ABC):
    """What both halves of a vendor have in common."""

    name: ClassVar[str]
    """Config word, metric label and docs heading, e.g. ``"tracardi"``."""
    docs: ClassVar[str]
    """The vendor's own page for this wire format."""
    endpoints: ClassVar[Mapping[str, EventMapping]]
    """``"POST /track"`` to the table that reads and writes its body. Several endpoints may write
    the same event; the first one named does. `Endpoints`, where paths hold values."""


class Input(Vendor):
    """Turns a vendor's requests into events, and events' fates into the vendor's answers."""

    example: ClassVar[Request]
    """A request from the vendor's own document, for people to try; its credential is public."""
    unsupported: ClassVar[frozenset[str]] = frozenset()
    """Documented endpoints that are no events, such as ``"GET /store/contact"``. `EndpointSet`,
    where they hold values."""
    credential_in_body: ClassVar[bool] = False
    """The credential stands in the body, so that it must be decoded to be checked."""
    stored_headers: ClassVar[frozenset[str]] = frozenset({"content-type", "user-agent"})
    """Lower-case names of the request headers that are stored with it."""
    browsers_allowed: ClassVar[bool] = False
    """The vendor's own clients run in browsers, on any site: a source lets every origin in unless
    its ``origins`` say otherwise."""
    browser_headers: ClassVar[frozenset[str]] = frozenset({"content-type"})
    """Lower-case names of the request headers that pages of other origins may send: those that
    the vendor's clients send, and its credential's."""
    timing_header: ClassVar[str] = ""
    """A response header in which the vendor tells the seconds that a request took."""
    credential_headers: ClassVar[frozenset[str]] = frozenset()
    """Lower-case names of the request headers in which credentials come. They are stored only
    where a destination sends the client's own on."""
    credential_keys: ClassVar[tuple[str, ...]] = ()
    """Dotted paths in a body of what names the client's account, such as ``"source.id"``; those
    without a dot are names in a query, too."""
    secret_keys: ClassVar[tuple[str, ...]] = ()
    """Names in a body and a query of a second credential, which is more secret than the first:
    one that servers send beside a key that stands in pages."""
    relayed_reads: ClassVar[frozenset[str] | None] = None
    """Documented reads that `relay_as` serves unless the source names others; the ``GET`` ones
    among ``unsupported`` where this is left out. A path may hold ``{values}``."""
    words: ClassVar[Mapping[str, str]] = {}
    """The vendor's names of events to neutral ones, where no table says so."""
    prefixes: ClassVar[tuple[str, ...]] = ()
    """How the vendor's paths begin, those that are no endpoints included. They tell whose an
    unknown path is where several vendors share an address."""

    @classmethod
    def lent_to(cls) -> tuple[str, ...]:
        """Return the endpoints that `relay_as` serves where a source names none."""
        if cls.relayed_reads is not None:
            return tuple(sorted(cls.relayed_reads))
        return tuple(sorted(one for one in cls.unsupported if one.startswith("GET ")))

    def needs_secret(self, request: Request, payload: Any) -> bool:  # noqa: ARG002 - for vendors with two credentials
        """Tell whether the vendor takes a call only with its second credential.

        Args:
            request: as received.
            payload: the decoded body.
        """
        return False

    @abstractmethod
    def credential(self, request: Request, payload: Any) -> str | None:
        """Return the credential that came along, or None.

        Args:
            request: as received, with every header.
            payload: the decoded body; None where ``credential_in_body`` is false.
        """

    def relayed_credential(self, request: Request) -> str | None:
        """Return the credential of a call that is no event, from its headers or query alone."""
        return None if self.credential_in_body else self.credential(request, None)

    def static_response(self, request: Request, made: str) -> Response | None:  # noqa: ARG002 - for vendors that can be read from
        """Return what a read is told where no upstream is configured; None for no such read.

        Args:
            request: one of ``unsupported``, as received, without its body.
            made: 32 hexadecimal digits that nobody can guess, to make ids of.

        Raises:
            Rejected: the vendor would refuse it.
        """
        return None

    def decode(self, request: Request) -> Any:
        """Return the body of *request* as JSON values.

        Raises:
            Rejected: it is no JSON.
        """
        try:
            return loads(request.body)
        except orjson.JSONDecodeError as error:
            raise not_json(error, request.headers.get("content-type", "")) from error

    def read(self, request: Request, payload: Any) -> list[Event]:
        """Return the events in *payload*, the decoded body of *request*.

        Raises:
            Rejected: the vendor would refuse it.
        """
        table = self.endpoints[f"{request.method} {request.path}"]
        return table.read(payload, Stamp(self.name, request.id, request.received_at))

    def parse(self, request: Request) -> list[Event]:
        """Return the events in *request*.

        Raises:
            Rejected: the vendor would refuse it.
        """
        return self.read(request, self.decode(request))

    @abstractmethod
    def accept(self, request: Request, events: Sequence[Event]) -> Response:
        """Return what the vendor's own server would answer."""

    @abstractmethod
    def refuse(self, request: Request, error: Rejected) -> Response:
        """Return the error that the vendor's own server would answer."""


class OutgoingCall(NamedTuple):
    """How an event goes out."""

    endpoint: str
    """``"POST /track"``."""
    table: Table
    """What writes the body."""
    event: Event
    """The event, as prepared for the table."""


class Output(Vendor):
    """Turns events into a vendor's requests."""

    Config: ClassVar[type[Settings]]
    """The vendor's settings; the gateway fills them from the destination's table."""
    account: ClassVar[frozenset[str]] = frozenset()
    """Settings that say whose account it is, beside those that are credentials."""
    more_secret: ClassVar[frozenset[str]] = frozenset()
    """Settings, none of them required, that are more secret than the key which the vendor's clients
    send. `relay_as` lends them only to calls that have proved a second credential
    (`Input.secret_keys`)."""
    batch_size: ClassVar[int] = 1
    """How many events of one user one request may carry; `merge` puts them together."""
    forward_max_age: ClassVar[float | None] = None
    """Seconds after a request's arrival in which it may be forwarded as it came, where the vendor
    reckons its times from when it receives it; None where it does not matter."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self._targets: dict[str, tuple[str, str]] = {}

    @abstractmethod
    def headers(self) -> Mapping[str, str]:
        """Return the headers of every request, credentials included."""

    def envelope(self) -> dict[str, Any]:
        """Return what the configuration adds to every body, such as a source id."""
        return {}

    @cached_property
    def frame(self) -> tuple[Mapping[str, str], dict[str, Any]]:
        """Return the headers and the envelope, which the configuration alone decides."""
        return self.headers(), self.envelope()

    def select(self, event: Event) -> OutgoingCall | Declined:
        """Return how *event* goes out, or why it cannot."""
        for endpoint, mapped in self.endpoints.items():
            table = mapped.table_for(event)
            if table is not None:
                return OutgoingCall(endpoint, table, event)
        what = repr(event.name) if event.type == "track" else f"a {event.type} call"
        return Declined(f"{self.name} has no way to say {what}")

    def render(self, event: Event) -> Request | Declined:
        """Return the request that delivers *event*, or why this vendor cannot take it.

        Raises:
            Unrenderable: the vendor could, and the event lacks what it insists on.
        """
        call = self.select(event)
        if isinstance(call, Declined):
            return call
        same = event.origin == self.name
        payload = call.table.write(call.event, same=same)
        if same and event.extra:
            restore_leftovers(payload, event.extra)
        return self.request(call.endpoint, payload, event)

    def request(self, endpoint: str, payload: dict[str, Any], event: Event) -> Request:
        """Return *payload* as a request to *endpoint*, framed by what the configuration says.

        Raises:
            Unrenderable: *event* holds something that JSON cannot say.
        """
        headers, envelope = self.frame
        target = self._targets.get(endpoint)
        if target is None:
            method, _, path = endpoint.partition(" ")
            target = self._targets[endpoint] = (method, self.config.url.rstrip("/") + path)
        if envelope:
            payload.update(envelope)
        try:
            body = dumps(payload)
        except orjson.JSONEncodeError as error:
            said = "it is nested too deeply" if is_too_deep(error) else str(error)
            raise Unrenderable(f"{event.id} cannot be written as JSON: {said}") from error
        return Request(method=target[0], url=target[1], headers=headers, body=body)

    def merge(self, request: Request, further: Request) -> Request | None:  # noqa: ARG002 - for vendors that batch
        """Return one request that says what both say, in this order, or None if none can."""
        return None

    def forward(self, request: Request) -> Request | None:
        """Return *request*, which came in this vendor's format, with our credential in it.

        Nothing else is changed, but for the headers (`gateway.plugin.vendor`). None where this
        vendor's requests cannot be forwarded.
        """
        body = as_valid_json(request.body)
        changes = self.credential_fields(request.path, body)
        if changes:
            body = replace_values(body, changes)
        headers = forwarded_headers(request, self.frame[0])
        url = self.config.url.rstrip("/") + request.url
        return Request(method=request.method, url=url, headers=headers, body=body)

    def credential_fields(self, path: str, body: bytes) -> dict[str, Any]:  # noqa: ARG002 - for vendors whose endpoints differ
        """Return what of a forwarded *body* the configuration replaces, such as a source id."""
        return self.frame[1]

    def with_credential(
        self, request: Request, changes: Mapping[str, Any] | None = None
    ) -> Request:
        """Return *request*, a call in this vendor's format, with our credential in it.

        The ``url`` stays without a host, and ``headers`` are those that take the place of the
        client's own.

        Args:
            request: the call.
            changes: what takes the place of the client's in a body in JSON; where it is left out,
                what `credential_fields` returns.
        """
        body = request.body
        if changes is None:
            changes = self.credential_fields(request.path, body)
        if changes and is_object(body):
            body = replace_values(body, changes)
        headers = {k: v for k, v in self.frame[0].items() if k != "content-type"}
        return Request(method=request.method, url=request.url, headers=headers, body=body)

    def losses(self, event: Event) -> list[Loss]:
        """Return what *event* knows and its request will not say."""
        call = self.select(event)
        return [] if isinstance(call, Declined) else self.unsaid(call)

    def unsaid(self, call: OutgoingCall) -> list[Loss]:
        """Return what the event of *call* knows and its table does not say."""
        same = call.event.origin == self.name
        found = losses(call.event, call.table.said(call.event), same=same)
        return [loss for loss in found if loss.path not in call.event.derived]

    def included(self, event: Event, **names: str) -> Included:
        """Return *event*, a track event, with what the destination's `FreeFormSettings` include.

        Args:
            event: not changed. One in this vendor's own format gets nothing.
            names: of properties where the vendor has its own, by the usual ones.
        """
        own = event.origin == self.name
        return include(event, () if own else self.config.include, self.time, names)

    def time(self, moment: datetime) -> Any:
        """Return *moment* as this vendor has a time among free properties."""
        return ISO8601.encode(moment)

    def event_name(self, event: Event) -> str:
        """Return the event's name by the convention of the destination's `FreeFormSettings`.

        It is empty where the event has none: no vendor may call it something else.
        """
        name = event.name or ""
        if event.origin == self.name or not name.strip():
            return name
        return apply_convention(name, self.name, self.config)

    def verdict(self, response: Response, now: datetime | None = None) -> Verdict:
        """Judge the vendor's answer."""
        return verdict_by_status(response, now)


def json_response(status: int, body: object, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer in JSON."""
    return Response(status, {**JSON, **headers} if headers else JSON, dumps(body))

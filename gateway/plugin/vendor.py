"""The base classes of vendors: `Vendor`, `Input`, `Output`.

    Input.parse    Request  -> [Event]         Output.render   Event -> Request | Declined
    Input.accept   [Event]  -> Response        Output.verdict  Response -> Verdict
    Input.refuse   Rejected -> Response

A plugin never opens a socket, never reads the clock, and never awaits: the gateway does that. See
docs/architecture.md for the order of calls.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar

import orjson
from msgspec import Struct

from gateway.errors import Fault, Rejected, Unrenderable
from gateway.event import NOTHING, Event
from gateway.http import TRACE_CONTEXT, Request, Response
from gateway.json_text import as_valid_json, dumps, is_too_deep, loads, not_json
from gateway.mapping import ISO8601, EventMapping, Loss, Stamp, Table, restore_leftovers
from gateway.mapping.losses import losses
from gateway.mapping.payload import is_object, replace_values
from gateway.plugin.authorization import Authorization
from gateway.plugin.config_table import ConfigTable
from gateway.plugin.context_properties import Include, Included, compile_include
from gateway.plugin.file_rules import FileRules
from gateway.plugin.settings import Settings, convention_of
from gateway.verdict import Declined, Verdict, verdict_by_status


def forwarded_headers(request: Request, ours: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a forwarded *request*: those stored with it, and *ours*.

    Ours replace the client's, except for the content type. JSON is labelled as JSON even if the
    client labelled it as text, as pages do to avoid a CORS preflight. Headers of the caller's
    trace are left out.

    Args:
        request: as stored.
        ours: lower-case names to values, credentials included.
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
    """Base of `Input` and `Output`: the vendor's name, its document and its tables."""

    name: ClassVar[str]
    """The vendor's name in configurations and metrics, such as ``"tracardi"``."""
    docs: ClassVar[str]
    """The URL of the vendor's document of this format."""
    configured: ClassVar[bool] = False
    """Whether the configuration describes the format, so that the plugin has no tables of its
    own."""
    endpoints: Mapping[str, EventMapping]
    """Each endpoint, such as ``"POST /track"``, with the table or switch of its body. If several
    can write an event, the first does. Use `Endpoints` where paths hold values."""


class Input(Vendor):
    """Reads a vendor's requests, and responds as the vendor does."""

    Config: ClassVar[type[ConfigTable] | None] = None
    """The settings of a source beside those of every source; None if it has none. With settings,
    the class is called with an instance of it and with the keys of the source."""
    example: ClassVar[Request]
    """A request from the vendor's document, for people to try, with a made-up credential."""
    unsupported: ClassVar[frozenset[str]] = frozenset()
    """Documented endpoints that are no events, such as ``"GET /store/contact"``. Use `EndpointSet`
    where paths hold values."""
    public_files: ClassVar[frozenset[str]] = frozenset()
    """Endpoints at which the vendor's own servers offer files to pages, such as a script or the
    settings of a library; `public_file` has them. They begin with ``GET``."""
    files_url: str = ""
    """The URL below which the vendor's server has the files that `public_file` names; empty if the
    gateway fetches none."""
    credential_in_body: ClassVar[bool] = False
    """Whether the credential is in the body, so that the body is decoded to check it."""
    stored_headers: frozenset[str] = frozenset({"content-type", "user-agent"})
    """Lower-case names of the headers that are stored with a request."""
    browsers_allowed: ClassVar[bool] = False
    """Whether the vendor's clients run in browsers on any site. A source then accepts every origin
    unless its ``origins`` say otherwise."""
    browser_headers: ClassVar[frozenset[str]] = frozenset({"content-type"})
    """Lower-case names of the headers that pages of other origins may send (CORS): those of the
    vendor's clients and of its credential."""
    timing_header: ClassVar[str] = ""
    """A response header in which the vendor says how many seconds a request took; or empty."""
    credential_headers: frozenset[str] = frozenset()
    """Lower-case names of the headers that hold credentials. They are stored only if a destination
    forwards the client's key, and are redacted wherever a request is shown."""
    credential_keys: tuple[str, ...] = ()
    """Dotted paths of credentials in a body, such as ``"source.id"``. Those without a dot are names
    in a query, too."""
    secret_keys: ClassVar[tuple[str, ...]] = ()
    """Names, in a body or a query, of a second and more secret credential, which servers send
    beside a key that is public in pages."""
    relayed_reads: ClassVar[frozenset[str] | None] = None
    """Documented reads that ``relay_as`` serves unless the source names others. None means the
    ``GET`` endpoints in ``unsupported``. A path may hold ``{values}``."""
    words: ClassVar[Mapping[str, str]] = {}
    """The vendor's names of events to the event's, where no table has them."""
    prefixes: ClassVar[tuple[str, ...]] = ()
    """Beginnings of all of the vendor's paths. If several vendors share an address, they say whose
    an unknown path is."""

    def __init__(self, config: Any = None, keys: Iterable[str] = ()) -> None:
        self.config = config
        self.keys = tuple(keys)

    def keys_problem(self) -> str:
        """Return why the source's keys cannot work with its settings; empty if they can."""
        return ""

    @classmethod
    def documented_reads(cls) -> tuple[str, ...]:
        """Return the endpoints that ``relay_as`` serves if the source names none."""
        if cls.relayed_reads is not None:
            return tuple(sorted(cls.relayed_reads))
        return tuple(sorted(one for one in cls.unsupported if one.startswith("GET ")))

    def needs_secret(self, request: Request, payload: Any) -> bool:  # noqa: ARG002 - for vendors with two credentials
        """Return whether the vendor requires the second credential for a request.

        Args:
            request: as received.
            payload: the decoded body.
        """
        return False

    @abstractmethod
    def credential(self, request: Request, payload: Any) -> str | None:
        """Return the credential of *request*, or None if it has none.

        Args:
            request: as received, with all headers; without its body unless `credential_in_body`.
            payload: the decoded body, any JSON value; None unless `credential_in_body`.
        """

    def relayed_credential(self, request: Request) -> str | None:
        """Return the credential of a request that is not an event, from headers or query only."""
        return None if self.credential_in_body else self.credential(request, None)

    def static_response(self, request: Request, made: str) -> Response | None:  # noqa: ARG002 - for vendors that can be read from
        """Return the response to a read if the source has no upstream; None for no such read.

        Args:
            request: to one of the `unsupported` endpoints, without its body.
            made: 32 random hexadecimal digits, to make ids of.

        Raises:
            Rejected: the vendor would refuse the request.
        """
        return None

    def public_file(self, request: Request, address: str) -> Response | str:  # noqa: ARG002 - for vendors with files
        """Return one of the `public_files`, or its path below `files_url`.

        The gateway fetches a file at a path, and keeps it as long as the vendor's server allows.

        Args:
            request: without its body; its credential has been checked if it has one.
            address: the URL of the source as its client sees it, with the mount:
                ``"https://events.shop.example/shop-a"``.

        Raises:
            Rejected: there is no such file.
        """
        raise Rejected("$", "no such file", Fault.NOT_FOUND)

    def decode(self, request: Request) -> Any:
        """Return the body of *request* as JSON values.

        Long numbers keep their digits (`gateway.plugin.loads`).

        Raises:
            Rejected: the body is no JSON.
        """
        try:
            return loads(request.body)
        except orjson.JSONDecodeError as error:
            raise not_json(error, request.headers.get("content-type", "")) from error

    def read(self, request: Request, payload: Any) -> list[Event]:
        """Return the events in *payload*, by the table of the endpoint.

        Args:
            request: its id and time of arrival go into the events.
            payload: its decoded body, any JSON value.

        Raises:
            Rejected: the vendor would refuse the request; the path names the field.
        """
        table = self.endpoints[f"{request.method} {request.path}"]
        return table.read(payload, Stamp(self.name, request.id, request.received_at))

    def parse(self, request: Request) -> list[Event]:
        """Return the events in *request*: `read` of `decode`.

        Raises:
            Rejected: the vendor would refuse the request.
        """
        return self.read(request, self.decode(request))

    @abstractmethod
    def accept(self, request: Request, events: Sequence[Event]) -> Response:
        """Return the vendor's response to a request that it takes.

        Args:
            request: as received.
            events: what was read of it; they are safe in the spool.
        """

    @abstractmethod
    def refuse(self, request: Request, error: Rejected) -> Response:
        """Return the vendor's response to a request that it refuses.

        Args:
            request: as received; its body may be no JSON.
            error: why. Choose the status by its ``fault``; ``path`` names the field.
        """


class OutgoingCall(Struct, frozen=True):
    """The endpoint, the table and the event of a request to be sent."""

    endpoint: str
    """Such as ``"POST /track"``."""
    table: Table
    """The table that writes the body."""
    event: Event
    """The event as the table writes it."""
    included: Collection[str] = ()
    """Paths of fields that are among the event's properties too (`Output.included`), so that they
    are not lost if the table writes no others."""


class Output(Vendor):
    """Makes a vendor's requests of events, and judges the vendor's responses."""

    Config: ClassVar[type[Settings]]
    """The settings of a destination, filled from its table in the configuration."""
    account: ClassVar[frozenset[str]] = frozenset()
    """Names of settings that identify the account, beside those of type `Secret`."""
    more_secret: ClassVar[frozenset[str]] = frozenset()
    """Names of optional settings that are more secret than the key of the vendor's clients.
    ``relay_as`` uses them only for calls that prove a second credential (`Input.secret_keys`)."""
    batch_size: int = 1
    """How many events one request may hold. They are one user's, in order; `merge` joins them."""
    judges_whole_response: bool = False
    """Whether `verdict` needs other headers than ``content-type``, ``retry-after``, ``location``
    and ``x-ratelimit-reset``, or more than 64 KiB of the body."""
    authorization: Authorization | None = None
    """Adds what each attempt needs anew: a signature, or a token that expires."""
    files: FileRules | None = None
    """Where the gateway writes the bodies of requests; None if it sends the requests."""
    paths: ClassVar[tuple[str, ...]] = ()
    """Names of settings that are paths, which are relative to the file of the configuration."""
    forwards: ClassVar[bool] = True
    """Whether requests in this vendor's format are forwarded as they came, where nothing in them
    has to change; otherwise their events are rendered."""
    forward_max_age: ClassVar[float | None] = None
    """Seconds after its arrival in which a request may be forwarded as it came, for a vendor that
    computes times from when it receives a request; None for no limit."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self._targets: dict[str, tuple[str, str]] = {}
        self._includes: dict[tuple[tuple[str, str], ...], Include] = {}

    @abstractmethod
    def headers(self) -> Mapping[str, str]:
        """Return the headers of every request, with credentials; names are lower-case."""

    def envelope(self) -> dict[str, Any]:
        """Return the keys that the configuration adds to every body, such as a credential."""
        return {}

    @cached_property
    def frame(self) -> tuple[Mapping[str, str], dict[str, Any]]:
        """Return `headers` and `envelope`, computed once."""
        return self.headers(), self.envelope()

    def select(self, event: Event) -> OutgoingCall | Declined:
        """Return how *event* goes out, or why the vendor has no way to express it.

        By default it is the first endpoint with a table for the event.
        """
        for endpoint, mapped in self.endpoints.items():
            table = mapped.table_for(event)
            if table is not None:
                return OutgoingCall(endpoint, table, event)
        article = "an" if event.type in {"identify", "alias"} else "a"
        what = repr(event.name) if event.type == "track" else f"{article} {event.type} call"
        return Declined(f"{self.name} has no way to say {what}")

    def render(self, event: Event) -> Request | Declined:
        """Return the request that delivers *event*, or why the vendor has no way to express it.

        Raises:
            Unrenderable: the event lacks a value that the vendor requires: a dead letter.
        """
        call = self.select(event)
        if type(call) is Declined:
            return call
        same = event.origin == self.name
        payload = call.table.writer(call.event, same)
        if same and event.extra:
            restore_leftovers(payload, event.extra)
        return self.request(call.endpoint, payload, event)

    def request(self, endpoint: str, payload: dict[str, Any], event: Event) -> Request:
        """Return *payload*, with `envelope` and `headers`, as a request to *endpoint*.

        Args:
            endpoint: such as ``"POST /track"``.
            payload: the body; the envelope is added to it.
            event: what the request delivers, for error messages.

        Raises:
            Unrenderable: the payload holds a value that JSON cannot express.
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
            why = "it is nested too deeply" if is_too_deep(error) else str(error)
            raise Unrenderable(f"{event.id} cannot be written as JSON: {why}") from error
        return Request(method=target[0], url=target[1], headers=headers, body=body)

    def merge(self, request: Request, further: Request) -> Request | None:  # noqa: ARG002 - for vendors that batch
        """Return one request with the events of both; None if they cannot go together.

        `gateway.plugin.merge_lists` does it for a list in the body.

        Args:
            request: of the first event, or what `merge` returned before.
            further: of the user's next event, which comes after those in *request*.
        """
        return None

    def refused_events(self, request: Request, response: Response) -> Mapping[int, str]:  # noqa: ARG002 - for vendors that take parts of a batch
        """Return which events a response refuses that else means `Delivered`, with the reasons.

        They become dead letters; the others are delivered, and nothing is sent again.

        Args:
            request: what was sent; `merge` may have made it.
            response: the vendor's.

        Returns:
            The reasons by the event's position in the request, from 0. Empty by default.
        """
        return {}

    def forward(self, request: Request) -> Request | None:
        """Return *request*, which came in this vendor's format, with our credential.

        The body and the query stay as they are, except for the credential; `forwarded_headers`
        has the headers. None means that the events are rendered instead.

        Raises:
            Unrenderable: the credential cannot be exchanged.
        """
        body = as_valid_json(request.body)
        changes = self.credential_fields(request.path, body)
        if changes:
            body = replace_values(body, changes)
        headers = forwarded_headers(request, self.frame[0])
        url = self.config.url.rstrip("/") + request.url
        return Request(method=request.method, url=url, headers=headers, body=body)

    def credential_fields(self, path: str, body: bytes) -> dict[str, Any]:  # noqa: ARG002 - for vendors whose endpoints differ
        """Return the keys of a forwarded body that the configuration replaces.

        By default those of `envelope`.

        Args:
            path: of the request.
            body: as it came.
        """
        return self.frame[1]

    def with_credential(
        self, request: Request, changes: Mapping[str, Any] | None = None
    ) -> Request:
        """Return *request*, a relayed call in this vendor's format, with our credential.

        The ``url`` stays without a host. The ``headers`` are those that replace the client's.

        Args:
            request: the call.
            changes: keys of a JSON body to replace; those of `credential_fields` if left out.

        Raises:
            Rejected: the credential cannot be exchanged.
        """
        body = request.body
        if changes is None:
            changes = self.credential_fields(request.path, body)
        if changes and is_object(body):
            body = replace_values(body, changes)
        headers = {k: v for k, v in self.frame[0].items() if k != "content-type"}
        return Request(method=request.method, url=request.url, headers=headers, body=body)

    def losses(self, event: Event) -> list[Loss]:
        """Return the fields of *event* that its request lacks, or has less exactly."""
        call = self.select(event)
        return [] if isinstance(call, Declined) else self.unsaid(call)

    def unsaid(self, call: OutgoingCall) -> list[Loss]:
        """Return the fields of the event of *call* that its table does not write."""
        same = call.event.origin == self.name
        found = losses(call.event, call.table.said(call.event), same=same)
        known = {*call.event.derived, *call.included}
        return [loss for loss in found if loss.path not in known]

    def included(self, event: Event, *, moved: bool = True, **names: str) -> Included:
        """Return *event* with the fields that the destination's ``include`` adds to its properties.

        Args:
            event: a track event. One that came in this vendor's own format gets none.
            moved: whether they are removed from their old places. A table that writes none of those
                needs no such copy of the event; then `OutgoingCall.included` has the paths.
            names: the vendor's own names of properties, by the usual ones.
        """
        if event.origin == self.name or not self.config.include:
            return Included(event, NOTHING)
        key = tuple(names.items())
        include = self._includes.get(key)
        if include is None:
            include = self._includes[key] = compile_include(self.config.include, self.time, names)
        return include(event, moved)

    def time(self, moment: datetime) -> Any:
        """Return *moment* as this vendor writes a time among free properties."""
        return ISO8601.encode(moment)

    def event_name(self, event: Event) -> str:
        """Return the event's name, spelled by the destination's ``naming``.

        It is empty if the event has none. An event in this vendor's own format keeps its name.

        Raises:
            PluginError: ``Config`` does not derive from `FreeFormSettings`.
        """
        name = event.name or ""
        if event.origin == self.name or not name.strip():
            return name
        convention = self._convention
        return name if convention is None else convention(name)

    @cached_property
    def _convention(self) -> Callable[[str], str] | None:
        """Return the function of the destination's ``naming``, looked up once."""
        return convention_of(self.name, self.config)

    def verdict(self, response: Response, now: datetime | None = None) -> Verdict:
        """Return what *response* means for the delivery; by default, `verdict_by_status`.

        Args:
            response: the vendor's.
            now: UTC, to read a ``retry-after`` that is a date.
        """
        return verdict_by_status(response, now)


def json_response(status: int, body: object, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with *body* as JSON.

    Args:
        status: of HTTP.
        body: JSON values.
        headers: further ones, with lower-case names.
    """
    return Response(status, {**JSON, **headers} if headers else JSON, dumps(body))

"""Models of the configuration file: server, spool, sources, destinations, routes, consent.

The docstrings of the fields are the reference (docs/configuration.md); keep them whole sentences.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, Field, InstanceOf, SecretStr
from pydantic.fields import FieldInfo

from gateway.config import types
from gateway.config.operations import AdminConfig, AlertsConfig, LogConfig, TraceConfig
from gateway.config.route_tests import RouteTest, RouteTestConfig
from gateway.config.steps import StepConfig
from gateway.config.types import (
    YEAR,
    Address,
    ClientKind,
    ConfigTable,
    ProxyHeader,
    Schemas,
    address,
    listening,
    upstream,
)
from gateway.event import EventType
from gateway.plugin.quantities import DAY, GIB, HOUR, KIB, MIB, MINUTE, Duration, Rate, Size
from gateway.plugin.settings import Settings
from gateway.redact import Redactor
from gateway.tracking import TrackingPlan, ViolationPolicy


def _some(value: object) -> object:
    if not isinstance(value, list | tuple):
        raise ValueError('must be a list; write ["..."]')  # noqa: TRY004 - pydantic turns a ValueError into a finding
    if not value:
        raise ValueError("is empty, so that the route would never be taken; name some")
    return value


class ConsentConfig(ConfigTable):
    """What is remembered of users' consent, for steps that ask for it."""

    retention: Duration | None = Field(default=None, gt=0)
    """How long the last consent that a user gave or withdrew is remembered, per category; nothing
    is where this is left out."""
    across_sources: bool = False
    """Let what a user said to one source count for the events of the others. User ids must then
    mean the same people everywhere."""


class RouteConfig(ConfigTable):
    """A route: which events of which sources go where, after which steps."""

    sources: Annotated[tuple[str, ...] | None, BeforeValidator(_some)] = Field(
        default=None, alias="from"
    )
    """The sources whose events it takes; every one where this is left out."""
    to: Annotated[tuple[str, ...], BeforeValidator(_some)]
    """The destinations that get them."""
    types: Annotated[tuple[EventType, ...] | None, BeforeValidator(_some)] = None
    """The types of events that it takes; every one where this is left out."""
    names: Annotated[tuple[str, ...] | None, BeforeValidator(_some)] = None
    """The names of events that it takes, as patterns over the neutral name: `*` is any text, `?`
    one character, `[...]` one of these; case matters. Every one where this is left out."""
    when: str | None = None
    """A condition in CEL that must hold, such as `event.properties.total > 100`."""
    on_error: Literal["skip", "send"] = "skip"
    """What happens where the condition cannot be judged: the route is not taken, or taken."""
    steps: tuple[StepConfig, ...] = ()
    """What is done to its events first: steps, and names of step lists."""
    additional: bool = False
    """Deliver beside what other routes deliver to the same destinations, not instead."""
    stop: bool = False
    """Ask no later route about an event that this one takes."""
    fallback: bool = False
    """Take only events that no ordinary route takes."""
    name: str = ""
    """What the route is called in explanations; `route 1` and so on where this is left out. A
    route with steps needs a name, which is stored with its deliveries."""


OverflowPolicy = Literal["refuse", "dead_letter"]
"""What happens at a full backlog."""

ReplyMode = Literal["accept", "upstream"]
"""Who answers a source's events."""
Credentials = Literal["own", "client"]
"""Whose credential a destination sends."""

Shadow = Literal["send"] | bool
"""Whether a destination only looks on, and what it does with what it made."""


def _folder(value: object) -> object:
    if value == "":
        raise ValueError('is empty; name a folder, such as "var/spool"')
    return value


def _shadow(value: object) -> object:
    if isinstance(value, bool) or value == "send":
        return value
    raise ValueError('must be true, false or "send"; "send" is for a test account')


def _limit(value: object) -> object:
    return None if value in (0, "0") and not isinstance(value, bool) else value


class ServerConfig(ConfigTable):
    """How the gateway is reached."""

    listen: Annotated[str, BeforeValidator(listening)] = "127.0.0.1:8080"
    """Host and port to listen on: `"127.0.0.1:8080"`, `"[::1]:8080"`, or `":8080"` for every
    address of the machine."""
    max_body: Size = Field(default=MIB, gt=0)
    """The largest request body taken, as sent and after inflating."""
    drain_timeout: Duration = 10.0
    """How long attempts that are on their way may take to end when the gateway stops."""
    trusted_proxies: Annotated[tuple[str, ...], BeforeValidator(types.networks)] = ()
    """The networks of the reverse proxies in front, such as `["10.0.0.0/8", "::1"]`. Only they are
    believed when they say for whom they call."""
    proxy_header: ProxyHeader = "x-forwarded-for"
    """The header in which they say it. They must set it themselves, or add to it."""
    header_timeout: Duration = Field(default=15.0, gt=0)
    """How long the head of a request may take to arrive, from its first byte."""
    body_timeout: Duration = Field(default=30.0, gt=0)
    """How long the body of a request may take to arrive, and how long a client may not read its
    answer."""
    upload_timeout: Duration = Field(default=5 * MINUTE, gt=0)
    """How long the body of a call that is passed through to the vendor may take to arrive."""
    idle_timeout: Duration = Field(default=75.0, gt=0)
    """How long a connection may stay open without a request. It should be longer than that of the
    proxies in front."""
    max_connections: int = Field(default=4096, ge=1)
    """How many clients' connections may be open. Past it, those that have been silent longest are
    closed; where all are busy, new ones are told to try again later."""
    max_connections_per_client: int | None = Field(default=None, ge=1)
    """How many of them may be from one address; half of them where this is left out. It does not
    hold for `trusted_proxies`."""
    max_headers: Size = Field(default=32 * KIB, ge=1024, le=MIB)
    """The largest head of a request taken: its first line and its headers, together."""
    max_bodies: Size = Field(default=64 * MIB, gt=0)
    """How many bytes of requests that are not answered yet may be held in memory. Past it, senders
    are told to try again later, those first who have been silent longest. It is never less than
    `max_body`."""
    max_events: int = Field(default=5000, ge=1)
    """How many events one request may hold."""
    metrics: bool = False
    """Serve `/metrics` at `listen`, to whoever asks there."""

    @property
    def address(self) -> Address:
        """Return the host and the port to listen on."""
        return address(self.listen)


class SpoolConfig(ConfigTable):
    """Where events wait between accepting and delivering, and how much may wait."""

    path: Annotated[Path, BeforeValidator(_folder)] = Path("var/spool")
    """A folder of the spool's own, relative to the folder in which the gateway is started."""
    max_bytes: Size = Field(default=10 * GIB, gt=0)
    """How large the spool may grow, dead letters included; past it senders are told to try
    again later. A destination that takes nothing holds two thirds of it at most, two such hold two
    fifths each, and so on, so that the others go on; see `on_full`."""
    max_age: Duration = Field(default=7 * DAY, gt=0)
    """How long a delivery may be pending; past it, it becomes a dead letter."""
    on_full: OverflowPolicy = "refuse"
    """What happens when a destination reaches its `max_backlog` or its share of `max_bytes`: it
    takes no new events (`"refuse"`), or its oldest deliveries become dead letters
    (`"dead_letter"`). Senders are told to try again later where no other destination takes the
    request ([bounds](operations.md#bounds))."""


class SourceConfig(ConfigTable):
    """A source: a vendor's format, where it stands, whose credentials it accepts."""

    vendor: str
    """Whose format it speaks; `gateway plugins` lists them."""
    keys: Annotated[tuple[SecretStr, ...] | Literal["any"], BeforeValidator(types.keys)]
    """The credentials that it accepts, or `"any"`. Any is taken only while the gateway listens
    on a loopback address, or with `allow_any_key = true`."""
    secrets: Annotated[tuple[SecretStr, ...], BeforeValidator(types.secrets)] = ()
    """The second credentials that it accepts, where the vendor's servers send one beside a key that
    stands in pages (PersonaClick's `shop_secret`). With this, a call with another one is refused,
    and so is one without where the vendor asks for one. `relay_as` lends a destination's secret
    only to calls with one of these, or with the destination's own."""
    allow_any_key: bool = False
    """Let `keys = "any"` hold on every address: whoever reaches the gateway may send events."""
    mount: Annotated[str, BeforeValidator(types.mount)] = ""
    """A prefix under which the vendor's paths are served, such as `"/shop-a"`."""
    hosts: Annotated[tuple[str, ...], BeforeValidator(types.hosts)] = ()
    """The host names that it answers for; every one where this is left out."""
    dedup: Duration | None = Field(default=None, gt=0)
    """A window in which an event whose message id was seen before is dropped."""
    origins: Annotated[tuple[str, ...] | Literal["*"] | None, BeforeValidator(types.origins)] = None
    """The origins whose pages may call it from browsers, such as `["https://shop.example"]`, with
    credentials; `"*"` lets every page in, without; `[]` lets none in. Left out, it is every page
    for a vendor whose own clients run in browsers, and none for the others."""
    browser_headers: Annotated[tuple[str, ...], BeforeValidator(types.headers)] = ()
    """Further headers that these pages may send, such as `["x-shop-version"]`, beside those of the
    vendor's clients and those with which tracing tools mark every request."""
    client: ClientKind = "auto"
    """Whose address and user agent its requests have: a person's (`"user"`), whose events then
    know them, or a backend's (`"server"`); `"auto"` takes what a browser sent for a person's."""
    cookie: Annotated[str, BeforeValidator(types.cookie_name)] = ""
    """The name of a first-party cookie, which gives an id to people whom a request does not
    name; none where this is left out."""
    cookie_domain: Annotated[str, BeforeValidator(types.cookie_domain)] = ""
    """The domain whose hosts share the cookie; the gateway's own host where this is left out."""
    cookie_max_age: Duration = Field(default=YEAR, gt=0)
    """How long browsers keep the cookie after the last request."""
    url: Annotated[str, BeforeValidator(upstream)] = ""
    """The vendor's own address. What the gateway does not translate, reads above all, goes
    through to it at once, and its answer comes back."""
    relay_as: str = ""
    """A destination of the same vendor whose credential takes the place of the client's in what
    is passed through."""
    relay_endpoints: Annotated[tuple[str, ...] | None, BeforeValidator(types.endpoints)] = None
    """What `relay_as` serves, such as `["GET /search", "GET /recommend/{code}"]`; a name in braces
    stands for one part of a path. Left out, it is the reads of the vendor's documents. All else is
    refused in the vendor's words, so that nobody does more with your credential than you meant."""
    relay_timeout: Duration = Field(default=30.0, gt=0)
    """Idle timeout for relayed requests: nothing moved in either direction for so long."""
    respond: ReplyMode = "accept"
    """Who answers events: the gateway as soon as they are safe (`"accept"`), or the vendor
    itself by way of a destination of the same vendor (`"upstream"`). Where the vendor is slow or
    in trouble the gateway answers, and delivers later."""
    respond_timeout: Duration = Field(default=1.0, gt=0)
    """How long the sender waits for the vendor's own answer."""
    schemas: Schemas = Field(default={})
    """JSON Schemas by name of event, or by pattern as in `names` of routes; text is the path of a
    file that holds one, from this file on. See [tracking plans](tracking-plans.md)."""
    on_violation: ViolationPolicy = "allow"
    """What becomes of events that do not fit: they go on and are counted (`"allow"`), go on without
    the wrong fields (`"drop-field"`), or are refused in the vendor's own words (`"refuse"`)."""


class Delivery(ConfigTable):
    """What every destination has, whatever its vendor."""

    vendor: str
    """Whose format it speaks; `gateway plugins` lists them."""
    concurrency: int = Field(default=8, ge=1, le=1000)
    """How many attempts may be on their way at once. Events of one user never are."""
    timeout: Duration = Field(default=10.0, gt=0)
    """How long one attempt may take."""
    max_attempts: int = Field(default=0, ge=0)
    """After how many attempts a delivery becomes a dead letter. 0: after 8 attempts (5 with 401 or
    403) while the vendor takes nearly all other users' events, after more where it takes fewer; in
    an outage never before `max_age`."""
    max_age: Duration | None = Field(default=None, gt=0)
    """How old an event may be when its turn comes; older ones become dead letters. The spool's
    `max_age` holds as well."""
    retry_min: Duration = Field(default=1.0, gt=0)
    """The upper bound of the wait after the first failed attempt; it doubles with each further
    one."""
    retry_max: Duration = Field(default=5 * MINUTE, gt=0)
    """The upper bound of every wait between attempts, unless the vendor asks for more."""
    retry_after_max: Duration = Field(default=HOUR, gt=0)
    """The longest wait that the vendor may ask for, such as in `Retry-After`; what it asks for
    beyond that is not waited for."""
    rate: Rate | None = Field(default=None, gt=0)
    """The most attempts over time, such as `"50/s"`; no limit where this is left out."""
    burst: int = Field(default=1, ge=1)
    """How many attempts may go at once after a quiet time, where there is a `rate`."""
    max_backlog: Annotated[int | None, BeforeValidator(_limit)] = Field(default=None, ge=1)
    """How many requests may wait for this destination; 0, or leaving it out, sets no limit but
    the spool's."""
    on_full: OverflowPolicy = "refuse"
    """What happens when `max_backlog`, or its share of the spool's `max_bytes`, is reached; what
    `on_full` in `[spool]` says where this is left out."""
    passthrough: bool = True
    """Send requests that came in this same vendor's format on as they came, byte for byte, with
    only the credential exchanged."""
    client_ip: Annotated[str, BeforeValidator(types.client_ip)] = "x-forwarded-for"
    """Where requests that are sent on as they came say the address of the person's device: in a
    header of this name, or, with `"field"`, in the vendor's own field, for which they are
    translated; `""` says it nowhere."""
    credentials: Credentials = "own"
    """Whose credential goes out: the one in this table (`"own"`), or the one that each client
    sent (`"client"`). The latter takes requests in this same vendor's format only, stores the
    clients' credentials in the spool, and leaves the vendor's own settings out."""
    shadow: Annotated[Shadow, BeforeValidator(_shadow)] = False
    """Look on instead of delivering: its events are written in its format and compared, and none
    is sent (`true`; credentials may be left out), or they go to a test account whose answers are
    counted (`"send"`). `gateway shadow report` tells what came of it."""


class DestinationConfig(Delivery):
    """A destination: how delivery behaves, and the vendor's own settings."""

    settings: InstanceOf[Settings]
    """An instance of the output's ``Config``."""


class ReadFiles(NamedTuple):
    """What a configuration was read from."""

    read: tuple[Path, ...] = ()
    """The file, those that it includes, and the tables of its steps."""
    patterns: tuple[str, ...] = ()
    """What `include` says, as patterns over paths; other files may come to match."""


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration without mistakes, every default filled in."""

    path: Path
    """The file that it was read from; it may include others."""
    server: ServerConfig
    spool: SpoolConfig
    sources: dict[str, SourceConfig]
    destinations: dict[str, DestinationConfig]
    routes: tuple[RouteConfig, ...]
    consent: ConsentConfig
    trace: TraceConfig
    log: LogConfig
    files: ReadFiles
    admin: AdminConfig | None = None
    """None where there is no admin API."""
    alerts: AlertsConfig | None = None
    """None where nobody is told."""
    plans: Mapping[str, TrackingPlan] = field(default_factory=dict)
    """The tracking plans of sources that have one, by the source's name."""
    tests: tuple[RouteTest, ...] = ()
    """The tests that `gateway test` runs."""
    warnings: tuple[str, ...] = ()
    """What is suspicious and allowed, one sentence each."""


TABLES: dict[str, type[BaseModel]] = {
    "server": ServerConfig,
    "spool": SpoolConfig,
    "admin": AdminConfig,
    "consent": ConsentConfig,
    "trace": TraceConfig,
    "log": LogConfig,
    "alerts": AlertsConfig,
    "sources": SourceConfig,
    "destinations": Delivery,
    "routes": RouteConfig,
    "tests": RouteTestConfig,
}
"""The tables of the file; every one of ``sources`` and ``destinations`` has a name of its own."""


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the keys of a table, as the file spells them, to their fields."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def destinations_of(routes: Sequence[RouteConfig], source: str) -> set[str]:
    """Return the destinations that some route leads to from *source*."""
    taken = (r for r in routes if r.sources is None or source in r.sources)
    return {to for route in taken for to in route.to}


def redactor_of(config: Config) -> Redactor:
    """Return what hides every credential of *config*."""
    settings = (
        config.sources, config.destinations, config.routes, config.trace, config.admin,
        config.alerts,
    )  # fmt: skip
    alerts = {} if config.alerts is None else config.alerts.headers
    headers = (*config.trace.otlp_headers.values(), *alerts.values())
    sent = [value.get_secret_value() for value in headers]
    return Redactor(settings, [value.rpartition(" ")[2] for value in sent])

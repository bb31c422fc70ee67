"""Models of the configuration file: server, spool, sources, destinations, routes, consent.

The docstrings of the fields are the reference (docs/configuration.md) and the descriptions in the
JSON Schema. The first sentence of a required key is also its error message: "missing; add it: …".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    InstanceOf,
    SecretStr,
)
from pydantic.fields import FieldInfo

from gateway.config import types
from gateway.config.operations import AdminConfig, AlertsConfig, LogConfig, TraceConfig
from gateway.config.route_tests import RouteTest, RouteTestConfig
from gateway.config.spool import OverflowPolicy, SpoolConfig
from gateway.config.steps import StepConfig
from gateway.config.tls_files import TlsFiles
from gateway.config.types import (
    SHOWN_HEADERS,
    YEAR,
    Address,
    ClientKind,
    FilePath,
    Flag,
    HeaderValue,
    ProxyHeader,
    RequiredPath,
    Schemas,
    address,
    listening,
    upstream,
)
from gateway.event import EventType
from gateway.person import SuppressionList
from gateway.plugin.config_table import ConfigTable, no_whole_number
from gateway.plugin.quantities import HOUR, KIB, MIB, MINUTE, Duration, Rate, Size
from gateway.plugin.settings import Settings
from gateway.redact import HIDDEN, Redactor, find_secrets
from gateway.tracking import TrackingPlan, ViolationPolicy


def _some(value: object) -> object:
    if not isinstance(value, list | tuple):
        raise ValueError('must be a list; write ["..."]')  # noqa: TRY004 - pydantic turns a ValueError into a finding
    if not value:
        raise ValueError("is empty, so the route would match nothing; list at least one")
    return value


class SuppressionConfig(ConfigTable):
    """People who left: their events are not processed. Without this table there are none."""

    file: RequiredPath
    """The file that lists them: on each line a user id, an anonymous id, a device id, an e-mail
    address, or `sha256:` and the SHA-256 of one in hexadecimal digits. The path is relative to this
    file. A reload reads it again."""
    action: Literal["drop", "refuse"] = "drop"
    """What happens to a request whose events are all about such people: the sender gets the
    vendor's answer to success and nothing is stored, or it gets the vendor's answer to an invalid
    value. Of other requests, their events are dropped."""


class ConsentConfig(ConfigTable):
    """Storage of users' consent decisions, for `consent` steps."""

    retention: Duration | None = Field(default=None, gt=0)
    """How long the last decision of a user is stored, per category of consent. Without it, no
    consent is stored."""
    across_sources: Flag = False
    """Use a consent decision from one source for events of all sources. User ids must then identify
    the same people in every source."""


class RouteConfig(ConfigTable):
    """A route: sends events of some sources to destinations, after some steps."""

    sources: Annotated[tuple[str, ...] | None, BeforeValidator(_some)] = Field(
        default=None, alias="from"
    )
    """The sources whose events the route takes. Default: all."""
    to: Annotated[tuple[str, ...], BeforeValidator(_some)]
    """The destinations that get the events."""
    types: Annotated[tuple[EventType, ...] | None, BeforeValidator(_some)] = None
    """The types of events that the route takes. Default: all."""
    names: Annotated[tuple[str, ...] | None, BeforeValidator(_some)] = None
    """The names of events that the route takes, as patterns over the neutral name: `*` matches any
    text, `?` one character, `[...]` one of these characters; case matters. Default: all."""
    when: str | None = None
    """A condition in CEL that an event must meet, such as `event.properties.total > 100`."""
    on_error: Literal["skip", "send"] = "skip"
    """What to do if the condition fails with an error: skip the route, or take it as if the
    condition were true."""
    steps: tuple[StepConfig, ...] = ()
    """Changes and filters that are applied to the event first: steps, and names of lists in
    `[steps]`."""
    additional: Flag = False
    """Deliver in addition to other routes to the same destinations. Without it, a destination gets
    an event only from the first route that matches."""
    stop: Flag = False
    """Do not try later routes for an event that this route takes."""
    fallback: Flag = False
    """Take only events that no other route takes. Routes with `fallback` are tried last."""
    name: str = ""
    """The route's name in explanations and traces. Default: `route 1` and so on. A route with steps
    needs a name: it is stored with its deliveries."""


ReplyMode = Literal["accept", "upstream"]
"""Who responds to a source's events: the gateway, or the vendor."""
Credentials = Literal["own", "client"]
"""Which key a destination sends: its own, or the client's."""

Shadow = Literal["send"] | bool
"""Whether a destination is a shadow; "send" sends its events to a test account."""


def _shadow(value: object) -> object:
    if isinstance(value, bool) or value == "send":
        return value
    raise ValueError('must be true, false or "send"; "send" is for a test account')


def _limit(value: object) -> object:
    if isinstance(value, bool):
        raise no_whole_number()
    return None if value in (0, "0") else value


class ServerConfig(ConfigTable):
    """The HTTP server that receives events."""

    listen: Annotated[str, BeforeValidator(listening)] = "127.0.0.1:8080"
    """Host and port to listen on: `"127.0.0.1:8080"`, `"[::1]:8080"`, or `":8080"` for all
    addresses of the machine."""
    name: str = ""
    """What operators call this gateway; the console shows it. Default: the name of the machine."""
    max_body: Size = Field(default=MIB, gt=0)
    """The largest accepted request body, both as sent and after decompression."""
    drain_timeout: Duration = 10.0
    """How long attempts in progress may take to finish when the gateway stops."""
    stop_delay: Duration = Field(default=0.0, ge=0)
    """How long the gateway goes on accepting requests after SIGTERM, while `/readyz` already says
    503: until a load balancer that asks `/readyz` has noticed. A second SIGTERM ends it."""
    trusted_proxies: Annotated[tuple[str, ...], BeforeValidator(types.networks)] = ()
    """The networks of the reverse proxies in front of the gateway, such as `["10.0.0.0/8", "::1"]`.
    The client address in `proxy_header` is used only in requests from these networks."""
    proxy_header: ProxyHeader = "x-forwarded-for"
    """The header in which the proxies write the client's address. They must set it or append to
    it."""
    header_timeout: Duration = Field(default=15.0, gt=0)
    """How long the head of a request may take to arrive, from its first byte."""
    body_timeout: Duration = Field(default=30.0, gt=0)
    """How long the body of a request may take to arrive, and how long a client may take to read the
    response."""
    upload_timeout: Duration = Field(default=5 * MINUTE, gt=0)
    """How long the body of a relayed request may take to arrive."""
    idle_timeout: Duration = Field(default=75.0, gt=0)
    """How long a connection may stay open without a request. Set it longer than the idle timeout of
    the proxies in front."""
    max_connections: int = Field(default=4096, ge=1)
    """How many client connections may be open. Above it, the connections that have been idle
    longest are closed; if all are busy, new clients are asked to retry later."""
    max_connections_per_client: int | None = Field(default=None, ge=1)
    """How many connections one address may have open. Default: half of `max_connections`. Does not
    apply to `trusted_proxies`."""
    max_headers: Size = Field(default=32 * KIB, ge=1024, le=MIB)
    """The largest accepted head of a request: request line and headers together."""
    max_bodies: Size = Field(default=64 * MIB, gt=0)
    """How many bytes of unfinished requests may be held in memory. Above it, senders are asked to
    retry later, those that have been idle longest first. Never less than `max_body`."""
    max_events: int = Field(default=5000, ge=1)
    """How many events one request may contain."""
    metrics: Flag = False
    """Serve `/metrics` at `listen`, without authentication."""

    @property
    def address(self) -> Address:
        """Return the host and the port to listen on."""
        return address(self.listen)


class SourceConfig(ConfigTable):
    """A source: a vendor's format, the path where it is served, and the keys that it accepts."""

    preset: str = ""
    """A [preset](vendors/http.md#presets) such as `"stripe"`, whose keys apply where this table has
    none."""
    vendor: str
    """The vendor whose format clients send; `gateway plugins` lists the vendors."""
    keys: Annotated[tuple[SecretStr, ...] | Literal["any"], BeforeValidator(types.keys)]
    """The keys that clients may send, or `"any"`. `"any"` needs a loopback address in `listen`, or
    `allow_any_key = true`."""
    secrets: Annotated[tuple[SecretStr, ...], BeforeValidator(types.secrets)] = ()
    """The second keys that the source accepts, for vendors whose servers send a secret in addition
    to the key that stands in web pages (PersonaClick's `shop_secret`). With this list, a request
    with another secret is rejected, and so is one without a secret if the vendor requires one.
    `relay_as` uses the destination's secret only for requests with one of these secrets, or with
    the destination's own."""
    allow_any_key: Flag = False
    """Allow `keys = "any"` on every address: everybody who can reach the gateway may then send
    events."""
    mount: Annotated[str, BeforeValidator(types.mount)] = ""
    """A prefix for the vendor's paths, such as `"/shop-a"`."""
    hosts: Annotated[tuple[str, ...], BeforeValidator(types.hosts)] = ()
    """The host names that the source serves. Default: all."""
    dedup: Duration | None = Field(default=None, gt=0)
    """Drop an event if its message id was seen within this time."""
    networks: Annotated[tuple[str, ...], BeforeValidator(types.networks)] = ()
    """The networks from which requests are accepted, such as the addresses that a sender of
    webhooks publishes: `["3.18.12.63/32"]`. Behind a proxy see `trusted_proxies`. Default: all."""
    origins: Annotated[tuple[str, ...] | Literal["*"] | None, BeforeValidator(types.origins)] = None
    """The origins whose pages may call the source from browsers, such as
    `["https://shop.example"]`, with cookies; `"*"` allows every page, without cookies; `[]` allows
    none. Default: every page if the vendor's own clients run in browsers, else none."""
    browser_headers: Annotated[tuple[str, ...], BeforeValidator(types.headers)] = ()
    """Additional headers that browser pages may send, such as `["x-shop-version"]`. Headers of the
    vendor's own clients and of common tracing tools are always allowed."""
    client: ClientKind = "auto"
    """Who sends the requests: a user's device (`"user"`), whose address and user agent become part
    of the event, or a server (`"server"`). `"auto"` treats requests from browsers as a user's."""
    cookie: Annotated[str, BeforeValidator(types.cookie_name)] = ""
    """The name of a first-party cookie that gives an anonymous id to users whom a request does not
    identify. Default: no cookie."""
    cookie_domain: Annotated[str, BeforeValidator(types.cookie_domain)] = ""
    """The domain whose hosts share the cookie. Default: the gateway's own host."""
    cookie_max_age: Duration = Field(default=YEAR, gt=0)
    """How long browsers keep the cookie after the last request."""
    url: Annotated[str, BeforeValidator(upstream)] = ""
    """The URL of the vendor's own server. Requests that are no events, such as reads, are relayed
    to it, and its response is returned."""
    relay_as: str = ""
    """A destination of the same vendor; relayed requests are sent with its key instead of the
    client's."""
    relay_endpoints: Annotated[tuple[str, ...] | None, BeforeValidator(types.endpoints)] = None
    """The endpoints that `relay_as` serves, such as `["GET /search", "GET /recommend/{code}"]`; a
    name in braces stands for one segment of the path. Default: the reads in the vendor's
    documentation. Other endpoints are rejected as the vendor would, so that nobody can do more with
    the destination's key than you intend."""
    relay_timeout: Duration = Field(default=30.0, gt=0)
    """Idle timeout for relayed requests: they fail if no byte moves in either direction for this
    long."""
    proxy: Annotated[SecretStr | None, AfterValidator(types.proxy_url)] = None
    """The HTTP proxy through which requests are relayed, as in `[destinations.NAME]`. It needs an
    `https` URL."""
    respond: ReplyMode = "accept"
    """Who responds to events: the gateway as soon as they are stored (`"accept"`), or the vendor
    through a destination of the same vendor (`"upstream"`). If the vendor is slow or fails, the
    gateway responds and delivers later."""
    respond_timeout: Duration = Field(default=1.0, gt=0)
    """How long the sender waits for the vendor's response."""
    schemas: Schemas = Field(default={})
    """JSON Schemas by event name, or by pattern as in `names` of routes. A text is the path of a
    schema file, relative to this file. See [tracking plans](tracking-plans.md)."""
    on_violation: ViolationPolicy = "allow"
    """What to do with events that violate their schema: deliver and count them (`"allow"`), deliver
    them without the wrong fields (`"drop-field"`), or reject the request as the vendor would
    (`"refuse"`)."""


class Delivery(ConfigTable):
    """Settings that every destination has, whatever its vendor."""

    preset: str = ""
    """A [preset](vendors/http.md#presets) such as `"ga4"`, whose keys apply where this table has
    none."""
    vendor: str
    """The vendor whose format is sent; `gateway plugins` lists the vendors."""
    concurrency: int = Field(default=8, ge=1, le=1000)
    """How many attempts may run at the same time. Two attempts for one user never do."""
    timeout: Duration = Field(default=10.0, gt=0)
    """The timeout of one attempt."""
    max_attempts: int = Field(default=0, ge=0)
    """After how many attempts a delivery becomes a dead letter. 0: after 8 attempts (5 with 401 or
    403) while the vendor accepts nearly all events of other users, later if it accepts fewer; in an
    outage not before `max_age`."""
    max_age: Duration | None = Field(default=None, gt=0)
    """How old an event may be when it is sent; an older one becomes a dead letter. The spool's
    `max_age` applies as well."""
    retry_min: Duration = Field(default=1.0, gt=0)
    """The longest wait after the first failed attempt. It doubles with each further failure."""
    retry_max: Duration = Field(default=5 * MINUTE, gt=0)
    """The longest wait between two attempts, unless the vendor asks for more."""
    retry_after_max: Duration = Field(default=HOUR, gt=0)
    """The longest wait that a vendor can request, for example with `Retry-After`; longer ones are
    cut to it."""
    rate: Rate | None = Field(default=None, gt=0)
    """The maximum rate of attempts, such as `"50/s"`. Default: no limit."""
    burst: int = Field(default=1, ge=1)
    """How many attempts may start at once after an idle time, if there is a `rate`."""
    max_backlog: Annotated[int | None, BeforeValidator(_limit)] = Field(default=None, ge=1)
    """How many requests may wait for this destination. Default, or 0: no limit except the
    spool's."""
    on_full: OverflowPolicy = "refuse"
    """What to do when `max_backlog`, or the destination's share of the spool's `max_bytes`, is
    reached. Default: `on_full` in `[spool]`."""
    passthrough: Flag = True
    """Forward requests in this vendor's own format unchanged, byte for byte; only the key is
    replaced."""
    client_ip: Annotated[str, BeforeValidator(types.client_ip)] = "x-forwarded-for"
    """Where forwarded requests carry the address of the user's device: a header with this name, or
    the vendor's own field (`"field"`; the requests are then translated), or nowhere (`""`)."""
    credentials: Credentials = "own"
    """Which key is sent: the one in this table (`"own"`), or the one that each client sent
    (`"client"`). `"client"` accepts only requests in this vendor's format, stores the clients' keys
    in the spool, and needs no settings of the vendor."""
    shadow: Annotated[Shadow, BeforeValidator(_shadow)] = False
    """Do not deliver: write each request, compare it with the event, and send nothing (`true`; keys
    are optional), or send to a test account and count its responses (`"send"`). See `gateway shadow
    report`."""
    proxy: Annotated[SecretStr | None, AfterValidator(types.proxy_url)] = None
    """The HTTP proxy through which the vendor is reached, such as
    `"http://user:${PROXY_PASSWORD}@proxy.example:3128"`; without a port, 80. Default: what
    `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` in the environment say about the `url`; `""` connects
    directly. See [proxies](security.md#proxies-and-certificates)."""
    headers: Annotated[Mapping[str, HeaderValue], BeforeValidator(types.added_headers)] = Field(
        default={}
    )
    """Headers that are added to every request, such as `{ x-tenant = "shop-1" }`. Their
    values are shown as `***`, except those of harmless ones such as `accept-language`; see
    [proxies](security.md#proxies-and-certificates). Those that the vendor's plugin sets cannot be
    added, nor can `authorization`, `connection`, `content-encoding`, `content-length`,
    `content-type`, `cookie`, `expect`, `host`, `keep-alive`, `proxy-authenticate`,
    `proxy-authorization`, `proxy-connection`, `te`, `trailer`, `transfer-encoding`, `upgrade`,
    `user-agent`."""
    ca: FilePath = None
    """A PEM file with the certificate authorities that may vouch for the vendor's server. Default:
    the system's."""
    cert: FilePath = None
    """A PEM file with the certificate that the gateway shows to the vendor (mutual TLS), and with
    those that vouch for it."""
    key: FilePath = None
    """A PEM file with the private key of `cert`, without a passphrase. Default: the key is in
    `cert`."""


class DestinationConfig(Delivery):
    """A destination: its delivery settings, and the settings of its vendor."""

    settings: InstanceOf[Settings]
    """An instance of the output's ``Config``."""
    tls: InstanceOf[TlsFiles] | None = None
    """The content of ``ca``, ``cert`` and ``key``; None if there are none."""

    def secrets(self) -> list[str]:
        """Return the credentials that requests are sent with."""
        return [*find_secrets((self.settings, self.proxy)), *header_secrets(self.headers)]

    def shown_headers(self) -> dict[str, str]:
        """Return the added headers for display: a value that may be a credential is hidden."""
        return {
            name: value if isinstance(value, str) and name in SHOWN_HEADERS else HIDDEN
            for name, value in self.headers.items()
        }


class ReadFiles(NamedTuple):
    """The files that a configuration was read from."""

    read: tuple[Path, ...] = ()
    """The file, the files that it includes, and the schemas and tables that they name."""
    patterns: tuple[str, ...] = ()
    """The patterns in `include`, as paths; new files may match them later."""


@dataclass(frozen=True, slots=True)
class Config:
    """A valid configuration, with every default filled in."""

    path: Path
    """The file that was read; it may include others."""
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
    """None if there is no admin API."""
    alerts: AlertsConfig | None = None
    """None if no alerts are sent."""
    plans: Mapping[str, TrackingPlan] = field(default_factory=dict)
    """The tracking plans by the name of their source; sources without one are left out."""
    source_settings: Mapping[str, ConfigTable] = field(default_factory=dict)
    """The settings of sources whose vendor has any (`Input.Config`), by the name of the source."""
    tests: tuple[RouteTest, ...] = ()
    """The tests that `gateway test` runs."""
    suppression: SuppressionConfig | None = None
    """None if everybody's events are processed."""
    suppressed: SuppressionList | None = None
    """The list of ``suppression``."""
    warnings: tuple[str, ...] = ()
    """One sentence for each suspicious but allowed setting."""
    listen_in_file: str | None = None
    """The file's `[server] listen` if another address replaced it; None if it is in effect."""


TABLES: dict[str, type[BaseModel]] = {
    "server": ServerConfig,
    "spool": SpoolConfig,
    "admin": AdminConfig,
    "consent": ConsentConfig,
    "suppression": SuppressionConfig,
    "trace": TraceConfig,
    "log": LogConfig,
    "alerts": AlertsConfig,
    "sources": SourceConfig,
    "destinations": Delivery,
    "routes": RouteConfig,
    "tests": RouteTestConfig,
}
"""The tables of the file. A table in ``sources`` or ``destinations`` has a name of its own."""


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the keys of a table as written in the file, with their fields."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def destinations_of(routes: Sequence[RouteConfig], source: str) -> set[str]:
    """Return the destinations of all routes that take events of *source*."""
    taken = (r for r in routes if r.sources is None or source in r.sources)
    return {to for route in taken for to in route.to}


def header_secrets(headers: Mapping[str, HeaderValue]) -> Iterable[str]:
    """Yield the credentials among the values of *headers*, with and without a scheme before it."""
    for value in headers.values():
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
            yield value.get_secret_value().rpartition(" ")[2]


def redactor_of(config: Config) -> Redactor:
    """Return the redactor that hides every credential in *config*."""
    settings = (
        config.spool, config.sources, config.destinations, config.routes, config.trace,
        config.admin, config.alerts,
    )  # fmt: skip
    alerts = {} if config.alerts is None else config.alerts.headers
    added = (destination.headers for destination in config.destinations.values())
    tables = (config.trace.otlp_headers, alerts, *added)
    return Redactor(settings, (secret for table in tables for secret in header_secrets(table)))

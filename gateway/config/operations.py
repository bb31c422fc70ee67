"""Models of the tables for operators: admin, alerts, trace, log."""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from gateway.config.types import (
    Address,
    FilePath,
    Flag,
    address,
    address_problem,
    header_name,
    header_table,
    listening,
    proxy_url,
)
from gateway.plugin.config_table import ConfigTable
from gateway.plugin.quantities import DAY, HOUR, KIB, MIB, MINUTE, Duration, Size


def _names(value: object) -> object:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError('must be a list of host names; write hosts = ["gateway.example"]')
    if any(not name or set(name) & set(":/@ ") for name in value):
        raise ValueError(
            'must have host names without scheme, port or path; write ["gateway.example"]'
        )
    return tuple(name.lower() for name in value)


Role = Literal["viewer", "operator"]
"""A viewer reads; an operator also changes."""


ADMIN = "admin"
"""The name of the caller that has the only `token`."""


class AdminConfig(ConfigTable):
    """The admin API and the console, on their own address. Without this table there are none."""

    listen: Annotated[str, BeforeValidator(listening)] = "127.0.0.1:8081"
    """Host and port to listen on, as in `[server]`."""
    token: SecretStr | None = None
    """The token of an operator called `admin`. This key, `operators`, `viewers` or `proxy_secret`
    is required, except on a loopback address; everybody on this machine then has full access."""
    operators: Mapping[str, SecretStr] = {}
    """Tokens of people and programs that may do everything, by name, such as `{ alice =
    "file:/run/secrets/alice" }`."""
    viewers: Mapping[str, SecretStr] = {}
    """Tokens of people and programs that may only look, by name."""
    proxy_secret: SecretStr | None = None
    """The secret by which the gateway knows a proxy that signs people in. The proxy sends it as
    `x-gateway-proxy-secret`."""
    proxy_user_header: Annotated[str, AfterValidator(header_name)] = "x-forwarded-user"
    """The header in which that proxy names the person."""
    proxy_groups_header: Annotated[str, AfterValidator(header_name)] = "x-forwarded-groups"
    """The header in which it lists the person's groups, separated by commas."""
    proxy_operators: tuple[str, ...] = ()
    """The people who are operators. All others whom the proxy lets pass are viewers."""
    proxy_operator_groups: tuple[str, ...] = ()
    """The groups whose members are operators."""
    audit_retention: Duration = Field(default=365 * DAY, gt=0)
    """How long the audit log keeps what operators did, at most 100,000 actions."""
    hosts: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()
    """Host names under which the API may be called, such as `["gateway.example"]` behind a reverse
    proxy; `localhost` and IP addresses are always allowed. Calls under other names are rejected:
    this stops web pages that reach it through a DNS name of their own."""

    @property
    def address(self) -> Address:
        """Return the host and the port to listen on."""
        return address(self.listen)

    @property
    def guarded(self) -> bool:
        """Return whether callers must show who they are."""
        return bool(self.token or self.operators or self.viewers or self.proxy_secret)

    def tokens(self) -> Iterator[tuple[str, Role, str]]:
        """Yield the name, the role and the value of each token; operators come first."""
        if self.token is not None:
            yield ADMIN, "operator", self.token.get_secret_value()
        for name, token in self.operators.items():
            yield name, "operator", token.get_secret_value()
        for name, token in self.viewers.items():
            yield name, "viewer", token.get_secret_value()


class AlertsConfig(ConfigTable):
    """Alerts about destinations that fail. Without this table none are sent."""

    url: SecretStr
    """The URL to which alerts are posted as JSON. It is treated as a secret, because many chat
    services put the credential into the URL."""
    headers: Annotated[Mapping[str, SecretStr], AfterValidator(header_table)] = Field(default={})
    """Headers of the alert requests, such as `{ authorization = "Bearer ${ALERTS_TOKEN}" }`."""
    proxy: Annotated[SecretStr | None, AfterValidator(proxy_url)] = None
    """The HTTP proxy through which alerts are sent, as in `[destinations.NAME]`."""
    paused_for: Duration = Field(default=MINUTE, ge=0)
    """Alert when a destination has been paused for this long, by its circuit breaker or by an
    operator, or when the gateway has accepted no events for this long, in general or for a
    destination."""
    backlog_age: Duration = Field(default=15 * MINUTE, gt=0)
    """Alert when the oldest pending event of a destination is older than this."""
    dead_letters: int = Field(default=1, ge=1)
    """Alert when a destination has this many new dead letters."""
    repeat_interval: Duration = Field(default=HOUR, gt=0)
    """How long until an alert is repeated while its cause lasts. New dead letters in the meantime
    are reported with the repetition."""
    check_interval: Duration = Field(default=15.0, ge=0.05)
    """How often the conditions are checked."""


OTEL = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
"""Modules that the extra ``otel`` installs."""


def _collector(value: object) -> object:
    if not isinstance(value, str) or not value:
        return value
    if address_problem(value):
        raise ValueError('is not a URL; write one like "http://127.0.0.1:4318/v1/traces"')
    parts = urlsplit(value)
    if "@" in parts.netloc:
        raise ValueError("contains a user name or password; put it into otlp_headers")
    if parts.path in {"", "/"}:
        raise ValueError(f'has no path; write "{value.rstrip("/")}/v1/traces"')
    if not _installed():
        raise ValueError("needs the extra otel; run pip install 'cdp-gateway[otel]'")
    return value


def _installed() -> bool:
    try:
        return all(find_spec(name) for name in OTEL)
    except ModuleNotFoundError:
        return False


class TraceConfig(ConfigTable):
    """Traces: records of what happened to each event."""

    enabled: Flag = True
    """Whether traces are written."""
    path: FilePath = None
    """The traces' file. Default: `traces.db` in the spool's folder."""
    retention: Duration = Field(default=7 * DAY, gt=0)
    """How long traces are kept."""
    max_bytes: Size = Field(default=512 * MIB, ge=MIB)
    """How large the file may grow; above it, the oldest traces are deleted."""
    success_rate_limit: int = Field(default=50, ge=0)
    """How many events are traced per second; a request of ten events counts as ten. Above this
    rate requests that succeed are sampled, for each source a fair share; failures never are. Of
    rejected requests 50 more per second are traced for each source and kind of reason. Requests
    rejected for their key or their address count as successes here."""
    cpu_share: float = Field(default=0.04, gt=0, le=1)
    """How much of one CPU core traces may take while more events come than `success_rate_limit`:
    fewer successes are traced if an event's traces cost more. Time in which the gateway waits for a
    core does not count. Failures are always traced, and count here."""
    max_body: Size = Field(default=64 * KIB, ge=0)
    """How much of each body, received or sent, is stored. 0 stores none."""
    otlp_url: Annotated[str, BeforeValidator(_collector)] = ""
    """The URL of an OpenTelemetry collector that gets the traces as spans too (OTLP over HTTP),
    such as `"http://127.0.0.1:4318/v1/traces"`. Default: none. Needs the extra `otel`: `pip install
    'cdp-gateway[otel]'`."""
    otlp_headers: Annotated[Mapping[str, SecretStr], AfterValidator(header_table)] = Field(
        default={}
    )
    """Headers of the requests to the collector, such as its credential."""

    def file(self, spool: Path) -> Path:
        """Return the traces' file; *spool* is the spool's folder."""
        return self.path or spool / "traces.db"


class LogConfig(ConfigTable):
    """The log on standard error."""

    success_rate_limit: int = Field(default=50, ge=0)
    """How many requests, and how many deliveries, are logged per second. Above this rate successes
    are sampled; failures never are. Of rejected requests 50 more per second are logged for each
    source and kind of reason. Requests rejected for their key or their address count as successes
    here."""

"""Tables for operators: admin, alerts, trace, log."""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from gateway.config.types import Address, ConfigTable, address, address_problem, listening
from gateway.plugin.quantities import DAY, HOUR, KIB, MIB, MINUTE, Duration, Size


def _names(value: object) -> object:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError('must be a list of host names; write hosts = ["gateway.example"]')
    if any(not name or set(name) & set(":/@ ") for name in value):
        raise ValueError('takes bare host names such as "gateway.example", no scheme, port or path')
    return tuple(name.lower() for name in value)


class AdminConfig(ConfigTable):
    """The admin API and the console, on an address of their own; there are none without it."""

    listen: Annotated[str, BeforeValidator(listening)] = "127.0.0.1:8081"
    """Host and port to listen on, as in `[server]`."""
    token: SecretStr | None = None
    """What callers must show. It may be left out on a loopback address only, where everybody on
    this machine may then do everything."""
    hosts: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()
    """The host names under which it is called, beside `localhost` and plain addresses, such as
    `["gateway.example"]` behind a reverse proxy. Calls by other names are refused, so that no web
    page can reach it by a name of its own."""

    @property
    def address(self) -> Address:
        """Return the host and the port to listen on."""
        return address(self.listen)


class AlertsConfig(ConfigTable):
    """Who is told when a destination is in trouble; nobody is without it."""

    url: SecretStr
    """Where alerts are posted, as JSON. It is kept secret: for many chat programs it is the
    credential as well."""
    headers: dict[str, SecretStr] = Field(default={})
    """Headers to post with, such as `{ authorization = "Bearer ${ALERTS_TOKEN}" }`."""
    paused_for: Duration = Field(default=MINUTE, ge=0)
    """How long a destination may be paused, by its circuit or by an operator, and how long the
    gateway may take no events, at all or for a destination, before somebody is told."""
    backlog_age: Duration = Field(default=15 * MINUTE, gt=0)
    """How old the oldest event that is owed to a destination may become."""
    dead_letters: int = Field(default=1, ge=1)
    """How many dead letters must be added at a destination."""
    repeat_interval: Duration = Field(default=HOUR, gt=0)
    """How long until the same is told again while it lasts. Dead letters that are added in the
    meantime are told of then."""
    check_interval: Duration = Field(default=15.0, ge=0.05)
    """How often to look."""


OTEL = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
"""What the extra ``otel`` brings."""
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""Of a header (RFC 9110, section 5.1)."""


def _collector(value: object) -> object:
    if not isinstance(value, str) or not value:
        return value
    if address_problem(value):
        raise ValueError('is no address; write one like "http://127.0.0.1:4318/v1/traces"')
    parts = urlsplit(value)
    if "@" in parts.netloc:
        raise ValueError("has a name or password in it; put the credential into otlp_headers")
    if parts.path in {"", "/"}:
        raise ValueError(f'has no path; write "{value.rstrip("/")}/v1/traces"')
    if not _installed():
        raise ValueError("needs what is not installed; pip install 'cdp-gateway[otel]'")
    return value


def _installed() -> bool:
    try:
        return all(find_spec(name) for name in OTEL)
    except ModuleNotFoundError:
        return False


def _headers(value: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
    for name, secret in value.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f'{name!r} is no name of a header; write authorization = "..."')
        said = secret.get_secret_value()
        if not (said.isascii() and said.isprintable()):
            raise ValueError(f"{name}: a header's value is printable ASCII on one line")
    return value


class TraceConfig(ConfigTable):
    """What is kept of every event's way, for those who ask where it went."""

    enabled: bool = True
    """Whether anything is traced."""
    path: Path | None = None
    """The file; `traces.db` in the spool's folder where this is left out."""
    retention: Duration = Field(default=7 * DAY, gt=0)
    """How long traces are kept."""
    max_bytes: Size = Field(default=512 * MIB, ge=MIB)
    """How much of the disk they may take; past it the oldest go."""
    success_rate_limit: int = Field(default=50, ge=0)
    """How many requests are traced every second; of those that come on top, only what goes wrong
    is, and of refused requests 50 more a second for each source and kind of reason. Requests that
    are refused for their credential or their address count as successes here."""
    max_body: Size = Field(default=64 * KIB, ge=0)
    """How much is kept of each body, received or sent; 0 keeps none."""
    otlp_url: Annotated[str, BeforeValidator(_collector)] = ""
    """The address of an OpenTelemetry collector, such as `"http://127.0.0.1:4318/v1/traces"`, which
    gets what is traced as spans too (OTLP over HTTP); none does where this is left out. It needs
    the extra `otel`: `pip install 'cdp-gateway[otel]'`."""
    otlp_headers: Annotated[Mapping[str, SecretStr], AfterValidator(_headers)] = Field(default={})
    """Headers that go along to the collector, with its credential."""

    def file(self, spool: Path) -> Path:
        """Return the file; *spool* is the spool's folder."""
        return self.path or spool / "traces.db"


class LogConfig(ConfigTable):
    """What is written to standard error."""

    success_rate_limit: int = Field(default=50, ge=0)
    """How many requests, and how many deliveries, get a line every second; of those that come on
    top, only what goes wrong does, and of refused requests 50 more a second for each source and
    kind of reason. Requests that are refused for their credential or their address count as
    successes here."""

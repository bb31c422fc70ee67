"""Model of the ``[spool]`` table: one gateway's folder, or NATS servers that gateways share."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr

from gateway.config.proxy import PORT_PROBLEM, has_valid_port
from gateway.config.types import FilePath
from gateway.plugin.config_table import ConfigTable
from gateway.plugin.quantities import DAY, GIB, Duration, Size

OverflowPolicy = Literal["refuse", "dead_letter"]
"""What to do when a destination's backlog is full."""

CLIENT = ("nats", "nkeys")
"""Modules that the extra ``cluster`` installs."""
_NAME = re.compile(r"[A-Za-z0-9_-]+")


def _folder(value: object) -> object:
    if value == "":
        raise ValueError('is empty; name a folder, such as "var/spool"')
    return value


def _addresses(value: str, schemes: tuple[str, ...], example: str) -> tuple[str, ...]:
    """Return the addresses in a list with commas; those without a scheme take the first one's.

    Raises:
        ValueError: one is not an address; the message repeats none of them.
    """
    scheme, separator, rest = value.partition("://")
    if not separator or scheme not in schemes:
        known = " or ".join(f"{one}://" for one in schemes)
        raise ValueError(f"does not begin with {known}; {example}")
    found = []
    for one in rest.split(","):
        address = f"{scheme}://{one.strip().removeprefix(f'{scheme}://')}"
        parts = urlsplit(address)
        if "@" in address:
            raise ValueError("contains a user name or password; put them into user and password")
        if not has_valid_port(parts):
            raise ValueError(f"{PORT_PROBLEM}; {example}")
        if parts.netloc != address.removeprefix(f"{scheme}://") or not parts.hostname:
            raise ValueError(f"has an address that is not a host and a port; {example}")
        found.append(address)
    return tuple(found)


_SERVERS = 'write one like "tls://n1.example:4222,n2.example:4222"'
_MONITORS = 'write one like "http://n1.example:8222,n2.example:8222"'


def _servers(value: object) -> object:
    if not isinstance(value, str) or not value:
        return value
    found = _addresses(value, ("nats", "tls"), _SERVERS)
    if not all(find_spec(module) for module in CLIENT):
        raise ValueError("needs the extra cluster; run pip install 'cdp-gateway[cluster]'")
    return ",".join(found)


def _monitors(value: object) -> object:
    if not isinstance(value, str) or not value:
        return value
    return ",".join(_addresses(value, ("http", "https"), _MONITORS))


def _prefix(value: object) -> object:
    if isinstance(value, str) and not _NAME.fullmatch(value):
        raise ValueError("is not a name; use letters, digits, '_' and '-'")
    return value


class SpoolConfig(ConfigTable):
    """The durable log in which events wait for delivery.

    It is in a folder of this machine, or in NATS JetStream for several gateways (`url`, see
    [cluster](cluster.md)).
    """

    path: Annotated[Path, BeforeValidator(_folder)] = Path("var/spool")
    """The spool's folder, relative to the folder in which the gateway is started. Nothing else may
    use it. With `url` it holds only traces and the counts of shadows, which each gateway has for
    itself."""
    max_bytes: Size = Field(default=10 * GIB, gt=0)
    """How large the spool may grow, dead letters included; above it, senders are asked to retry
    later. One failing destination may use two thirds of it, two failing ones two fifths each, and
    so on, so that the others still get events; see `on_full`. With `url` it limits the log alone,
    and is set when the gateway makes it."""
    max_age: Duration = Field(default=7 * DAY, gt=0)
    """How long a delivery may be pending. After it, the delivery becomes a dead letter."""
    retain: Duration | None = Field(default=None, gt=0)
    """How long an event stays after it was accepted, even if every destination has it, so that
    `gateway replay` can [deliver it again](time-travel.md). It may use half of `max_bytes`; above
    that the oldest go first. Default: not at all. Not with `url`."""
    on_full: OverflowPolicy = "refuse"
    """What to do when a destination reaches its `max_backlog` or its share of `max_bytes`: accept
    no new events for it (`"refuse"`), or turn its oldest deliveries into dead letters
    (`"dead_letter"`). Senders are asked to retry later if no other destination takes the request
    ([bounds](operations.md#bounds))."""
    url: Annotated[str, BeforeValidator(_servers)] = ""
    """The NATS servers that hold the log of several gateways, such as
    `"tls://n1.example:4222,n2.example:4222,n3.example:4222"`; `nats://` is without encryption.
    Default: none, one gateway has its log in `path`. Needs the extra `cluster`: `pip install
    'cdp-gateway[cluster]'`."""
    name: Annotated[str, BeforeValidator(_prefix)] = "gateway"
    """The cluster's name, with which its streams and subjects begin. Gateways with the same `url`
    and `name` share one log."""
    shards: int = Field(default=16, ge=1, le=1024)
    """Into how many shards the log is divided. At most so many gateways deliver. It cannot change
    after the first start of a cluster."""
    replicas: int = Field(default=3, ge=1, le=5)
    """How many NATS servers keep each stream, when the gateway makes it: 3 or 5, so that one or two
    may fail; 1 for trials."""
    patience: Duration = Field(default=10.0, gt=0)
    """How long a request waits while NATS does not answer, for example because it elects a leader.
    After it, the sender is asked to retry later."""
    user: str = ""
    """The user name for NATS."""
    password: SecretStr | None = None
    """The password of `user`."""
    nkey_seed: SecretStr | None = None
    """The seed of the nkey by which NATS knows the gateways, instead of `user` and `password`."""
    creds: FilePath = None
    """A credentials file of NATS (JWT and nkey), instead of `user` and `password`."""
    ca: FilePath = None
    """A PEM file with the certificate authorities that may vouch for the NATS servers. Default: the
    system's."""
    cert: FilePath = None
    """A PEM file with the certificate that the gateway shows to the NATS servers (mutual TLS)."""
    key: FilePath = None
    """A PEM file with the private key of `cert`, without a passphrase. Default: the key is in
    `cert`."""
    monitor: Annotated[str, BeforeValidator(_monitors)] = ""
    """The monitoring addresses of the NATS servers, such as
    `"http://n1.example:8222,n2.example:8222"`. `gateway check --connect` reads there whether each
    server syncs every write to disk."""

    @property
    def place(self) -> str:
        """Return where the spool is, for people."""
        return f"{self.name} at {self.url}" if self.url else str(self.path)

    @property
    def servers(self) -> list[str]:
        """Return the addresses in ``url``, each with its scheme."""
        return self.url.split(",") if self.url else []

    @property
    def monitors(self) -> list[str]:
        """Return the addresses in ``monitor``, each with its scheme."""
        return self.monitor.split(",") if self.monitor else []


CLUSTER_KEYS = (
    "name", "shards", "replicas", "patience", "user", "password", "nkey_seed", "creds", "ca",
    "cert", "key", "monitor",
)  # fmt: skip
"""Keys that have a meaning only with ``url``."""

"""HTTP proxies for requests to others: from a table of the configuration, or the environment."""

import ipaddress
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import SecretStr

from gateway.http import as_basic

DEFAULT_PORTS = {"http": 80, "https": 443}
PORT_PROBLEM = "has a port that is not a number from 1 to 65535"
_HOW = 'write one like "http://HOST:PORT", or "" to connect directly'


class Proxy(NamedTuple):
    """An HTTP proxy."""

    host: str
    port: int
    authorization: str = ""
    """The value of ``Proxy-Authorization``; empty without a user."""

    @property
    def address(self) -> str:
        """Return host and port, for messages: without user and password."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_proxy(url: str) -> Proxy:
    """Return the proxy at *url*; user and password may be percent-encoded.

    Raises:
        ValueError: it is not the URL of an HTTP proxy; the message does not repeat it.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
    except ValueError:
        raise ValueError(f"is not a URL; {_HOW}") from None
    if parts.scheme != "http":
        raise ValueError(f"is not an http URL, and other kinds of proxies are not used; {_HOW}")
    if not has_valid_port(parts):
        raise ValueError(f"{PORT_PROBLEM}; {_HOW}")
    if not host or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError(f"is not a scheme, a host and a port; {_HOW}")
    if not (host.isascii() and host.isprintable()) or " " in host:
        raise ValueError(f"has a host that is not a name or an address; {_HOW}")
    authorization = as_basic(user, password) if user or password else ""
    return Proxy(host, parts.port or DEFAULT_PORTS["http"], authorization)


def has_valid_port(parts: SplitResult) -> bool:
    """Return whether the port of a URL, if there is one, is a number from 1 to 65535."""
    try:
        return parts.port != 0
    except ValueError:
        return False


def proxy_of(setting: SecretStr | None) -> Proxy | None:
    """Return the proxy in a valid setting; None if there is none, or an empty one."""
    url = setting.get_secret_value() if setting is not None else ""
    return parse_proxy(url) if url else None


class EnvironmentProxy(NamedTuple):
    """A proxy that the environment names."""

    variable: str
    url: str


def environment_proxy(url: str, environ: Mapping[str, str]) -> EnvironmentProxy | None:
    """Return the proxy that the environment names for *url*; None if it is reached directly.

    ``HTTPS_PROXY`` is for https, ``HTTP_PROXY`` for http; ``NO_PROXY`` lists the exceptions. Names
    in lower case come first, as in curl. This machine is never reached through a proxy, and an
    invalid *url*, which is reported elsewhere, has none.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if not has_valid_port(parts):
        return None
    found = _variable(f"{parts.scheme}_proxy", environ)
    host = (parts.hostname or "").rstrip(".")
    if found is None or _is_local(host):
        return None
    excepted = _variable("no_proxy", environ)
    port = parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
    if excepted and any(_covers(one, host, port) for one in excepted.url.split(",")):
        return None
    return found if "://" in found.url else found._replace(url=f"http://{found.url}")


def _variable(name: str, environ: Mapping[str, str]) -> EnvironmentProxy | None:
    for spelling in (name, name.upper()):
        if value := environ.get(spelling, "").strip():
            return EnvironmentProxy(spelling, value)
    return None


def _is_local(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def _covers(exception: str, host: str, port: int) -> bool:
    """Return whether an item of ``NO_PROXY`` is for *host*.

    It is ``*``, a name, which is for all names below it too, an address or a network; a name or an
    IPv4 address may have a port.
    """
    item = exception.strip().lower()
    with suppress(ValueError):
        return ipaddress.ip_address(host) in ipaddress.ip_network(item.strip("[]"), strict=False)
    name, colon, only = item.rpartition(":")
    if colon and only.isdigit():
        return int(only) == port and _covers(name, host, port)
    name = item.removeprefix("*").strip(".")
    return item == "*" or (bool(name) and (host == name or host.endswith(f".{name}")))

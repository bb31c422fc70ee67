"""Types of configuration keys, and the base of all tables."""

import ipaddress
import re
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr


def address_problem(url: str) -> str | None:
    """Return what is wrong with a destination's address; None where nothing is."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is no address; write one like https://api.example.com"
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        return "is no http or https address; write one like https://api.example.com"
    if parts.query or parts.fragment or any(c.isspace() for c in url):
        return "must end before any ? or #; write one like https://api.example.com"
    return None


def upstream(value: object) -> object:
    """Pass the address of a vendor, as a validator does.

    Raises:
        ValueError: it is none, or has a credential in it.
    """
    if isinstance(value, str) and value and (wrong := address_problem(value)):
        raise ValueError(wrong)
    if isinstance(value, str) and "@" in urlsplit(value).netloc:
        raise ValueError("has a name or password in it, which never goes out; leave it out")
    return value


_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])"
    r"(?P<port>:\d{1,5})?"
)
_COOKIE = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_DOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+")
_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
FIELD = "field"
"""Says that an address stands in the vendor's own field, not in a header."""
_TAKEN = frozenset({
    "authorization", "connection", "content-encoding", "content-length", "content-type", "cookie",
    "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "user-agent",
})  # fmt: skip
"""Headers that mean something else."""
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def origins(value: object) -> object:
    """Pass ``"*"``, or a list of origins; return them as browsers spell them.

    Raises:
        ValueError: it is neither.
    """
    if value is None or value == "*":
        return value
    if not isinstance(value, list | tuple):
        raise ValueError('must be a list or "*"; write origins = ["https://shop.example"]')  # noqa: TRY004 - pydantic turns a ValueError into a finding
    return tuple(_origin(one) for one in value)


def _origin(value: object) -> str:
    if value == "*":
        raise ValueError('names every origin in a list of some; write origins = "*"')
    if value == "null":
        raise ValueError(
            "takes no null: it is the origin of every sandboxed page and of files, whoever made "
            'them; write origins = "*" if they may all send'
        )
    text = value.lower() if isinstance(value, str) else ""
    found = _ORIGIN.fullmatch(text.removesuffix("/"))
    if found is None:
        raise ValueError(
            'takes origins such as "https://shop.example", with a scheme and without a path or '
            "wildcard"
        )
    port = found["port"] or ""
    if port == _DEFAULT_PORTS.get(found["scheme"]):
        port = ""
    return f"{found['scheme']}://{found['host']}{port}"


def headers(value: object) -> object:
    """Return a list of names of headers, in lower case.

    Raises:
        ValueError: some is none.
    """
    if not isinstance(value, list | tuple):
        raise ValueError('must be a list of names; write browser_headers = ["x-shop-version"]')  # noqa: TRY004 - pydantic turns a ValueError into a finding
    lower = [name.lower() if isinstance(name, str) else "" for name in value]
    for name, said in zip(lower, value, strict=True):
        if name == "*":
            raise ValueError("takes no wildcard; list the names of the headers")
        if not _HEADER.fullmatch(name):
            raise ValueError(f"takes names of headers, which {said!r} is not")
    return tuple(lower)


def client_ip(value: object) -> object:
    """Return the name of a header, in lower case; ``"field"`` and none at all pass, too.

    Raises:
        ValueError: it is no name, or that of a header that means something else.
    """
    if value is False:
        return ""
    if not isinstance(value, str):
        raise ValueError('must be the name of a header, "field", or ""')  # noqa: TRY004 - pydantic turns a ValueError into a finding
    lower = value.lower()
    if lower in {"", FIELD}:
        return lower
    if not _HEADER.fullmatch(lower):
        raise ValueError(f'takes the name of a header, "field", or "", which {value!r} is not')
    if lower in _TAKEN:
        raise ValueError(
            f'takes a header of its own: {lower} means something else; write "x-real-ip"'
        )
    return lower


def networks(value: object) -> object:
    """Pass a list of networks and addresses, IPv4 and IPv6.

    Raises:
        ValueError: some is none.
    """
    if not isinstance(value, list | tuple):
        raise ValueError('must be a list of networks; write trusted_proxies = ["10.0.0.0/8"]')  # noqa: TRY004 - pydantic turns a ValueError into a finding
    return tuple(_network(one) for one in value)


def _network(value: object) -> str:
    try:
        found = ipaddress.ip_network(str(value), strict=False)
    except ValueError:
        raise ValueError(
            f'takes networks such as "10.0.0.0/8" or "::1", which {value!r} is not'
        ) from None
    address = str(value).partition("/")[0]
    if ipaddress.ip_address(address) != found.network_address:
        raise ValueError(f'takes networks: {value!r} is an address in "{found}"; write that')
    return str(found)


def cookie_name(value: object) -> object:
    """Pass a name that every browser takes (RFC 6265, section 4.1.1, less what needs care).

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, str) and not _COOKIE.fullmatch(value):
        raise ValueError("is no name of a cookie; use letters, digits, '_', '-' and '.'")
    return value


def cookie_domain(value: object) -> object:
    """Pass a domain; return it in lower case, without the dot that may stand before it.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str):
        return value
    domain = value.lower().removeprefix(".")
    if not _DOMAIN.fullmatch(domain):
        raise ValueError('takes a bare domain such as "shop.example"')
    return domain


_SEGMENT = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+"
_MOUNT = re.compile(rf"(?:/{_SEGMENT})+")
_ENDPOINT = re.compile(r"[A-Z]+ (?:/(?:[A-Za-z0-9._~-]+|\{[a-z_]+\}))+")
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\]")


def mount(value: object) -> object:
    """Return the path below which a source stands.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str) or not value:
        return value
    if not value.startswith("/"):
        raise ValueError(f'must start with a slash; write mount = "/{value.strip("/")}"')
    if value == "/":
        raise ValueError("is the root, where sources stand anyway; leave it out")
    if value.endswith("/"):
        raise ValueError(f'must not end in a slash; write mount = "{value.rstrip("/")}"')
    if not _MOUNT.fullmatch(value):
        raise ValueError("is no plain path; use letters, digits, '.', '_', '~', '-' and '/' only")
    return value


def hosts(value: object) -> object:
    """Return the host names that a source answers for, in lower case.

    Raises:
        ValueError: they are none.
    """
    if not isinstance(value, list | tuple):
        raise ValueError('must be a list of host names; write hosts = ["shop.example"]')  # noqa: TRY004 - pydantic turns a ValueError into a finding
    if not value:
        raise ValueError("is empty; leave it out to answer for every host")
    lower = [host.lower() if isinstance(host, str) else "" for host in value]
    if not all(_HOST.fullmatch(host) for host in lower):
        raise ValueError('takes bare host names such as "shop.example", no scheme, port or path')
    return tuple(lower)


def keys(value: object) -> object:
    """Return the credentials that a source takes, or that it takes any.

    Raises:
        ValueError: they are none.
    """
    if value == "any":
        return value
    if not isinstance(value, list | tuple) or not all(
        isinstance(key, str | SecretStr) for key in value
    ):
        raise ValueError('must be a list of credentials, or "any"; write keys = ["${SHOP_KEY}"]')
    if not value:
        raise ValueError("is empty, so that nobody could send; list the credentials to accept")
    return value


def secrets(value: object) -> object:
    """Return the second credentials that a source takes.

    Raises:
        ValueError: they are none.
    """
    if not isinstance(value, list | tuple) or not all(
        isinstance(one, str | SecretStr) and one for one in value
    ):
        raise ValueError('must be a list of credentials; write secrets = ["${SHOP_SECRET}"]')
    return value


def endpoints(value: object) -> object:
    """Return the endpoints that are relayed with our credential.

    Raises:
        ValueError: they are none.
    """
    if not isinstance(value, list | tuple):
        raise ValueError('must be a list such as ["GET /search", "GET /recommend/{code}"]')  # noqa: TRY004 - pydantic turns a ValueError into a finding
    for one in value:
        if not isinstance(one, str) or not _ENDPOINT.fullmatch(one):
            raise ValueError(
                f'has {one!r}, which is no method and path; write "GET /search" or '
                f'"GET /recommend/{{code}}", with letters, digits, ".", "_", "~" and "-"'
            )
    return tuple(value)


_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]\s/]*):(\d{1,5})")
LAST_PORT = 65535


class Address(NamedTuple):
    """Where to listen."""

    host: str | None
    """None for every address of the machine."""
    port: int
    """0 for any free one."""

    @property
    def loopback(self) -> bool:
        """Tell whether only this machine can reach it."""
        if self.host is None:
            return False
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"


def address(listen: str) -> Address:
    """Return the host and the port in *listen*.

    Raises:
        ValueError: it is no such pair.
    """
    found = _LISTEN.fullmatch(listen)
    host = found[1].strip("[]") if found else ""
    if found and found[1].startswith("["):
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            found = None
    if found is None or int(found[2]) > LAST_PORT:
        raise ValueError(
            'is no address to listen on; write "127.0.0.1:8080", "[::1]:8080", or ":8080"'
        )
    return Address(host or None, int(found[2]))


def listening(value: object) -> object:
    """Pass an address to listen on, as a validator does.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, str):
        address(value)
    return value


Schema = dict[str, Any] | bool | str
"""A JSON Schema as TOML has it, or the path of a file that holds one."""


def _schemas(value: object) -> object:
    if not isinstance(value, dict):
        raise ValueError('must be a table; write schemas = { "Order Completed" = "order.json" }')  # noqa: TRY004 - pydantic turns a ValueError into a finding
    for name, schema in value.items():
        if not isinstance(schema, str | bool | dict) or schema == "":
            raise ValueError(f"of {name!r} must be a JSON Schema, or the path of a file with one")
    return value


Schemas = Annotated[dict[str, Schema], BeforeValidator(_schemas)]
"""Names of events, or patterns, to their schemas."""


LISTS = ("routes", "tests")
"""Tables of which a file has a list: ``[[routes]]``."""


class ConfigTable(BaseModel):
    """A table of the configuration: frozen, without unknown keys, silent about its values."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )


ProxyHeader = Literal["x-forwarded-for", "forwarded"]


ClientKind = Literal["auto", "user", "server"]
"""Whose requests are a source's: people's devices', backends', or to be told one by one."""

YEAR = 365 * 24 * 3600


NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")

"""Types and validators of configuration keys, and the base class of all tables.

Validators raise ValueError; its message follows the key in the error that users read: "[server]
listen: is not an address …".
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import BeforeValidator, SecretStr

from gateway.config.proxy import PORT_PROBLEM, has_valid_port, parse_proxy
from gateway.http import (
    FRAMING,
    HEADER_NAME,
    header_name_problem,
    header_value_problem,
)


def address_problem(url: str) -> str | None:
    """Return what is wrong with a destination's URL, or None."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "is not a URL; write one like https://api.example.com"
    if not has_valid_port(parts):
        return f"{PORT_PROBLEM}; write one like https://api.example.com:8443"
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return "is not an http or https URL; write one like https://api.example.com"
    if parts.query or parts.fragment or any(c.isspace() for c in url):
        return "must not contain ?, # or spaces; write one like https://api.example.com"
    return None


def upstream(value: object) -> object:
    """Check the URL of a vendor's server.

    Raises:
        ValueError: it is not a URL, or has a user name or password in it.
    """
    if isinstance(value, str) and value and (wrong := address_problem(value)):
        raise ValueError(wrong)
    if isinstance(value, str) and "@" in urlsplit(value).netloc:
        raise ValueError("contains a user name or password, which is never sent; remove it")
    return value


_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])"
    r"(?P<port>:\d{1,5})?"
)
_COOKIE = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_DOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+")
_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
FIELD = "field"
"""Value of `client_ip`: the address goes into the vendor's own field, not into a header."""
_FRAMES = "which the gateway sets itself; remove it"
_PROXY = "which is for the proxy; write user and password into the URL of proxy"
TAKEN_HEADERS = {
    **dict.fromkeys(FRAMING, _FRAMES),
    **dict.fromkeys(("proxy-authorization", "proxy-authenticate", "proxy-connection"), _PROXY),
    "authorization": "which is for the vendor's key; set that in its own keys",
    "content-encoding": "which describes the body; remove it, since bodies are not compressed",
    "content-type": "which describes the body; remove it, since the vendor's plugin sets it",
    "cookie": 'which is for browsers; use another header, such as "x-session"',
    "host": "which names the vendor's server; write that into url",
    "user-agent": 'which describes the user\'s device; use another header, such as "x-client"',
}
"""Headers that no destination may add, each with the reason and what to do instead."""
SHOWN_HEADERS = frozenset({
    "accept", "accept-encoding", "accept-language", "cache-control", "content-language", "from",
    "origin", "pragma", "prefer", "x-requested-with",
})  # fmt: skip
"""Added headers whose values are shown to operators; in others may be a credential."""
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def origins(value: object) -> object:
    """Check ``"*"`` or a list of origins; return the origins as browsers write them.

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
        raise ValueError('has "*" in a list; write origins = "*" for all origins')
    if value == "null":
        raise ValueError(
            'cannot have "null", the origin of all sandboxed pages and local files; write '
            'origins = "*" if every page may send'
        )
    text = value.lower() if isinstance(value, str) else ""
    found = _ORIGIN.fullmatch(text.removesuffix("/"))
    if found is None:
        raise ValueError(
            "must have origins with a scheme and without path or wildcard; write "
            '["https://shop.example"]'
        )
    port = found["port"] or ""
    if port == _DEFAULT_PORTS.get(found["scheme"]):
        port = ""
    return f"{found['scheme']}://{found['host']}{port}"


def headers(value: object) -> object:
    """Return a list of header names in lower case.

    Raises:
        ValueError: it is not a list of header names.
    """
    if not isinstance(value, list | tuple):
        raise ValueError('must be a list of names; write browser_headers = ["x-shop-version"]')  # noqa: TRY004 - pydantic turns a ValueError into a finding
    lower = [name.lower() if isinstance(name, str) else "" for name in value]
    for name, given in zip(lower, value, strict=True):
        if name == "*":
            raise ValueError("cannot have a wildcard; list the names of the headers")
        if not _HEADER.fullmatch(name):
            raise ValueError(f"has {given!r}, which is not a header name")
    return tuple(lower)


def client_ip(value: object) -> object:
    """Return the name of a header in lower case; ``"field"`` and ``""`` are allowed too.

    Raises:
        ValueError: it is not a header's name, or that header has another meaning.
    """
    if value is False:
        return ""
    if not isinstance(value, str):
        raise ValueError('must be the name of a header, "field", or ""')  # noqa: TRY004 - pydantic turns a ValueError into a finding
    lower = value.lower()
    if lower in {"", FIELD}:
        return lower
    if not _HEADER.fullmatch(lower):
        raise ValueError(f'must be the name of a header, "field", or "", not {value!r}')
    if lower in TAKEN_HEADERS:
        raise ValueError(
            f'cannot be {lower}, which has another meaning; write "x-real-ip", for example'
        )
    return lower


HeaderValue = str | SecretStr
"""The value of a header: a credential, or a text that may be shown."""


def plain_value(value: HeaderValue) -> str:
    """Return the text of a header's value."""
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def header_name(value: str) -> str:
    """Check the name of a header; return it in lower case.

    Raises:
        ValueError: it is not one.
    """
    if not HEADER_NAME.fullmatch(value):
        raise ValueError('is not the name of a header; write one like "x-forwarded-user"')
    return value.lower()


def header_table(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Check a table of headers.

    Raises:
        ValueError: a name or a value is not what a header may have.
    """
    _raise(filter(None, (_header_problem(*one, 'authorization = "..."') for one in value.items())))
    return value


def _header_problem(name: str, held: HeaderValue, example: str) -> str:
    if wrong := header_name_problem(name, example):
        return wrong
    wrong = header_value_problem(plain_value(held))
    return f"{name}: {wrong}" if wrong else ""


def _raise(problems: Iterable[str]) -> None:
    """Raise *problems* if there are any; the report makes one sentence of each line."""
    if lines := "\n".join(problems):
        raise ValueError(lines)


def added_headers(value: object) -> object:
    """Check the headers that a destination adds; return them with names in lower case.

    Raises:
        ValueError: some are invalid, occur twice, or frame, describe or authorize the request; one
            line for each.
    """
    if not isinstance(value, Mapping):
        raise ValueError('must be a table; write headers = { x-tenant = "shop-1" }')  # noqa: TRY004 - pydantic turns a ValueError into a finding
    lower: dict[str, object] = {}
    problems: list[str] = []
    for name, held in value.items():
        low = name.lower()
        if not isinstance(held, str | SecretStr):
            problems.append(f"{name} must be text; put it in quotes")
        elif low in lower:
            problems.append(f"{name} occurs twice; keep one of them")
        elif low in TAKEN_HEADERS:
            problems.append(f"cannot have {name}, {TAKEN_HEADERS[low]}")
        elif wrong := _header_problem(name, held, 'x-tenant = "..."'):
            problems.append(wrong)
        lower[low] = held
    _raise(problems)
    return lower


def proxy_url(value: object) -> object:
    """Check the URL of a proxy; an empty one stands for none.

    Raises:
        ValueError: it is not the URL of an HTTP proxy.
    """
    if isinstance(value, SecretStr) and (url := value.get_secret_value()):
        parse_proxy(url)
    return value


def _named_file(value: object) -> object:
    if value == "":
        raise ValueError("is empty; name a file, or remove it")
    return value


FilePath = Annotated[Path | None, BeforeValidator(_named_file)]
"""A key that may name a file."""
RequiredPath = Annotated[Path, BeforeValidator(_named_file)]
"""A key that must name a file."""


def networks(value: object) -> object:
    """Return a list of IPv4 and IPv6 networks in their canonical form.

    Raises:
        ValueError: an item is not a network.
    """
    if not isinstance(value, list | tuple):
        raise ValueError('must be a list of networks, such as ["10.0.0.0/8"]')  # noqa: TRY004 - pydantic turns a ValueError into a finding
    return tuple(_network(one) for one in value)


def _network(value: object) -> str:
    try:
        found = ipaddress.ip_network(str(value), strict=False)
    except ValueError:
        raise ValueError(
            f'has {value!r}, which is not a network; write "10.0.0.0/8" or "::1"'
        ) from None
    address = str(value).partition("/")[0]
    if ipaddress.ip_address(address) != found.network_address:
        raise ValueError(f'has {value!r}, which is an address in a network; write "{found}"')
    return str(found)


def client_address(value: object) -> object:
    """Check the address of a user's device; an empty text stands for none.

    Raises:
        ValueError: it is not an IP address.
    """
    if isinstance(value, str) and value:
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise ValueError('is not an IP address; write "203.0.113.7" or "2001:db8::1"') from None
    return value


def cookie_name(value: object) -> object:
    """Check a cookie's name: a safe subset of RFC 6265, section 4.1.1.

    Raises:
        ValueError: it has other characters.
    """
    if isinstance(value, str) and not _COOKIE.fullmatch(value):
        raise ValueError("is not a cookie name; use letters, digits, '_', '-' and '.'")
    return value


def cookie_domain(value: object) -> object:
    """Return a domain in lower case, without a leading dot.

    Raises:
        ValueError: it is not a domain.
    """
    if not isinstance(value, str):
        return value
    domain = value.lower().removeprefix(".")
    if not _DOMAIN.fullmatch(domain):
        raise ValueError('is not a domain; write one like "shop.example"')
    return domain


_SEGMENT = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+"
_MOUNT = re.compile(rf"(?:/{_SEGMENT})+")
_ENDPOINT = re.compile(r"[A-Z]+ (?:/(?:[A-Za-z0-9._~-]+|\{[a-z_]+\}))+")
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\]")


def mount(value: object) -> object:
    """Check the path prefix of a source.

    Raises:
        ValueError: it is not a plain path.
    """
    if not isinstance(value, str) or not value:
        return value
    if not value.startswith("/"):
        raise ValueError(f'must start with a slash; write mount = "/{value.strip("/")}"')
    if value == "/":
        raise ValueError("is the root, which is the default; remove it")
    if value.endswith("/"):
        raise ValueError(f'must not end in a slash; write mount = "{value.rstrip("/")}"')
    if not _MOUNT.fullmatch(value):
        raise ValueError("is not a plain path; use letters, digits, '.', '_', '~', '-' and '/'")
    return value


def hosts(value: object) -> object:
    """Return the host names of a source in lower case.

    Raises:
        ValueError: it is not a list of host names.
    """
    if not isinstance(value, list | tuple):
        raise ValueError('must be a list of host names; write hosts = ["shop.example"]')  # noqa: TRY004 - pydantic turns a ValueError into a finding
    if not value:
        raise ValueError("is empty; remove it to serve all hosts")
    lower = [host.lower() if isinstance(host, str) else "" for host in value]
    if not all(_HOST.fullmatch(host) for host in lower):
        raise ValueError(
            'must have host names without scheme, port or path; write ["shop.example"]'
        )
    return tuple(lower)


def keys(value: object) -> object:
    """Check the keys of a source: a list, or ``"any"``.

    Raises:
        ValueError: it is neither.
    """
    if value == "any":
        return value
    if not isinstance(value, list | tuple) or not all(
        isinstance(key, str | SecretStr) for key in value
    ):
        raise ValueError('must be a list of keys, or "any"; write keys = ["${SHOP_KEY}"]')
    if not value:
        raise ValueError("is empty, so nobody could send events; list the keys to accept")
    return value


def secrets(value: object) -> object:
    """Check the second keys of a source.

    Raises:
        ValueError: it is not a list of texts.
    """
    if not isinstance(value, list | tuple) or not all(
        isinstance(one, str | SecretStr) and one for one in value
    ):
        raise ValueError('must be a list of secrets; write secrets = ["${SHOP_SECRET}"]')
    return value


def endpoints(value: object) -> object:
    """Check the endpoints that are relayed with a destination's key.

    Raises:
        ValueError: an item is not a method and a path.
    """
    if not isinstance(value, list | tuple):
        raise ValueError('must be a list such as ["GET /search", "GET /recommend/{code}"]')  # noqa: TRY004 - pydantic turns a ValueError into a finding
    for one in value:
        if not isinstance(one, str) or not _ENDPOINT.fullmatch(one):
            raise ValueError(
                f'has {one!r}, which is not a method and a path; write "GET /search" or '
                f'"GET /recommend/{{code}}", with letters, digits, ".", "_", "~" and "-"'
            )
    return tuple(value)


_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]\s/]*):(\d{1,5})")
LAST_PORT = 65535


class Address(NamedTuple):
    """An address to listen on."""

    host: str | None
    """None for all addresses of the machine."""
    port: int
    """0 for any free port."""

    @property
    def loopback(self) -> bool:
        """Return whether only this machine can reach the address."""
        if self.host is None:
            return False
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"


def address(listen: str) -> Address:
    """Split *listen*, such as ``"127.0.0.1:8080"``, into host and port.

    Raises:
        ValueError: it is not an address.
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
            'is not an address to listen on; write "127.0.0.1:8080", "[::1]:8080", or ":8080"'
        )
    return Address(host or None, int(found[2]))


def listening(value: object) -> object:
    """Check an address to listen on.

    Raises:
        ValueError: it is not an address.
    """
    if isinstance(value, str):
        address(value)
    return value


def _flag(value: object) -> object:
    """Accept what TOML or a reference gives; pydantic would take "yes", "off" and 1 as well."""
    if isinstance(value, bool):
        return value
    if value == "true" or value == "false":  # noqa: PLR1714 - it may not be hashable
        return value == "true"
    raise ValueError("must be true or false")


Flag = Annotated[bool, BeforeValidator(_flag)]
"""A key that is true or false."""

Schema = dict[str, Any] | bool | str
"""A JSON Schema as TOML writes it, or the path of a file with one."""


def _schemas(value: object) -> object:
    if not isinstance(value, dict):
        raise ValueError('must be a table; write schemas = { "Order Completed" = "order.json" }')  # noqa: TRY004 - pydantic turns a ValueError into a finding
    for name, schema in value.items():
        if not isinstance(schema, str | bool | dict) or schema == "":
            raise ValueError(f"must have a JSON Schema, or the path of one, for {name!r}")
    return value


Schemas = Annotated[dict[str, Schema], BeforeValidator(_schemas)]
"""Event names, or patterns, with their schemas."""


LISTS = ("routes", "tests")
"""Tables that a file repeats as a list: ``[[routes]]``."""


ProxyHeader = Literal["x-forwarded-for", "forwarded"]


ClientKind = Literal["auto", "user", "server"]
"""Who sends a source's requests: users' devices, servers, or either ("auto")."""

YEAR = 365 * 24 * 3600


NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")

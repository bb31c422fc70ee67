"""How the configuration names origins, proxies and cookies: validators, as pydantic calls them."""

import ipaddress
import re

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

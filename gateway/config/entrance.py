"""Where a source is met: its mount, its hosts, its keys, as they are written."""

import re

from pydantic import SecretStr

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

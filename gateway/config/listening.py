"""Addresses to listen on."""

import ipaddress
import re
from typing import NamedTuple

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

"""How a gateway proves to the NATS servers who it is."""

import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from nats.aio.client import RawCredentials


@dataclass(frozen=True)
class NatsAccess:
    """How the gateway proves who it is; nothing of it is printed.

    ``creds`` is the text of a credentials file.
    """

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    nkey_seed: str = field(default="", repr=False)
    creds: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None

    def options(self) -> dict[str, Any]:
        """Return the client's options."""
        options: dict[str, Any] = {}
        if self.user:
            options |= {"user": self.user, "password": self.password}
        if self.nkey_seed:
            options["nkeys_seed_str"] = self.nkey_seed
        if self.creds:
            options["user_credentials"] = RawCredentials(self.creds)
        if self.tls:
            options["tls"] = self.tls
        return options


def split_access(url: str) -> tuple[str, NatsAccess | None]:
    """Return the URL without user and password, and what they were."""
    parts = urlsplit(url if "://" in url else f"nats://{url}")
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    if parts.username is None:
        return bare, None
    return bare, NatsAccess(unquote(parts.username), unquote(parts.password or ""))

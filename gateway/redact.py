"""Credentials, kept out of everything that a person or a file may see."""

import base64
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, SecretStr

from gateway.exchange import Request

HIDDEN = "***"
SHORTEST = 4
"""Shorter secrets are not searched for: replacing them would garble every text."""


def secrets_of(settings: BaseModel) -> tuple[str, ...]:
    """Return the values of all secret fields of *settings*, the longest first."""
    held = (getattr(settings, name) for name in type(settings).model_fields)
    values = {s.get_secret_value() for s in held if isinstance(s, SecretStr)}
    return tuple(sorted((v for v in values if len(v) >= SHORTEST), key=len, reverse=True))


def _spellings(secret: str) -> Iterator[str]:
    """Yield *secret* as it may stand in a text: plain, in a URL, within base64.

    Base64 turns every three bytes into four characters, so there are three ways in which a
    secret may stand in what was encoded; the characters that it shares with its neighbours are
    left out. RFC 7617 has credentials so in a Basic header.
    """
    yield secret
    yield quote(secret, safe="")
    raw = secret.encode()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + raw).decode()
        first = -(-before * 8 // 6)
        whole = encoded[first : (before + len(raw)) * 8 // 6]
        if len(whole) >= SHORTEST:
            yield whole
            yield whole.replace("+", "-").replace("/", "_")


class Redactor:
    """Replaces credentials wherever they stand.

    Args:
        settings: a destination's; those in its secret fields.
        more: further ones.
    """

    def __init__(self, settings: BaseModel, more: Iterable[str] = ()) -> None:
        held = (*secrets_of(settings), *(secret for secret in more if len(secret) >= SHORTEST))
        found = {text for secret in held for text in _spellings(secret)}
        self._secrets = sorted(found, key=len, reverse=True)

    def text(self, text: str) -> str:
        """Return *text* without credentials."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text

    def request(self, request: Request) -> dict[str, Any]:
        """Return *request* as JSON values without credentials."""
        return {
            "method": request.method,
            "url": self.text(request.url),
            "headers": {name: self.text(value) for name, value in request.headers.items()},
            "body": self.text(request.body.decode("utf-8", "replace")),
        }

"""Credentials, kept out of everything that a person or a file may see."""

from typing import Any

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


class Redactor:
    """Replaces a destination's credentials wherever they stand."""

    def __init__(self, settings: BaseModel) -> None:
        self._secrets = secrets_of(settings)

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

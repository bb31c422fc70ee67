"""Credentials that are made for each attempt: signatures, and tokens that expire."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from gateway.http import Request, Response


class AccessToken(Struct, frozen=True):
    """A token that a vendor issued for a while."""

    value: str
    lifetime: float
    """Seconds for which it is valid, from when it was issued."""


class Authorization(ABC):
    """Adds headers to each request right before it is sent.

    The gateway keeps the token: it gets a new one before the old one ends, and after a 401. A token
    appears in no trace, log or message.
    """

    def token_request(self) -> Request | None:
        """Return the request for a new token; None if there are no tokens."""
        return None

    def read_token(self, response: Response) -> AccessToken:
        """Return the token in the *response* to `token_request`.

        Raises:
            ValueError: there is none; the message says why, without a credential.
        """
        raise NotImplementedError

    @abstractmethod
    def headers(self, request: Request, now: datetime, token: str) -> Mapping[str, str]:
        """Return the headers to add to *request*, with lower-case names.

        Args:
            request: as it will be sent.
            now: UTC.
            token: a valid one; empty if there are no tokens.

        Raises:
            ValueError: they cannot be made; the message says why.
        """

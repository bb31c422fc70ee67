"""Credentials in ``authorization`` headers; plugins import this from `gateway.plugin`."""

import base64
from typing import NamedTuple

from gateway.exchange import Request


class Basic(NamedTuple):
    """What a Basic header says (RFC 7617, section 2)."""

    user: str
    password: str


def bearer(request: Request) -> str | None:
    """Return the token of a Bearer ``authorization`` header (RFC 6750, section 2.1)."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def basic(request: Request) -> Basic | None:
    """Return what a Basic ``authorization`` header says; None where it is none, or is not UTF-8.

    The user ends at the first colon (RFC 7617, section 2); without one there is no password.
    """
    scheme, _, packed = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic" or not packed.strip():
        return None
    try:
        text = base64.b64decode(packed.strip(), validate=True).decode()
    except ValueError:
        return None
    user, _, password = text.partition(":")
    return Basic(user, password)


def as_basic(user: str, password: str = "") -> str:
    """Return the ``authorization`` header of a user who may have a password (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

"""Identify who calls the admin API: by a token, or through a proxy that signs people in."""

import hmac
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from pydantic import SecretStr

from gateway.config.operations import AdminConfig, Role

SECRET_HEADER: Final = "x-gateway-proxy-secret"  # noqa: S105 - the name of a header
LONGEST_NAME: Final = 200
"""Characters of a person's name that are kept."""


class Caller(NamedTuple):
    """Who calls.

    Attributes:
        name: of the token, or of the person as the proxy says it; empty if nobody must say.
        role: what the caller may do.
        via: how it is known.
    """

    name: str
    role: Role
    via: Literal["token", "proxy", "address", "command"]

    def may(self, role: Role) -> bool:
        """Return whether the caller may do what needs *role*."""
        return role in ("viewer", self.role)


ANYONE: Final = Caller("", "operator", "address")
"""Everybody on this machine, where the configuration asks for no token."""


def identify(headers: Mapping[str, str], admin: AdminConfig) -> Caller | None:
    """Return who sends *headers*; None if they do not say it, or say it wrongly."""
    if not admin.guarded:
        return ANYONE
    return _by_token(headers, admin) or _by_proxy(headers, admin)


def _by_token(headers: Mapping[str, str], admin: AdminConfig) -> Caller | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    shown = token.strip()
    # All are compared, so that the time does not tell which one was nearly right.
    found = [
        Caller(name, role, "token") for name, role, known in admin.tokens() if _same(shown, known)
    ]
    return found[0] if found else None


def _by_proxy(headers: Mapping[str, str], admin: AdminConfig) -> Caller | None:
    secret = admin.proxy_secret
    if secret is None or not _knows(headers, secret):
        return None
    name = headers.get(admin.proxy_user_header, "").strip()
    if not name or not name.isprintable():  # text that is not UTF-8, too: the log could not tell it
        return None
    said = headers.get(admin.proxy_groups_header, "").split(",")
    groups = {one.strip() for one in said} - {""}
    operator = name in admin.proxy_operators or groups.intersection(admin.proxy_operator_groups)
    return Caller(name[:LONGEST_NAME], "operator" if operator else "viewer", "proxy")


def _knows(headers: Mapping[str, str], secret: SecretStr) -> bool:
    return _same(headers.get(SECRET_HEADER, ""), secret.get_secret_value())


def _same(shown: str, known: str) -> bool:
    return hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), known.encode())

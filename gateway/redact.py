"""Credentials, kept out of everything that a person or a file may see."""

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Self
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

import orjson
from pydantic import BaseModel, SecretStr

from gateway.exchange import Request
from gateway.secret_names import HIDDEN, text_without_secrets

__all__ = ["HIDDEN", "Redactor"]

SHORTEST = 4
"""Shorter secrets are not searched for: replacing them would garble every text."""


SHORTEST_PART = 12
"""The last part of a secret address's path is a word if it is shorter, such as ``alerts``."""

_USERINFO = re.compile(r"(?<=://)[^/?#@\s\"']+@")
"""The name and password of an address (RFC 3986, section 3.2.1)."""
_ESCAPE = re.compile(r"%[0-9A-F]{2}")
_WORDS = "secret|password|passwd|api_?key|write_?key|access_?token|auth_?token|client_?token"
CREDENTIAL_NAME = re.compile(rf"(?:{_WORDS}|authorization|cookie)$", re.IGNORECASE)
"""Names of fields that hold credentials."""


def secrets_of(settings: object) -> tuple[str, ...]:
    """Return all credentials in *settings*, the longest first.

    They stand in secret fields, and in addresses before the host, however deep within.
    """
    values = {value for value in _held(settings) if len(value) >= SHORTEST}
    return tuple(sorted(values, key=len, reverse=True))


def _held(value: object) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
        yield from _within(value.get_secret_value())
    elif isinstance(value, str):
        if "://" in value and "@" in value:
            yield from _userinfo(value)
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _held(getattr(value, name))
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _held(inner)
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from _held(inner)


def _within(secret: str) -> Iterator[str]:
    """Yield what is the credential of an address that is secret as a whole, as of chat programs."""
    if "://" not in secret:
        return
    yield from _userinfo(secret)
    with suppress(ValueError):
        parts = urlsplit(secret)
        said = (parts.path.rpartition("/")[2], *(value for _, value in parse_qsl(parts.query)))
        yield from (one for one in said if len(one) >= SHORTEST_PART)


def _userinfo(url: str) -> Iterator[str]:
    try:
        userinfo, at, _ = urlsplit(url).netloc.rpartition("@")
    except ValueError:
        return
    if at:
        yield userinfo
        yield unquote(userinfo)
        yield unquote(userinfo.partition(":")[2] or userinfo)


def spellings(secret: str) -> Iterator[str]:
    """Yield *secret* as it may stand in a text: plain, in a URL, JSON, HTML, within base64.

    Base64 turns every three bytes into four characters, so there are three ways in which a
    secret may stand in what was encoded; the characters that it shares with its neighbours are
    left out. RFC 7617 has credentials so in a Basic header.
    """
    yield secret
    for quoted in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        yield quoted
        yield _ESCAPE.sub(lambda found: found[0].lower(), quoted)
    for escaped in (orjson.dumps(secret).decode()[1:-1], json.dumps(secret)[1:-1]):
        yield escaped
        yield escaped.replace("/", "\\/")
        yield from (json.dumps(escaped)[1:-1], orjson.dumps(escaped).decode()[1:-1])
    yield html.escape(secret)
    raw = secret.encode()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + raw).decode()
        first = -(-before * 8 // 6)
        whole = encoded[first : (before + len(raw)) * 8 // 6]
        if len(whole) >= SHORTEST:
            yield whole
            yield whole.replace("+", "-").replace("/", "_")


def without_password(url: str) -> str:
    """Return *url* without the name and password that may stand in it."""
    parts = urlsplit(url)
    _, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{HIDDEN}@{host}" if at else host).geturl()


class Redactor:
    """Replaces credentials wherever they stand.

    Those that it knows, in any spelling, and whatever stands where only credentials do: before
    the host of an address, or under a name such as ``api_key``.

    Args:
        settings: a destination's, or anything made of settings; those in its secret fields.
        more: further ones.
    """

    def __init__(self, settings: object = None, more: Iterable[str] = ()) -> None:
        held = {*secrets_of(settings), *(secret for secret in more if len(secret) >= SHORTEST)}
        self._hide(text for secret in held for text in spellings(secret))

    def _hide(self, texts: Iterable[str]) -> None:
        self._secrets = sorted(set(texts), key=len, reverse=True)

    @property
    def longest(self) -> int:
        """Return how long the longest spelling of a credential is: what may straddle a cut."""
        return len(self._secrets[0]) if self._secrets else 0

    def along(self, other: Self) -> Self:
        """Return one that hides what this one and *other* hide."""
        return self.also(other._secrets)

    def also(self, more: Iterable[str]) -> Self:
        """Return one that hides *more* besides, each as it is spelt there."""
        other = type(self)()
        other._hide((*self._secrets, *(one for one in more if len(one) >= SHORTEST)))  # noqa: SLF001 - it is one of us
        return other

    def text(self, text: str) -> str:
        """Return *text* without credentials."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        if "://" in text:
            text = _USERINFO.sub(f"{HIDDEN}@", text)
        return text_without_secrets(text)

    def cut(self, text: str) -> str:
        """Return *text*, which may have been cut off, without even the beginning of a credential.

        Four characters of one or more at the very end count as such.
        """
        text = self.text(text)
        end = text[-self.longest :] if self._secrets else ""
        for secret in self._secrets:
            at = end.find(secret[:SHORTEST])
            while at >= 0:
                if secret.startswith(end[at:]):
                    return text[: len(text) - len(end) + at] + HIDDEN
                at = end.find(secret[:SHORTEST], at + 1)
        return text

    def request(self, request: Request) -> dict[str, Any]:
        """Return *request* as JSON values without credentials."""
        return {
            "method": request.method,
            "url": self.text(request.url),
            "headers": {name: self.text(value) for name, value in request.headers.items()},
            "body": self.text(request.body.decode("utf-8", "replace")),
        }

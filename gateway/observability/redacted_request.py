"""Redact requests for display: no credentials, readable bodies."""

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import orjson

from gateway.http import Request
from gateway.json_text import dumps, loads
from gateway.plugin.vendor import Input
from gateway.redact import HIDDEN, is_secret, without_secrets

SCHEMES = frozenset({"basic", "bearer", "digest", "token"})


class RedactedRequest(msgspec.Struct, frozen=True):
    """A request without credentials."""

    method: str
    url: str
    headers: dict[str, str]
    body: str
    """The text, indented if it is JSON; empty if it cannot be shown."""
    unread: str = ""
    """Why the body is not shown."""


def redact_received(request: Request, reads: type[Input] | None) -> RedactedRequest:
    """Return a stored request without the credentials in its headers and its body.

    Args:
        request: the request as received.
        reads: its vendor's input; None if it is not installed, so that nobody knows where the
            credentials are.
    """
    hidden = frozenset() if reads is None else reads.credential_headers
    headers = {
        name: HIDDEN if reads is None or name in hidden or is_secret(name) else value
        for name, value in request.headers.items()
    }
    body, unread = "", ""
    if reads is None:
        size = len(request.body)
        unread = f"{size} bytes; the plugin that can read them is not installed"
    else:
        try:
            payload = reads().decode(request)
            credential = reads().credential(request, payload)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; show the rest
            unread = f"{len(request.body)} bytes that {reads.name} cannot read: {error!r}"
        else:
            try:
                shown = _without(payload, credential)
                body = "" if shown == HIDDEN else indented(dumps(shown).decode())
            except (RecursionError, orjson.JSONEncodeError):
                body = ""
            if not body:
                unread = f"{len(request.body)} bytes, nested too deeply to be shown"
    return RedactedRequest(request.method, request.path, headers, body, unread)


def redact_sent(rendered: bytes) -> RedactedRequest | None:
    """Return the request that a dead letter stored; None if nothing was sent."""
    if not rendered:
        return None
    kept = orjson.loads(rendered)
    return RedactedRequest(kept["method"], kept["url"], kept["headers"], indented(kept["body"]))


def redact_texts(shown: RedactedRequest, hide: Callable[[str], str]) -> RedactedRequest:
    """Return a request with *hide* applied to its texts."""
    headers = {
        hide(name): _credential(value) if is_secret(name) else hide(value)
        for name, value in shown.headers.items()
    }
    body, unread = hide(shown.body), hide(shown.unread)
    return RedactedRequest(shown.method, hide(shown.url), headers, body, unread)


def _credential(value: str) -> str:
    """Return the scheme of a credential in a header (RFC 9110, section 11.4), and hide the rest."""
    scheme, _, rest = value.partition(" ")
    return f"{scheme} {HIDDEN}" if rest and scheme.lower() in SCHEMES else HIDDEN


def _without(value: Any, credential: str | None) -> Any:
    return _unlike(without_secrets(value), credential)


def _unlike(value: Any, credential: str | None) -> Any:
    if isinstance(value, dict):
        return {name: _unlike(inner, credential) for name, inner in value.items()}
    if isinstance(value, list):
        return [_unlike(inner, credential) for inner in value]
    return HIDDEN if credential and value == credential else value


def indented(body: str) -> str:
    """Return a body for display: JSON is indented, other text is unchanged.

    JSON that is nested too deeply is unchanged too: the writer supports fewer levels than the
    parser.
    """
    with contextlib.suppress(orjson.JSONDecodeError, orjson.JSONEncodeError):
        return dumps(loads(body), option=orjson.OPT_INDENT_2).decode()
    return body

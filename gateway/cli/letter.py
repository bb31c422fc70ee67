"""One dead letter, told in lines; credentials are not among them."""

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson

from gateway import plugins
from gateway.exchange import Request
from gateway.redact import HIDDEN
from gateway.spool import Dead

SECRET = re.compile(r"(?:secret|password|api_?key|write_?key)$", re.IGNORECASE)
"""Names of members of a body that may hold a second credential."""


def written(at: float) -> str:
    """Return Unix seconds as a person reads them, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def lines(letter: Dead) -> Iterator[str]:
    """Yield what there is to know of *letter*, in the order in which it happened."""
    entry = letter.entry
    yield f"dead letter {letter.id} of {letter.destination}"
    yield f"  event     {letter.event_name or '(no name)'}, number {letter.index} of {entry.id}"
    yield f"  user      {letter.user or '(none)'}"
    if route := entry.route(letter.destination, letter.mark.index):
        yield f"  route     {route}, after whose steps it is sent"
    yield f"  given up  {written(letter.at)} UTC, {letter.cause}: {letter.reason}"
    yield ""
    yield f"received at {written(entry.request.received_at.timestamp())} UTC by {entry.source}"
    yield from _received(entry.vendor, entry.request)
    for number, attempt in enumerate(letter.attempts, start=1):
        answer = "no answer" if attempt.status is None else f"HTTP {attempt.status}"
        yield ""
        yield f"attempt {number} at {written(attempt.at)} UTC: {answer} in {attempt.latency:.3f} s"
        yield f"  {attempt.said}"
    if letter.rendered:
        yield ""
        yield "sent last"
        yield from _sent(letter.rendered)


def _sent(rendered: bytes) -> Iterator[str]:
    sent = orjson.loads(rendered)
    yield f"  {sent['method']} {sent['url']}"
    yield from (f"  {name}: {value}" for name, value in sent["headers"].items())
    yield from _indented(sent["body"])


def _received(vendor: str, request: Request) -> Iterator[str]:
    """Yield a stored request, without the credential that may stand in its body."""
    reads = plugins.load().inputs.get(vendor)
    yield f"  {request.method} {request.path}"
    hidden = frozenset() if reads is None else reads.credential_headers
    for name, value in request.headers.items():
        yield f"  {name}: {HIDDEN if reads is None or name in hidden else value}"
    if reads is None:
        yield f"  ({len(request.body)} bytes; the plugin that could read them is not installed)"
        return
    try:
        payload = reads().decode(request)
        credential = reads().credential(request, payload)
    except Exception as error:  # noqa: BLE001 - whatever a plugin trips over, the rest is worth showing
        yield f"  ({len(request.body)} bytes that {vendor} cannot read: {error!r})"
        return
    yield from _indented(orjson.dumps(_hidden(payload, credential)).decode())


def _hidden(value: Any, credential: str | None) -> Any:
    if isinstance(value, dict):
        return {
            name: HIDDEN if SECRET.search(name) and inner else _hidden(inner, credential)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_hidden(inner, credential) for inner in value]
    return HIDDEN if credential and value == credential else value


def _indented(body: str) -> Iterator[str]:
    with contextlib.suppress(orjson.JSONDecodeError):
        body = orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()
    yield from (f"  {line}" for line in body.splitlines())

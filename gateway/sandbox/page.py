"""Render the page that shows the journal; a script in it adds new entries."""

import base64
import hashlib
import re
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from itertools import islice
from typing import Final
from urllib.parse import quote

import orjson

from gateway.http import Request, Response
from gateway.json_text import dumps, loads
from gateway.sandbox.journal import ACCEPTED, REFUSED, Journal, JournalEntry

NEWEST: Final = 200
"""Rows of a new page, and of one update; the script has its own limit for the whole page."""
LONGEST: Final = 20_000
"""Characters that the page shows of a body; the journal's JSON has the whole body."""

_TEMPLATE: Final = files("gateway.sandbox").joinpath("page.html").read_text("utf-8")


def _allowed(tag: str) -> str:
    """Return the CSP source that allows only the template's own inline ``tag``."""
    inline = _TEMPLATE.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
    digest = hashlib.sha256(inline.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


HEADERS: Final = {
    "content-security-policy": f"default-src 'none'; connect-src 'self'; img-src data:; "
    f"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"script-src {_allowed('script')}; style-src {_allowed('style')}",
    "cache-control": "no-store",
}
"""The CSP stops scripts in bodies even if an escape is forgotten."""


def render(journal: Journal, vendors: list[str], vendor: str | None) -> bytes:
    """Return the page with the newest entries, of one vendor if given."""
    stream = {"after": journal.last, "vendor": vendor or ""}
    parts = {
        "@FILTERS@": _filters(journal, vendors, vendor or ""),
        "@ROWS@": "".join(row(entry) for entry in islice(journal.newest(vendor), NEWEST)),
        "@STREAM@": escape(orjson.dumps(stream).decode()),
    }
    return re.sub("@[A-Z]+@", lambda found: parts[found[0]], _TEMPLATE).encode()


def counts(journal: Journal, vendors: list[str]) -> dict[str, list[int]]:
    """Return how many requests each vendor accepted and refused; ``""`` has the totals."""
    totals = journal.counts
    each = {name: [totals[name, ACCEPTED], totals[name, REFUSED]] for name in vendors}
    return {"": [sum(both) for both in zip([0, 0], *each.values(), strict=True)], **each}


def row(entry: JournalEntry) -> str:
    """Return an entry as two table rows, the second one collapsed."""
    request = entry.request
    at = request.received_at
    clock = f"{at:%H:%M:%S}.{at.microsecond // 1000:03}"
    status = entry.response.status if entry.response else "no response"
    return (
        f'<tbody><tr class="{entry.verdict}">'
        f'<td><time datetime="{at.isoformat()}">{clock}</time></td>'
        f"<td>{escape(entry.vendor)}</td>"
        f'<td><button type="button" aria-expanded="false"><b>{escape(request.method)}</b> '
        f"{escape(request.url)}</button></td>"
        f'<td><span class="verdict">{entry.verdict}</span> {status}</td>'
        f"<td>{escape(entry.reason or '')}</td></tr>"
        f'<tr hidden><td colspan="5"><div class="pair">{_request(request)}'
        f"{_answer(entry.response)}</div></td></tr></tbody>"
    )


def _filters(journal: Journal, vendors: list[str], chosen: str) -> str:
    return "\n".join(
        _filter(name, both, chosen=name == chosen)
        for name, both in counts(journal, vendors).items()
    )


def _filter(name: str, both: list[int], *, chosen: bool) -> str:
    href = f"/?vendor={quote(name)}" if name else "/"
    current = ' aria-current="page"' if chosen else ""
    good, bad = both
    return (
        f'<a href="{escape(href)}" data-vendor="{escape(name)}"{current}>{escape(name) or "all"} '
        f'<span class="good" title="accepted">{good}</span> '
        f'<span class="bad" title="refused">{bad}</span></a>'
    )


def _request(request: Request) -> str:
    return f"<section><h2>Request</h2>{_message(request.headers, request.body)}</section>"


def _answer(response: Response | None) -> str:
    if response is None:
        return "<section><h2>No response</h2></section>"
    said = _message(response.headers, response.body)
    return f"<section><h2>Response {response.status}</h2>{said}</section>"


def _message(headers: Mapping[str, str], body: bytes) -> str:
    listed = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in headers.items())
    return f"<dl>{listed}</dl><pre>{escape(_pretty(body))}</pre>"


def _pretty(body: bytes) -> str:
    """Return JSON indented; anything else, and JSON that is nested too deeply, unchanged."""
    if not body:
        return "(no body)"
    try:
        text = dumps(loads(body), option=orjson.OPT_INDENT_2).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        text = body.decode("utf-8", "replace")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}\n… (of {len(text):,} characters)"

"""Samples: one JSON file per case, in the order of the data path.

    about       what the case shows, in one sentence
    source      the URL of the document or code that the request is taken from
    request     method, url, headers, body (JSON, or text for a body that is none)
    events      what the gateway makes of it (`gateway.event.as_json`, less id, arrival, origin)
    answer      status, body (JSON, or "base64:…" for bytes that are none), and the headers that
                matter: what the sender reads back
    deliveries  per event, what goes out to the same vendor: method, url, headers, body;
                or {"declined": reason}

Samples are written by hand from the vendor's documents, never recorded from the code's output.
"""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from gateway.event import Event, as_json
from gateway.exchange import Request

Sample: TypeAlias = dict[str, Any]

ARRIVAL = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
"""When every sample is said to have arrived: Unix time 1767323045."""
REQUEST_ID = "sample"


def load_samples(folder: Path) -> dict[str, Sample]:
    """Return the samples in *folder* by file name.

    Raises:
        FileNotFoundError: it has none.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise FileNotFoundError(f"no samples (*.json) in {folder}")
    return {path.stem: orjson.loads(path.read_bytes()) for path in paths}


def request_of(sample: Sample) -> Request:
    """Return the request of *sample*, as the gateway would hand it to an input."""
    raw = sample["request"]
    body = raw.get("body", "")
    return Request(
        method=raw["method"],
        url=raw["url"],
        headers={name.lower(): value for name, value in raw.get("headers", {}).items()},
        body=body.encode() if isinstance(body, str) else orjson.dumps(body),
        id=REQUEST_ID,
        received_at=ARRIVAL,
    )


def plain(event: Event) -> dict[str, Any]:
    """Return *event* as a sample shows it."""
    shown: dict[str, Any] = orjson.loads(orjson.dumps(as_json(event)))
    for own in ("id", "received_at", "origin"):
        shown.pop(own, None)
    return shown


def json_of(body: bytes) -> Any:
    """Return *body* as JSON values; None for an empty one, base64 for one that is no JSON."""
    try:
        return orjson.loads(body) if body else None
    except orjson.JSONDecodeError:
        return f"base64:{base64.b64encode(body).decode()}"


def paths_in(node: Any, here: str = "") -> Iterator[str]:
    """Yield the dotted paths that a JSON value holds; ``[]`` marks the members of an array."""
    if isinstance(node, dict):
        for key, below in node.items():
            yield from paths_in(below, f"{here}.{key}".removeprefix("."))
    elif isinstance(node, list):
        for item in node:
            yield from paths_in(item, f"{here}[]")
    if here and node is not None:
        yield here

"""Journeys: what an expert on both vendors expects of a visit, an order, a withdrawal.

One JSON file per journey:

    about      who does what, in one sentence
    source     the vendor in whose format the requests are
    settings   settings of destinations, beside those of ``config/gateway.toml``
    documents  per destination, the sections that the expected payloads follow
    steps      each with its description (``about``), the ``request``, and the requests that are
               ``sent``: per destination a list of ``{method, path, body}`` in order.
               ``{"as_it_came": {…}}`` is the request itself with these members replaced in its
               body; ``{"declined": …}`` is no request, with words of the reason.

``{session}`` is an id that the gateway derives: one per journey and destination. ``{id}`` is the
gateway's own id of an event. Growlytics' attributes have no order.

The payloads are written by hand from the vendors' documents, never recorded from the output.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import orjson

from gateway.config.loader.load import load
from gateway.errors import Unrenderable
from gateway.http import Request
from gateway.plugin.registry import PluginRegistry
from gateway.plugin.vendor import Output
from gateway.verdict import Declined

Journey: TypeAlias = dict[str, Any]
Sent: TypeAlias = dict[str, Any]

FOLDER = Path(__file__).parent
ARRIVAL = datetime(2026, 5, 4, 10, 11, 12, tzinfo=UTC)
HOST = "https://vendor.example"
"""Address of every destination; without a path, so that the paths are the documents'."""
REQUEST_ID = "18a3f0c2b7d4e100a1b2c3d4"


def journeys() -> dict[str, Journey]:
    """Return the journeys by file name."""
    return {path.stem: orjson.loads(path.read_bytes()) for path in sorted(FOLDER.glob("*.json"))}


def outputs(journey: Journey, registry: PluginRegistry) -> dict[str, Output]:
    """Return the destinations of ``config/gateway.toml`` at an address without a path."""
    configured = load(FOLDER.parents[1] / "config/gateway.toml", registry, {}).destinations
    return dict(_outputs(journey.get("settings", {}), configured, registry))


def sent(
    journey: Journey, step: Mapping[str, Any], output: Output, registry: PluginRegistry
) -> list[Sent]:
    """Return the requests to *output* for the request of *step*."""
    raw = step["request"]
    request = Request(
        method=raw["method"],
        url=raw["url"],
        headers={"content-type": "application/json"},
        body=orjson.dumps(raw["body"]),
        id=REQUEST_ID,
        received_at=ARRIVAL,
    )
    if output.name == journey["source"]:
        forwarded = output.forward(request)
        if forwarded is not None:
            return [_shown(forwarded)]
    events = registry.inputs[journey["source"]]().parse(request)
    return [one for event in events for one in _rendered(output, event)]


def expected(step: Mapping[str, Any], vendor: str) -> list[Sent]:
    """Return the requests to *vendor* by *step*; "as_it_came" stands for the request itself."""
    raw = step["request"]
    said = step["sent"][vendor]
    return [
        {"method": raw["method"], "path": raw["url"], "body": {**raw["body"], **one["as_it_came"]}}
        if "as_it_came" in one
        else one
        for one in (said if isinstance(said, list) else [said])
    ]


def _outputs(
    settings: Mapping[str, Any], configured: Mapping[str, Any], registry: PluginRegistry
) -> Iterator[tuple[str, Output]]:
    for destination in configured.values():
        kind = registry.outputs[destination.vendor]
        given = destination.settings.model_dump(exclude_unset=True)
        further = {"url": HOST, **settings.get(destination.vendor, {})}
        yield destination.vendor, kind(kind.Config.model_validate({**given, **further}))


def _rendered(output: Output, event: Any) -> Iterator[Sent]:
    try:
        request = output.render(event)
    except Unrenderable as error:
        request = Declined(str(error))
    if isinstance(request, Declined):
        yield {"declined": request.reason}
        return
    yield from map(_shown, (request, *request.also))


def _shown(request: Request) -> Sent:
    target = urlsplit(request.url)
    path = f"{target.path}?{target.query}" if target.query else target.path
    return {"method": request.method, "path": path, "body": orjson.loads(request.body)}

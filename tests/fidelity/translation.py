"""Translate one request of a vendor into the requests for each vendor."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import orjson

from gateway.errors import Rejected
from gateway.event import Event
from gateway.http import Request
from gateway.plugin.registry import load_plugins, placeholder_output
from gateway.plugin.vendor import Output
from gateway.verdict import Declined

REGISTRY = load_plugins()
INPUTS = {name: reads() for name, reads in REGISTRY.inputs.items()}
OUTPUTS = {
    name: placeholder_output(output, every=True) for name, output in REGISTRY.outputs.items()
}
ARRIVAL = datetime(2026, 5, 4, 10, 11, 12, tzinfo=UTC)
SHOP = "0d42fd8b713d0752776ca589cc0056"


def read(source: str, path: str, body: Any) -> list[Event]:
    """Return the events of *body*, posted to *path*."""
    return INPUTS[source].parse(_request(path, body))


def refused(source: str, path: str, body: Any) -> int:
    """Return the status of the refusal of *body*; 0 if it is accepted."""
    request = _request(path, body)
    try:
        INPUTS[source].parse(request)
    except Rejected as error:
        return INPUTS[source].refuse(request, error).status
    return 0


def configured(vendor: str, **settings: Any) -> Output:
    """Return the output of *vendor* with *settings* and placeholders for required ones."""
    given = OUTPUTS[vendor].config.model_dump(exclude_unset=True)
    output = REGISTRY.outputs[vendor]
    return output(output.Config.model_validate({**given, **settings}))


def sent(event: Event, to: str | Output) -> tuple[str, dict[str, Any]]:
    """Return the path and the body of the request that delivers *event*."""
    output = OUTPUTS[to] if isinstance(to, str) else to
    request = output.render(event)
    assert not isinstance(request, Declined), request.reason
    target = urlsplit(request.url)
    path = f"{target.path}?{target.query}" if target.query else target.path
    return path, orjson.loads(request.body)


def translated(source: str, path: str, body: Any, to: str | Output) -> tuple[str, dict[str, Any]]:
    """Return the path and the body of the only request for *to* from *body*."""
    (event,) = read(source, path, body)
    return sent(event, to)


def attributes(body: dict[str, Any]) -> dict[str, Any]:
    """Return Growlytics' attributes by name."""
    return {item["name"]: item["value"] for item in body["attributes"]}


def types(body: dict[str, Any]) -> dict[str, str]:
    """Return the types of Growlytics' attributes by name."""
    return {item["name"]: item["type"] for item in body["attributes"]}


def _request(path: str, body: Any) -> Request:
    return Request(
        method="POST",
        url=path,
        headers={"content-type": "application/json"},
        body=orjson.dumps(body),
        id="18a3f0c2b7d4e100a1b2c3d4",
        received_at=ARRIVAL,
    )

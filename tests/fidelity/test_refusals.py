"""A request accepted by the gateway is accepted by the vendor, forwarded or rendered."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path as Folder
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from gateway.errors import Rejected
from gateway.http import Request
from gateway.plugin.vendor import Output
from gateway.testing.samples import load_samples, request_of
from gateway.verdict import Declined
from tests.fidelity.translation import INPUTS, OUTPUTS, REGISTRY, SHOP, refused

SAMPLES = Folder(__file__).parent.parent / "vendors"
ABSENT = object()
ODD: tuple[Any, ...] = (ABSENT, "", 7, {"a": 1}, "x" * 60)


def places(node: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value inside *node*."""
    members = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in members:
        yield (*above, key)
        if isinstance(value, dict | list):
            yield from places(value, (*above, key))


def changed(body: Any, place: tuple[Any, ...], value: Any) -> Any:
    """Return *body* with *value* at *place*, or without that place."""
    copy = deepcopy(body)
    node = copy
    for key in place[:-1]:
        node = node[key]
    if value is ABSENT:
        del node[place[-1]]
    else:
        node[place[-1]] = value
    return copy


def taken(vendor: str, output: Output, request: Request) -> bool:
    """Return whether the vendor's strict sandbox accepts *request*."""
    path = request.url.removeprefix(output.config.url.rstrip("/"))
    judged = REGISTRY.sandboxes[vendor]().respond(replace(request, url=path), None)
    return judged.response.status < 300


@pytest.mark.parametrize("vendor", REGISTRY.formats)
def test_nothing_is_accepted_and_then_refused(vendor: str) -> None:
    """A documented request with an odd value is rejected here or accepted by the vendor."""
    reads, output = INPUTS[vendor], OUTPUTS[vendor]
    tried = 0
    for sample in load_samples(SAMPLES / vendor).values():
        whole, body = request_of(sample), sample["request"].get("body")
        if not isinstance(body, dict):
            continue
        for place in places(body):
            for value in ODD:
                request = replace(whole, body=orjson.dumps(changed(body, place, value)))
                try:
                    events = reads.parse(request)
                except Rejected:
                    continue
                tried += 1
                forwarded = output.forward(request)
                if forwarded is not None and taken(vendor, output, forwarded):
                    continue
                for event in events:
                    written = output.render(event)
                    if isinstance(written, Declined):
                        assert vendor == "segment", (place, value, written.reason)
                        continue  # Segment documents 200, even if it drops the call later
                    assert taken(vendor, output, written), (place, value, written.body)
    assert tried


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/track/received", {"shop_id": SHOP, "type": "chain", "stream": "ios"}, 403),
        ("/track/closed", {"shop_id": SHOP, "code": "c", "type": "x", "stream": "ios"}, 403),
        ("/track/clicked", {"shop_id": "", "code": "c", "type": "chain", "stream": "ios"}, 403),
        (
            "/push",
            {"shop_id": "", "event": "view", "did": "d", "seance": "s", "stream": "web"},
            400,
        ),
        ("/push/custom", {"shop_id": " ", "event": "e", "did": "d", "seance": "s"}, 400),
        ("/push", {"event": "view", "did": "d", "seance": "s", "stream": "web"}, 403),
    ],
)
def test_personaclick_refuses_with_the_documented_status(
    path: str, body: dict[str, Any], status: int
) -> None:
    """PersonaClick's input refuses with 400 or 403, as documented for each call."""
    assert refused("personaclick", path, body) == status

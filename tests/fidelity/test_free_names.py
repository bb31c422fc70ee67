"""Free field names have no special meaning for the gateway."""

from typing import Any

import pytest

from tests.fidelity.translation import attributes, read, translated

LOOSE = {"type": "annual", "version": "3.2", "channel": "email", "timestamp": "2024-01-01"}
NESTED = {"context": {"a": 1}, "traits": {"b": 2}, "integrations": {}, "previousId": "p"}
LISTS: list[Any] = [["SKU1", "SKU2"], [1, 2], [["a"]], "SKU1", {"a": 1}]


@pytest.mark.parametrize("given", [LOOSE, NESTED, {"event": "fair"}, {"sentAt": "x", "groupId": 5}])
def test_chrts_loose_names_are_properties(given: dict[str, Any]) -> None:
    """In a body with chrts' ``name``, Segment's envelope names are plain properties."""
    body = {"uid": "u1", "name": "subscription-renewed", "plan": "pro", **given}
    (event,) = read("chrts", "/event/track", body)
    assert event.properties.extra == {"plan": "pro", **given}
    assert event.timestamp is None
    assert event.context.channel is None


def test_a_segment_shaped_body_keeps_its_envelope() -> None:
    """In a body with ``event``, or of the type track, Segment's envelope is not a property."""
    envelope = {"messageId": "m1", "timestamp": "2024-01-01T00:00:00Z", "context": {"ip": "::1"}}
    for body in ({"userId": "u1", "event": "n"}, {"userId": "u1", "name": "n", "type": "track"}):
        (event,) = read("chrts", "/event/track", {**body, **envelope, "plan": "pro"})
        assert event.properties.extra == {"plan": "pro"}
        assert event.message_id == "m1"
        assert event.timestamp is not None


@pytest.mark.parametrize("listed", LISTS)
@pytest.mark.parametrize("name", ["compare-opened", "Product Viewed"])
def test_invalid_products_stay_a_property(listed: Any, name: str) -> None:
    """A ``products`` value that is no list of objects arrives unchanged."""
    wanted = {"products": listed}
    chrts = {"uid": "u1", "name": name, **wanted}
    segment = {"type": "track", "userId": "u1", "event": name, "properties": wanted}
    for source, path, body in (("chrts", "/event/track", chrts), ("segment", "/v1/track", segment)):
        (event,) = read(source, path, body)
        assert event.properties.products == ()
        assert translated(source, path, body, "chrts")[1]["properties"]["products"] == listed
        assert translated(source, path, body, "segment")[1]["properties"]["products"] == listed
        said = translated(source, path, body, "tracardi")[1]["events"][0]
        assert said["properties"]["products"] == listed


def test_products_of_a_list_are_text_at_growlytics() -> None:
    """A list of texts is sent to Growlytics as JSON text."""
    body = {"uid": "u1", "name": "compare-opened", "products": ["SKU1", "SKU2"]}
    _, said = translated("chrts", "/event/track", body, "growlytics")
    assert attributes(said)["products"] == '["SKU1","SKU2"]'

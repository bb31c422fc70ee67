"""An event keeps its time at every destination that has a place for it."""

from typing import Any

import pytest
from msgspec.structs import replace
from pydantic import ValidationError

from tests.fidelity.translation import (
    SHOP,
    attributes,
    configured,
    read,
    sent,
    translated,
    types,
)

OLD = "2016-03-04T05:06:07Z"
ORDER = {
    "type": "track",
    "userId": "u",
    "event": "Order Shipped",
    "timestamp": OLD,
    "properties": {"parcel": 7},
    "context": {
        "page": {"url": "https://shop.example/orders", "title": "Orders"},
        "campaign": {"name": "may", "source": "mail", "medium": "email"},
        "channel": "web",
        "device": {"type": "phone"},
        "os": {"name": "iOS"},
        "sessionId": "s-1",
        "consent": {"categoryPreferences": {"ads": False}},
    },
}


def test_an_old_event_does_not_count_as_todays() -> None:
    """Every vendor with free properties gets the event's time."""
    (event,) = read("segment", "/v1/track", ORDER)
    assert sent(event, "chrts")[1]["properties"]["timestamp"] == "2016-03-04T05:06:07.000Z"
    _, growlytics = sent(event, "growlytics")
    assert attributes(growlytics)["timestamp"] == "2016-03-04 05:06:07"
    assert types(growlytics)["timestamp"] == "date"
    assert sent(event, "personaclick")[1]["time"] == 1457067967


def test_where_it_happened_arrives() -> None:
    """Page, campaign and channel are sent under the vendor's usual names."""
    expected = {
        "page_url": "https://shop.example/orders", "utm_campaign": "may", "utm_source": "mail",
        "utm_medium": "email", "channel": "web",
    }  # fmt: skip
    (event,) = read("segment", "/v1/track", ORDER)
    assert expected.items() <= sent(event, "chrts")[1]["properties"].items()
    assert expected.items() <= attributes(sent(event, "growlytics")[1]).items()
    _, personaclick = sent(event, "personaclick")
    assert personaclick["referer"] == "https://shop.example/orders"
    assert personaclick["utm_campaign"] == "may"
    assert personaclick["stream"] == "web"


@pytest.mark.parametrize("vendor", ["chrts", "growlytics", "personaclick", "segment", "tracardi"])
def test_include_adds_context_fields(vendor: str) -> None:
    """``include`` adds any context field, at any vendor with free properties."""
    asked = ("session_id", "context.page", "context.device.type", "context.os", "consent")
    (event,) = read("segment", "/v1/track", ORDER)
    event = replace(event, origin="elsewhere")
    said = free(vendor, sent(event, configured(vendor, include=asked))[1])
    assert said["session_id"] == "s-1"
    assert said["page_title"] == "Orders"
    assert said["device_type"] == "phone"
    assert said["consent_ads"] is False
    names = {"growlytics": "os.name", "personaclick": "os_name"}
    name = names.get(vendor)
    assert (said[name] if name else said["os"]["name"]) == "iOS"
    assert "page_title" not in free(vendor, sent(event, configured(vendor, include=()))[1])


def free(vendor: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return the free properties of an event in *vendor*'s payload."""
    if vendor == "growlytics":
        return attributes(body)
    if vendor == "tracardi":
        return dict(body["events"][0]["properties"])
    return body if vendor == "personaclick" else dict(body["properties"])


def test_an_own_property_keeps_its_name() -> None:
    """A sender's own ``timestamp`` property is kept; the event's time gets another name."""
    body = {"uid": "u", "name": "renewed", "timestamp": "soon", "channel": "post"}
    _, growlytics = translated("chrts", "/event/track", body, "growlytics")
    said = attributes(growlytics)
    assert (said["timestamp"], said["channel"]) == ("soon", "post")
    assert said["event_timestamp"] == "2026-05-04 10:11:12"


def test_a_vendors_own_event_gets_nothing_added() -> None:
    """An event sent back to its own vendor gets no additional field."""
    body = {"uid": "u", "name": "renewed", "properties": {"plan": "pro"}}
    assert translated("chrts", "/event/track", body, "chrts")[1] == body
    push = {"shop_id": SHOP, "event": "e", "did": "d", "seance": "s", "stream": "web"}
    _, back = translated("personaclick", "/push/custom", push, "personaclick")
    assert {**back, "shop_id": SHOP} == push


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("context.pge", "did you mean context.page"),
        ("timestmp", "did you mean timestamp"),
        ("context.campaign.nme", "did you mean context.campaign.name"),
        ("properties.total", "is not a field of an event"),
    ],
)
def test_a_misspelt_field_stops_the_configuration(path: str, hint: str) -> None:
    """An unknown field in ``include`` is an error that suggests the closest name."""
    with pytest.raises(ValidationError, match=hint):
        configured("chrts", include=(path,))


# Where the time comes from


@pytest.mark.parametrize(
    "time",
    [
        {"insert": OLD},
        {"create": OLD, "insert": "2020-01-01T00:00:00Z"},
        OLD,
        {"insert": 1457067967},
    ],
)
def test_tracardis_metadata_has_the_time(time: Any) -> None:
    """``metadata.time`` is the time of events without one of their own."""
    body = {
        "source": {"id": "3ee63fc6-490a-4fd8-bfb3-bf0c8c8d3387"},
        "metadata": {"time": time},
        "events": [{"type": "x"}, {"type": "y", "time": {"create": "2021-02-03T00:00:00Z"}}],
    }
    first, second = read("tracardi", "/track", body)
    assert first.timestamp is not None
    assert second.timestamp is not None
    assert (first.timestamp.year, second.timestamp.year) == (2016, 2021)


@pytest.mark.parametrize(
    "time", ["{'insert': datetime.datetime(2016)}", None, [1], {"insert": "x"}]
)
def test_metadata_that_cannot_be_read_is_passed_over(time: Any) -> None:
    """An unreadable ``metadata.time``, as the Python SDK sends it, is ignored."""
    body = {
        "source": {"id": "3ee63fc6-490a-4fd8-bfb3-bf0c8c8d3387"},
        "metadata": {"time": time},
        "events": [{"type": "x"}],
    }
    (event,) = read("tracardi", "/track", body)
    assert event.timestamp is None


@pytest.mark.parametrize(
    ("timestamp", "sent_at", "happened"),
    [
        ("2026-05-04T10:00:00Z", "2026-05-04T10:05:12Z", "2026-05-04T10:06:00"),
        ("2026-05-04T10:00:00Z", "2026-05-14T10:11:12Z", "2026-05-04T10:00:00"),
        (OLD, OLD, "2026-05-04T10:11:12"),
        ("2026-05-14T10:00:00Z", "2026-05-14T10:01:00Z", "2026-05-04T10:10:12"),
        ("2030-01-01T00:00:00Z", "2029-01-01T00:00:00Z", "2026-05-04T10:11:12"),
    ],
)
def test_a_clock_is_corrected_within_bounds(timestamp: str, sent_at: str, happened: str) -> None:
    """``sentAt`` corrects a clock that is behind, or at most a day ahead."""
    body = {**ORDER, "timestamp": timestamp, "sentAt": sent_at}
    (event,) = read("segment", "/v1/track", body)
    assert event.timestamp is not None
    assert event.timestamp.isoformat().startswith(happened)

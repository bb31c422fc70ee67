"""Identities arrive under each vendor's documented names and types."""

from typing import Any

import pytest

from gateway.event import Context, Device, Event, Properties, Traits
from gateway.verdict import Declined
from tests.fidelity.translation import (
    OUTPUTS,
    SHOP,
    attributes,
    read,
    refused,
    sent,
    translated,
    types,
)

VIEW = {
    "customer": "c", "timestamp": 1482840417, "eventType": "eventProductView", "productId": "1",
    "userEmail": "ada@b.co",
}  # fmt: skip
TRACK = {
    "type": "track", "event": "Plan Chosen",
    "context": {"traits": {"email": "ada@b.co", "phone": 447700900123}},
}  # fmt: skip
KNOWN_BY_MAIL = [
    ("quartic", "/store/track/event", {**VIEW, "cookie": "c1"}),
    ("quartic", "/store/track/event", VIEW),
    ("segment", "/v1/track", {**TRACK, "anonymousId": "a1"}),
    ("segment", "/v1/track", {**TRACK, "userId": "u1"}),
    (
        "personaclick",
        "/push/custom",
        {"shop_id": SHOP, "event": "plan", "stream": "web", "email": "ada@b.co"},
    ),
    ("growlytics", "/rest-api/event", {"customerId": "ada@b.co", "name": "Plan", "attributes": []}),
]


@pytest.mark.parametrize(("source", "path", "body"), KNOWN_BY_MAIL)
def test_the_address_of_an_event_arrives(source: str, path: str, body: Any) -> None:
    """An event's e-mail reaches every vendor that takes such an event."""
    (event,) = read(source, path, body)
    if source != "chrts":
        assert sent(event, "chrts")[1]["properties"]["email"] == "ada@b.co"
    if source != "growlytics":
        assert attributes(sent(event, "growlytics")[1])["email"] == "ada@b.co"
    if source != "segment":
        assert sent(event, "segment")[1]["context"]["traits"]["email"] == "ada@b.co"
    context = sent(event, "tracardi")[1]["events"][0]["context"]
    assert context["traits"]["email"] == "ada@b.co"
    assert sent(event, "personaclick")[1]["email"] == "ada@b.co"


def test_the_phone_of_an_event_arrives() -> None:
    """A phone number is sent as text under each vendor's usual name."""
    body = {**TRACK, "anonymousId": "a1"}
    assert translated("segment", "/v1/track", body, "chrts")[1]["properties"]["phone"] == (
        "447700900123"
    )
    _, growlytics = translated("segment", "/v1/track", body, "growlytics")
    assert attributes(growlytics)["mobile"] == "447700900123"
    assert types(growlytics)["mobile"] == "string"


def test_a_person_known_by_email_alone_has_one_id() -> None:
    """A person known only by e-mail has the same id in every event."""
    ids = set()
    for name in ("A", "B"):
        event = Event(type="track", name=name, traits=Traits(email="a@b.co"), origin="quartic")
        assert sent(event, "chrts")[1]["uid"] == "a@b.co"
        ids.add(sent(event, "segment")[1]["anonymousId"])
    assert len(ids) == 1
    assert "a@b.co" not in ids
    nobody = Event(type="track", name="A", origin="quartic")
    for vendor in ("chrts", "segment"):
        assert isinstance(OUTPUTS[vendor].render(nobody), Declined)


@pytest.mark.parametrize(
    ("source", "path", "body"),
    [
        (
            "segment",
            "/v1/identify",
            {"type": "identify", "userId": "u", "traits": {"phone": 447700900123, "age": "35"}},
        ),
        (
            "chrts",
            "/customer/identify",
            {"uid": "u", "attributes": {"phone": 447700900123.0, "age": "35"}},
        ),
        (
            "tracardi",
            "/track",
            {
                "source": {"id": "3ee63fc6-490a-4fd8-bfb3-bf0c8c8d3387"},
                "events": [
                    {
                        "type": "profile-update",
                        "properties": {"contact": {"phone": {"main": 447700900123}}, "age": "35"},
                    }
                ],
            },
        ),
        (
            "growlytics",
            "/rest-api/customer",
            {
                "id": "u",
                "attributes": [
                    {"name": "mobile", "type": "number", "value": 447700900123},
                    {"name": "age", "type": "string", "value": "35"},
                ],
            },
        ),
        (
            "personaclick",
            "/profile/set",
            {"shop_id": SHOP, "external_id": "u", "phone": 447700900123, "age": "35"},
        ),
    ],
)
def test_phones_are_text_and_ages_are_numbers(source: str, path: str, body: Any) -> None:
    """Phones are sent as text and ages as numbers, whatever types the client used."""
    (event,) = read(source, path, body)
    assert (event.traits.phone, event.traits.age) == ("447700900123", 35)
    if source != "growlytics":
        _, growlytics = sent(event, "growlytics")
        assert attributes(growlytics)["mobile"] == "447700900123"
        assert (types(growlytics)["mobile"], types(growlytics)["age"]) == ("string", "number")
    personaclick = sent(event, "personaclick")[1]
    assert (personaclick["phone"], personaclick["age"]) == ("447700900123", 35)
    tracardi = sent(event, "tracardi")[1]["events"][0]["properties"]
    assert tracardi["contact"]["phone"] == {"main": "447700900123"}
    assert tracardi["age"] == 35
    traits = sent(event, "segment")[1]["traits"]
    assert (traits["phone"], traits["age"]) == ("447700900123", 35)


# Devices of apps at Quartic


@pytest.mark.parametrize("stream", ["ios", "android"])
def test_an_apps_device_is_a_device(stream: str) -> None:
    """An app's device id is ``deviceId`` at Quartic, and a page's is ``cookie``."""
    body = {
        "shop_id": SHOP, "event": "view", "did": "D1", "seance": "s1", "stream": stream,
        "items": [{"id": "1"}],
    }  # fmt: skip
    _, said = translated("personaclick", "/push", body, "quartic")
    assert said["deviceId"] == "D1"
    assert "cookie" not in said
    _, web = translated("personaclick", "/push", {**body, "stream": "web"}, "quartic")
    assert web["cookie"] == "D1"
    assert "deviceId" not in web


def test_a_visitor_and_a_device_both_arrive() -> None:
    """If an app sends both a device id and an anonymous id, Quartic gets both."""
    context = Context(device=Device(id="D1", type="ios"))
    order = Properties(order_id="1")
    event = Event(
        type="track", name="Product Viewed", anonymous_id="a1", context=context,
        properties=order, origin="segment",
    )  # fmt: skip
    body = {"product_id": "1"}
    (view,) = read(
        "segment",
        "/v1/track",
        {
            "type": "track", "event": "Product Viewed", "anonymousId": "a1", "properties": body,
            "context": {"device": {"id": "D1", "type": "ios"}},
        },
    )  # fmt: skip
    assert view.context == event.context
    _, said = sent(view, "quartic")
    assert (said["deviceId"], said["cookie"]) == ("D1", "a1")


# Growlytics' ids


@pytest.mark.parametrize(
    ("identity", "field"),
    [
        ("ravi@example.com", "email"),
        ("maria.magdalena.kowalska@poczta.example-shop.pl", "email"),
        ("+919919211112", "phone"),
    ],
)
def test_a_growlytics_id_may_be_a_contact(identity: str, field: str) -> None:
    """A Growlytics id that is an e-mail address or a full phone number is also a contact."""
    body = {"id": identity, "attributes": [{"name": "name", "type": "string", "value": "R"}]}
    (event,) = read("growlytics", "/rest-api/customer", body)
    assert getattr(event.traits, field) == identity
    assert event.user_id == identity
    assert event.derived == {f"traits.{field}": "user_id"}
    assert sent(event, "segment")[1]["traits"][field] == identity
    assert sent(event, "growlytics")[1] == body
    if field == "email":
        assert sent(event, "quartic") == ("/store/contact", {"email": identity})


@pytest.mark.parametrize("identity", ["u1", "9919211112", "@x", "a@b"])
def test_another_growlytics_id_is_only_an_id(identity: str) -> None:
    """Any other Growlytics id is only an id."""
    (event,) = read("growlytics", "/rest-api/customer", {"id": identity, "attributes": []})
    assert event.traits == Traits()
    assert event.derived == {}


def test_an_email_attribute_has_priority_over_the_id() -> None:
    """An e-mail attribute has priority over an id that is an e-mail address."""
    mine = {"name": "email", "type": "string", "value": "other@example.com"}
    body = {"id": "ravi@example.com", "attributes": [mine]}
    (event,) = read("growlytics", "/rest-api/customer", body)
    assert event.traits.email == "other@example.com"
    assert refused("growlytics", "/rest-api/customer", {**body, "id": "c" * 300}) == 0

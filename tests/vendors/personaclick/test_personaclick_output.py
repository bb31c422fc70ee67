"""How events of other vendors are sent to PersonaClick."""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import orjson
import pytest

from gateway.event import Campaign, Context, Device, Event, Names, Page, Product, Properties, Traits
from gateway.http import Request, Response
from gateway.verdict import Refused, RetryLater
from plugins.personaclick.output import PersonaclickOutput

URL = "https://personaclick.example"


def output_with(**settings: str) -> PersonaclickOutput:
    """Return an output for the shop ``shop``."""
    config = {"url": URL, "shop_id": "shop", **settings}
    return PersonaclickOutput(PersonaclickOutput.Config.model_validate(config))


PLAIN = output_with()
FULL = output_with(shop_secret="quiet", stream="gate")  # noqa: S106 - made up
SHOES = Product(product_id="42", name="Red shoes", price=59.9, quantity=2)


def track(name: str, properties: Properties | None = None, **more: Any) -> Event:
    """Return a track event of another vendor, with device and session."""
    known = {"anonymous_id": "a1", "session_id": "s1", **more}
    return Event(type="track", name=name, properties=properties or Properties(), **known)


def sent(event: Event, output: PersonaclickOutput = PLAIN) -> tuple[str, dict[str, Any]]:
    """Return the path and the body of the request that delivers *event*."""
    request = output.render(event)
    assert isinstance(request, Request), request
    return request.url.removeprefix(URL), orjson.loads(request.body)


def lost(event: Event, output: PersonaclickOutput = PLAIN) -> dict[str, str]:
    """Return the losses of *event* by path."""
    return {loss.path: loss.how for loss in output.losses(event)}


BASE = {"shop_id": "shop", "did": "a1", "seance": "s1", "stream": "web"}


@pytest.mark.parametrize(
    ("name", "properties", "body"),
    [
        ("Product Viewed", Properties(products=(SHOES,)),
         {"event": "view", "items": [{"id": "42", "price": 59.9}]}),
        ("Product Added", Properties(products=(SHOES,)),
         {"event": "cart", "items": [{"id": "42", "price": 59.9, "amount": 2}]}),
        ("Product Added", Properties(products=(Product(product_id="42"),)),
         {"event": "cart", "items": [{"id": "42", "amount": 1}]}),
        ("Product Removed", Properties(products=(SHOES,)),
         {"event": "remove_from_cart", "items": [{"id": "42", "price": 59.9}]}),
        ("Product Added to Wishlist", Properties(products=(SHOES,)),
         {"event": "wish", "items": [{"id": "42", "price": 59.9}]}),
        ("Product Removed from Wishlist", Properties(products=(SHOES,)),
         {"event": "remove_wish", "items": [{"id": "42", "price": 59.9}]}),
        (Names.CART_UPDATED, Properties(products=(SHOES,)),
         {"event": "cart", "full_cart": True,
          "items": [{"id": "42", "price": 59.9, "quantity": 2}]}),
        (Names.CART_CLEARED, Properties(), {"event": "cart", "full_cart": True}),
        (Names.WISHLIST_UPDATED, Properties(products=(SHOES,)),
         {"event": "wish", "full_wish": True, "items": [{"id": "42", "price": 59.9}]}),
        (Names.WISHLIST_CLEARED, Properties(), {"event": "wish", "full_wish": True}),
        ("Products Searched", Properties(query="shoes"),
         {"event": "search", "search_query": "shoes"}),
        ("Product List Viewed", Properties(list_id="146", category="Shoes"),
         {"event": "category", "category_id": "146"}),
        ("Product List Viewed", Properties(category="shoes"),
         {"event": "category", "category_id": "shoes"}),
        ("Order Completed",
         Properties(order_id="o1", total=72.9, shipping=5, discount=2, coupon="MAY",
                    products=(SHOES,)),
         {"event": "purchase", "order_id": "o1", "order_price": 72.9, "order_delivery": 5,
          "order_discount": 2, "promocode": "MAY",
          "items": [{"id": "42", "price": 59.9, "amount": 2}]}),
    ],
)  # fmt: skip
def test_standard_events_go_out_by_their_own_words(
    name: str, properties: Properties, body: dict[str, Any]
) -> None:
    """A standard event is sent to /push with its documented fields."""
    assert sent(track(name, properties)) == ("/push", {**BASE, **body})


def test_other_events_are_custom() -> None:
    """Any other event is sent to /push/custom with flattened fields."""
    event = track(
        "Plan Chosen",
        Properties(
            category="plans", value=3, coupon="MAY", products=(SHOES, SHOES),
            extra={"label": 7, "planName": "pro", "vip": True, "nested": {"a": 1}, "größe": 4,
                   "email": "not@who.it.is", "at": datetime(2024, 5, 1, tzinfo=UTC)},
        ),
        timestamp=datetime(2024, 5, 1, 12, 0, 0, 250000, UTC),
    )  # fmt: skip
    assert sent(event) == (
        "/push/custom",
        {
            **BASE, "event": "plan_chosen", "category": "plans", "label": "7", "value": 3,
            "time": 1714564800, "coupon": "MAY", "plan_name": "pro", "vip": True, "nested_a": 1,
            "property_email": "not@who.it.is", "at": "2024-05-01T00:00:00Z",
            "products": '[{"product_id":"42","name":"Red shoes","price":59.9,"quantity":2},'
            '{"product_id":"42","name":"Red shoes","price":59.9,"quantity":2}]',
        },
    )  # fmt: skip
    losses = lost(event)
    assert losses.pop("properties.extra.größe") == "lost"
    assert losses == {
        "timestamp": "coerced", "properties.extra.nested": "coerced",
        "properties.extra.at": "coerced", "properties.extra.label": "coerced",
        "properties.products[].product_id": "coerced", "properties.products[].name": "coerced",
        "properties.products[].price": "coerced", "properties.products[].quantity": "coerced",
    }  # fmt: skip


def test_the_only_product_of_a_custom_event_is_flat() -> None:
    """A custom event about one product has the product's fields among its own."""
    path, body = sent(track("Product Shared", Properties(products=(SHOES,))))
    assert path == "/push/custom"
    assert body == {
        **BASE, "event": "product_shared", "product_id": "42", "name": "Red shoes", "price": 59.9,
        "quantity": 2,
    }  # fmt: skip


def test_a_custom_event_says_all_that_the_spec_names() -> None:
    """A custom event has each Spec field of its properties and its only product."""
    product: dict[str, Any] = {
        "product_id": "42", "sku": "S-42", "name": "Red shoes", "brand": "Acme",
        "variant": "wide", "price": 59.9, "quantity": 2, "position": 3,
        "url": "https://shop.example/p/42", "image_url": "https://shop.example/p/42.png",
        "description": "Red, with soles",
    }  # fmt: skip
    properties: dict[str, Any] = {
        "order_id": "o1", "checkout_id": "c1", "cart_id": "b1", "list_id": "l1",
        "wishlist_id": "w1", "wishlist_name": "May", "category": "shoes", "query": "red",
        "affiliation": "Shop", "subtotal": 50, "total": 72.9, "revenue": 67.9, "shipping": 5,
        "tax": 1, "discount": 2, "coupon": "MAY", "currency": "EUR", "value": 9,
    }  # fmt: skip
    shared = Product(**product, extra={"colour": "red"})
    event = track("Product Shared", Properties(**properties, products=(shared,)))
    body = {**BASE, "event": "product_shared", **product, **properties, "colour": "red"}
    assert sent(event) == ("/push/custom", body)
    shared = Product(product_id="42", category="boots", coupon="JUNE")
    _, body = sent(track("Product Shared", Properties(products=(shared,))))
    assert (body["category"], body["coupon"]) == ("boots", "JUNE")


@pytest.mark.parametrize(("value", "said"), [(5, 5), (5.0, 5), (5.5, None), (1e300, None)])
def test_a_custom_value_is_whole(value: float, said: int | None) -> None:
    """``value`` must be an integer; another value is left out and reported as lost."""
    event = track("Rated", Properties(value=value))
    assert sent(event)[1].get("value") == said
    assert ("properties.value" in lost(event)) is (said is None)


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (Event(type="page", name="Home", anonymous_id="a1"), "page_viewed"),
        (Event(type="screen", name="Home", anonymous_id="a1"), "screen_viewed"),
    ],
)
def test_pages_are_custom_events_on_their_page(event: Event, name: str) -> None:
    """A page or screen is a custom event, with its URL in PersonaClick's field."""
    seen = Event(
        type=event.type, name=event.name, anonymous_id="a1", session_id="s1",
        context=Context(page=Page(url="https://shop.example/", title="Shop")),
    )  # fmt: skip
    assert sent(seen) == (
        "/push/custom",
        {
            **BASE,
            "event": name,
            "name": "Home",
            "title": "Shop",
            "referer": "https://shop.example/",
        },
    )
    assert lost(seen) == {}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("Push Notification Received", "/track/received"),
        ("Push Notification Tapped", "/track/clicked"),
        (Names.PUSH_DISPLAYED, "/track/opened"),
        (Names.PUSH_DISMISSED, "/track/closed"),
        (Names.SMS_LINK_CLICKED, "/track/clicked"),
    ],
)
def test_only_its_own_messages_go_out_as_messages(name: str, path: str) -> None:
    """A message event needs PersonaClick's code and type; otherwise it is a custom event."""
    own = Properties(extra={"code": "c1", "type": "bulk"})
    stream = "sms" if name == Names.SMS_LINK_CLICKED else "web"
    expected = {**BASE, "code": "c1", "type": "bulk", "stream": stream}
    assert sent(track(name, own)) == (path, expected)
    numbered = track(name, Properties(extra={"code": 7, "type": "bulk"}))
    assert sent(numbered) == (path, {**expected, "code": "7"})
    for extra in ({}, {"code": "c1"}, {"code": "c1", "type": "push"}, {"code": "", "type": "bulk"}):
        assert sent(track(name, Properties(extra=extra)))[0] == "/push/custom"


def test_a_delivered_message_stays_delivered() -> None:
    """An event from /track/delivered is sent back there, without a loss."""
    own = Properties(extra={"code": "c1", "type": "bulk", "delivered": True})
    event = track("Push Notification Received", own)
    assert sent(event) == ("/track/delivered", {**BASE, "code": "c1", "type": "bulk"})
    assert lost(event) == {}


def test_an_identify_sets_the_profile() -> None:
    """Traits are sent by PersonaClick's names, and other scalars by their own."""
    event = Event(
        type="identify", user_id="u1", anonymous_id="a1", session_id="s1",
        traits=Traits(
            email="ada@shop.example", phone="+44", first_name="Ada", last_name="L",
            gender="Female", birthday="1990-12-10T00:00:00Z", age=33.5, name="Ada L",
            address={"city": "London"},
            extra={"favouriteColour": "red", "vip": True, "deep": [1], "kids": [{"gender": "m"}]},
        ),
        consent={"newsletter": True},
    )  # fmt: skip
    assert sent(event, FULL) == (
        "/profile/set",
        {
            **BASE, "stream": "gate", "shop_secret": "quiet", "external_id": "u1",
            "email": "ada@shop.example", "phone": "+44", "first_name": "Ada", "last_name": "L",
            "gender": "f", "birthday": "1990-12-10", "age": 33, "name": "Ada L",
            "favourite_colour": "red", "vip": True, "kids": [{"gender": "m"}],
            "location": "London", "address_city": "London", "deep": "[1]", "newsletter": True,
        },
    )  # fmt: skip
    assert lost(event) == {
        "traits.address": "coerced", "traits.extra.deep": "coerced",
        "traits.gender": "coerced", "traits.birthday": "coerced", "traits.age": "coerced",
    }  # fmt: skip


@pytest.mark.parametrize(
    "traits",
    [
        Traits(gender="unknown"),
        Traits(birthday="31.12.1990"),
        Traits(birthday="1990-02-30"),
        Traits(email="nobody"),
        Traits(extra={"gender": 1}),
        Traits(extra={"location": {"city": "London"}}),
    ],
)
def test_an_invalid_trait_is_left_out(traits: Traits) -> None:
    """A trait that PersonaClick rejects is left out and reported as lost."""
    event = Event(type="identify", anonymous_id="a1", session_id="s1", traits=traits)
    assert sent(event) == ("/profile/set", BASE)
    assert list(lost(event).values()) == ["lost"]


def test_keeps_an_order_within_bounds() -> None:
    """Quantities are limited to 1 to 1000; invalid values are left out and reported as lost."""
    products = (
        Product(product_id="a", quantity=0, price=-1, variant=" "),
        Product(product_id="x" * 256),
        Product(product_id="b", quantity=2.5, extra={"line_id": 5}),
        Product(product_id="c", quantity=1001),
    )
    event = track(
        "Order Completed",
        Properties(
            order_id="o" * 256, coupon="", revenue=60, shipping=5, tax=10, products=products,
            extra={
                "order_cash": "12.5", "order_bonuses": "many", "tax_free": 1,
                "delivery_type": "post",
                "custom": {"boxes": 2, "vip": True, "weight": 1.5, "deep": []},
            },
        ),
    )  # fmt: skip
    assert sent(event) == (
        "/push",
        {
            **BASE, "event": "purchase", "order_price": 75, "order_delivery": 5,
            "order_cash": 12.5, "delivery_type": "post",
            "custom": {"boxes": 2, "vip": 1, "weight": "1.5"},
            "items": [
                {"id": "a", "amount": 1},
                {"id": "b", "amount": 2, "line_id": "5"},
                {"id": "c", "amount": 1000},
            ],
        },
    )  # fmt: skip
    assert lost(event) == {
        "properties.order_id": "lost",
        "properties.coupon": "lost",
        "properties.revenue": "lost",
        "properties.tax": "lost",
        "properties.products[].price": "lost",
        "properties.products[].variant": "lost",
        "properties.products[].quantity": "coerced",
        "properties.products[].extra.line_id": "coerced",
        "properties.products[1]": "lost",
        "properties.extra.order_cash": "coerced",
        "properties.extra.order_bonuses": "lost",
        "properties.extra.tax_free": "lost",
        "properties.extra.custom": "coerced",
    }


def test_sends_one_product_where_one_is_asked_for() -> None:
    """A view has one product, and the others are reported as lost."""
    event = track("Product Viewed", Properties(products=(SHOES, Product(product_id="43"))))
    assert sent(event)[1]["items"] == [{"id": "42", "price": 59.9}]
    assert lost(event)["properties.products[1]"] == "lost"


KINDS = {"did": "device", "external_id": "user"}


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"anonymous_id": "a1", "user_id": "u1"}, {"did": "a1", "external_id": "u1"}),
        ({"context": Context(device=Device(id="d1"))}, {"did": "d1"}),
        ({"user_id": "u1"}, {"external_id": "u1"}),
        ({"traits": Traits(email="ada@shop.example")}, {"email": "ada@shop.example"}),
        ({"traits": Traits(phone="+44")}, {"phone": "+44"}),
        ({"traits": Traits(extra={"loyalty_id": "LC-7"})}, {"loyalty_id": "LC-7"}),
    ],
)
def test_names_the_person_as_well_as_it_can(known: dict[str, Any], said: dict[str, Any]) -> None:
    """The device is sent if known, else the person; a missing session is derived."""
    event = Event(type="track", name="Plan Chosen", **known)
    field, name = next(iter(said.items()))
    who = f"{KINDS.get(field, 'contact')} {name} 0"
    expected = {
        "shop_id": "shop", "stream": "web", "event": "plan_chosen",
        "seance": sha256(who.encode()).hexdigest()[:10], **said,
    }  # fmt: skip
    assert sent(event) == ("/push/custom", expected)
    assert lost(event) == {}


@pytest.mark.parametrize(
    ("channel", "output", "stream"),
    [
        ("ios", PLAIN, "ios"),
        (None, PLAIN, "web"),
        ("call centre", PLAIN, "web"),
        ("x" * 17, PLAIN, "web"),
        ("my_app", PLAIN, "web"),
        ("ios", FULL, "gate"),
    ],
)
def test_the_stream_is_a_word(channel: str | None, output: PersonaclickOutput, stream: str) -> None:
    """The stream is the configured one, else the channel if it is one word, else web."""
    event = track("Plan Chosen", context=Context(channel=channel))
    assert sent(event, output)[1]["stream"] == stream
    assert ("context.channel" in lost(event, output)) is (channel not in {None, stream})


def test_a_stream_of_its_own_may_have_an_underscore() -> None:
    """A stream with ``_`` from PersonaClick is kept, as newer documentation allows it."""
    event = track("Plan Chosen", origin="personaclick", context=Context(channel="my_app"))
    assert sent(event)[1]["stream"] == "my_app"


@pytest.mark.parametrize(
    ("campaign", "source"),
    [
        (Campaign(medium="chain", name="c1"), '{"from":"chain","code":"c1"}'),
        (Campaign(medium="email", name="may"), None),
        (Campaign(medium="chain"), None),
        (Campaign(name="c1"), None),
    ],
)
def test_only_its_own_campaigns_are_sources(campaign: Campaign, source: str | None) -> None:
    """Only PersonaClick's own campaigns become ``source``; others become utm fields."""
    event = track("Plan Chosen", context=Context(campaign=campaign))
    body = sent(event)[1]
    assert body.get("source") == source
    assert body.get("utm_medium") == campaign.medium
    assert body.get("utm_campaign") == campaign.name
    assert lost(event) == {}


def test_the_secret_goes_out_with_profiles_only() -> None:
    """Only a profile's body has the shop's secret."""
    assert "shop_secret" not in sent(track("Plan Chosen"), FULL)[1]
    assert (
        sent(Event(type="identify", user_id="u1"), FULL)[1].items()
        >= {"shop_secret": "quiet"}.items()
    )


@pytest.mark.parametrize("message", ["Device ID is not valid", "Identifier is not valid"])
def test_an_unknown_person_is_not_a_wrong_key(message: str) -> None:
    """A 401 about the device refuses the event, and does not count as a wrong key."""
    body = orjson.dumps({"status": "error", "payload": {"message": message}})
    assert isinstance(PLAIN.verdict(Response(401, {}, body)), Refused)
    later = PLAIN.verdict(Response(403, {}, b'{"status":"error","message":"Access Denied"}'))
    assert isinstance(later, RetryLater)
    assert later.cause == "credential"


@pytest.mark.parametrize(("path", "said", "goes"), [
    ("/push", "quiet", True), ("/push", "guess", False), ("/push", None, False),
    ("/track/clicked", "guess", False), ("/profile/set", "guess", True),
])  # fmt: skip
def test_a_secret_that_is_not_ours_is_not_forwarded(
    path: str,
    said: str | None,
    goes: bool,  # noqa: FBT001 - a case
) -> None:
    """A request with another secret is rendered anew; a forwarded profile has ours."""
    body = orjson.dumps({"shop_id": "s", "shop_secret": said, "event": "e"})
    sent = FULL.forward(Request(method="POST", url=path, body=body))
    assert (sent is not None) is goes
    assert sent is None or orjson.loads(sent.body)["shop_secret"] == "quiet"  # noqa: S105 - made up

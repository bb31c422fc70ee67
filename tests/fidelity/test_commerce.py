"""Carts and orders arrive whole, with each vendor's field names and no invented values."""

from typing import Any

import pytest

from gateway.event import Event, Product, Properties
from gateway.plugin.commerce import goods, with_amounts
from gateway.verdict import Declined
from tests.fidelity.translation import (
    OUTPUTS,
    SHOP,
    attributes,
    configured,
    read,
    sent,
    translated,
)

UUID = "0d2d9dc5-0d60-471e-956f-8766dcb8aba2"
SOURCE = {"source": {"id": "3ee63fc6-490a-4fd8-bfb3-bf0c8c8d3387"}}
CART = {
    "type": "track", "anonymousId": "a1", "event": "Cart Viewed",
    "properties": {"cart_id": "c1", "products": [{"product_id": "p1", "price": 40, "quantity": 2}]},
}  # fmt: skip


def order(**said: Any) -> Event:
    """Return an order from Segment."""
    return Event(
        type="track", name="Order Completed", user_id="u1", properties=Properties(**said),
        origin="segment",
    )  # fmt: skip


def amounts(event: Event) -> dict[str, float]:
    """Return the amounts of an order, with the derived ones."""
    found = with_amounts(event).properties
    names = ("total", "revenue", "shipping", "tax")
    return {name: value for name in names if (value := getattr(found, name)) is not None}


@pytest.mark.parametrize(
    "said",
    [
        {"products": (Product(product_id="p", price=59.9, quantity=1e308),)},
        {"products": tuple(Product(product_id=p, price=1e308) for p in "ab")},
        {"products": tuple(Product(product_id="p", price=p, quantity=10) for p in (1e308, -1e308))},
        {"products": (Product(product_id="p", price=1.5, quantity=10**400),)},
        {"revenue": 1e308, "shipping": 1e308},
    ],
)
def test_amounts_out_of_range_are_not_computed(said: dict[str, Any]) -> None:
    """Amounts whose sum no float can hold are left as they were sent."""
    sent_with = order(**said)
    found = with_amounts(sent_with).properties
    assert (found.revenue, found.total) == (said.get("revenue"), None)
    assert found.products == sent_with.properties.products
    assert goods(said.get("products", ())) is None


# Carts and lists

SENT_WITH_ALL = {"shop_id", "shop_secret", "external_id", "seance", "stream"}
"""Fields of every PersonaClick profile of a user without a device."""


def test_a_viewed_cart_is_the_whole_cart() -> None:
    """A viewed cart is sent to PersonaClick as the full cart."""
    path, body = translated("segment", "/v1/track", CART, "personaclick")
    assert path == "/push"
    assert (body["event"], body["full_cart"]) == ("cart", True)
    assert body["items"] == [{"id": "p1", "quantity": 2, "price": 40}]
    viewed = {"type": "basket-viewed", "properties": {"products": [{"id": "p1", "quantity": 3}]}}
    _, body = translated("tracardi", "/track", {**SOURCE, "events": [viewed]}, "personaclick")
    assert body["items"] == [{"id": "p1", "quantity": 3}]


@pytest.mark.parametrize("products", [[], [{"name": "no id"}]])
def test_a_cart_of_unknown_content_is_not_emptied(products: list[Any]) -> None:
    """A cart without known products is no cart event, which would clear the user's cart."""
    body = {**CART, "properties": {"cart_id": "c1", "products": products}}
    path, said = translated("segment", "/v1/track", body, "personaclick")
    assert path == "/push/custom"
    assert (said["event"], said["cart_id"]) == ("cart_viewed", "c1")


def test_a_viewed_product_list_is_not_sent_as_a_search() -> None:
    """A viewed product list is sent to Tracardi under its own name, not as a search."""
    body = {
        "type": "track", "userId": "u", "event": "Product List Viewed",
        "properties": {"list_id": "l", "category": "shoes"},
    }  # fmt: skip
    (event,) = sent(read("segment", "/v1/track", body)[0], "tracardi")[1]["events"]
    assert event["type"] == "product-list-viewed"
    assert event["properties"] == {"list_id": "l", "category": "shoes"}
    found = {"type": "product-search-result", "properties": {"category": "shoes"}}
    own = translated("tracardi", "/track", {**SOURCE, "events": [found]}, "tracardi")[1]
    assert own["events"][0]["type"] == "product-search-result"


# Amounts


@pytest.mark.parametrize(
    ("said", "follows"),
    [
        ({"revenue": 40, "shipping": 5, "tax": 2}, {"total": 47}),
        ({"total": 47, "shipping": 5, "tax": 2}, {"revenue": 40}),
        ({"total": 47, "shipping": 7}, {"revenue": 40}),
        ({"total": 47, "revenue": 40, "shipping": 5}, {"tax": 2}),
        ({"total": 47, "revenue": 40, "tax": 2}, {"shipping": 5}),
        ({"total": 47}, {}),
        ({"total": 40, "revenue": 47, "shipping": 5}, {}),
        ({}, {}),
    ],
)
def test_amounts_follow_from_each_other(said: dict[str, Any], follows: dict[str, Any]) -> None:
    """Only amounts that follow from the Spec's sums are derived, and they are marked."""
    event = order(**said)
    assert amounts(event) == {**said, **follows}
    assert with_amounts(event).derived.keys() == {f"properties.{name}" for name in follows}


@pytest.mark.parametrize(
    ("products", "cost"),
    [
        ((Product(price=0.1, quantity=3),), 0.3),
        ((Product(price=5), Product(price=2, quantity=2)), 9),
        ((Product(price=5), Product(quantity=2)), None),
        ((), None),
    ],
)
def test_the_goods_make_the_revenue(products: tuple[Product, ...], cost: float | None) -> None:
    """If every price is known, the revenue is their sum less the order's discount."""
    assert goods(products) == cost
    found = amounts(order(products=products, discount=0.1, shipping=4))
    if cost is None:
        assert found == {"shipping": 4}
    else:
        assert found == {
            "revenue": pytest.approx(cost - 0.1), "total": pytest.approx(cost + 3.9), "shipping": 4
        }  # fmt: skip


def test_a_refund_derives_nothing() -> None:
    """No amount of a refund is derived, since it may be for a part of the order."""
    refund = Event(type="track", name="Order Refunded", properties=Properties(total=5, shipping=1))
    assert with_amounts(refund) is refund


def test_no_vendor_gets_the_marks_of_derived_amounts() -> None:
    """No vendor gets the marks of derived amounts, and the sender gets no derived amount back."""
    basket = [{"productId": "1", "price": 5.5, "quantity": 2}]
    body = {
        "customer": "c", "timestamp": 1482840417, "eventType": "eventTransaction",
        "transactionId": "t1", "cookie": "c1", "basket": basket,
    }  # fmt: skip
    (event,) = read("quartic", "/store/track/event", body)
    assert event.derived == {"properties.total": "properties.products"}
    for vendor in OUTPUTS:
        assert "derived" not in str(sent(event, vendor))
    assert sent(event, "segment")[1]["properties"]["revenue"] == 11
    assert sent(event, "quartic")[1]["basket"] == basket
    back = translated("segment", "/v1/track", {
        "type": "track", "userId": "u", "event": "Order Completed",
        "properties": {"total": 47, "shipping": 7},
    }, "segment")[1]  # fmt: skip
    assert back["properties"] == {"total": 47, "shipping": 7}


def test_the_parts_of_a_purchase_arrive() -> None:
    """The revenue of a PersonaClick purchase is its price less the delivery."""
    body = {
        "shop_id": SHOP, "event": "purchase", "did": "d", "seance": "s", "stream": "web",
        "order_id": "N1", "order_price": 750, "order_delivery": 50, "delivery_type": "courier",
        "payment_type": "card", "items": [{"id": "1", "amount": 2, "price": 350}],
    }  # fmt: skip
    said = translated("personaclick", "/push", body, "segment")[1]["properties"]
    assert (said["total"], said["revenue"], said["shipping"]) == (750, 700, 50)
    assert (said["payment_method"], said["shipping_method"]) == ("card", "courier")


# Products


def test_an_unknown_quantity_is_one() -> None:
    """A product of an order without a quantity counts as one, and the assumption is marked."""
    body = {
        "type": "track", "anonymousId": "a1", "event": "Order Completed",
        "properties": {
            "order_id": "1", "total": 50, "products": [{"product_id": "a", "price": 50}],
        },
    }  # fmt: skip
    _, quartic = translated("segment", "/v1/track", body, "quartic")
    assert quartic["basket"] == [{"productId": "a", "price": 50, "quantity": 1}]
    _, personaclick = translated("segment", "/v1/track", body, "personaclick")
    assert personaclick["items"] == [{"id": "a", "price": 50, "amount": 1}]
    (event,) = read("segment", "/v1/track", body)
    for vendor in ("quartic", "personaclick"):
        call = OUTPUTS[vendor].select(event)
        assert not isinstance(call, Declined)
        assert "properties.products[].quantity" in call.event.derived
    assert "quantity" not in sent(event, "tracardi")[1]["events"][0]["properties"]["products"][0]


def test_a_variant_is_no_size() -> None:
    """A variant is not sent as a size, and a size is sent as one."""
    red = Product(product_id="1", variant="red", price=5, quantity=1)
    assert "fashion_size" not in sent(order(products=(red,)), "personaclick")[1]["items"][0]
    large = Product(product_id="1", price=5, quantity=1, extra={"size": "L"})
    assert sent(order(products=(large,)), "personaclick")[1]["items"][0]["fashion_size"] == "L"
    body = {
        "shop_id": SHOP, "event": "view", "did": "d", "seance": "s", "stream": "web",
        "items": [{"id": "1", "fashion_size": "L"}],
    }  # fmt: skip
    (view,) = read("personaclick", "/push", body)
    assert view.properties.products[0].variant is None
    assert sent(view, "segment")[1]["properties"]["size"] == "L"
    (item,) = sent(view, "tracardi")[1]["events"]
    assert item["properties"]["variant"] == {"size": "L"}


# Orders


def test_methods_and_addresses_arrive() -> None:
    """The Spec's payment and shipping methods have fields at PersonaClick."""
    address = {"street": "1 Main", "city": "London", "postalCode": "N1", "country": "GB"}
    event = order(
        products=(Product(product_id="1", price=5, quantity=1),),
        extra={"payment_method": "Visa", "shipping_method": "DHL", "shipping_address": address},
    )
    _, said = sent(event, "personaclick")
    assert (said["payment_type"], said["delivery_type"]) == ("Visa", "DHL")
    assert said["delivery_address"] == "1 Main, N1, London, GB"


def test_an_id_that_would_not_be_shown_gets_a_prefix() -> None:
    """An order id that is a UUID gets a prefix, since PersonaClick does not show UUIDs."""
    event = order(order_id=UUID, products=(Product(product_id="1", price=5, quantity=1),))
    assert sent(event, "personaclick")[1]["order_id"] == f"order-{UUID}"
    mine = configured("personaclick", order_prefix="N")
    assert sent(event, mine)[1]["order_id"] == f"N{UUID}"
    plain = order(order_id="N-1", products=event.properties.products)
    assert sent(plain, mine)[1]["order_id"] == "N-1"
    losses = {loss.path: loss.how for loss in OUTPUTS["personaclick"].losses(event)}
    assert losses["properties.order_id"] == "coerced"


STARTED = {
    "type": "order-started",
    "properties": {"id": "O1", "income": {"value": 10}, "products": [{"id": "a", "price": 10}]},
}
COMPLETED = {"type": "order-completed", "properties": {"id": "O1", "status": "shipped"}}


@pytest.mark.parametrize(
    ("events", "names"),
    [
        ([STARTED, COMPLETED], ["Order Completed", "Order Updated"]),
        ([COMPLETED, STARTED], ["Order Updated", "Order Completed"]),
        ([COMPLETED], ["Order Updated"]),
        ([{**STARTED, "type": "order-completed"}], ["Order Completed"]),
        (
            [STARTED, {**STARTED, "type": "order-completed"}],
            ["Order Completed", "Order Updated"],
        ),
        (
            [STARTED, {"type": "order-completed", "properties": {"id": "O2", "products": []}}],
            ["Order Completed", "Order Completed"],
        ),
    ],
)
def test_an_order_is_placed_once(events: list[Any], names: list[str]) -> None:
    """One Tracardi event of an order is Order Completed; those with only a status are updates."""
    found = read("tracardi", "/track", {**SOURCE, "events": events})
    assert [event.name for event in found] == names
    back = [sent(event, "tracardi")[1]["events"][0]["type"] for event in found]
    assert back == [event["type"] for event in events]


# Nested values


def test_nested_values_are_flattened() -> None:
    """A vendor with flat fields gets nested values under joined names, and lists as text."""
    nested = {"a": {"b": {"c": 1}, "l": [1, 2]}, "size": {"eu": 43}}
    event = Event(
        type="track", name="Fitted", user_id="u1", properties=Properties(extra=nested),
        origin="segment",
    )  # fmt: skip
    _, personaclick = sent(event, "personaclick")
    assert (personaclick["a_b_c"], personaclick["a_l"], personaclick["size_eu"]) == (1, "[1,2]", 43)
    growlytics = attributes(sent(event, "growlytics")[1])
    assert (growlytics["a.b.c"], growlytics["a.l"], growlytics["size.eu"]) == (1, "[1,2]", 43)
    assert sent(event, "chrts")[1]["properties"]["a"] == nested["a"]


def test_the_parts_of_an_address_are_tags() -> None:
    """City, country and zip code are sent as Quartic tags of the account."""
    identify = {
        "type": "identify", "userId": "u",
        "traits": {
            "email": "a@b.co", "address": {"city": "London", "country": "GB", "postalCode": "N1"},
            "company": {"name": "Engines"}, "loyalty": {"tier": "gold"},
        },
    }  # fmt: skip
    tags = ("city", "country", "zip", "company.name", "loyalty.tier")
    (event,) = read("segment", "/v1/identify", identify)
    _, body = sent(event, configured("quartic", tags=tags))
    assert {tag["n"]: tag["v"] for tag in body["tags"]} == {
        "city": "London", "country": "GB", "zip": "N1", "company.name": "Engines",
        "loyalty.tier": "gold",
    }  # fmt: skip
    _, personaclick = sent(event, "personaclick")
    assert personaclick["location"] == "London"
    assert personaclick["address_country"] == "GB"
    assert personaclick["loyalty_tier"] == "gold"
    (update,) = sent(event, "tracardi")[1]["events"]
    assert update["properties"]["contact"]["address"] == {
        "town": "London", "country": "GB", "postcode": "N1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("source", "path", "body"),
    [
        ("chrts", "/customer/identify",
         {"uid": "u", "attributes": {"email": "a@b.co", "city": "London"}}),
        ("segment", "/v1/identify",
         {"userId": "u", "type": "identify", "traits": {"email": "a@b.co", "City": "London"}}),
        ("growlytics", "/rest-api/customer",
         {"id": "u", "attributes": [{"name": "email", "type": "string", "value": "a@b.co"},
                                    {"name": "City", "type": "string", "value": "London"}]}),
        ("quartic", "/store/contact",
         {"email": "a@b.co", "tags": [{"n": "city", "v": "London"}]}),
        ("tracardi", "/track",
         {"source": {"id": "s"}, "session": {"id": "e"}, "events": [
             {"type": "profile-update",
              "properties": {"contact": {"email": {"main": "a@b.co"}}, "city": "London"}}]}),
    ],
)  # fmt: skip
def test_a_city_outside_an_address_is_a_location(source: str, path: str, body: Any) -> None:
    """A city outside an address is PersonaClick's location and Quartic's tag."""
    (event,) = read(source, path, body)
    output = configured("personaclick", shop_secret="s")  # noqa: S106 - not a real one
    _, personaclick = sent(event, output)
    assert personaclick["location"] == "London"
    assert "city" not in personaclick
    assert [loss for loss in output.losses(event) if loss.how == "lost"] == []
    quartic = configured("quartic")
    _, contact = sent(event, quartic)
    assert contact["tags"] == [{"n": "city", "v": "London"}]
    assert not any("ity" in loss.path for loss in quartic.losses(event))


def test_an_addresss_city_goes_before_a_loose_one() -> None:
    """Of two cities the address's is the location, and the other is a field."""
    traits = {"email": "a@b.co", "city": "Paris", "address": {"city": "London"}}
    (event,) = read(
        "segment", "/v1/identify", {"userId": "u", "type": "identify", "traits": traits}
    )
    _, body = sent(event, configured("personaclick", shop_secret="s"))  # noqa: S106 - not a real one
    assert (body["location"], body["city"]) == ("London", "Paris")


def test_traits_of_other_spellings_have_their_fields() -> None:
    """A Growlytics attribute called First Name is the first name at other vendors."""
    given = {
        "email": "a@b.co", "First Name": "Ann", "last_name": "Lee", "Gender": "Female",
        "Birthday": "1990-02-03", "Age": "36", "Phone": "+44 20",
    }  # fmt: skip
    attributes = [{"name": n, "type": "string", "value": v} for n, v in given.items()]
    (event,) = read("growlytics", "/rest-api/customer", {"id": "u", "attributes": attributes})
    _, body = sent(event, configured("personaclick", shop_secret="s"))  # noqa: S106 - not a real one
    assert {name: body[name] for name in sorted(body.keys() - SENT_WITH_ALL)} == {
        "age": 36, "birthday": "1990-02-03", "email": "a@b.co", "first_name": "Ann",
        "gender": "f", "last_name": "Lee", "phone": "+44 20",
    }  # fmt: skip
    _, contact = sent(event, "quartic")
    assert {tag["n"]: tag["v"] for tag in contact["tags"]} == {
        "firstname": "Ann", "lastname": "Lee", "phone": "+44 20", "age": "36",
    }  # fmt: skip


def test_a_reserved_name_is_written_differently() -> None:
    """A property with the name of a PersonaClick field is sent under a prefixed name."""
    event = Event(
        type="track", name="Invited", user_id="u1", origin="segment",
        properties=Properties(extra={"email": "friend@b.co", "source": "ad", "time": 5}),
    )  # fmt: skip
    _, said = sent(event, "personaclick")
    assert said["property_email"] == "friend@b.co"
    assert (said["property_source"], said["property_time"]) == ("ad", 5)
    assert "email" not in said


def test_a_nested_trait_never_becomes_a_field_of_another_type() -> None:
    """A nested trait whose joined name is PersonaClick's is sent under a prefixed name."""
    odd = {"first": {"name": 5}, "lastName": True, "kids": {"auto": 1}, "fb": {"id": {"x": 1}}}
    traits = {"type": "identify", "userId": "u", "traits": odd}
    _, said = translated("segment", "/v1/identify", traits, "personaclick")
    assert said["trait_first_name"] == 5
    assert "last_name" not in said
    assert "first_name" not in said
    assert said["fb_id_x"] == 1

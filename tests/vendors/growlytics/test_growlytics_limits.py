"""Which parts of other vendors' events Growlytics cannot take, and how they are reported."""

from gateway.event import Context, Device, Product, Properties, Traits
from gateway.mapping import Loss
from tests.vendors.growlytics.rendering import (
    AT,
    declined,
    identify,
    number,
    output,
    sent,
    text,
    track,
)


def test_declines_anonymous_users_where_told() -> None:
    """With anonymous = "decline", neither the anonymous nor the device id becomes a customer."""
    unknown = track(user_id=None, anonymous_id="a1", context=Context(device=Device(id="d1")))
    assert 'anonymous = "decline"' in declined(unknown, anonymous="decline")
    told = identify(Traits(email="ada@shop.example"), user_id=None, anonymous_id="a1")
    assert sent(told, anonymous="decline")["id"] == "ada@shop.example"
    assert Loss("anonymous_id", "lost", "a1") in output(anonymous="decline").losses(told)


def test_drops_attributes_past_the_limit() -> None:
    """Attributes of an event after the first 50 are dropped and reported as lost."""
    event = track(properties=Properties(total=1, extra={f"n{i}": i for i in range(51)}))
    names = [attribute["name"] for attribute in sent(event)["attributes"]]
    assert names == ["total", *(f"n{i}" for i in range(49))]
    assert output().losses(event) == [
        Loss("properties.extra.n49", "lost", 49),
        Loss("properties.extra.n50", "lost", 50),
    ]


def test_reports_included_fields_past_the_limit_at_their_places() -> None:
    """A dropped attribute of an included field is reported once, as the event's field."""
    event = track(context=Context(extra={f"n{i}": i for i in range(51)}))
    assert output(include=("context",)).losses(event) == [Loss("context.extra.n50", "lost", 50)]


def test_counts_only_custom_attributes_of_a_customer() -> None:
    """A customer may have 100 attributes beside name, email and mobile."""
    extra = {f"n{i}": i for i in range(100)}
    event = identify(Traits(name="Ada", email="a@b.example", phone="1", age=33, extra=extra))
    assert len(sent(event)["attributes"]) == 103
    assert output().losses(event) == [Loss("traits.extra.n99", "lost", 99)]


def test_drops_names_that_do_not_fit() -> None:
    """Attributes with a blank, too long or duplicate name are dropped and reported as lost."""
    extra = {"n" * 50: 1, "n" * 49: 2, "": 3, "a": {"b": 4, "m" * 48: 5}, "a.b": 6, "mobile": "7"}
    event = identify(Traits(phone="+44", extra=extra))
    assert sent(event)["attributes"] == [
        text("mobile", "+44"),
        number("n" * 49, 2),
        number("a.b", 4),
    ]
    assert output().losses(event) == [
        Loss("traits.extra.mobile", "lost", "7"),
        Loss(f"traits.extra.{'n' * 50}", "lost", 1),
        Loss("traits.extra.", "lost", 3),
        Loss(f"traits.extra.a.{'m' * 48}", "lost", 5),
        Loss("traits.extra.a.b", "lost", 6),
        Loss("traits.extra.a", "coerced", {"b": 4, "m" * 48: 5}),
    ]


def test_loses_nothing_of_a_name_with_dots() -> None:
    """An attribute with dots in its name is sent under that name, without a loss."""
    event = track(properties=Properties(extra={"address.city": "London"}))
    assert sent(event)["attributes"] == [text("address.city", "London")]
    assert output().losses(event) == []


def test_declares_what_has_no_place() -> None:
    """Other ids, consent and most of the context are reported as lost."""
    event = track(
        timestamp=AT, message_id="m1", session_id="s1", anonymous_id="a1",
        context=Context(ip="192.0.2.7"), consent={"email": True},
    )  # fmt: skip
    assert {loss.path for loss in output().losses(event)} == {
        "message_id", "session_id", "anonymous_id", "context.ip", "consent.email",
    }  # fmt: skip
    as_id = track(user_id=None, anonymous_id="a1")
    assert output().losses(as_id) == [Loss("anonymous_id", "coerced", "a1")]


def test_declares_products_as_text() -> None:
    """Products sent as text are coerced, and a product sent flat is not."""
    product = Product(product_id="42")
    listed = track("Order Completed", Properties(products=(product, product)))
    assert [(loss.path, loss.how) for loss in output().losses(listed)] == [
        ("properties.products", "coerced")
    ]
    assert output().losses(track("Product Viewed", Properties(products=(product,)))) == []

"""What of other vendors' events Growlytics cannot take, and how that is told."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from gateway.event import Context, Device, Event, Product, Properties, Traits
from gateway.http import Request
from gateway.mapping import Loss
from gateway.plugin.settings import Secret
from gateway.verdict import Declined
from plugins.growlytics.output import GrowlyticsOutput

AT = datetime(2024, 3, 28, 10, 15, 30, tzinfo=UTC)


def output(**settings: Any) -> GrowlyticsOutput:
    """Return a destination with *settings*."""
    key = Secret("key-out")
    return GrowlyticsOutput(
        GrowlyticsOutput.Config(url="https://growlytics.example/", api_key=key, **settings)
    )


def sent(event: Event, **settings: Any) -> dict[str, Any]:
    """Return the body that delivers *event*."""
    request = output(**settings).render(event)
    assert isinstance(request, Request), request
    body: dict[str, Any] = orjson.loads(request.body)
    return body


def declined(event: Event, **settings: Any) -> str:
    """Return why *event* is declined."""
    refusal = output(**settings).render(event)
    assert isinstance(refusal, Declined)
    return refusal.reason


def track(name: str = "x", properties: Properties = Properties(), **fields: Any) -> Event:  # noqa: B008 - immutable
    """Return an event of another vendor."""
    known = {"user_id": "u1", "origin": "chrts", **fields}
    return Event(type="track", name=name, properties=properties, **known)


def identify(traits: Traits, **fields: Any) -> Event:
    """Return an identify of another vendor."""
    return Event(type="identify", traits=traits, **{"user_id": "u1", "origin": "chrts", **fields})


def text(name: str, value: str) -> dict[str, str]:
    """Return a text attribute."""
    return {"name": name, "type": "string", "value": value}


def number(name: str, value: float) -> dict[str, Any]:
    """Return a number attribute."""
    return {"name": name, "type": "number", "value": value}


def test_declines_anonymous_users_where_told() -> None:
    """With anonymous = "decline", neither the anonymous nor the device id becomes a customer."""
    unknown = track(user_id=None, anonymous_id="a1", context=Context(device=Device(id="d1")))
    assert 'anonymous = "decline"' in declined(unknown, anonymous="decline")
    told = identify(Traits(email="ada@shop.example"), user_id=None, anonymous_id="a1")
    assert sent(told, anonymous="decline")["id"] == "ada@shop.example"
    assert Loss("anonymous_id", "lost", "a1") in output(anonymous="decline").losses(told)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (track(user_id=None), "needs to know whom"),
        (track("n" * 50), "event names of 1 to 49 characters"),
        (track("  "), "event names of 1 to 49 characters"),
        (track("UTM Visited"), "growlytics makes events called 'UTM Visited' itself"),
        (track("app uninstalled"), "growlytics makes events called 'app uninstalled' itself"),
        (Event(type="alias", user_id="u1", previous_id="a1"), "cannot join two customers"),
        (Event(type="product", user_id="u1"), "takes its catalogue at another host"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_declines_what_it_cannot_say(event: Event, reason: str) -> None:
    """What Growlytics has no way to say is declined with the rule that forbids it."""
    assert reason in declined(event)
    assert output().losses(event) == []


def test_drops_attributes_past_the_limit() -> None:
    """Past 50 attributes of an event the last ones are dropped, and declared as lost."""
    event = track(properties=Properties(total=1, extra={f"n{i}": i for i in range(51)}))
    names = [attribute["name"] for attribute in sent(event)["attributes"]]
    assert names == ["total", *(f"n{i}" for i in range(49))]
    assert output().losses(event) == [
        Loss("properties.extra.n49", "lost", 49),
        Loss("properties.extra.n50", "lost", 50),
    ]


def test_counts_only_custom_attributes_of_a_customer() -> None:
    """A customer may have 100 attributes beside name, email and mobile."""
    extra = {f"n{i}": i for i in range(100)}
    event = identify(Traits(name="Ada", email="a@b.example", phone="1", age=33, extra=extra))
    assert len(sent(event)["attributes"]) == 103
    assert output().losses(event) == [Loss("traits.extra.n99", "lost", 99)]


def test_drops_names_that_do_not_fit() -> None:
    """Names that are blank, too long or taken are dropped, and declared as lost."""
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
    """An attribute whose own name has dots goes out under it, and nothing is lost."""
    event = track(properties=Properties(extra={"address.city": "London"}))
    assert sent(event)["attributes"] == [text("address.city", "London")]
    assert output().losses(event) == []


def test_declares_what_has_no_place() -> None:
    """Ids beside the customer's and most of the context have no place in Growlytics."""
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
    """Products that go as text are coerced, those that go flat are not."""
    product = Product(product_id="42")
    listed = track("Order Completed", Properties(products=(product, product)))
    assert [(loss.path, loss.how) for loss in output().losses(listed)] == [
        ("properties.products", "coerced")
    ]
    assert output().losses(track("Product Viewed", Properties(products=(product,)))) == []

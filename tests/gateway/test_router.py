"""Which destinations an event goes to, and why."""

from collections.abc import Sequence
from typing import Any

from gateway.config import RouteConfig
from gateway.event import Event
from gateway.router import REMEMBERED, Router

VIEWED = Event(type="track", name="Product Viewed")
KNOWN = Event(type="identify")


def route(to: Sequence[str], **keys: Any) -> RouteConfig:
    """Return a route, written as in the configuration file."""
    return RouteConfig.model_validate({"to": list(to), **keys})


def test_a_route_without_matchers_takes_everything() -> None:
    """No key narrows a route that has none."""
    router = Router([route(["crm", "cdp"])])
    assert router.route("shop", VIEWED) == ("crm", "cdp")
    assert router.route("other", KNOWN) == ("crm", "cdp")


def test_every_matcher_must_hold() -> None:
    """Source, type and name narrow a route together."""
    router = Router([route(["crm"], **{"from": ["shop"]}, types=["track"], names=["Product *"])])
    assert router.route("shop", VIEWED) == ("crm",)
    assert router.route("other", VIEWED) == ()
    assert router.route("shop", KNOWN) == ()
    assert router.route("shop", Event(type="track", name="Order Completed")) == ()


def test_names_are_globs_that_mind_the_case() -> None:
    """A glob matches the whole name, case included."""
    router = Router([route(["crm"], names=["Order *", "Product Viewed"])])
    assert router.route("s", VIEWED) == ("crm",)
    assert router.route("s", Event(type="track", name="Order Completed")) == ("crm",)
    assert router.route("s", Event(type="track", name="order completed")) == ()
    assert router.route("s", Event(type="track", name="My Order Completed")) == ()


def test_each_destination_is_named_once() -> None:
    """Several routes to a destination make one delivery, in the order of the routes."""
    router = Router([route(["b", "a"]), route(["a", "c"])])
    assert router.route("s", VIEWED) == ("b", "a", "c")


def test_every_decision_has_its_reason() -> None:
    """A route says why it takes an event and why not."""
    router = Router([
        route(["a"], **{"from": ["shop"]}),
        route(["b"], types=["identify"]),
        route(["c"], names=["Order *"]),
        route(["d"], names=["Product *"]),
    ])  # fmt: skip
    decisions = router.explain("other", VIEWED)
    assert [d.taken for d in decisions] == [False, False, False, True]
    assert [d.reason for d in decisions] == [
        "not from shop",
        "track is none of the types identify",
        "'Product Viewed' matches none of the names Order *",
        "'Product Viewed' matches 'Product *'",
    ]


def test_answers_are_remembered_within_bounds() -> None:
    """Names are the senders' own; however many there are, memory stays bounded."""
    router = Router([route(["a"], names=["n1*"])])
    for number in range(REMEMBERED + 10):
        event = Event(type="track", name=f"n{number}")
        assert router.route("s", event) == (("a",) if str(number).startswith("1") else ())
    assert len(router._known) <= REMEMBERED

"""Which destinations an event is routed to, and why."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.config import RouteConfig
from gateway.config.steps import Consent, Hash, SampleStep
from gateway.event import Event, Properties
from gateway.routing.router import REMEMBERED, RoutedDelivery, Router, RuleErrors
from gateway.spool import delivery_number

VIEWED = Event(type="track", name="Product Viewed")
KNOWN = Event(type="identify")


def route(to: Sequence[str], **keys: Any) -> RouteConfig:
    """Return a route from its keys in the configuration file."""
    return RouteConfig.model_validate({"to": list(to), **keys})


def ends(router: Router, source: str, event: Event) -> tuple[str, ...]:
    """Return the destinations of the event's deliveries in order."""
    return tuple(lead.destination for lead in router.route(source, event))


def test_a_route_without_matchers_takes_everything() -> None:
    """A route without matchers takes every event."""
    router = Router([route(["crm", "cdp"])])
    assert ends(router, "shop", VIEWED) == ("crm", "cdp")
    assert ends(router, "other", KNOWN) == ("crm", "cdp")


def test_every_matcher_must_hold() -> None:
    """A route takes an event only if source, type and name all match."""
    router = Router([route(["crm"], **{"from": ["shop"]}, types=["track"], names=["Product *"])])
    assert ends(router, "shop", VIEWED) == ("crm",)
    assert ends(router, "other", VIEWED) == ()
    assert ends(router, "shop", KNOWN) == ()
    assert ends(router, "shop", Event(type="track", name="Order Completed")) == ()


def test_names_are_globs_that_mind_the_case() -> None:
    """A glob matches the whole name, and is case-sensitive."""
    router = Router([route(["crm"], names=["Order *", "Product Viewed"])])
    assert ends(router, "s", VIEWED) == ("crm",)
    assert ends(router, "s", Event(type="track", name="Order Completed")) == ("crm",)
    assert ends(router, "s", Event(type="track", name="order completed")) == ()
    assert ends(router, "s", Event(type="track", name="My Order Completed")) == ()


def test_each_destination_is_named_once() -> None:
    """Several routes to one destination make one delivery, in the order of the routes."""
    router = Router([route(["b", "a"]), route(["a", "c"])])
    assert ends(router, "s", VIEWED) == ("b", "a", "c")


def test_every_decision_has_its_reason() -> None:
    """Each route's decision has a reason."""
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
        "type track is not one of identify",
        "'Product Viewed' matches none of the names Order *",
        "'Product Viewed' matches 'Product *'",
    ]


def test_the_cache_of_routes_is_bounded() -> None:
    """The cache of routes by event name is bounded."""
    router = Router([route(["a"], names=["n1*"])])
    for number in range(REMEMBERED + 10):
        event = Event(type="track", name=f"n{number}")
        assert ends(router, "s", event) == (("a",) if str(number).startswith("1") else ())
    assert len(router._known) <= REMEMBERED
    before = len(router._known)
    for name, expected in (("n1" + "x" * 300, ("a",)), ("n2" + "x" * 300, ())):
        assert ends(router, "s", Event(type="track", name=name)) == expected
    assert len(router._known) == before


# Conditions, structure, filters

ORDER = Event(
    type="track", name="Order Completed", user_id="u1", id="r-0",
    properties=Properties(total=50, extra={"plan": "pro"}),
)  # fmt: skip


def hashing(**more: Any) -> dict[str, Any]:
    """Return the keys of a route with a step."""
    return {"steps": (Hash(hash=("user_id",)),), **more}


def test_a_condition_narrows_a_route_too() -> None:
    """A condition separates events of the same name."""
    router = Router([
        route(["large"], when='event.type == "track" && event.properties.total > 100'),
        route(["small"], when="event.properties.total <= 100.0"),
        route(["shop"], when='source == "shop"'),
    ])  # fmt: skip
    large = Event(type="track", name="Order Completed", properties=Properties(total=101))
    assert ends(router, "shop", ORDER) == ("small", "shop")
    assert ends(router, "other", large) == ("large",)
    assert ends(router, "other", VIEWED) == ()


def test_conditions_on_the_kind_are_evaluated_once() -> None:
    """A condition on source, type and name alone is evaluated once, not per event."""
    router = Router([
        route(["a"], when='event.type == "track" && event.name.startsWith("Product")'),
        route(["b"], when='event.type == "page" && event.properties.total > 1'),
    ])  # fmt: skip
    assert router.plan("s", [VIEWED]) is router.plan("s", [VIEWED])
    assert ends(router, "s", VIEWED) == ("a",)
    assert ends(router, "s", KNOWN) == ()


@pytest.mark.parametrize(("on_error", "expected"), [("skip", ()), ("send", ("a",))])
def test_on_error_decides_if_a_condition_fails(on_error: str, expected: tuple[str, ...]) -> None:
    """Each condition failure counts, one per minute is logged, and ``on_error`` decides."""
    now = [0.0]
    failures = RuleErrors(lambda: now[0])
    router = Router([route(["a"], name="r", when="event.properties.plan > 1", on_error=on_error)],
                    failures)  # fmt: skip
    with capture_logs() as lines:
        for _ in range(3):
            assert ends(router, "s", ORDER) == expected
        now[0] = 61.0
        ends(router, "s", ORDER)
    assert failures.counts == {"r": 4}
    assert [(line["event"], line["route"], line["times"]) for line in lines] == [
        ("condition_failed", "r", 1), ("condition_failed", "r", 4),
    ]  # fmt: skip
    (decision,) = router.explain("s", ORDER)
    assert decision.taken == (on_error == "send")
    assert "No such overload" in decision.error
    assert failures.counts == {"r": 4}


def test_the_first_route_to_a_destination_wins_it() -> None:
    """The first route to a destination delivers to it; later routes add no delivery."""
    router = Router([
        route(["a"], when="event.properties.total > 100"),
        route(["a", "b"], name="hashed", **hashing()),
        route(["b", "c"]),
    ])  # fmt: skip
    assert router.route("s", ORDER) == (
        RoutedDelivery("a", "hashed", 0), RoutedDelivery("b", "hashed", 0),
        RoutedDelivery("c", "", 0),
    )  # fmt: skip


def test_additional_routes_add_a_delivery() -> None:
    """A route with ``additional = true`` adds a delivery, and replaces none."""
    router = Router([
        route(["a"], additional=True),
        route(["a"], name="hashed", **hashing()),
        route(["a"]),
        route(["a", "a"], additional=True),
    ])  # fmt: skip
    assert router.route("s", ORDER) == (
        RoutedDelivery("a", "", 0), RoutedDelivery("a", "hashed", 1), RoutedDelivery("a", "", 2),
    )  # fmt: skip
    plan = router.plan("s", [VIEWED, ORDER])
    later = [delivery_number(event, copy) for copy in (1, 2) for event in (0, 1)]
    assert plan.targets == {"a": (0, 1, *later)}
    assert plan.routes == {"a": {"hashed": (delivery_number(0, 1), delivery_number(1, 1))}}


def test_no_route_is_evaluated_after_stop() -> None:
    """After a route with ``stop = true`` takes an event, no later route is evaluated."""
    router = Router([
        route(["a"], stop=True, types=["track"]),
        route(["b"]),
        route(["c"], fallback=True),
    ])  # fmt: skip
    assert ends(router, "s", ORDER) == ("a",)
    assert ends(router, "s", KNOWN) == ("b",)


def test_fallback_takes_unrouted_events() -> None:
    """A fallback route is evaluated last, whatever its place, and uses its own matchers."""
    router = Router([
        route(["rest"], fallback=True),
        route(["pages"], fallback=True, types=["page"]),
        route(["orders"], names=["Order *"], when="event.properties.total > 10"),
    ])  # fmt: skip
    assert ends(router, "s", ORDER) == ("orders",)
    assert ends(router, "s", VIEWED) == ("rest",)
    assert ends(router, "s", Event(type="page", name="Home")) == ("rest", "pages")


def test_a_filtered_event_counts_as_taken() -> None:
    """A filtered event counts as taken: for its destinations, ``stop`` and ``fallback``."""
    consent = (Consent(consent=("ads",)),)
    for more, expected in (({}, ("b",)), ({"stop": True}, ()), ({"additional": True}, ("a", "b"))):
        router = Router([
            route(["a"], name="asked", steps=consent, **more),
            route(["a", "b"]),
            route(["c"], fallback=True),
        ])  # fmt: skip
        assert ends(router, "s", ORDER) == expected
        granted = Event(type="track", consent={"ads": True})
        assert ends(router, "s", granted)[0] == "a"


def test_a_route_with_filters_only_changes_nothing() -> None:
    """A route with filters only has no steps to apply, so the request can be forwarded."""
    router = Router([route(["a"], name="sampled", steps=(SampleStep(sample=1),))])
    assert router.route("s", ORDER) == (RoutedDelivery("a", "", 0),)


def test_a_filter_that_fails_lets_nothing_through() -> None:
    """A filter that raises is counted, and filters the event."""
    router = Router(
        [route(["a"], name="r", steps=(Hash(hash=("user_id",)), Consent(consent=("x",))))]
    )
    odd = Event(type="track", user_id="\ud800", consent={"x": True})
    with capture_logs():
        assert ends(router, "s", odd) == ()
    assert router.failures.counts == {"r": 1}


def test_explain_has_every_routes_decision() -> None:
    """Each route's decision has its reason, its deciding part and its destinations."""
    router = Router([
        route(["a"], name="cheap", when="event.type == 'track' && event.properties.total < 10.0"),
        route(["a"], name="missing", when="event.properties.absent == 1"),
        route(["b"], name="kept", steps=(Consent(consent=("ads",)),)),
        route(["a", "b"], name="won", stop=True),
        route(["c"], name="after"),
        route(["c"], name="rest", fallback=True),
        route(["c"], name="elsewhere", **{"from": ["other"]}),
    ])  # fmt: skip
    said = {d.route: d for d in router.explain("shop", ORDER)}
    assert said["cheap"].decided_by == "event.properties.total < 10.0"
    assert said["cheap"].reason == "the condition does not hold"
    assert said["missing"].reason == (
        "the condition does not hold: event.properties.absent is missing"
    )
    assert said["kept"].taken
    assert said["kept"].filtered == "consent: no recorded consent to ads"
    assert said["kept"].routed_to == ()
    assert said["won"].routed_to == ("a",)
    assert said["after"].reason == "route won takes the event and stops (stop = true)"
    assert said["rest"].reason == "another route takes the event"
    assert said["elsewhere"].reason == "not from other"


MAKE = st.builds(
    lambda to, name, **keys: (to, name, keys),
    st.lists(st.sampled_from("abc"), min_size=1, max_size=4),
    st.integers(),
    types=st.sampled_from([None, ("track",), ("page",)]),
    when=st.sampled_from([
        None, "event.properties.total > 10", 'event.type == "track"', "event.properties.plan > 1",
        "event.properties.absent == 1", 'event.name == "A" || event.properties.total > 50',
    ]),
    on_error=st.sampled_from(["skip", "send"]),
    additional=st.booleans(), stop=st.booleans(), fallback=st.booleans(),
    steps=st.sampled_from([
        (), (Hash(hash=("user_id",)),), (Consent(consent=("ads",)),), (SampleStep(sample=0.5),),
    ]),
)  # fmt: skip
EVENT = st.builds(
    Event, type=st.sampled_from(["track", "page"]), name=st.sampled_from([None, "A", "B"]),
    user_id=st.text("uv", max_size=3), consent=st.dictionaries(st.just("ads"), st.booleans()),
    properties=st.builds(
        Properties, total=st.sampled_from([None, 5.0, 60.0]),
        extra=st.sampled_from([{}, {"plan": "x"}, {"plan": 2}]),
    ),
)  # fmt: skip


@given(st.lists(MAKE, max_size=6), st.lists(EVENT, min_size=1, max_size=3))
def test_routing_is_a_pure_function(made: Any, events: list[Event]) -> None:
    """Routing is deterministic, changes no event, and delivers once per route and destination."""
    routes = [
        route(to, name=f"r{number}", **{k: v for k, v in keys.items() if v is not None})
        for number, (to, _, keys) in enumerate(made)
    ]
    before = [msgspec.to_builtins(event) for event in events]
    with capture_logs():
        router, again = Router(routes), Router(routes)
        plans = [router.plan("s", events), router.plan("s", events), again.plan("s", events)]
        assert plans[0] == plans[1] == plans[2]
        for event in events:
            leads = router.route("s", event)
            copies: dict[str, int] = {}
            for lead in leads:
                assert lead.copy == copies.get(lead.destination, 0)
                copies[lead.destination] = lead.copy + 1
            routed = [to for d in router.explain("s", event) for to in d.routed_to]
            assert sorted(routed) == sorted(lead.destination for lead in leads)
            also = [set(r.to) for r in routes if r.additional]
            for to, count in copies.items():
                assert count <= 1 + sum(to in mine for mine in also)
    assert [msgspec.to_builtins(event) for event in events] == before
    for numbers in plans[0].targets.values():
        assert len(set(numbers)) == len(numbers)
        assert list(numbers) == sorted(numbers)
    expected: set[tuple[str, str, int]] = set()
    for index, event in enumerate(events):
        with capture_logs():
            leads = router.route("s", event)
        expected |= {(to, route, delivery_number(index, copy)) for to, route, copy in leads}
    plan = plans[0]
    planned = {(to, number) for to, numbers in plan.targets.items() for number in numbers}
    stepped = {
        (to, route, number)
        for to, mine in plan.routes.items()
        for route, numbers in mine.items()
        for number in numbers
    }
    assert planned == {(to, number) for to, _, number in expected}
    assert stepped == {one for one in expected if one[1]}

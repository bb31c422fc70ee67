"""Explaining a request without sending it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from gateway.config.loader.load import load
from gateway.errors import UnknownName
from gateway.event_diff import MISSING, Difference, diff_events, diff_json
from gateway.explain import (
    Explainer,
    ExplainRequest,
    ExplainRequestError,
    Explanation,
    RouteExplanation,
)
from gateway.plugin.registry import load_plugins

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
PLUGINS = load_plugins()
CANARY = "canary-0a1b2c"
CONFIG = f"""
[consent]
retention = "1d"
[sources.shop]
vendor = "personaclick"
keys = ["the-shop"]
[sources.backend]
vendor = "chrts"
keys = ["the-backend"]
mount = "/backend"
[sources.pages]
vendor = "tracardi"
keys = "any"
url = "https://tracardi.example"
[destinations.ads]
vendor = "growlytics"
api_key = "{CANARY}-1"
[destinations.crm]
vendor = "chrts"
api_key = "{CANARY}-2"
[destinations.same]
vendor = "personaclick"
shop_id = "{CANARY}-3"
[[routes]]
name = "large"
from = ["shop"]
names = ["Order *"]
when = "event.properties.total > 100 && event.traits.email.contains('@')"
steps = [
  {{ consent = "advertising" }},
  {{ hash = ["traits.email"] }},
  {{ set = {{ "properties.currency" = "EUR" }} }},
]
to = ["ads"]
[[routes]]
name = "all"
to = ["crm", "same"]
[[routes]]
name = "again"
to = ["crm"]
"""
ORDER = {
    "shop_id": "the-shop", "did": "device-1", "seance": "s-1", "event": "purchase",
    "order_id": "A-1", "order_price": 120.5, "email": "Anna@Shop.example",
    "items": [{"id": "a", "amount": 2, "price": 50}],
}  # fmt: skip


def explain(folder: Path, asked: ExplainRequest, config: str = CONFIG) -> Explanation:
    """Return the explanation of a request under *config*."""
    path = folder / "gateway.toml"
    path.write_text(config)
    return Explainer(load(path, PLUGINS, {}), PLUGINS).explain(asked)


def order(**more: object) -> bytes:
    """Return the body of an order."""
    return orjson.dumps(ORDER | more)


def route(told: Explanation, name: str) -> RouteExplanation:
    """Return the outcome of a route for the only event."""
    (event,) = told.events
    return next(one for one in event.routes if one.decision.route == name)


def test_every_route_says_why(tmp_path: Path) -> None:
    """Each route has its decision and the part of its condition that decided."""
    asked = ExplainRequest(order(order_price=5), path="/push", at=NOW)
    told = explain(tmp_path, asked)
    assert (told.source, told.vendor) == ("shop", "personaclick")
    large = route(told, "large").decision
    assert not large.taken
    assert large.decided_by == "event.properties.total > 100"
    assert [one.decision.route for one in told.events[0].routes] == ["large", "all", "again"]
    assert route(told, "again").decision.taken
    assert route(told, "again").deliveries == (), "the route before it has won the destination"


def test_steps_show_before_and_after(tmp_path: Path) -> None:
    """Each step has the event before and after it."""
    asked = ExplainRequest(order(), path="/push", at=NOW, consented={"advertising": True})
    large = route(explain(tmp_path, asked), "large")
    assert [step.word for step in large.steps] == ["consent", "hash", "set"]
    consent, hashed, put = large.steps
    assert diff_events(consent.before, consent.after) == []
    (change,) = diff_events(hashed.before, hashed.after)
    assert (change.path, change.before) == ("traits.email", "Anna@Shop.example")
    assert diff_events(put.before, put.after) == [Difference("properties.currency", MISSING, "EUR")]


def test_each_delivery_has_its_request(tmp_path: Path) -> None:
    """Each delivery has its request, rendered or forwarded, without credentials."""
    asked = ExplainRequest(
        order(segment="B"), path="/push", at=NOW, consented={"advertising": True}
    )
    told = explain(tmp_path, asked)
    sent = {one.destination: one.request for one in told.events[0].deliveries}
    assert sent.keys() == {"ads", "crm", "same"}
    assert all(request is not None for request in sent.values())
    assert CANARY not in repr(sent)
    same = sent["same"]
    assert same is not None
    assert same.forwarded
    assert orjson.loads(same.body) == {**ORDER, "segment": "B", "shop_id": "***"}


def test_the_headers_that_a_destination_adds_are_shown(tmp_path: Path) -> None:
    """Requests show the headers that the destination adds, with values under harmless names only.

    They replace a client's header of the same name in a forwarded request.
    """
    added = f'headers = {{ Accept = "text/x", X-Acme = "abc", X-Edge = "{CANARY}-edge" }}\n'
    config = CONFIG.replace(f'"{CANARY}-2"\n', f'"{CANARY}-2"\n{added}')
    config = config.replace(f'"{CANARY}-3"\n', f'"{CANARY}-3"\n{added}')
    asked = ExplainRequest(order(), path="/push", at=NOW, headers={"x-acme": "theirs"})
    told = explain(tmp_path, asked, config)
    sent = {one.destination: one.request for one in told.events[0].deliveries}
    for name in ("crm", "same"):
        request = sent[name]
        assert request is not None
        shown = {name: request.headers[name] for name in ("accept", "x-acme", "x-edge")}
        assert shown == {"accept": "text/x", "x-acme": "***", "x-edge": "***"}


def test_each_delivery_has_its_losses(tmp_path: Path) -> None:
    """Each delivery lists its lost fields, and a forwarded request loses none."""
    asked = ExplainRequest(order(), path="/push", at=NOW, consented={"advertising": True})
    told = explain(tmp_path, asked)
    losses = {one.destination: [x.path for x in one.losses] for one in told.events[0].deliveries}
    assert "context.device" not in losses["ads"]
    assert "session_id" in losses["ads"]
    assert "session_id" in losses["crm"]
    assert losses["same"] == []


def test_a_filter_is_shown_with_its_reason(tmp_path: Path) -> None:
    """A step that filters the event is the last step, with its reason."""
    large = route(explain(tmp_path, ExplainRequest(order(), path="/push", at=NOW)), "large")
    assert large.decision.taken
    assert large.decision.routed_to == ()
    assert [step.filtered for step in large.steps] == ["no recorded consent to advertising"]


def test_a_declined_event_has_a_reason(tmp_path: Path) -> None:
    """A declined event has a reason and no request."""
    config = CONFIG.replace('to = ["crm", "same"]', 'to = ["ads"]')
    body = b'{"uid": "17", "previousId": "x"}'
    told = explain(tmp_path, ExplainRequest(body, "backend", "/customer/alias", at=NOW), config)
    (delivery,) = (d for d in told.events[0].deliveries if d.destination == "ads")
    assert delivery.request is None
    assert delivery.reason.startswith("growlytics cannot merge customers")
    assert not delivery.dead


def test_an_unrenderable_event_has_a_reason(tmp_path: Path) -> None:
    """An event that cannot be rendered has the reason of its dead letter."""
    body = orjson.dumps({"uid": "17", "name": "n", "properties": {"long": "x" * 40_000}})
    crm = f'[destinations.crm]\nvendor = "chrts"\napi_key = "{CANARY}-2"'
    segment = f'[destinations.crm]\nvendor = "segment"\nwrite_key = "{CANARY}-2"'
    config = CONFIG.replace(crm, segment).replace('to = ["crm", "same"]', 'to = ["crm"]')
    told = explain(tmp_path, ExplainRequest(body, "backend", "/event/track", at=NOW), config)
    (delivery,) = told.events[0].deliveries
    assert delivery.request is None
    assert delivery.dead
    assert "segment accepts at most 32768" in delivery.reason


def test_too_many_events_are_rejected(tmp_path: Path) -> None:
    """A request with more events than ``max_events`` is rejected, as in ingest."""
    config = '[server]\nmax_events = 1\n[sources.shop]\nvendor = "segment"\nkeys = "any"\n'
    batch = {"batch": [{"type": "track", "userId": "u", "event": "E"}] * 2}
    asked = ExplainRequest(orjson.dumps(batch), path="/v1/batch", at=NOW, source="shop")
    told = explain(tmp_path, asked, config + CONFIG[CONFIG.index("[destinations.") :])
    assert told.refusal is not None
    assert "more than 1 events" in told.refusal.reason
    assert not told.events


def test_a_refusal_is_the_vendors_own(tmp_path: Path) -> None:
    """A rejected request has a reason and the vendor's own response."""
    told = explain(tmp_path, ExplainRequest(b'{"shop_id": "the-shop"}', path="/push", at=NOW))
    assert told.refusal is not None
    assert told.refusal.reason == "event: required"
    assert told.refusal.answer is not None
    assert told.refusal.answer.status == 400
    assert told.events == ()


def test_fields_dropped_by_a_tracking_plan_are_shown(tmp_path: Path) -> None:
    """Fields that a tracking plan drops are shown, and are not sent."""
    plan = (
        'keys = ["the-shop"]\non_violation = "drop-field"\n[sources.shop.schemas]\n'
        '"Order Completed" = { properties = { properties = { properties = { '
        'order_id = { pattern = "^B" } } } } }\n'
    )
    config = CONFIG.replace('keys = ["the-shop"]\n', plan)
    told = explain(tmp_path, ExplainRequest(order(), path="/push", at=NOW), config)
    (event,) = told.events
    assert event.planned is not None
    assert event.planned.dropped == (("properties", "order_id"),)
    assert event.event.properties.order_id is None
    sent = [one.request for one in event.deliveries]
    assert all(request is not None and "A-1" not in request.body for request in sent)
    assert not any(request is not None and request.forwarded for request in sent)


def test_path_host_and_credential_decide_where_no_source_is_named(tmp_path: Path) -> None:
    """Without a named source, path, host and credential select it, as in ingest."""
    body = b'{"uid": "17", "name": "n"}'
    told = explain(tmp_path, ExplainRequest(body, path="/backend/event/track", at=NOW))
    assert told.source == "backend"
    assert told.refusal is not None
    assert told.refusal.reason.startswith("the request has no key; name the source")
    headers = {"authorization": "Bearer the-backend"}
    told = explain(
        tmp_path, ExplainRequest(body, path="/backend/event/track", headers=headers, at=NOW)
    )
    assert told.refusal is None
    told = explain(tmp_path, ExplainRequest(body, path="/nowhere", at=NOW))
    assert told.refusal is not None
    assert told.refusal.reason == "no source serves this path"


def test_a_request_without_a_key_may_go_to_the_only_source(tmp_path: Path) -> None:
    """With one source, a path needs no key; a wrong key is still refused."""
    only = """
[sources.backend]
vendor = "chrts"
keys = ["the-backend"]
[destinations.crm]
vendor = "chrts"
api_key = "the-crm"
[[routes]]
to = ["crm"]
"""
    asked = ExplainRequest(b'{"uid": "17", "name": "n"}', path="/event/track", at=NOW)
    told = explain(tmp_path, asked, only)
    assert (told.source, told.refusal) == ("backend", None)
    wrong = replace(asked, headers={"authorization": "Bearer wrong"})
    told = explain(tmp_path, wrong, only)
    assert told.refusal is not None
    assert told.refusal.reason.startswith("unknown key")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("GET /init?shop_id=the-shop", "the gateway responds to such reads itself"),
        ("GET /search", "GET /search is not served by this gateway"),
        ("GET /rule/list", "no source serves this path"),
    ],
)
def test_a_request_that_is_no_event_has_a_reason(tmp_path: Path, path: str, reason: str) -> None:
    """A request that is no event has a reason: a read, an unknown path, or not served."""
    told = explain(tmp_path, ExplainRequest(b"", path=path, at=NOW))
    assert told.refusal is not None
    assert told.refusal.reason == reason


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (ExplainRequest(b"{}", "shpo"), "there is no source 'shpo'; did you mean shop?"),
        (ExplainRequest(b"{}"), "there are several sources; name one of "),
        (
            ExplainRequest(b"{}", "shop", "/psuh"),
            "no endpoint '/psuh' for events; did you mean /push?",
        ),
        (ExplainRequest(b"nonsense", "shop"), "no endpoint of personaclick accepts this body:"),
        (
            ExplainRequest(order(), "shop"),
            "several endpoints accept this body: ",
        ),
    ],
)
def test_an_ambiguous_request_is_an_error(tmp_path: Path, asked: ExplainRequest, said: str) -> None:
    """An ambiguous or unknown source or endpoint is an error that says what to add."""
    with pytest.raises((ExplainRequestError, UnknownName)) as caught:
        explain(tmp_path, asked)
    assert said in str(caught.value)


def test_consent_within_a_request_counts_as_it_does_when_it_is_sent(tmp_path: Path) -> None:
    """Consent in one event of a batch counts for the user's other events in it."""
    config = CONFIG.replace('vendor = "personaclick"\nkeys', 'vendor = "segment"\nkeys')
    config = config.replace(" && event.traits.email.contains('@')", "")
    calls: Sequence[object] = [
        {
            "type": "identify", "userId": "17",
            "context": {"consent": {"categoryPreferences": {"advertising": True}}},
        },
        {
            "type": "track", "userId": "17", "event": "Order Completed",
            "properties": {"total": 500},
        },
        {
            "type": "track", "userId": "18", "event": "Order Completed",
            "properties": {"total": 500},
        },
    ]  # fmt: skip
    body = orjson.dumps({"batch": calls})
    told = explain(tmp_path, ExplainRequest(body, "shop", "/v1/batch", at=NOW), config)
    got = [any(d.destination == "ads" for d in event.deliveries) for event in told.events]
    assert got == [False, True, False]


def test_differences_go_by_path() -> None:
    """Values are compared path by path, and 1 equals 1.0."""
    assert diff_json({"a": [1, {"b": "1"}]}, {"a": [1.0, {"b": 1}], "c": {}}) == [
        Difference("a[1].b", "1", 1),
        Difference("c", MISSING, {}),
    ]


def test_true_is_not_one() -> None:
    """JSON's true and 1 differ, although they are equal in Python."""
    assert [change.path for change in diff_json(orjson.loads("[true]"), [1])] == ["[0]"]

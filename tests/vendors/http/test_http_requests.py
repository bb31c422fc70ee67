"""The requests that a configuration describes: path, query, headers, bodies, batches, verdicts."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.errors import Unrenderable
from gateway.event import Event, Product, Properties, Traits
from gateway.explain.static_losses import full
from gateway.http import Request, Response
from gateway.losses.field_outcomes import field_outcomes
from gateway.plugin import InputTooLarge
from gateway.plugin.vendor import Output
from gateway.verdict import Declined, Delivered, Refused, RetryLater, Verdict
from plugins.http.output import HttpOutput
from plugins.http.settings import ResponseCondition

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ORDER = Event(
    type="track", name="Order Completed", id="r-0", received_at=AT, timestamp=AT, user_id="u 1",
    properties=Properties(
        total=12.5, order_id="o1", products=(Product(sku="a", price=5), Product(sku="b")),
        extra={"gift": True, "tags": ["x", "y"], "deep": {"a": 1}, "line": "a\nb"},
    ),
)  # fmt: skip


def output(*requests: dict[str, Any], **more: Any) -> HttpOutput:
    """Return an output with these requests and settings."""
    table = {"url": "https://api.example/base/", "requests": list(requests), **more}
    return HttpOutput(HttpOutput.Config.model_validate(table))


def sent(event: Event, *requests: dict[str, Any], **more: Any) -> Request:
    """Return the request of an event."""
    found = output(*requests, **more).render(event)
    assert isinstance(found, Request), found
    return found


def test_without_requests_the_whole_event_is_posted() -> None:
    """A destination that only has a URL gets each event as JSON."""
    plain = HttpOutput(HttpOutput.Config(url="https://hook.example/x"))
    request = plain.render(ORDER)
    assert isinstance(request, Request)
    assert (request.method, request.url) == ("POST", "https://hook.example/x")
    assert request.headers == {"content-type": "application/json"}
    body = orjson.loads(request.body)
    assert body["properties"]["products"] == [{"sku": "a", "price": 5}, {"sku": "b"}]
    assert body["properties"]["gift"] is True
    assert plain.losses(full("track", "x")) == []


@pytest.mark.parametrize(
    ("request_", "url"),
    [
        ({}, "https://api.example/base"),
        ({"path": "/v1/track"}, "https://api.example/base/v1/track"),
        ({"path": ["users", "=event.user_id", "e"]}, "https://api.example/base/users/u%201/e"),
        ({"query": {"a": 1, "b": "x&y"}}, "https://api.example/base?a=1&b=x%26y"),
        ({"query": {"t": "=event.properties.tags"}}, "https://api.example/base?t=x&t=y"),
        ({"query": {"n": "=event.properties.total"}}, "https://api.example/base?n=12.5"),
        ({"query": {"g": "=event.properties.gift"}}, "https://api.example/base?g=true"),
        ({"query": {"gone": "=event.session_id"}}, "https://api.example/base"),
    ],
)
def test_addresses_are_encoded(request_: dict[str, Any], url: str) -> None:
    """Segments and values are percent-encoded; a missing value leaves its name out."""
    assert sent(ORDER, request_).url == url


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"path": ["u", "=event.session_id"]}, "requests 1.path: a value that it needs is missing"),
        ({"path": ["u", "=event.name"]}, "requests 1.path: "),
        ({"headers": {"x-l": "=event.properties.line"}}, "requests 1.headers.x-l: has a control"),
        ({"query": {"d": "=event.properties.deep"}}, "requests 1.query.d: a table cannot stand"),
        (
            {"encoding": "form", "body": {"d": "=event.properties.deep"}},
            "requests 1.body.d: a table cannot stand",
        ),
        ({"body": {"d": "=event.properties.gift + 1.0"}}, "requests 1.body: cannot compute"),
        ({"when": "event.properties.gift > 1.0"}, "requests, when: event.properties.gift > 1.0"),
    ],
)
def test_what_cannot_be_written_is_unrenderable(request_: dict[str, Any], reason: str) -> None:
    """A value that fits nowhere makes the event a dead letter, with the place and the reason."""
    with pytest.raises(Unrenderable) as caught:
        output(request_).render(replace(ORDER, name=".."))
    assert reason in str(caught.value)


def test_bodies_are_json_a_form_or_lines() -> None:
    """The encoding decides on the bytes and on the content type."""
    body = {"id": "=event.user_id", "n": "=event.properties.total", "t": "=event.properties.tags"}
    form = sent(ORDER, {"encoding": "form", "body": body})
    assert form.body == b"id=u+1&n=12.5&t=x&t=y"
    assert form.headers["content-type"] == "application/x-www-form-urlencoded"
    lines = sent(ORDER, {"encoding": "ndjson", "body": body})
    assert lines.body == b'{"id":"u 1","n":12.5,"t":["x","y"]}\n'
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert sent(ORDER, {"method": "GET", "query": body}).headers == {}
    own = {"headers": {"content-type": "application/vnd.api+json"}, "body": body}
    assert sent(ORDER, own).headers == {"content-type": "application/vnd.api+json"}


def test_the_first_request_whose_condition_holds_is_sent() -> None:
    """Requests are tried in order; without one the event is declined with the reason."""
    requests = (
        {"when": 'event.type == "identify"', "path": "/people"},
        {"when": "event.properties.total > 100.0", "path": "/large"},
        {"when": 'event.type == "track"', "path": "/events"},
    )
    identify = Event(type="identify", traits=Traits(email="a@b.example"))
    large = replace(ORDER, properties=Properties(total=101))
    assert sent(identify, *requests).url.endswith("/people")
    assert sent(large, *requests).url.endswith("/large")
    assert sent(ORDER, *requests).url.endswith("/events")
    reason = "the destination has no request for a page call"
    assert output(*requests).render(Event(type="page")) == Declined(reason)


def test_credentials_go_where_they_belong() -> None:
    """Fixed credentials are added to headers, query and body."""
    auth = {
        "header": {"X-Api-Key": "key-1"},
        "basic": {"user": "ada", "password": "pw"},
        "query": {"secret": "s&1"},
        "body": {"token": "t-1"},
    }
    request = sent(ORDER, {"query": {"a": 1}, "body": {"id": "=event.user_id"}}, auth=auth)
    assert request.headers["x-api-key"] == "key-1"
    assert request.headers["authorization"] == "Basic YWRhOnB3"
    assert request.url.endswith("?a=1&secret=s%261")
    assert orjson.loads(request.body) == {"id": "u 1", "token": "t-1"}
    assert "key-1" not in repr(output({}, auth=auth).config)


EVENTS = [replace(ORDER, id=f"r-{n}", properties=Properties(order_id=f"o{n}")) for n in range(4)]


def joined(made: Output, events: list[Event]) -> list[Any]:
    """Return the bodies of requests that deliver the events, merged as far as they can be."""
    requests: list[Request] = []
    for event in events:
        further = made.render(event)
        assert isinstance(further, Request)
        merged = made.merge(requests[-1], further) if requests else None
        if merged is not None:
            requests[-1] = merged
        else:
            requests.append(further)
    return [
        [orjson.loads(line) for line in one.body.splitlines()]
        if one.headers["content-type"] == "application/x-ndjson"
        else orjson.loads(one.body)
        for one in requests
    ]


@pytest.mark.parametrize(
    ("request_", "bodies"),
    [
        (
            {"body": {"user": "=event.user_id", "events": [{"id": "=event.properties.order_id"}]},
             "batch_path": "events"},
            [{"user": "u 1", "events": [{"id": "o0"}, {"id": "o1"}, {"id": "o2"}, {"id": "o3"}]}],
        ),
        ({"body": [{"id": "=event.properties.order_id"}]},
         [[{"id": "o0"}, {"id": "o1"}, {"id": "o2"}, {"id": "o3"}]]),
        ({"encoding": "ndjson", "body": {"id": "=event.properties.order_id"}},
         [[{"id": "o0"}, {"id": "o1"}, {"id": "o2"}, {"id": "o3"}]]),
        ({"encoding": "ndjson", "query": {"id": "=event.id"}, "body": {}},
         [[{}], [{}], [{}], [{}]]),
        ({"body": {"id": "=event.id", "events": [1]}, "batch_path": "events"},
         [{"id": f"r-{n}", "events": [1]} for n in range(4)]),
    ],
)  # fmt: skip
def test_events_are_batched_where_all_else_is_the_same(
    request_: dict[str, Any], bodies: list[Any]
) -> None:
    """Events join one request in a list or as lines; requests that differ in more stay apart."""
    assert joined(output(request_, batch_size=10), EVENTS) == bodies


def test_a_batch_stays_within_its_size() -> None:
    """A request with several events is never larger than `batch_bytes`."""
    for request in (
        {"encoding": "ndjson", "body": {"id": "=event.id"}},
        {"body": [{"id": "=event.id"}]},
    ):
        bodies = joined(output(request, batch_size=10, batch_bytes=30), EVENTS)
        assert [len(body) for body in bodies] == [2, 2]


def test_requests_of_different_shape_are_not_joined() -> None:
    """With several requests at one address, only those of one shape are joined."""
    made = output(
        {"when": 'event.properties.order_id == "o1"', "body": {"b": [1]}, "batch_path": "b"},
        {"body": {"a": [2]}, "batch_path": "a"},
        batch_size=10,
    )
    assert joined(made, EVENTS) == [{"a": [2]}, {"b": [1]}, {"a": [2, 2]}]


def test_a_list_is_never_longer_than_the_batch() -> None:
    """Events join until their items together would exceed `batch_size`; one alone may exceed it."""
    events = [
        replace(ORDER, properties=Properties(products=tuple(Product(sku=f"{n}") for n in range(k))))
        for k in (2, 1, 1, 5, 1)
    ]
    skus = "=event.properties.products.map(p, p.sku)"
    flat = output({"body": {"items": skus}, "batch_path": "items"}, batch_size=3)
    assert [len(body["items"]) for body in joined(flat, events)] == [3, 1, 5, 1]
    deep = output({"body": {"to": {"items": skus}}, "batch_path": "to.items"}, batch_size=3)
    assert [len(body["to"]["items"]) for body in joined(deep, events)] == [3, 1, 5, 1]
    lines = output({"body": skus, "encoding": "ndjson"}, batch_size=3)
    assert [len(body) for body in joined(lines, events)] == [3, 1, 5, 1]


SHAPES = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["POST", "PUT"]),
        "path": st.sampled_from(["/a", "/b"]),
        "query": st.sampled_from([None, {"q": "=event.type"}]),
        "headers": st.sampled_from([None, {"content-type": "x/y"}]),
        "body": st.sampled_from(
            [
                {"items": "=event.properties.products.map(p, p.sku)"},
                {"items": ["=event.name"]},
                ["=event.name"],
                "=event.properties.products.map(p, p.sku)",
            ]
        ),
        "encoding": st.sampled_from(["json", "ndjson"]),
        "batched": st.booleans(),
    }
)


@settings(max_examples=30)
@given(st.lists(SHAPES, min_size=1, max_size=2), st.tuples(*[st.integers(0, 1)] * 2))
def test_only_requests_of_one_entry_are_joined(
    shapes: list[dict[str, Any]], taken: tuple[int, int]
) -> None:
    """Two events are joined just if one entry with a list for batches makes both requests alike."""
    entries = []
    for number, shape in enumerate(shapes):
        entry = {key: value for key, value in shape.items() if value and key != "batched"}
        if shape["batched"] and shape["encoding"] == "json" and isinstance(entry["body"], dict):
            entry["batch_path"] = "items"
        entries.append(entry | {"when": f'event.type == "track" && event.user_id == "{number}"'})
    batches = output({"body": [1], "when": "event.type == 'page'"}, *entries, batch_size=9)
    first, second = (
        replace(ORDER, user_id=str(min(one, len(shapes) - 1)), name="n", id=f"r-{number}")
        for number, one in enumerate(taken)
    )
    one, other = batches.render(first), batches.render(second)
    assert isinstance(one, Request)
    assert isinstance(other, Request)
    entry = entries[int(first.user_id or "")]
    listed = "batch_path" in entry or isinstance(entry["body"], list)
    may = first.user_id == second.user_id and (listed or entry["encoding"] == "ndjson")
    merged = batches.merge(one, other)
    assert (merged is not None) is may
    if merged is not None:
        assert (merged.method, merged.url, merged.headers) == (one.method, one.url, one.headers)


OK, WAIT, NO = Delivered, RetryLater, Refused
JUDGES = {
    "delivered": "body.ok == true || status == 208",
    "retry": 'headers["x-again"] == "yes" || body.error.code == 17',
    "refused": 'body.error.kind == "bad" || status == 503',
}


@pytest.mark.parametrize(
    ("judges", "response", "verdict"),
    [
        ({}, Response(204), OK),
        ({}, Response(500), WAIT),
        ({}, Response(400), NO),
        (JUDGES, Response(200, {}, b'{"ok":true}'), OK),
        (JUDGES, Response(500, {}, b'{"ok":true}'), OK),
        (JUDGES, Response(208), OK),
        (JUDGES, Response(200, {}, b'{"ok":false}'), NO),
        (JUDGES, Response(200, {}, b"plain"), NO),
        (JUDGES, Response(200, {"X-Again": "yes"}, b"{}"), WAIT),
        (JUDGES, Response(400, {}, b'{"error":{"code":17}}'), WAIT),
        (JUDGES, Response(500, {}, b'{"error":{"kind":"bad"}}'), NO),
        (JUDGES, Response(503), NO),
        (JUDGES, Response(500), WAIT),
        (JUDGES, Response(404), NO),
        ({"refused": "status == 409"}, Response(200), OK),
        ({"refused": "body.x > 1.0"}, Response(200, {}, b'{"x":"text"}'), OK),
        ({"delivered": "status in [200, 404]"}, Response(404), OK),
        ({"delivered": "body == 'done'"}, Response(200, {}, b"done"), OK),
    ],
)
def test_conditions_judge_responses(
    judges: dict[str, str], response: Response, verdict: type[Verdict]
) -> None:
    """`delivered` comes first, then `refused`, then `retry`, then the status."""
    assert isinstance(output({}, **judges).verdict(response), verdict)


def test_a_verdict_says_why() -> None:
    """A reason names the response and the condition; a wait is the vendor's."""
    made = output({}, **JUDGES)
    later = made.verdict(Response(429, {"x-again": "yes", "retry-after": "7"}, b"slow"))
    assert later == RetryLater("HTTP 429: slow (retry holds)", 7.0, "limit")
    no = made.verdict(Response(200, {}, b"no"))
    assert isinstance(no, Refused)
    assert no.reason.startswith("HTTP 200: no: delivered = ")


@pytest.mark.parametrize("judges", [{}, {"retry": "status in [200, 429]"}])
@pytest.mark.parametrize("status", [200, 429])
@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"x-ratelimit-reset": "1796119204"}, 4.0),
        ({"x-ratelimit-reset": "4"}, 4.0),
        ({"x-ratelimit-reset": "9", "retry-after": "4"}, 4.0),
        ({"retry-after": "Tue, 01 Dec 2026 10:00:04 GMT"}, 4.0),
        ({"x-ratelimit-reset": "soon"}, None),
        ({}, None),
    ],
)
def test_an_api_says_when_to_come_again(
    judges: dict[str, str], status: int, headers: dict[str, str], wait: float | None
) -> None:
    """``retry-after`` counts, and without it ``x-ratelimit-reset``, however it was judged."""
    now = datetime(2026, 12, 1, 10, tzinfo=UTC)
    found = output({}, **judges).verdict(Response(status, headers), now)
    if status == 429 or judges:
        assert isinstance(found, RetryLater)
        assert found.after == wait
    else:
        assert isinstance(found, Delivered)


def test_a_failure_that_is_no_limit_does_not_wait_for_it() -> None:
    """Where a server fails, the end of its rate limit is no time to wait for."""
    now, headers = datetime(2026, 12, 1, 10, tzinfo=UTC), {"x-ratelimit-reset": "3000"}
    for status in (500, 503, 408):
        found = output({}).verdict(Response(status, headers), now)
        assert isinstance(found, RetryLater)
        assert found.after is None


def test_losses_are_what_no_expression_uses() -> None:
    """A field that is copied is kept, one that is computed with is coerced, any other is lost."""
    made = output(
        {
            "headers": {"x-user": "=event.user_id"},
            "body": {
                "sum": "=event.properties.total * 2.0",
                "gift": "=event.properties.gift",
                "first": "=event.properties.products[0].sku",
                "left": "=string(event.properties.order_id) + event.properties.absent",
                "list": "=[{'x': event.timestamp}] + [lower(event.session_id)]",
            },
        }
    )
    found = {one.path: (one.how, one.to or one.why) for one in field_outcomes(made, ORDER)}
    assert found == {
        "timestamp": ("kept", "list[].x"),
        "user_id": ("kept", "headers.x-user"),
        "properties.order_id": ("lost", "left out, because event.properties.absent is missing"),
        "properties.total": ("coerced", "sum"),
        "properties.products[].sku": ("kept", "first"),
        "properties.products[].price": ("lost", "no expression of the request uses it"),
        "properties.products[1:]": ("lost", "http takes one product per event here"),
        "properties.extra.gift": ("kept", "gift"),
        "properties.extra.tags": ("lost", "no expression of the request uses it"),
        "properties.extra.deep": ("lost", "no expression of the request uses it"),
        "properties.extra.line": ("lost", "no expression of the request uses it"),
    }
    assert made.losses(Event(type="page")) == []


@pytest.mark.parametrize("first", [{}, {"first": "=event.properties.products[0].sku"}])
def test_what_is_sent_as_text_is_not_lost(first: dict[str, str]) -> None:
    """Of a part that is written as JSON every field is coerced, the sender's own included."""
    made = output({"body": {**first, "all": "=json(event.properties)"}})
    found = {one.path: one.how for one in field_outcomes(made, ORDER)}
    lost = {path for path, how in found.items() if how == "lost"}
    assert lost == {"timestamp", "user_id", "session_id"} & found.keys()
    assert found["properties.extra.gift"] == "coerced"


def test_a_response_is_too_large_for_comprehensions_only() -> None:
    """A condition that looks through lists refuses long ones; others take any response."""
    values = {"status": 200, "headers": {}, "body": {"a": ["x"] * 101, "ok": True}}
    twice = ResponseCondition("body.a.exists(x, body.a.exists(y, y == x))")
    with pytest.raises(InputTooLarge, match="body has a list or table of more than 100 members"):
        twice.holds(values)
    assert twice.holds(values | {"body": {"a": ["x"] * 100}})
    assert ResponseCondition("body.a.exists(x, x == 'x')").holds(values)
    assert ResponseCondition("body.ok == true").holds(
        values | {"body": {"a": [1] * 3000, "ok": True}}
    )
    deep: object = "x"
    for _ in range(2000):
        deep = [deep]
    assert not ResponseCondition("body == 'x'").holds(values | {"body": deep})


@pytest.mark.parametrize("key", ["delivered", "refused", "retry"])
def test_a_response_that_cannot_be_judged_loses_nothing(key: str) -> None:
    """It makes a dead letter that says why if the status is good, and is retried if it is not."""
    made = output({"body": {}}, **{key: "body.exists(x, x == 'yes')"})
    body = orjson.dumps(["no"] * 1000 + ["yes"])
    verdict = made.verdict(Response(200, {}, body))
    assert isinstance(verdict, Refused)
    assert "more than 1000 members" in verdict.reason
    assert isinstance(made.verdict(Response(503, {}, body)), RetryLater)


LISTED = {"body": {"items": "=event.properties.products.map(p, p.sku)"}, "batch_path": "items"}
GUARDED = "=has(body.errors) ? body.errors.map(e, e.index) : []"


@pytest.mark.parametrize(
    ("expression", "body", "refused"),
    [
        ("=body.bad", b'{"bad":[]}', {}),
        ("=body.bad", b'{"bad":null}', {}),
        ("=body.bad", b"{}", {}),
        ("=body.bad", b"", {}),
        ("=body.bad", b'{"bad":[0]}', {0: "(item 0 is in"}),
        ("=body.bad", b'{"bad":[3,2.0]}', {1: "(item 2 is in", 2: "(item 3 is in"}),
        ("=body.bad", b'{"bad":[1,0,5]}', {0: "(item 1 is in", 2: "(item 5 is in"}),
        (GUARDED, b"{}", {}),
        (GUARDED, b'{"errors":[{"index":2}]}', {1: "(item 2 is in"}),
        (GUARDED, b'{"errors":[{"index":2},{}]}', "a value that it needs is missing"),
        ("=body.bad", b'{"bad":[6]}', "6.0, which is no position; the last one is 5"),
        ("=body.bad", b'{"bad":[-1]}', "no position"),
        ("=body.bad", b'{"bad":[0.5]}', "0.5, which is no position"),
        ("=body.bad", b'{"bad":["0"]}', "'0', which is no position"),
        ("=body.bad", b'{"bad":[true]}', "True, which is no position"),
        ("=body.bad", b'{"bad":[null]}', "None, which is no position"),
        ("=body.bad", b'{"bad":3}', "gives no list"),
        ("=body.bad", b'{"bad":[', "'body.bad': "),
        (GUARDED, b'{"errors":[' + b"0," * 1001 + b"0]}", "more than 1000 members"),
    ],
)
def test_positions_of_refused_items_tell_the_refused_events(
    expression: str, body: bytes, refused: dict[int, str] | str
) -> None:
    """An event with a refused item is refused; all are where the positions make no sense."""
    made = output(LISTED, batch_size=9, refused_items=expression)
    request = made.render(ORDER)
    assert isinstance(request, Request)
    for products in ((Product(sku="c"),), tuple(Product(sku=sku) for sku in "def")):
        further = made.render(replace(ORDER, properties=Properties(products=products)))
        assert isinstance(further, Request)
        merged = made.merge(request, further)
        assert merged is not None
        request = merged
    found = made.refused_events(request, Response(207, {}, body))
    wanted = dict.fromkeys(range(3), refused) if isinstance(refused, str) else refused
    assert found.keys() == wanted.keys()
    assert all(text in found[at] for at, text in wanted.items()), found


def test_an_expression_for_refused_items_is_checked() -> None:
    """It must be a list, and one that looks through a list must say what it is without one."""
    with pytest.raises(ValueError, match="is true or false, not list"):
        output({}, refused_items="=body.bad == 1")
    assert not list(output({}, refused_items=GUARDED).config.remarks())
    ((where, what),) = output({}, refused_items="=body.errors.map(e, e.index)").config.remarks()
    assert where == ("refused_items",)
    assert "write has(body.errors) ? " in what


def test_a_reason_is_what_the_vendor_says() -> None:
    """`reason` picks it from the response; without a value the beginning of the body stands."""
    made = output({}, reason="=body.errors[0].message", refused="body.ok == false")
    picked = Response(400, {}, b'{"errors":[{"message":"no such user"}]}')
    assert made.verdict(picked) == Refused("HTTP 400: no such user")
    assert made.verdict(replace(picked, status=503)) == RetryLater("HTTP 503: no such user")
    held = Response(200, {}, b'{"ok":false,"errors":[{"message":7}]}')
    assert made.verdict(held) == Refused("HTTP 200: 7.0 (refused holds)")
    assert made.verdict(Response(400, {}, b'{"errors":[]}')) == Refused('HTTP 400: {"errors":[]}')
    assert made.verdict(Response(400)) == Refused("HTTP 400")
    assert made.verdict(Response(200)) == Delivered()
    moved = made.verdict(Response(302, {"location": "https://x.example"}, picked.body))
    assert isinstance(moved, RetryLater)
    assert "redirected to https://x.example" in moved.reason

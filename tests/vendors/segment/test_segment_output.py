"""How events are sent to Segment: alone, in batches, and forwarded."""

import base64
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from msgspec.structs import replace

from gateway.errors import Rejected, Unrenderable
from gateway.event import Campaign, Context, Device, Event, Names, Page, Product, Properties, Traits
from gateway.http import Request, Response
from gateway.mapping import Loss
from gateway.plugin.settings import Secret
from gateway.testing.samples import ARRIVAL
from gateway.verdict import Declined, Delivered, Refused, RetryLater
from plugins.segment.input import SegmentInput
from plugins.segment.output import SegmentOutput

AT = datetime(2024, 3, 28, 10, 15, 30, 523000, UTC)
WRITTEN = "2024-03-28T10:15:30.523Z"
ARRIVED = "2026-01-02T03:04:05.000Z"
SHOES = Product(product_id="42", name="Red shoes", price=59.9, quantity=1)
SOCKS = Product(product_id="43", price=4, quantity=2, extra={"colour": "grey"})


def output(**settings: Any) -> SegmentOutput:
    """Return a destination with *settings*."""
    known = {"url": "https://segment.example/", "write_key": Secret("key-out"), **settings}
    return SegmentOutput(SegmentOutput.Config(**known))


def request_for(event: Event, **settings: Any) -> Request:
    """Return the request that delivers *event*."""
    request = output(**settings).render(event)
    assert isinstance(request, Request), request
    return request


def sent(event: Event, **settings: Any) -> dict[str, Any]:
    """Return the body that delivers *event*."""
    body: dict[str, Any] = orjson.loads(request_for(event, **settings).body)
    return body


def track(name: str = "x", properties: Properties = Properties(), **fields: Any) -> Event:  # noqa: B008 - immutable
    """Return an event of another vendor."""
    known = {"id": "r-1-0", "user_id": "u1", "origin": "quartic", "received_at": ARRIVAL, **fields}
    return Event(type="track", name=name, properties=properties, **known)


def test_sends_an_order() -> None:
    """An order is sent with the Spec's names, and the key only in a Basic header."""
    properties = Properties(
        order_id="o1", total=72.9, currency="EUR", products=(SHOES, SOCKS), extra={"gift": True}
    )
    context = Context(
        page=Page(url="https://shop.example/thanks"),
        campaign=Campaign(name="may"),
        channel="web",
        extra={"os": {"name": "Linux"}},
    )
    event = track(
        "Order Completed",
        properties,
        message_id="m1",
        timestamp=AT,
        anonymous_id="a1",
        session_id="s1",
        group_id="g1",
        traits=Traits(email="ada@shop.example"),
        context=context,
        consent={"ads": False},
        extra={"quartic's": "own"},
    )
    request = request_for(event)
    assert (request.method, request.url) == ("POST", "https://segment.example/v1/track")
    assert request.headers == {
        "content-type": "application/json",
        "authorization": "Basic " + base64.b64encode(b"key-out:").decode(),
    }
    assert orjson.loads(request.body) == {
        "type": "track",
        "event": "Order Completed",
        "messageId": "m1",
        "timestamp": WRITTEN,
        "userId": "u1",
        "anonymousId": "a1",
        "context": {
            "page": {"url": "https://shop.example/thanks"},
            "campaign": {"name": "may"},
            "channel": "web",
            "os": {"name": "Linux"},
            "sessionId": "s1",
            "groupId": "g1",
            "traits": {"email": "ada@shop.example"},
            "consent": {"categoryPreferences": {"ads": False}},
        },
        "properties": {
            "order_id": "o1",
            "total": 72.9,
            "revenue": 67.9,
            "currency": "EUR",
            "products": [
                {"product_id": "42", "name": "Red shoes", "price": 59.9, "quantity": 1},
                {"product_id": "43", "price": 4, "quantity": 2, "colour": "grey"},
            ],
            "gift": True,
        },
    }
    assert output().losses(replace(event, extra={})) == []


def test_sends_one_product_flat() -> None:
    """An event about one product has the product's fields among its properties."""
    event = track("Product Added", Properties(products=(SOCKS,), cart_id="c1"))
    assert sent(event)["properties"] == {
        "product_id": "43",
        "price": 4,
        "quantity": 2,
        "colour": "grey",
        "cart_id": "c1",
    }


def test_sends_time_and_id_of_its_own_by_default() -> None:
    """Without a sender's time and id, the arrival time and the gateway's id are sent."""
    assert (sent(track())["messageId"], sent(track())["timestamp"]) == ("r-1-0", ARRIVED)
    longest = track(message_id="m" * 100)
    assert sent(longest)["messageId"] == "m" * 100
    assert sent(track(message_id="m" * 101))["messageId"] == "r-1-0"
    assert sent(track(message_id=" "))["messageId"] == "r-1-0"


def test_does_not_say_when_it_was_sent() -> None:
    """``sentAt`` is lost, since Segment would correct a corrected time again."""
    event = track(timestamp=AT, sent_at=ARRIVAL)
    assert "sentAt" not in sent(event)
    assert output().losses(event) == [Loss("sent_at", "lost", ARRIVAL)]


def test_sends_a_page_with_its_address_twice() -> None:
    """A page has its URL both in its context and among its properties."""
    page = Page(url="https://shop.example/", title="Home")
    properties = Properties(category="Docs", value=3, extra={"title": "own"})
    event = Event(
        type="page",
        name="Home",
        anonymous_id="a1",
        received_at=ARRIVAL,
        context=Context(page=page),
        properties=properties,
    )
    body = sent(event)
    assert (body["type"], body["name"]) == ("page", "Home")
    assert body["context"] == {"page": {"url": "https://shop.example/", "title": "Home"}}
    assert body["properties"] == {
        "url": "https://shop.example/",
        "title": "own",
        "category": "Docs",
        "value": 3,
    }
    screen = request_for(replace(event, type="screen", name=" "))
    assert screen.url.endswith("/v1/screen")
    assert "name" not in orjson.loads(screen.body)


def test_sends_groups_and_aliases() -> None:
    """A group has its id, an alias both ids; an anonymous id may be the previous id."""
    group = Event(type="group", user_id="u1", group_id="g1", traits=Traits(name="Acme"))
    assert sent(group)["groupId"] == "g1"
    assert sent(group)["traits"] == {"name": "Acme"}
    alias = Event(type="alias", user_id="u1", previous_id="a1")
    assert sent(alias)["previousId"] == "a1"
    spare = sent(replace(alias, previous_id=None, anonymous_id="a2"))
    assert (spare["previousId"], spare["anonymousId"]) == ("a2", "a2")


def test_sends_an_anonymous_users_consent() -> None:
    """Consent is sent by category, in the context."""
    consent = track(Names.CONSENT_UPDATED, anonymous_id="a1", consent={"a": True})
    assert sent(consent)["context"] == {"consent": {"categoryPreferences": {"a": True}}}


def test_the_device_id_replaces_a_missing_anonymous_id() -> None:
    """Without another id, the device id is sent as the anonymous id."""
    event = track(user_id=None, context=Context(device=Device(id="d1")))
    assert sent(event)["anonymousId"] == "d1"
    assert "anonymousId" not in sent(replace(event, user_id="u1"))


def test_sends_nothing_larger_than_segment_takes() -> None:
    """An event of more than 32 KB is unrenderable."""
    empty = len(request_for(track(properties=Properties(extra={"text": ""}))).body)
    fits = track(properties=Properties(extra={"text": "x" * (32 * 1024 - empty)}))
    assert len(request_for(fits).body) == 32 * 1024
    large = track(properties=Properties(extra={"text": "x" * (32 * 1024 - empty + 1)}))
    with pytest.raises(Unrenderable, match="32769 bytes; segment accepts at most 32768"):
        output().render(large)


def test_merges_calls_into_a_batch() -> None:
    """Calls are merged whole and in order, up to the batch's size limit."""
    out = output()
    calls = [request_for(track(f"event {number}")) for number in range(3)]
    merged = out.merge(calls[0], calls[1])
    assert merged is not None
    merged = out.merge(merged, calls[2])
    assert merged is not None
    assert merged.url == "https://segment.example/v1/batch"
    assert merged.headers == calls[0].headers
    batch = orjson.loads(merged.body)
    assert batch == {"batch": [orjson.loads(call.body) for call in calls]}
    assert [call["type"] for call in batch["batch"]] == ["track"] * 3
    large = request_for(track(properties=Properties(extra={"text": "x" * 30_000})))
    request, count = large, 1
    while (more := out.merge(request, large)) is not None:
        request, count = more, count + 1
    assert count == 16
    assert len(request.body) <= 500 * 1024


def packed(call: Any) -> str:
    """Return *call* as base64."""
    return base64.b64encode(orjson.dumps(call)).decode()


def forwarded(method: str, url: str, body: bytes = b"", **settings: Any) -> Request:
    """Return what a received request goes on as."""
    request = Request(method=method, url=url, body=body, headers={"content-type": "text/plain"})
    found = output(**settings).forward(request)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{ "userId":"u", "a": 1.10 }', b'{ "userId":"u", "a": 1.10 }'),
        (b'{ "writeKey":"key-in",\n"a": 1.10 }', b'{ "writeKey":"key-out",\n"a": 1.10 }'),
        (
            b'{"batch": [{"writeKey": "key-in"}, {"b": 1.10}], "writeKey": "key-in"}',
            b'{"batch": [{"writeKey": "key-out"}, {"b": 1.10}], "writeKey": "key-out"}',
        ),
        (
            b'{"batch": [{"writeKey": "x"}, 1], "writeKey": "y"}',
            b'{"batch": [{"writeKey": "key-out"}, 1], "writeKey": "key-out"}',
        ),
        (
            b'{"writeKey": "x", "event": "x"}',
            b'{"writeKey":"key-out","event":"x"}',
        ),
        (b'{"writeKey": "\\u0078", "a": 1.10}', b'{"writeKey":"key-out","a":1.1}'),
        (b'{"writeKey": null, "batch": "x"}', b'{"writeKey": null, "batch": "x"}'),
    ],
)
def test_exchanges_the_key_in_the_body_and_nothing_else(before: bytes, after: bytes) -> None:
    """Each write key in a body is replaced, and the other bytes stay if possible."""
    request = forwarded("POST", "/v1/batch?v=1", before)
    assert request.body == after
    assert request.url == "https://segment.example/v1/batch?v=1"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["authorization"] == "Basic a2V5LW91dDo="


def test_a_key_that_cannot_be_replaced_is_unrenderable() -> None:
    """A body whose write key cannot be replaced is unrenderable."""
    body = b'{"writeKey": "x", "a": "x", "b": %b}' % (b"[" * 300 + b"]" * 300)
    with pytest.raises(Unrenderable, match="write key cannot be replaced"):
        forwarded("POST", "/v1/track", body)


def test_exchanges_the_key_in_an_address() -> None:
    """A write key in the query or in pixel data is replaced."""
    query = "writeKey=key-in&userId=a%20b&properties.a=1+2"
    request = forwarded("GET", f"/v1/pixel/track?{query}", write_key=Secret("k&1"))
    expected = query.replace("key-in", "k%261")
    assert request.url == f"https://segment.example/v1/pixel/track?{expected}"
    assert (request.method, request.body) == ("GET", b"")
    assert "content-type" not in request.headers
    beacon = forwarded("POST", "/beacon/v1/batch?writeKey=k", b"{}", dialect="rudderstack")
    assert beacon.url.endswith("/beacon/v1/batch?writeKey=key-out")


@pytest.mark.parametrize(
    ("encode", "ours"),
    [
        (packed, packed),
        (lambda call: packed(call).rstrip("="), lambda call: packed(call).rstrip("=")),
        (lambda call: quote(packed(call), safe=""), lambda call: quote(packed(call), safe="")),
        (
            lambda call: packed(call).replace("+", "-").replace("/", "_"),
            lambda call: packed(call).replace("+", "-").replace("/", "_"),
        ),
        (lambda call: quote(orjson.dumps(call)), lambda call: quote(orjson.dumps(call), safe="")),
    ],
)
def test_encodes_data_as_it_was(encode: Any, ours: Any) -> None:
    """Pixel data is encoded with the new key in its original encoding."""
    call = {"writeKey": "key-in", "userId": "u", "event": "a?>b~ÿ"}
    request = forwarded("GET", f"/v1/pixel/track?data={encode(call)}&x=1")
    expected = ours({**call, "writeKey": "key-out"})
    assert request.url == f"https://segment.example/v1/pixel/track?data={expected}&x=1"
    without = encode({"userId": "u"})
    same = forwarded("GET", f"/v1/pixel/track?data={without}&writeKey=k")
    assert same.url.endswith(f"data={without}&writeKey=key-out")


@pytest.mark.parametrize("data", ["!", "e30x", "bnVsbA", "%7B%22writeKey%22", "", "%ff"])
def test_leaves_data_that_is_no_call(data: str) -> None:
    """Of repeated pixel data the last one is read, and invalid ones stay unchanged."""
    call = quote(orjson.dumps({"writeKey": "key-in", "userId": "u"}))
    request = forwarded("GET", f"/v1/pixel/track?data={data}&data={call}")
    ours = quote(orjson.dumps({"writeKey": "key-out", "userId": "u"}), safe="")
    assert request.url.endswith(f"/v1/pixel/track?data={data}&data={ours}")


def test_forwards_a_pixel_without_a_body() -> None:
    """A forwarded pixel has no body."""
    request = forwarded("GET", "/v1/pixel/track?userId=u", b"\xff")
    assert request.body == b""


def test_labels_json_as_json() -> None:
    """A JSON content type is kept, and any other is replaced by JSON."""
    own = {"content-type": "application/json; charset=utf-8"}
    request = output().forward(Request(method="POST", url="/v1/t", body=b"{}", headers=own))
    assert request is not None
    assert request.headers["content-type"] == own["content-type"]
    form = {"content-type": "application/x-www-form-urlencoded"}
    request = output().forward(Request(method="POST", url="/v1/t", body=b"{}", headers=form))
    assert request is not None
    assert request.headers["content-type"] == "application/json"


def test_forwards_what_the_server_has() -> None:
    """Only requests to paths that the destination's server has are forwarded."""
    paths = {
        "POST /v1/track": {"segment", "rudderstack", "compatible"},
        "POST /v1/batch": {"segment", "rudderstack", "compatible"},
        "POST /v1/t": {"segment"},
        "POST /v1/b": {"segment"},
        "GET /v1/pixel/page": {"segment"},
        "POST /v1/import": {"rudderstack"},
        "POST /beacon/v1/batch": {"rudderstack"},
        "GET /pixel/v1/page": {"rudderstack"},
    }
    for endpoint, expected in paths.items():
        method, url = endpoint.split()
        request = Request(method=method, url=url, body=b"{}" if method == "POST" else b"")
        taken = {
            dialect
            for dialect in ("segment", "rudderstack", "compatible")
            if output(dialect=dialect).forward(request) is not None
        }
        assert taken == expected, endpoint


@pytest.mark.parametrize("products", [True, 5, "order_id", ["order_id", 5]])
def test_restores_the_spelling_beside_products_of_another_type(products: Any) -> None:
    """A misspelt event with invalid ``products`` is sent back unchanged."""
    properties = {"orderID": "o1", "products": products}
    body = {"userId": "u1", "event": "completed order", "properties": properties}
    request = Request(method="POST", url="/v1/track", body=orjson.dumps(body), id="r")
    (event,) = SegmentInput().parse(request)
    back = sent(event)
    assert (back["event"], back["properties"]) == ("completed order", properties)


@pytest.mark.parametrize("status", [408, 410, 429, 460, 500, 502, 503, 504, 529])
def test_retries_what_segments_library_retries(status: int) -> None:
    """A status that Segment's Node.js library retries is retried."""
    assert isinstance(output().verdict(Response(status)), RetryLater)


@pytest.mark.parametrize("status", [400, 404, 413, 422, 501, 505, 511])
def test_other_statuses_are_final(status: int) -> None:
    """A status that the library does not retry is final."""
    assert isinstance(output().verdict(Response(status)), Refused)


def test_waits_as_long_as_the_response_asks() -> None:
    """The wait is Retry-After, else X-RateLimit-Reset."""
    waits = [
        ({"retry-after": "7", "x-ratelimit-reset": "9"}, 7),
        ({"x-ratelimit-reset": "9"}, 9),
        ({"x-ratelimit-reset": "soon"}, None),
        ({}, None),
    ]
    for headers, after in waits:
        verdict = output().verdict(Response(429, headers))
        assert isinstance(verdict, RetryLater)
        assert (verdict.after, verdict.cause) == (after, "limit")


def test_a_disabled_source_counts_as_a_wrong_key() -> None:
    """RudderStack's 404 for a disabled source counts as a wrong key; another 404 is final."""
    verdict = output().verdict(Response(404, {}, b"source is disabled\n"))
    assert isinstance(verdict, RetryLater)
    assert verdict.cause == "credential"
    assert isinstance(output().verdict(Response(404, {}, b"404 page not found")), Refused)
    assert output().verdict(Response(200, {}, b"OK")) == Delivered()


CONTEXT = {"blob": "y" * 30_000, "page": {"title": "z" * 4000}}


def shared(calls: int = 2, context: Any = CONTEXT) -> list[Event]:
    """Return the events of a batch whose context is too large for one call."""
    members = [{"type": "track", "userId": "u1", "event": f"e{n}"} for n in range(calls)]
    body = orjson.dumps({"batch": members, "context": context})
    return SegmentInput().parse(Request(method="POST", url="/v1/batch", body=body, id="r"))


def test_a_large_batch_context_is_sent_on_a_batch() -> None:
    """An event too large for a single call is sent as a batch of one with its context on top."""
    for number, event in enumerate(shared()):
        request = output().render(event)
        assert not isinstance(request, Declined)
        assert request.url.endswith("/v1/batch")
        said = orjson.loads(request.body)
        assert said["context"] == CONTEXT
        (call,) = said["batch"]
        assert (call["event"], call["userId"]) == (f"e{number}", "u1")
        assert "context" not in call
        (again,) = SegmentInput().parse(replace(request, url="/v1/batch"))
        assert again.context == event.context


def test_a_batch_with_a_context_is_never_merged() -> None:
    """A batch with a context on top is never merged with another call."""
    large, small = output().render(shared()[0]), output().render(shared(context={})[0])
    assert not isinstance(large, Declined)
    assert not isinstance(small, Declined)
    assert output().merge(large, small) is None
    assert output().merge(small, large) is None
    both = output().merge(small, small)
    assert both is not None
    assert output().merge(both, large) is None


def test_an_event_too_large_for_a_batch_is_unrenderable() -> None:
    """Too large properties, and servers without batches, make the event unrenderable."""
    large = replace(shared(context={})[0], properties=Properties(extra={"blob": "y" * 33_000}))
    with pytest.raises(Unrenderable, match="bytes"):
        output().render(large)
    with pytest.raises(Unrenderable, match="bytes"):
        output(dialect="compatible").render(shared()[0])
    assert not isinstance(output(dialect="rudderstack").render(shared()[0]), Declined)


def test_a_context_is_not_multiplied_without_bound() -> None:
    """A batch whose context would take megabytes when repeated is rejected."""
    with pytest.raises(Rejected, match="context: repeated for 300 calls"):
        shared(300)

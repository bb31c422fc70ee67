"""The http input: which requests are meant, what proves them, what they become."""

import hmac
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.errors import Fault, Rejected
from gateway.event import Event, as_json
from gateway.http import Request, Response
from plugins.http.input import ANYBODY, HttpInput

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOW = int(AT.timestamp())
SECRET = "whsec-1"  # noqa: S105 - not used anywhere else
PATH = "/hooks/shop"


def source(*requests: dict[str, Any], keys: tuple[str, ...] = (SECRET,), **more: Any) -> HttpInput:
    """Return the input of a source with these requests and settings."""
    rules = [{"path": PATH, **request} for request in requests]
    return HttpInput(HttpInput.Config.model_validate({"requests": rules, **more}), keys)


def request(body: Any = None, query: str = "", method: str = "POST", **headers: str) -> Request:
    """Return a request; names of headers have underscores for dashes."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body) if body is not None else b""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Request(method=method, url=PATH + query, headers=named, body=raw, id="r", received_at=AT)


def events(made: HttpInput, asked: Request) -> list[dict[str, Any]]:
    """Return the events of a request as JSON."""
    return [as_json(event) for event in made.parse(asked)]


ORDER = {
    "kind": "order.paid",
    "at": NOW,
    "user": {"id": 17, "mail": "ada@shop.example"},
    "total": "59.90",
    "lines": [{"sku": "a", "qty": 2}, {"sku": 7}],
    "new": {"deep": [1, {"x": 1.25}]},
}
PAID = {
    "name": "Order Completed",
    "message_id": "=headers['x-id']",
    "timestamp": "=payload.at",
    "user_id": "=payload.user.id",
    "traits": {"email": "=payload.user.mail"},
    "properties": {
        "total": "=payload.total",
        "shop": "=query.shop",
        "gone": "=payload.nothing.at.all",
        "double": "=double(payload.total) * 2.0",
        "raw": "=payload.new",
        "products": "=payload.lines.map(l, {'sku': l.sku, 'quantity': l.qty})",
    },
    "context": {"channel": "server"},
}


def test_a_request_becomes_an_event() -> None:
    """Fields come from the body, the headers and the query; types are those of the event."""
    made = source({"event": PAID})
    (event,) = made.parse(request(ORDER, "?shop=north&x=1", x_id="m-1"))
    assert (event.id, event.origin, event.received_at) == ("r-0", "http", AT)
    assert (event.type, event.name, event.user_id) == ("track", "Order Completed", "17")
    assert (event.message_id, event.timestamp) == ("m-1", AT)
    assert event.traits.email == "ada@shop.example"
    assert event.context.channel == "server"
    assert event.properties.total == 59.9
    assert [(one.sku, one.quantity) for one in event.properties.products] == [("a", 2), ("7", None)]
    assert {**event.properties.extra} == {
        "shop": "north", "double": 119.8, "raw": {"deep": [1, {"x": 1.25}]},
    }  # fmt: skip


def test_a_list_becomes_many_events() -> None:
    """With `each`, every item of a list becomes an event, numbered in order."""
    made = source(
        {"each": "=payload.lines", "event": {"name": "=item.n", "user_id": "=payload.user"}}
    )
    found = made.parse(request({"user": "u", "lines": [{"n": "a"}, {"n": "b"}]}))
    assert [(event.id, event.name, event.user_id) for event in found] == [
        ("r-0", "a", "u"), ("r-1", "b", "u"),
    ]  # fmt: skip
    assert made.parse(request({"user": "u"})) == []
    assert made.parse(request({"user": "u", "lines": []})) == []


def test_the_first_request_that_matches_counts() -> None:
    """Method, path and `when` decide; what matches nothing is accepted without an event."""
    made = source(
        {"when": 'payload.kind == "a"', "event": {"type": "identify", "user_id": "u"}},
        {"when": 'headers["x-topic"] == "b"', "event": {"name": "b"}},
        {"when": 'payload.kind == "c"'},
        {"method": "PUT", "event": {"name": "put"}},
    )
    assert [one["type"] for one in events(made, request({"kind": "a"}))] == ["identify"]
    assert [one["name"] for one in events(made, request({"kind": "x"}, x_topic="b"))] == ["b"]
    assert events(made, request({"kind": "c"})) == []
    assert events(made, request({"kind": "d"})) == []
    assert [one["name"] for one in events(made, request({}, method="PUT"))] == ["put"]
    assert set(made.endpoints) == {f"POST {PATH}", f"PUT {PATH}"}
    assert made.stored_headers >= {"content-type", "x-topic"}


def test_what_matches_nothing_can_be_refused() -> None:
    """With `unmatched`, a request without a rule is answered 422."""
    made = source({"when": 'payload.kind == "a"', "event": {"name": "a"}}, unmatched="refuse")
    with pytest.raises(Rejected) as caught:
        made.parse(request({"kind": "b"}))
    assert made.refuse(request(), caught.value).status == 422


@pytest.mark.parametrize(
    ("event", "body", "reason"),
    [
        ({"name": "=payload.n"}, {}, "the name of the event gives none"),
        ({"name": "x", "properties": {"a": "=payload.n + 1.0"}}, {"n": "t"}, "cannot compute"),
        ({"type": "=payload.t"}, {"t": "nonsense"}, 'type: unknown: "nonsense"'),
    ],
)
def test_what_gives_no_event_is_refused(event: Any, body: Any, reason: str) -> None:
    """A request whose expressions fail or give no event is refused with the reason."""
    with pytest.raises(Rejected) as caught:
        source({"event": event}).parse(request(body))
    assert reason in str(caught.value)


def test_bodies_are_json_or_forms() -> None:
    """A form becomes a table, no body an empty one; anything else must be JSON."""
    made = source({"event": {"name": "=payload.n"}})
    form = request(b"n=a+b&m=1", content_type="application/x-www-form-urlencoded")
    assert [one["name"] for one in events(made, form)] == ["a b"]
    assert made.decode(request()) == {}
    with pytest.raises(Rejected) as caught:
        made.parse(request(b"{"))
    assert caught.value.fault is Fault.MALFORMED


def test_the_answer_is_the_configured_one() -> None:
    """Status, headers and body of an answer can be chosen, for the source and for a request."""
    made = source(
        {
            "when": 'payload.type == "url_verification"',
            "answer": {"body": {"challenge": "=payload.challenge"}},
        },
        {"when": 'payload.type == "bad"', "answer": {"body": "=payload.n + 1.0"}},
        {"event": {"name": "x"}},
        answer={"status": 202, "headers": {"x-by": "gateway"}, "body": "taken"},
    )
    found = made.accept(request({"type": "url_verification", "challenge": "c-1"}), [])
    assert (found.status, orjson.loads(found.body)) == (200, {"challenge": "c-1"})
    assert found.headers["content-type"] == "application/json"
    assert made.accept(request({"type": "event"}), []) == Response(
        202, {"content-type": "text/plain; charset=utf-8", "x-by": "gateway"}, b"taken"
    )
    assert made.accept(request({"type": "bad", "n": "t"}), []) == Response(200)


def test_a_handshake_is_answered() -> None:
    """A GET with a token in its query is answered with its challenge, as Meta asks."""
    made = source(
        {
            "method": "GET",
            "when": 'query["hub.mode"] == "subscribe"',
            "verify": {"query": "hub.verify_token"},
            "answer": {"body": '=query["hub.challenge"]'},
        },
        {"event": {"name": "x"}},
    )
    asked = request(
        query=f"?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token={SECRET}",
        method="GET",
    )
    assert made.credential(asked, {}) == SECRET
    assert made.parse(asked) == []
    assert made.accept(asked, []).body == b"1158201444"
    assert made.credential(request(method="GET"), {}) is None


@pytest.mark.parametrize(
    ("verify", "headers", "query", "key"),
    [
        ({"bearer": True}, {"authorization": "Bearer t"}, "", "t"),
        ({"bearer": True}, {}, "", None),
        ({"basic": True}, {"authorization": "Basic YWRhOnB3"}, "", "ada:pw"),
        ({"header": "X-Token"}, {"x_token": "t"}, "", "t"),
        ({"header": "X-Token"}, {}, "", None),
        ({"query": "key"}, {}, "?key=a%20b", "a b"),
        (None, {}, "", ANYBODY),
    ],
)
def test_tokens_are_found(verify: Any, headers: dict[str, str], query: str, key: str) -> None:
    """A token is where `verify` says; without `verify` everybody is taken for the same sender."""
    made = source({"event": {"name": "x"}}, **({"verify": verify} if verify else {}))
    assert made.credential(request({}, query, **headers), {}) == key


BODY = b'{"n":"\xc3\xbc"}'


def signed(text: bytes, algorithm: str = "sha256", secret: str = SECRET) -> bytes:
    """Return a signature."""
    return hmac.new(secret.encode(), text, algorithm).digest()


STRIPE = {
    "header": "Stripe-Signature",
    "part": "v1",
    "timestamp_part": "t",
    "payload": "=timestamp + '.' + body",
}
SLACK = {
    "header": "x-slack-signature",
    "part": "v0",
    "timestamp_header": "x-slack-request-timestamp",
    "payload": "='v0:' + timestamp + ':' + body",
}
V1 = signed(f"{NOW}.".encode() + BODY).hex()
SIGNED: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "Stripe": (STRIPE, {"stripe_signature": f"t={NOW},v1=00,v1={V1},v0=11"}),
    "GitHub": (
        {"header": "x-hub-signature-256", "part": "sha256"},
        {"x_hub_signature_256": f"sha256={signed(BODY).hex()}"},
    ),
    "Shopify": (
        {"header": "x-shopify-hmac-sha256", "encoding": "base64"},
        {"x_shopify_hmac_sha256": b64encode(signed(BODY)).decode()},
    ),
    "Slack": (
        SLACK,
        {
            "x_slack_signature": f"v0={signed(f'v0:{NOW}:'.encode() + BODY).hex()}",
            "x_slack_request_timestamp": str(NOW),
        },
    ),
    "with SHA-1": (
        {"header": "x-sig", "algorithm": "sha1"},
        {"x_sig": signed(BODY, "sha1").hex()},
    ),
    "in milliseconds": (
        {"header": "x-sig", "timestamp_header": "x-at", "payload": "=timestamp + body"},
        {"x_sig": signed(f"{NOW}000".encode() + BODY).hex(), "x_at": f"{NOW}000"},
    ),
}
"""Signatures as the senders' documents describe them."""


@pytest.mark.parametrize(("check", "headers"), SIGNED.values(), ids=SIGNED.keys())
def test_signatures_are_checked(check: dict[str, Any], headers: dict[str, str]) -> None:
    """A signature is accepted with any of the secrets, and with no other body or secret."""
    made = source({"event": {"name": "x"}}, keys=("other", SECRET), verify={"hmac": check})
    assert made.credential(request(BODY, **headers), None) == SECRET
    assert made.credential(request(BODY), None) is None
    for wrong in (
        (made, request(BODY + b" ", **headers)),
        (source({"event": {"name": "x"}}, keys=("no",), verify={"hmac": check}),
         request(BODY, **headers)),
        (made, request(BODY, **{**headers, next(iter(headers)): "v1=00"})),
    ):  # fmt: skip
        with pytest.raises(Rejected) as caught:
            wrong[0].credential(wrong[1], None)
        assert caught.value.fault is Fault.FORBIDDEN
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("moved", "fresh"), [(0, True), (299, True), (-299, True), (301, False), (-301, False)]
)
def test_an_old_signature_is_refused(moved: int, *, fresh: bool) -> None:
    """A signature is accepted within the tolerance before and after its time, then never again."""
    made = source({"event": {"name": "x"}}, verify={"hmac": STRIPE})
    asked = request(BODY, stripe_signature=f"t={NOW},v1={V1}")
    late = Request(
        method="POST", url=PATH, headers=asked.headers, body=BODY,
        received_at=AT + timedelta(seconds=moved),
    )  # fmt: skip
    if fresh:
        assert made.credential(late, None) == SECRET
    else:
        with pytest.raises(Rejected, match="too old"):
            made.credential(late, None)


@pytest.mark.parametrize("header", [f"v1={V1}", f"t=soon,v1={V1}", f"t=nan,v1={V1}", ""])
def test_a_signature_without_its_time_is_refused(header: str) -> None:
    """A missing or odd time makes a signature invalid."""
    made = source({"event": {"name": "x"}}, verify={"hmac": STRIPE})
    with pytest.raises(Rejected) as caught:
        made.credential(request(BODY, stripe_signature=header), None)
    assert caught.value.fault is Fault.FORBIDDEN


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"requests": []}, "is empty"),
        ({"requests": [{"path": "hook"}]}, "path"),
        ({"requests": [{"path": "/", "event": {"nam": "x"}}]}, "there is no field nam; did you"),
        ({"requests": [{"path": "/", "event": {"context": {"pag": {"url": "x"}}}}]},
         "there is no field context.pag"),
        ({"requests": [{"path": "/", "event": "x"}]}, "must be a table"),
        ({"requests": [{"path": "/", "event": {"name": "=paylod.x"}}]}, "did you mean payload?"),
        ({"requests": [{"path": "/", "event": {"name": "=event.name"}}]}, "unknown name event"),
        ({"requests": [{"path": "/", "when": "payload.x + 'a'"}]}, "must be true or false"),
        ({"requests": [{"path": "/", "when": "item.x == 1"}]}, "unknown name item"),
        ({"requests": [{"path": "/", "when": 5}]}, "must be a condition in quotes"),
        ({"requests": [{"path": "/", "each": ["a"]}]}, "must be an expression"),
        ({"requests": [{"path": "/"}], "verify": {}}, "needs exactly one of"),
        ({"requests": [{"path": "/"}], "verify": {"bearer": True, "query": "a"}}, "exactly one"),
        ({"requests": [{"path": "/"}, {"path": "/", "verify": {"bearer": True}}]}, "same verify"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], problem: str) -> None:
    """A mistake in a rule is an error before any request comes."""
    with pytest.raises(ValidationError) as caught:
        HttpInput.Config.model_validate(settings)
    assert problem in str(caught.value)


def test_rules_that_never_count_are_remarks() -> None:
    """A rule behind one that takes everything, and a near miss of a field, are warnings."""
    made = source(
        {"event": {"name": "x", "properties": {"currrency": "EUR"}}},
        {"when": "payload.a == 1", "event": {"name": "y"}},
    )
    assert made.config is not None
    assert [(path, what.partition(";")[0]) for path, what in made.config.remarks()] == [
        (("requests", 0, "event"), "properties.currrency: did you mean properties.currency?"),
        (("requests", 1, "path"), f"never counts: an earlier request takes every POST {PATH}"),
    ]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers(-9, 2**53) | st.text("a-"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["kind", "at", "user", "id", "lines", "new"]), inner)
    ),
    max_leaves=8,
)


ANY_PAYLOAD = source(
    {"when": "payload.kind == 1.0", "event": {"name": "one", "properties": "=payload.new"}},
    {"each": "=payload.lines", "event": {**PAID, "consent": "=item.user", "group_id": "=item"}},
)


@settings(max_examples=150)
@given(payload=JSON_VALUES)
def test_any_payload_is_read_or_refused(payload: Any) -> None:
    """Whatever is sent, a request becomes events with the event's types, or is rejected."""
    refused: Rejected | None = None
    found: list[Event] = []
    try:
        found = ANY_PAYLOAD.parse(request(payload))
    except Rejected as error:
        refused = error
    answer = (
        ANY_PAYLOAD.refuse(request(payload), refused)
        if refused
        else ANY_PAYLOAD.accept(request(payload), found)
    )
    assert (400 <= answer.status < 500) if refused else answer.status == 200
    for event in found:
        assert msgspec.convert(msgspec.to_builtins(event), Event) == event


def test_without_its_configuration_nothing_is_read() -> None:
    """A stored request whose source is gone is refused, so that its events become dead letters."""
    with pytest.raises(Rejected, match="no longer configured"):
        HttpInput().parse(request({}))

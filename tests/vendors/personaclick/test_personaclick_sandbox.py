"""The PersonaClick sandbox against User Activity Tracking (REST API).

Requests are those of https://personaclick.atlassian.net/wiki unless a test says otherwise.
"""

from typing import Any

import orjson
import pytest

from gateway.http import Request
from gateway.sandbox import SandboxResponse
from plugins.personaclick.sandbox import PersonaclickSandbox

SHOP = "0d42fd8b713d0752776ca589cc0056"
JSON = {"content-type": "application/json"}
DROP: Any = object()
"""In a change to a body: leave this member out."""

BASIC: dict[str, Any] = {
    "shop_id": SHOP,
    "did": "7rjVGhMykT",
    "seance": "R5eQXkrKCf",
    "stream": "android",
    "segment": "A",
    "referer": "https://mystore.com/product/100500",
}
ITEM = [{"id": "100500"}]
SOURCE = '{"from":"chain","code":"abcdef-0123-4567-9810-012345abcdef"}'
WIDGET = {
    "recommended_by": "dynamic",
    "recommended_code": "3d045e1b39c321ff695604587597231c",
}
VIEW = {**BASIC, "event": "view", "items": ITEM, **WIDGET}
CATEGORY = {**BASIC, "event": "category", "category_id": 146}
CART = {**BASIC, "event": "cart", "items": [{"id": "100500", "amount": 2}], **WIDGET}
REMOVED = {**BASIC, "event": "remove_from_cart", "items": ITEM}
FULL_CART = {
    **BASIC,
    "event": "cart",
    "items": [{"id": "100500", "quantity": 3}, {"id": "100123", "quantity": 1}],
    "full_cart": True,
}
PURCHASE: dict[str, Any] = {
    **BASIC,
    "event": "purchase",
    "order_id": "N100500",
    "order_price": 750,
    "order_cash": 650,
    "order_bonuses": 100,
    "order_discount": 50,
    "promocode": "BIRTHDAY",
    "delivery_type": "delivery",
    "payment_type": "cart",
    "items": [
        {"id": "100500", "amount": 3, "price": 100},
        {"id": 100123, "amount": 1, "price": 500},
    ],
    "custom": {
        "order_comment": "Delivery after 15:00, 2nd floor, apt. 222",
        "boxes": 2,
        "refund_date": "2021-09-21",
    },
}
"""The documented example without the extra brace before ``custom``."""
SEARCH = {**BASIC, "event": "search", "search_query": "apple", "recommended_code": "apple"}
WISH = {**BASIC, "event": "wish", "items": ITEM}
UNWISH = {**BASIC, "event": "remove_wish", "items": ITEM}
FULL_WISH = {**BASIC, "event": "wish", "items": [*ITEM, {"id": "100123"}], "full_wish": True}
CUSTOM = {
    **BASIC,
    "event": "my_event",
    "category": "my_category",
    "label": "my_label",
    "value": 100500,
}
MESSAGE = {
    "shop_id": SHOP,
    "code": "731d5e0c-e3b1-11eb-ba80-0242ac130004",
    "type": "chain",
    "stream": "android",
}


def send(path: str, body: Any, key: str | None = None, **changes: Any) -> SandboxResponse:
    """Send *body* as JSON, or unchanged if it is bytes, and return the verdict."""
    request = Request(
        method=changes.get("method", "POST"),
        url=path,
        headers=changes.get("headers", JSON),
        body=body if isinstance(body, bytes) else orjson.dumps(body),
        id="r-1",
    )
    return PersonaclickSandbox().respond(request, key)


def said(answer: SandboxResponse) -> Any:
    """Return the response's body."""
    return orjson.loads(answer.response.body)


def changed(body: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Return *body* with some members replaced or removed."""
    return {name: value for name, value in {**body, **change}.items() if value is not DROP}


PUSHED: list[dict[str, Any]] = [
    VIEW,
    {**VIEW, "source": SOURCE},
    CATEGORY,
    {**CATEGORY, "source": SOURCE},
    CART,
    {**CART, "source": SOURCE},
    REMOVED,
    FULL_CART,
    {**FULL_CART, "source": SOURCE},
    {**BASIC, "event": "cart", "full_cart": True},
    PURCHASE,
    {**PURCHASE, "source": SOURCE},
    SEARCH,
    WISH,
    UNWISH,
    FULL_WISH,
    {**BASIC, "event": "wish", "full_wish": True},
]


@pytest.mark.parametrize("body", PUSHED)
def test_each_documented_push_is_accepted(body: Any) -> None:
    """Each documented request gets the documented 200."""
    answer = send("/push", body, SHOP)
    assert (answer.reason, answer.response.status) == (None, 200)
    assert said(answer) == {"status": "success"}


@pytest.mark.parametrize("body", [CUSTOM, {**CUSTOM, "source": SOURCE}])
def test_a_custom_event_is_accepted_without_a_body(body: Any) -> None:
    """``/push/custom`` responds 204 without a body."""
    answer = send("/push/custom", body, SHOP)
    assert answer.reason is None
    assert (answer.response.status, answer.response.body) == (204, b"")


@pytest.mark.parametrize("call", ["received", "clicked", "closed", "delivered", "opened"])
def test_a_message_event_is_accepted_without_a_body(call: str) -> None:
    """``/track/…`` responds 200 without a body, also for the newer delivered and opened.

    https://github.com/rees46/documentation-unified, docs/integration/cdp/communications-events
    """
    answer = send(f"/track/{call}", MESSAGE, SHOP)
    assert answer.reason is None
    assert (answer.response.status, answer.response.body) == (200, b"")


CLIENTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("/push", VIEW, {"did": DROP, "email": "a@b.co"}),
    ("/push", VIEW, {"did": DROP, "phone": "+100500"}),
    ("/push", VIEW, {"did": DROP, "external_id": 7}),
    ("/push", VIEW, {"did": DROP, "loyalty_id": "l"}),
    ("/push", VIEW, {"did": DROP, "telegram_id": 7}),
    ("/push", VIEW, {"seance": DROP, "sid": "R5eQXkrKCf"}),
    ("/push", VIEW, {"stream": ""}),
    ("/push", VIEW, {"stream": "my_app"}),
    ("/push", VIEW, {"source": {"from": "bulk", "code": "c"}}),
    ("/push", VIEW, {"segment": DROP, "referer": DROP}),
    ("/push", WISH, {"items": ["100500"]}),
    ("/push", FULL_CART, {"items": []}),
    ("/push", FULL_CART, {"full_cart": "true"}),
    ("/push", FULL_CART, {"items": [{"id": "1", "amount": "2"}]}),
    ("/push", CART, {"items": [{"id": "1", "amount": 0, "line_id": "", "fashion_size": "M"}]}),
    ("/push", PURCHASE, {"order_id": "", "delivery_type": "", "payment_type": ""}),
    ("/push", PURCHASE, {"order_id": 7, "channel": "app"}),
    ("/push/custom", CUSTOM, {"time": 1700000000, "payload": {"color": "red"}, "color": "red"}),
    ("/profile/set", {"shop_id": SHOP, "email": "a@b.co"}, {"gender": "f", "vip_level": 3}),
    ("/profile/set", {"shop_id": SHOP, "did": "d"}, {"birthday": "1990-02-28", "kids": []}),
]


@pytest.mark.parametrize(("path", "body", "change"), CLIENTS)
def test_requests_of_the_vendors_clients_are_accepted(
    path: str, body: dict[str, Any], change: dict[str, Any]
) -> None:
    """Synonyms and additions of the vendor's clients and newer documentation are accepted.

    https://github.com/rees46/documentation-unified, rees46/ios-sdk, PersonaClick/rn-sdk
    """
    answer = send(path, changed(body, change))
    assert answer.reason is None
    assert answer.response.status in {200, 204}


EMPTY = "expected a string that is not empty"
WRONG: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("/push", VIEW, {"did": DROP}, "did is missing: expected did, email, phone"),
    ("/push", VIEW, {"did": ""}, f"did: {EMPTY}"),
    ("/push", VIEW, {"did": 7}, "did: expected a string"),
    ("/push", VIEW, {"seance": DROP}, "seance is missing: expected seance or sid"),
    ("/push", VIEW, {"seance": ""}, f"seance: {EMPTY}"),
    ("/push", VIEW, {"stream": DROP}, "stream is missing: expected a string"),
    ("/push", VIEW, {"stream": "i-os"}, "stream: expected at most 16 letters, digits or _"),
    ("/push", VIEW, {"stream": "a" * 17}, "stream: expected at most 16 letters, digits or _"),
    ("/push", VIEW, {"segment": "C"}, "segment: expected A or B"),
    ("/push", VIEW, {"segment": ""}, "segment: expected A or B"),
    ("/push", VIEW, {"referer": ""}, f"referer: {EMPTY}"),
    ("/push", VIEW, {"referer": 7}, "referer: expected a string"),
    ("/push", VIEW, {"source": "chain"}, "source: expected a JSON string of an object"),
    ("/push", VIEW, {"source": "[]"}, "source: expected an object"),
    ("/push", VIEW, {"source": '{"from":"chain"}'}, "source.code is missing"),
    ("/push", VIEW, {"source": {"code": "c"}}, "source.from is missing"),
    ("/push", VIEW, {"event": DROP}, "event is missing: expected a string"),
    ("/push", VIEW, {"event": "viewed"}, "event: expected view, category, cart"),
    ("/push", VIEW, {"event": 7}, "event: expected a string"),
    ("/push", VIEW, {"recommended_by": "magic"}, "recommended_by: expected dynamic, chain"),
    ("/push", VIEW, {"recommended_code": ""}, f"recommended_code: {EMPTY}"),
    ("/push", VIEW, {"items": DROP}, "items is missing: expected an array"),
    ("/push", VIEW, {"items": {}}, "items: expected an array"),
    ("/push", VIEW, {"items": []}, "items: expected exactly one item"),
    ("/push", VIEW, {"items": [*ITEM, *ITEM]}, "items: expected exactly one item"),
    ("/push", VIEW, {"items": [{}]}, "items.0.id is missing"),
    ("/push", VIEW, {"items": [{"id": ""}]}, f"items.0.id: {EMPTY}"),
    ("/push", VIEW, {"items": [{"id": None}]}, "items.0.id: expected a string or an integer"),
    ("/push", VIEW, {"items": [{"id": "a" * 256}]}, "items.0.id: expected at most 255"),
    ("/push", VIEW, {"items": [{"id": "a\\b"}]}, "items.0.id: expected an id without a"),
    ("/push", VIEW, {"items": [None]}, "items.0: expected an object, a string or an integer"),
    ("/push", CATEGORY, {"category_id": DROP}, "category_id is missing"),
    ("/push", CATEGORY, {"category_id": ""}, f"category_id: {EMPTY}"),
    ("/push", CATEGORY, {"category_id": [1]}, "category_id: expected a string or an integer"),
    ("/push", CART, {"items": [{"id": "1", "amount": "2"}]}, "items.0.amount: expected an int"),
    ("/push", CART, {"items": [{"id": "1", "amount": 1.5}]}, "items.0.amount: expected an int"),
    ("/push", CART, {"full_cart": False}, "full_cart: expected true"),
    ("/push", FULL_CART, {"items": [{"id": "1", "quantity": "x"}]}, "items.0.quantity: expected"),
    ("/push", FULL_CART, {"full_cart": 1}, "full_cart: expected true or false or a string"),
    ("/push", FULL_WISH, {"items": [{"name": "x"}]}, "items.0.id is missing"),
    ("/push", SEARCH, {"search_query": DROP}, "search_query is missing"),
    ("/push", SEARCH, {"search_query": ""}, f"search_query: {EMPTY}"),
    ("/push", PURCHASE, {"items": []}, "items: expected at least one item"),
    ("/push", PURCHASE, {"items": [{"id": 1, "price": "9"}]}, "items.0.price: expected a number"),
    ("/push", PURCHASE, {"items": [{"id": 1, "price": -9}]}, "items.0.price: expected a price"),
    ("/push", PURCHASE, {"order_id": "a" * 256}, "order_id: expected at most 255 characters"),
    ("/push", PURCHASE, {"order_price": "750"}, "order_price: expected a number"),
    ("/push", PURCHASE, {"order_delivery": None}, "order_delivery: expected a number"),
    ("/push", PURCHASE, {"promocode": 7}, "promocode: expected a string"),
    ("/push", PURCHASE, {"tax_free": "yes"}, "tax_free: expected true or false"),
    ("/push", PURCHASE, {"custom": []}, "custom: expected an object"),
    ("/push", PURCHASE, {"custom": {"boxes": 2.5}}, "custom.boxes: expected a string or an int"),
    ("/push/custom", CUSTOM, {"event": DROP}, "event is missing: expected a string"),
    ("/push/custom", CUSTOM, {"did": DROP}, "did is missing: expected did, email, phone"),
    ("/push/custom", CUSTOM, {"value": 1.5}, "value: expected an integer"),
    ("/push/custom", CUSTOM, {"value": "1"}, "value: expected an integer"),
    ("/push/custom", CUSTOM, {"category": ""}, f"category: {EMPTY}"),
    ("/push/custom", CUSTOM, {"label": 1}, "label: expected a string"),
    ("/push/custom", CUSTOM, {"payload": "x"}, "payload: expected an object"),
    ("/push/custom", CUSTOM, {"Plan": "pro"}, "Plan: expected a field named in lower case"),
    ("/track/clicked", MESSAGE, {"code": DROP}, "code is missing: expected a string"),
    ("/track/clicked", MESSAGE, {"type": DROP}, "type is missing: expected a string"),
    ("/track/clicked", MESSAGE, {"type": "digest"}, "type: expected bulk, chain or transact"),
    ("/track/closed", MESSAGE, {"stream": DROP}, "stream is missing: expected a string"),
    ("/profile/set", {"shop_id": SHOP}, {"age": 3}, "did is missing: expected did, email"),
    ("/profile/set", BASIC, {"email": "nobody"}, "email: expected an e-mail address"),
    ("/profile/set", BASIC, {"gender": "male"}, "gender: expected m or f"),
    ("/profile/set", BASIC, {"birthday": "1990-02-30"}, "birthday: expected a date as"),
    ("/profile/set", BASIC, {"birthday": "19900228"}, "birthday: expected a date as"),
    ("/profile/set", BASIC, {"age": "30"}, "age: expected an integer"),
    ("/profile/set", BASIC, {"kids": {}}, "kids: expected an array"),
    ("/profile/set", BASIC, {"Vip Level": 3}, "Vip Level: expected a field named in lower"),
]


@pytest.mark.parametrize(("path", "body", "change", "reason"), WRONG)
def test_a_wrong_call_is_refused_with_the_documented_400(
    path: str, body: dict[str, Any], change: dict[str, Any], reason: str
) -> None:
    """A call that breaks the parameter tables gets 400 with status and message."""
    answer = send(path, changed(body, change))
    assert answer.reason is not None
    assert answer.reason.startswith(reason)
    assert answer.response.status == 400
    assert said(answer) == {"status": "error", "message": answer.reason}


@pytest.mark.parametrize("path", ["/push", "/push/custom", "/track/clicked", "/profile/set"])
def test_a_shop_that_is_missing_or_another_is_forbidden(path: str) -> None:
    """A missing or wrong shop gets 403, an empty or non-text one 400."""
    body = {**VIEW, **MESSAGE}
    missing = send(path, changed(body, {"shop_id": DROP}))
    assert missing.response.status == 403
    assert said(missing) == {"status": "error", "message": "shop_id is missing"}
    assert send(path, body, "another").response.status == 403
    assert send(path, {**body, "shop_id": ""}).response.status == 400
    assert send(path, {**body, "shop_id": 7}).response.status == 400


def test_json_must_be_labelled_so() -> None:
    """The content type must be application/json."""
    answer = send("/push", VIEW, headers={"content-type": "application/x-www-form-urlencoded"})
    assert answer.response.status == 400
    assert answer.reason == "content-type: expected application/json"


def test_initialization_gives_a_device_and_a_session() -> None:
    """``GET /init`` keeps a sent device id, and creates missing ids."""
    made = said(send(f"/init?shop_id={SHOP}", b"", method="GET", headers={}))
    assert made["did"]
    assert made["seance"]
    assert "message" not in made
    kept = said(send(f"/init?shop_id={SHOP}&did=7rjVGhMykT", b"", method="GET"))
    assert kept["did"] == "7rjVGhMykT"
    assert send("/init", b"", method="GET").response.status == 403
    assert send("/init?shop_id=", b"", method="GET").response.status == 400
    assert send("/init?shop_id=a", b"", "b", method="GET").response.status == 403


def test_unknown_paths_and_methods_are_refused_in_the_same_shape() -> None:
    """404 and 405 have status and message."""
    assert send("/nothing", {}).response.status == 404
    answer = send("/push", VIEW, method="GET")
    assert (answer.response.status, said(answer)["status"]) == (405, "error")

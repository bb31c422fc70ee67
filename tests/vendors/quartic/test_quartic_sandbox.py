"""The Quartic sandbox against https://docs.quarticon.com/storeapi/documentation/."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from gateway.http import Request
from gateway.sandbox import SandboxResponse
from plugins.quartic.sandbox import QuarticSandbox

HEADERS = {"x-api-key": "key-1", "content-type": "application/json"}
AT = datetime(2017, 2, 13, 11, 56, 57, 400_000, UTC)
"""1486987017 in Unix seconds, the time in the documented responses."""

PROFILE = "/store/collectprofile"
CONTACT = "/store/contact"
EVENT = "/store/track/event"
PRODUCT = "/store/data/product"
RECOMMENDATION = "/store/recommendation"
DROP: Any = object()
"""In a change to a body: leave this member out."""


def send(path: str, body: Any, key: str | None = None, **changes: Any) -> SandboxResponse:
    """Send *body* as JSON, or unchanged if it is bytes, and return the verdict."""
    request = Request(
        method=changes.get("method", "POST"),
        url=path,
        headers=changes.get("headers", HEADERS),
        body=body if isinstance(body, bytes) else orjson.dumps(body),
        received_at=AT,
    )
    return QuarticSandbox().respond(request, key)


def get(path: str, body: bytes = b"", **changes: Any) -> SandboxResponse:
    """Send a GET request and return the verdict."""
    return send(path, body, method="GET", **changes)


def said(answer: SandboxResponse) -> Any:
    """Return the response's body."""
    return orjson.loads(answer.response.body)


def changed(body: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Return *body* with some members replaced or removed."""
    return {name: value for name, value in {**body, **change}.items() if value is not DROP}


A_PROFILE = {
    "userId": "samp1eUs3r1d",
    "cookie": "sampleUserC00kie",
    "email": "valid@email.com",
    "agreement": True,
}
"""The documented example without its trailing comma."""
A_CONTACT: dict[str, Any] = {
    "cookie": "test_cookie",
    "email": "email@test.com",
    "agreements": [
        {"t": "term", "c": "The content of the consent registration", "s": True},
        {"t": "newsletter", "c": "The content of the newsletter consent", "s": True},
        {"t": "personalization", "c": "Content of personalization consent", "s": False},
    ],
    "tags": [
        {"n": "firstname", "v": "Test user first name 1"},
        {"n": "lastname", "v": "Test user last name 1"},
    ],
}
CLICK: dict[str, Any] = {
    "customer": "quartic_account",
    "eventType": "eventClick",
    "userId": "1",
    "userEmail": "test@example.com",
    "deviceId": "android-12",
    "timestamp": 1482840417,
    "referrer": "http://facebook.com/?id=85004932",
    "cookie": "8sjfe8fh",
    "productId": "101",
    "trackingString": "ew0KCSJxcmlkIjogImFkXzU4NzRkOTk5ZDE2MTMiLA0KCSJxZHBpIjogImcxcGsiLA0KCSJwaWQ",
}
VIEW: dict[str, Any] = {
    "customer": "c",
    "eventType": "eventProductView",
    "timestamp": 1482840417,
    "productId": "a-Z_9",
}
TRANSACTION: dict[str, Any] = {
    "customer": "c",
    "eventType": "eventTransaction",
    "timestamp": 1482840417,
    "transactionId": "N/100",
    "basket": [{"productId": "1", "price": 9.5, "quantity": 2}],
}
A_PRODUCT: dict[str, Any] = {
    "id": 2,
    "title": "Title example",
    "image": "http://exampledomain.com/image/hp_1-228x228.jpg",
    "description": "Lorem ipsum dolor...",
    "url": "http://exampledomain.com/8ef8y8ef",
    "price": "99.00",
    "priceOld": "199.00",
    "custom1": "",
    "custom2": "",
    "custom3": "",
    "status": True,
    "categories": [{"id": 1, "name": "Category1"}, {"id": 2, "name": "Category2"}],
    "catalogSymbol": "",
}


@pytest.mark.parametrize(
    ("path", "body", "timestamp"),
    [
        (PROFILE, A_PROFILE, "2017-02-13 11:56:57"),
        (CONTACT, A_CONTACT, "2017-02-13 11:56:57"),
        (CONTACT, {"email": "a@b.co"}, "2017-02-13 11:56:57"),
        (EVENT, CLICK, 1486987017),
        (EVENT, VIEW, 1486987017),
        (EVENT, TRANSACTION, 1486987017),
        (PRODUCT, A_PRODUCT, 1486987017),
        (PRODUCT, {**A_PRODUCT, "id": "p_1", "price": 99.0, "priceOld": None}, 1486987017),
    ],
)
def test_each_documented_call_is_accepted(path: str, body: Any, timestamp: object) -> None:
    """Documented calls get OK, with the time in the format of each endpoint's example."""
    answer = send(path, body, "key-1")
    assert (answer.reason, answer.response.status) == (None, 200)
    assert said(answer) == {"status": "OK", "timestamp": timestamp}


BASKET = "basket.0."
WRONG: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    (PROFILE, A_PROFILE, {"userId": DROP}, "userId is missing: expected a string"),
    (PROFILE, A_PROFILE, {"cookie": DROP}, "cookie is missing: expected a string"),
    (PROFILE, A_PROFILE, {"userId": 1}, "userId: expected a string"),
    (PROFILE, A_PROFILE, {"email": "nobody"}, "email: expected a valid email"),
    (PROFILE, A_PROFILE, {"agreement": "yes"}, "agreement: expected true or false"),
    (CONTACT, A_CONTACT, {"email": DROP}, "email is missing: expected a string"),
    (CONTACT, A_CONTACT, {"email": ""}, "email: expected a valid email"),
    (CONTACT, A_CONTACT, {"agreements": {}}, "agreements: expected an array"),
    (CONTACT, A_CONTACT, {"agreements": [{"t": "a", "s": True}]}, "agreements.0.c is missing"),
    (CONTACT, A_CONTACT, {"agreements": [{"c": "a", "s": True}]}, "agreements.0.t is missing"),
    (CONTACT, A_CONTACT, {"agreements": [{"t": "a", "c": "b"}]}, "agreements.0.s is missing"),
    (
        CONTACT,
        A_CONTACT,
        {"agreements": [{"t": "a", "c": "b", "s": 1}]},
        "agreements.0.s: expected true or false",
    ),
    (CONTACT, A_CONTACT, {"tags": [{"n": "a"}]}, "tags.0.v is missing: expected a string"),
    (CONTACT, A_CONTACT, {"tags": [{"n": "a", "v": 1}]}, "tags.0.v: expected a string"),
    (EVENT, VIEW, {"customer": DROP}, "customer is missing: expected a string"),
    (EVENT, VIEW, {"customer": ""}, "customer: expected a string that is not empty"),
    (EVENT, VIEW, {"eventType": DROP}, "eventType is missing: expected a string"),
    (EVENT, VIEW, {"eventType": "eventCart"}, "eventType: expected eventClick, event"),
    (EVENT, VIEW, {"timestamp": DROP}, "timestamp is missing: expected an integer"),
    (EVENT, VIEW, {"timestamp": "1482840417"}, "timestamp: expected an integer"),
    (EVENT, VIEW, {"timestamp": 1482840417.5}, "timestamp: expected an integer"),
    (EVENT, VIEW, {"timestamp": 1482840417000}, "timestamp: expected a UNIX timestamp in seconds"),
    (EVENT, VIEW, {"timestamp": 0}, "timestamp: expected a UNIX timestamp in seconds"),
    (EVENT, VIEW, {"userId": 1}, "userId: expected a string"),
    (EVENT, VIEW, {"cookie": None}, "cookie: expected a string"),
    (EVENT, VIEW, {"productId": DROP}, "productId is missing: expected a string"),
    (EVENT, VIEW, {"productId": 101}, "productId: expected a string"),
    (EVENT, VIEW, {"productId": "SKU 1"}, "productId: expected letters, digits, - and _ only"),
    (EVENT, VIEW, {"productId": ""}, "productId: expected letters, digits, - and _ only"),
    (EVENT, CLICK, {"productId": DROP}, "productId is missing: expected a string"),
    (EVENT, CLICK, {"trackingString": DROP}, "trackingString is missing: expected a string"),
    (EVENT, TRANSACTION, {"transactionId": DROP}, "transactionId is missing: expected a string"),
    (EVENT, TRANSACTION, {"transactionId": 7}, "transactionId: expected a string"),
    (EVENT, TRANSACTION, {"basket": DROP}, "basket is missing: expected an array"),
    (EVENT, TRANSACTION, {"basket": []}, "basket: expected at least one ordered product"),
    (EVENT, TRANSACTION, {"basket": [{"price": 1, "quantity": 1}]}, BASKET + "productId is"),
    (EVENT, TRANSACTION, {"basket": [{"productId": "1", "quantity": 1}]}, BASKET + "price is"),
    (EVENT, TRANSACTION, {"basket": [{"productId": "1", "price": 1}]}, BASKET + "quantity is"),
    (
        EVENT,
        TRANSACTION,
        {"basket": [{"productId": "1", "price": "1", "quantity": 1}]},
        BASKET + "price: expected a number",
    ),
    (
        EVENT,
        TRANSACTION,
        {"basket": [{"productId": "1", "price": 1, "quantity": 1.5}]},
        BASKET + "quantity: expected an integer",
    ),
    (PRODUCT, A_PRODUCT, {"id": DROP}, "id is missing: expected a string or an integer"),
    (PRODUCT, A_PRODUCT, {"id": "a/b"}, "id: expected letters, digits, - and _ only"),
    (PRODUCT, A_PRODUCT, {"title": 1}, "title: expected a string"),
    (PRODUCT, A_PRODUCT, {"price": "cheap"}, "price: expected a decimal number"),
    (PRODUCT, A_PRODUCT, {"price": None}, "price: expected a number or a string"),
    (PRODUCT, A_PRODUCT, {"status": 1}, "status: expected true or false"),
    (PRODUCT, A_PRODUCT, {"categories": [{"id": "1", "name": "a"}]}, "categories.0.id: expected"),
]


@pytest.mark.parametrize(("path", "body", "change", "reason"), WRONG)
def test_a_wrong_call_is_refused_with_the_documented_405(
    path: str, body: dict[str, Any], change: dict[str, Any], reason: str
) -> None:
    """Invalid input gets the documented envelope, and a reason with the place."""
    answer = send(path, changed(body, change))
    assert answer.reason is not None
    assert answer.reason.startswith(reason)
    assert answer.response.status == 405
    assert said(answer) == {
        "status": "ERROR",
        "timestamp": 1486987017,
        "data": {"error_code": "http.status.405", "error_message": "Invalid data"},
    }


@pytest.mark.parametrize("body", [b"", b"{", orjson.dumps([A_PROFILE])])
def test_only_one_json_object_is_taken(body: bytes) -> None:
    """The body must be one JSON object."""
    assert send(PROFILE, body).response.status == 405


def test_json_must_be_labelled_so() -> None:
    """The content type must be application/json."""
    answer = send(PROFILE, A_PROFILE, headers={**HEADERS, "content-type": "text/plain"})
    assert answer.reason == "content-type: expected application/json"
    assert answer.response.status == 405


@pytest.mark.parametrize("path", [PROFILE, CONTACT, EVENT, PRODUCT])
def test_a_missing_or_another_key_is_refused(path: str) -> None:
    """Every write and contact read needs the key; the refusal has the documented envelope."""
    bare = {"content-type": "application/json"}
    answer = send(path, {}, headers=bare)
    assert answer.response.status == 401
    assert said(answer)["data"]["error_code"] == "http.status.401"
    assert answer.reason == "no x-api-key header"
    assert send(path, {}, "key-2").response.status == 401
    assert get(CONTACT, orjson.dumps({"email": "a@b.co"}), headers=bare).response.status == 401


def test_a_contact_is_read_by_the_email_in_the_body_or_the_query() -> None:
    """``GET /contact`` takes the e-mail from its body, as documented, or from ``?email=``."""
    for answer in (
        get(CONTACT, b'{"email": "valid@email.com"}'),
        get(f"{CONTACT}?email=valid%40email.com"),
    ):
        assert answer.reason is None
        assert said(answer)["data"] == {"email": "valid@email.com", "agreements": [], "tags": []}
    assert get(CONTACT, b"{}").response.status == 405
    assert get(f"{CONTACT}?email=x").response.status == 405


def test_a_recommendation_needs_no_key_and_finds_nothing() -> None:
    """A recommendation needs no key, and its ``data`` is empty without a catalogue."""
    answer = get(f"{RECOMMENDATION}?customer=c&placementId=p-1&cookie=abc", headers={})
    assert answer.reason is None
    assert said(answer)["data"] == []
    assert (said(answer)["status"], said(answer)["duplicatesCount"]) == ("OK", 0)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("cookie=a", "customer is missing: expected a string"),
        ("customer=c", "cookie is missing: expected cookie or deviceId"),
        ("customer=c&cookie=a%20b", "cookie: expected letters, digits, - and _ only"),
        ("customer=c&deviceId=d&placementId=%2F", "placementId: expected letters, digits,"),
        ("customer=c&deviceId=d&requestId=r", "deduplicate is missing: expected a string"),
        ("customer=c&deviceId=d&deduplicate=maybe", "deduplicate: expected true, false, 0 or 1"),
    ],
)
def test_a_wrong_recommendation_query_is_refused(query: str, reason: str) -> None:
    """A parameter that breaks the documented alphabet or conditions is refused."""
    answer = get(f"{RECOMMENDATION}?{query}")
    assert answer.reason is not None
    assert answer.reason.startswith(reason)
    assert answer.response.status == 405


def test_unknown_paths_and_methods_are_refused_in_the_envelope() -> None:
    """404 and 405 have their own error codes in the envelope."""
    assert said(send("/store/nothing", {}))["data"]["error_code"] == "http.status.404"
    answer = send(EVENT, VIEW, method="PUT")
    assert said(answer)["data"]["error_message"] == "Method Not Allowed"
    assert send(RECOMMENDATION, {}).response.status == 405

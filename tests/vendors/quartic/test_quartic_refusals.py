"""What Quartic's input rejects, and in which format."""

from typing import Any, ClassVar

import orjson
import pytest

from gateway.errors import Fault, Rejected
from gateway.testing import FaultAnswer, RefusalSuite, RefusedRequest, post
from plugins.quartic.input import QuarticInput

INPUT = QuarticInput()
PROFILE = "/store/collectprofile"
CONTACT = "/store/contact"
EVENT = "/store/track/event"
PRODUCT = "/store/data/product"
CUSTOMER = {"customer": "quartic_account", "timestamp": 1482840417}
VIEW = {**CUSTOMER, "eventType": "eventProductView", "productId": "101"}
CLICK = {**CUSTOMER, "eventType": "eventClick", "productId": "101", "trackingString": "x"}
BOUGHT = {"productId": "101", "price": 59.9, "quantity": 1}
ORDER = {**CUSTOMER, "eventType": "eventTransaction", "transactionId": "o1", "basket": [BOUGHT]}
PERSON = {"userId": "1", "cookie": "8sjfe8fh"}
MAIL = {"email": "email@test.com"}
TERM = {"t": "term", "c": "The text", "s": True}
KINDS = "send one of eventClick, eventProductView, eventTransaction"


def without(body: dict[str, Any], key: str) -> dict[str, Any]:
    """Return *body* without one of its keys."""
    return {name: value for name, value in body.items() if name != key}


def envelope(status: int, message: str) -> dict[str, Any]:
    """Return the documented envelope of an error."""
    return {
        "status": "ERROR",
        "timestamp": 1767323045,
        "data": {"error_code": f"http.status.{status}", "error_message": message},
    }


BROKEN: list[tuple[str, object, str]] = [
    (PROFILE, [], "expected an object"),
    (PROFILE, without(PERSON, "userId"), "userId: required"),
    (PROFILE, {**PERSON, "cookie": None}, "cookie: required"),
    (PROFILE, {**PERSON, "userId": 1}, "userId: expected string, got integer"),
    (PROFILE, {**PERSON, "cookie": " "}, "cookie: is blank"),
    (PROFILE, {**PERSON, "email": "nobody"}, "email: is not a valid e-mail address"),
    (PROFILE, {**PERSON, "agreement": "yes"}, "agreement: expected boolean, got string"),
    (CONTACT, [], "expected an object"),
    (CONTACT, {"cookie": "8sjfe8fh"}, "email: required"),
    (CONTACT, {"email": 1}, "email: expected string, got integer"),
    (CONTACT, {"email": "a@b"}, "email: is not a valid e-mail address"),
    (CONTACT, {**MAIL, "cookie": 1}, "cookie: expected string"),
    (CONTACT, {**MAIL, "agreements": {"term": True}}, "agreements: expected array"),
    (CONTACT, {**MAIL, "agreements": ["term"]}, "agreements.0: expected object"),
    (
        CONTACT,
        {**MAIL, "agreements": [TERM, without(TERM, "c")]},
        "agreements.1.c: required",
    ),
    (
        CONTACT,
        {**MAIL, "agreements": [{**TERM, "s": 1}]},
        "agreements.0.s: expected boolean",
    ),
    (CONTACT, {**MAIL, "agreements": [{**TERM, "t": " "}]}, "agreements.0.t: is blank"),
    (CONTACT, {**MAIL, "tags": "firstname"}, "tags: expected array"),
    (CONTACT, {**MAIL, "tags": [{"n": "age"}]}, "tags.0.v: required"),
    (CONTACT, {**MAIL, "tags": [{"n": "age", "v": 33}]}, "tags.0.v: expected string"),
    (CONTACT, {**MAIL, "tags": [{"n": "", "v": "33"}]}, "tags.0.n: is blank"),
    (EVENT, without(VIEW, "eventType"), f"eventType: required; {KINDS}"),
    (
        EVENT,
        {**VIEW, "eventType": "eventCart"},
        f'eventType: unknown: "eventCart"; {KINDS}',
    ),
    (EVENT, {**VIEW, "eventType": 3}, f"eventType: unknown: 3; {KINDS}"),
    (EVENT, without(VIEW, "customer"), "customer: required"),
    (EVENT, {**VIEW, "customer": 5}, "customer: expected string, got integer"),
    (EVENT, {**VIEW, "customer": ""}, "customer: is blank"),
    (EVENT, without(VIEW, "timestamp"), "timestamp: required"),
    (
        EVENT,
        {**VIEW, "timestamp": "1482840417"},
        "timestamp: expected integer, got string",
    ),
    (EVENT, {**VIEW, "timestamp": True}, "timestamp: expected integer, got boolean"),
    (
        EVENT,
        {**VIEW, "timestamp": 1482840417000},
        "timestamp: is not a UNIX timestamp in seconds",
    ),
    (EVENT, {**VIEW, "timestamp": 0}, "timestamp: is not a UNIX timestamp in seconds"),
    (EVENT, {**VIEW, "userId": 1}, "userId: expected string, got integer"),
    (EVENT, {**VIEW, "userEmail": "x"}, "userEmail: is not a valid e-mail address"),
    (EVENT, {**VIEW, "deviceId": []}, "deviceId: expected string, got array"),
    (EVENT, {**VIEW, "referrer": {}}, "referrer: expected string, got object"),
    (EVENT, {**VIEW, "cookie": 1.5}, "cookie: expected string, got number"),
    (EVENT, without(VIEW, "productId"), "productId: required"),
    (EVENT, {**VIEW, "productId": 101}, "productId: expected string, got integer"),
    (
        EVENT,
        {**VIEW, "productId": "a b"},
        "productId: must have only letters, digits, - and _",
    ),
    (EVENT, without(CLICK, "productId"), "productId: required"),
    (EVENT, without(CLICK, "trackingString"), "trackingString: required"),
    (EVENT, {**CLICK, "trackingString": ""}, "trackingString: is blank"),
    (EVENT, without(ORDER, "transactionId"), "transactionId: required"),
    (EVENT, {**ORDER, "transactionId": " "}, "transactionId: is blank"),
    (EVENT, without(ORDER, "basket"), "basket: required"),
    (EVENT, {**ORDER, "basket": []}, "basket: has no product"),
    (EVENT, {**ORDER, "basket": BOUGHT}, "basket: expected array, got object"),
    (EVENT, {**ORDER, "basket": ["101"]}, "basket.0: expected an object"),
    (
        EVENT,
        {**ORDER, "basket": [BOUGHT, without(BOUGHT, "price")]},
        "basket.1.price: required",
    ),
    (
        EVENT,
        {**ORDER, "basket": [{**BOUGHT, "price": "59.90"}]},
        "basket.0.price: expected integer or number, got string",
    ),
    (
        EVENT,
        {**ORDER, "basket": [{**BOUGHT, "quantity": 1.5}]},
        "basket.0.quantity: expected integer, got number",
    ),
    (
        EVENT,
        {**ORDER, "basket": [{**BOUGHT, "productId": "ä"}]},
        "basket.0.productId: must have only letters, digits, - and _",
    ),
    (PRODUCT, {"title": "x"}, "id: required"),
    (PRODUCT, {"id": 2.5}, "id: expected integer or string, got number"),
    (PRODUCT, {"id": "a/b"}, "id: must have only letters, digits, - and _"),
    (PRODUCT, {"id": 2, "title": 5}, "title: expected string, got integer"),
    (PRODUCT, {"id": 2, "custom2": 5}, "custom2: expected string, got integer"),
    (PRODUCT, {"id": 2, "status": 1}, "status: expected boolean, got integer"),
    (PRODUCT, {"id": 2, "categories": {}}, "categories: expected array"),
    (
        PRODUCT,
        {"id": 2, "categories": [{"id": "1", "name": "x"}]},
        "categories.0.id: expected integer",
    ),
    (PRODUCT, {"id": 2, "categories": [{"id": 1}]}, "categories.0.name: required"),
]


class TestQuarticRefusals(RefusalSuite):
    """All refusals have the envelope; undocumented ones have a code modelled on the 405's."""

    input = INPUT
    faults: ClassVar = {
        Fault.UNAUTHENTICATED: FaultAnswer(401, "no API key: send it in the header x-api-key"),
        Fault.FORBIDDEN: FaultAnswer(401, "unknown API key in x-api-key"),
        Fault.TOO_LARGE: FaultAnswer(413),
        Fault.NOT_FOUND: FaultAnswer(404),
        Fault.METHOD: FaultAnswer(405),
        Fault.UNSUPPORTED: FaultAnswer(501),
        Fault.UNAVAILABLE: FaultAnswer(503),
    }
    refused: ClassVar = [
        RefusedRequest(post(url, body), 405, envelope(405, f"Invalid data: {problem}"))
        for url, body, problem in BROKEN
    ]
    credentials = (
        (post(EVENT), None),
        (post(EVENT, headers={"x-api-key": " "}), None),
        (post(EVENT, headers={"authorization": "Bearer key-in"}), None),
        (post(EVENT, headers={"x-api-key": "key-in"}), "key-in"),
    )

    def refusal(self, status: int, message: str) -> object:
        """Return the envelope."""
        return envelope(status, message)


def test_refuses_a_price_that_is_no_number() -> None:
    """A price may be text, as in the documented example, but the text must be a number."""
    with pytest.raises(Rejected, match="price: must be a number") as caught:
        INPUT.parse(post(PRODUCT, {"id": 2, "price": "cheap"}))
    assert caught.value.path == "price"


def test_refuses_the_documented_profile_with_a_comma_too_many() -> None:
    """The documented profile has an extra comma, and is rejected as invalid JSON."""
    slip = post(PROFILE, b'{"userId": "samp1eUs3r1d", "cookie": "sampleUserC00kie",}')
    with pytest.raises(Rejected) as caught:
        INPUT.parse(slip)
    assert caught.value.fault is Fault.MALFORMED
    said = orjson.loads(INPUT.refuse(slip, caught.value).body)
    assert said["data"]["error_message"].startswith("Invalid data: ")


def test_reads_are_unsupported() -> None:
    """Both documented reads are listed as unsupported."""
    assert INPUT.unsupported == {"GET /store/contact", "GET /store/recommendation"}
    assert INPUT.unsupported.isdisjoint(INPUT.endpoints)


def test_a_client_cannot_set_kept_agreement_texts() -> None:
    """A client cannot set the agreement texts that the gateway keeps in the event."""
    body = {**MAIL, "agreements": [TERM], "agreements[].c": {"term": "another text"}}
    (event,) = INPUT.parse(post(CONTACT, body))
    assert event.extra == {"agreements[].c": {"term": "The text"}}
    (bare,) = INPUT.parse(post(CONTACT, {**MAIL, "agreements[].c": 5}))
    assert bare.extra == {}

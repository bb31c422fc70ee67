"""What PersonaClick's input rejects, with the documented statuses and format.

Cases: https://github.com/rees46/documentation-unified, docs/integration/cdp/standard-events/events-
errors.md, with 400 and 403 instead of its finer statuses, as PersonaClick, User Activity Tracking
(REST API) has them.
"""

from typing import Any, ClassVar

from gateway.errors import Fault
from gateway.plugin.vendor import Input
from gateway.testing import FaultAnswer, RefusalSuite, RefusedRequest, post
from plugins.personaclick.input import PersonaclickInput

KEYS = {"shop_id": "0d42fd8b713d0752776ca589cc0056", "did": "7rjVGhMykT", "seance": "R5eQXkrKCf"}
VIEW = {**KEYS, "stream": "web", "event": "view", "items": [{"id": "100500"}]}
CATEGORY = {**KEYS, "stream": "web", "event": "category", "category_id": "146"}
SEARCH = {**KEYS, "stream": "web", "event": "search", "search_query": "apple"}
ORDER = {**KEYS, "stream": "web", "event": "purchase", "items": [{"id": "100500"}]}
CUSTOM = {**KEYS, "stream": "web", "event": "my_event"}
MESSAGE = {"shop_id": KEYS["shop_id"], "stream": "web", "code": "c1", "type": "bulk"}
PROFILE = {"shop_id": KEYS["shop_id"], "did": "7rjVGhMykT", "email": "ada@shop.example"}
PERSON = "required, unless email, phone, external_id, loyalty_id, telegram_id is given"
NO_ITEM = "expected at least one product with an id of 1 to 255 characters, no backslash"
SOURCES = (
    "dynamic, chain, bulk, transactional, instant_search, full_search, stories, web_push_digest"
)

INPUT: Input = PersonaclickInput()


def without(body: dict[str, Any], key: str) -> dict[str, Any]:
    """Return *body* without *key*."""
    return {name: value for name, value in body.items() if name != key}


def error(message: str) -> dict[str, Any]:
    """Return the body of an error."""
    return {"status": "error", "message": message, "payload": {"message": message}}


BROKEN: list[tuple[str, object, str]] = [
    ("/push", without(VIEW, "did"), f"did: {PERSON}"),
    ("/push", {**VIEW, "did": ""}, f"did: {PERSON}"),
    ("/push", {**VIEW, "did": 5}, "did: expected string, got integer"),
    ("/push", without(VIEW, "seance"), "seance: required"),
    ("/push", {**VIEW, "seance": ""}, "seance: must not be empty"),
    ("/push", {**VIEW, "sid": 42}, "sid: expected a string that is not empty"),
    ("/push", {**VIEW, "shop_id": ""}, "shop_id: must not be empty"),
    ("/push/custom", {**CUSTOM, "shop_id": " "}, "shop_id: must not be empty"),
    ("/profile/set", {**PROFILE, "shop_id": ""}, "shop_id: must not be empty"),
    ("/push", {**VIEW, "shop_id": 7}, "shop_id: expected string, got integer"),
    ("/push", without(VIEW, "event"), "event: required"),
    ("/push", {**VIEW, "event": ""}, 'event: unknown: ""'),
    ("/push", {**VIEW, "event": "cart, full"}, 'event: unknown: "cart, full"'),
    ("/push", {**VIEW, "event": ["view"]}, 'event: unknown: ["view"]'),
    ("/push", without(VIEW, "items"), "items: required"),
    ("/push", {**VIEW, "items": ""}, "items: expected array"),
    ("/push", {**VIEW, "items": []}, f"items: {NO_ITEM}"),
    ("/push", {**VIEW, "items": [{"id": "Hello\\World"}]}, f"items: {NO_ITEM}"),
    ("/push", {**VIEW, "items": [{"id": ""}, {"id": "x" * 256}]}, f"items: {NO_ITEM}"),
    (
        "/push",
        {**VIEW, "event": "cart", "full_cart": True, "items": [{"id": ""}]},
        f"items: {NO_ITEM}",
    ),
    ("/push", {**VIEW, "stream": "my-stream"}, "stream: must be at most 16 letters and digits"),
    ("/push", {**VIEW, "stream": "x" * 17}, "stream: must be at most 16 letters and digits"),
    ("/push", {**VIEW, "stream": [42]}, "stream: expected string, got array"),
    ("/push", {**VIEW, "segment": "C"}, "segment: must be one of A, B"),
    ("/push", {**VIEW, "segment": ""}, "segment: must be one of A, B"),
    ("/push", {**VIEW, "referer": ""}, "referer: must not be empty"),
    ("/push", {**VIEW, "referer": [42]}, "referer: expected string, got array"),
    (
        "/push",
        {**VIEW, "recommended_by": "INVALID"},
        f"recommended_by: must be one of {SOURCES}",
    ),
    ("/push", {**VIEW, "recommended_code": ""}, "recommended_code: must not be empty"),
    ("/push", {**VIEW, "email": "nobody"}, "email: must be an e-mail address"),
    (
        "/push",
        {**VIEW, "source": 5},
        'source: expected a JSON object such as {"from":"chain","code":"…"}',
    ),
    (
        "/push",
        {**VIEW, "event": "cart", "full_cart": {}},
        "full_cart: expected boolean or integer or string, got object",
    ),
    ("/push", without(CATEGORY, "category_id"), "category_id: required"),
    ("/push", {**CATEGORY, "category_id": ""}, "category_id: must not be empty"),
    ("/push", without(SEARCH, "search_query"), "search_query: required"),
    ("/push", {**SEARCH, "search_query": " "}, "search_query: must not be empty"),
    ("/push", {**ORDER, "order_id": "x" * 256}, "order_id: must have at most 255 characters"),
    (
        "/push",
        {**ORDER, "order_price": True},
        "order_price: expected integer or number or string, got boolean",
    ),
    ("/push", {**ORDER, "promocode": ""}, "promocode: must not be empty"),
    ("/push", {**ORDER, "tax_free": "yes"}, "tax_free: expected boolean, got string"),
    ("/push", {**ORDER, "custom": "x"}, "custom: expected object, got string"),
    ("/push/custom", without(CUSTOM, "event"), "event: required"),
    ("/push/custom", {**CUSTOM, "value": 1.5}, "value: must be a whole number of at most 64 bits"),
    ("/push/custom", {**CUSTOM, "value": "5"}, "value: expected integer or number, got string"),
    ("/push/custom", {**CUSTOM, "label": ""}, "label: must not be empty"),
    ("/push/custom", {**CUSTOM, "time": 1e300}, "time: must be a time in the years 1 to 9999"),
    ("/push/custom", without(CUSTOM, "did"), f"did: {PERSON}"),
    ("/profile/set", {"shop_id": "s", "first_name": "Ada"}, f"did: {PERSON}"),
    ("/profile/set", {**PROFILE, "age": "old"}, "age: must be a number"),
    ("/profile/set", {**PROFILE, "gender": 1}, "gender: expected string, got integer"),
    ("/push", [], "expected an object"),
    *(
        ("/push", {**VIEW, "source": text}, "source: must be JSON")
        for text in ("", "not-json", "{")
    ),
]
BROKEN_MESSAGES: list[tuple[str, object, str]] = [
    ("/track/received", without(MESSAGE, "code"), "code: required"),
    ("/track/clicked", without(MESSAGE, "type"), "type: required"),
    (
        "/track/closed",
        {**MESSAGE, "type": "x"},
        "type: must be one of bulk, chain, transactional",
    ),
    ("/track/delivered", {**MESSAGE, "code": ""}, "code: must not be empty"),
    ("/track/opened", {**MESSAGE, "shop_id": ""}, "shop_id: must not be empty"),
    (
        "/track/received",
        {**MESSAGE, "stream": "my-stream"},
        "stream: must be at most 16 letters and digits",
    ),
    ("/track/received", [], "expected an object"),
]
"""403 is the only refusal that the page documents for ``/track/…``."""
NO_SHOP = without({**VIEW, **MESSAGE, "event": "view"}, "shop_id")

KEYLESS: list[object] = [None, [], "x", {}, {"shop_id": None}]


class TestPersonaclickRefusals(RefusalSuite):
    """A bad request gets 400, with the place and the reason."""

    input = INPUT
    faults: ClassVar = {
        Fault.MALFORMED: FaultAnswer(400),
        Fault.MISSING: FaultAnswer(400),
        Fault.TYPE: FaultAnswer(400),
        Fault.VALUE: FaultAnswer(400),
        Fault.UNAUTHENTICATED: FaultAnswer(403),
        Fault.FORBIDDEN: FaultAnswer(403),
        Fault.NOT_FOUND: FaultAnswer(404),
        Fault.METHOD: FaultAnswer(405),
        Fault.TOO_LARGE: FaultAnswer(413),
        Fault.UNSUPPORTED: FaultAnswer(501),
        Fault.UNAVAILABLE: FaultAnswer(503),
    }
    refused: ClassVar = [
        *(RefusedRequest(post(url, body), 400, error(said)) for url, body, said in BROKEN),
        *(RefusedRequest(post(url, body), 403, error(said)) for url, body, said in BROKEN_MESSAGES),
        *(
            RefusedRequest(post(url, NO_SHOP), 403, error("shop_id: required"))
            for url in ("/push", "/push/custom", "/track/received", "/profile/set")
        ),
    ]
    credentials: ClassVar = [
        *((post("/push", body), None) for body in KEYLESS),
        (post("/push", VIEW), KEYS["shop_id"]),
    ]

    def refusal(self, status: int, message: str) -> object:
        """Return the message at the top level and in the payload."""
        del status
        return error(message)


def test_serves_no_reads_yet() -> None:
    """Documented reads and imports are listed as unsupported, unlike unknown paths."""
    assert {"GET /init", "GET /profile", "GET /search", "GET /products/cart"} <= INPUT.unsupported


def test_only_text_is_a_credential() -> None:
    """A ``shop_id`` that is a number is not a credential."""
    assert INPUT.credential(post("/push"), {"shop_id": 5}) is None

"""The emulated user activity API of PersonaClick, by its documents.

Sources, by the names used below:

* *the document*: PersonaClick, User Activity Tracking (REST API),
  https://personaclick.atlassian.net/wiki
* *the catalogue*: GitHub rees46/documentation-unified, docs/integration (PersonaClick is a white
  label of REES46): cdp/standard-events, cdp/profile/set, cdp/communications-events and
  cdp/custom-events
* *the clients*: GitHub PersonaClick/rn-sdk, rees46/ios-sdk and rees46/android-sdk

Status codes are the document's 400 and 403; the catalogue has more. Values that the vendor would
silently drop, such as an item without an id, are refused here.
"""

import re
from collections.abc import Callable, Mapping
from datetime import date
from functools import partial
from typing import ClassVar, Final
from uuid import NAMESPACE_URL, uuid5

import orjson

from gateway.plugin import Request, Response
from gateway.sandbox import (
    BOOLEAN,
    EMAIL,
    INTEGER,
    LIST,
    NUMBER,
    OBJECT,
    TEXT,
    BodyField,
    ProblemKind,
    Sandbox,
    SandboxResponse,
    json_body,
    json_labelled,
    json_response,
    query,
    status_text,
)

IDENTIFIERS: Final = ("did", "email", "phone", "external_id", "loyalty_id", "telegram_id")
"""The document has ``did``; the catalogue allows any of the others instead."""
RECOMMENDED_BY: Final = (
    "dynamic", "chain", "bulk", "transactional",
    "instant_search", "full_search", "stories", "web_push_digest",
)  # fmt: skip
"""The values that the clients send; the document's own list is not readable."""
MESSAGE_CALLS: Final = ("received", "clicked", "closed", "delivered", "opened")
"""The first three are the document's, the others in cdp/communications-events."""
MESSAGE_TYPES: Final = ("bulk", "chain", "transactional")
"""cdp/communications-events; the document's own list is not readable."""
LONGEST_ID: Final = 255
STREAM: Final = re.compile(r"[A-Za-z0-9_]{0,16}")
"""The document: letters and digits, at most 16, empty for "web"; the catalogue adds ``_``."""
CUSTOM_NAME: Final = re.compile(r"[a-z0-9_]+")
NO_BACKSLASH: Final = re.compile(r"[^\\]+", re.DOTALL)
DIGITS: Final = re.compile(r"\d+", re.ASCII)


def push(body: BodyField) -> None:
    """Check ``POST /push``: "Basic Details", then what the ``event`` asks for."""
    _basics(body)
    event = body.need("event", TEXT).among(EVENTS)
    body.may("recommended_by", TEXT).among(RECOMMENDED_BY)
    body.may("recommended_code", TEXT).filled()
    if event:
        EVENTS[event.value](body)


def custom(body: BodyField) -> None:
    """Check ``POST /push/custom`` ("Custom Event"): ``value`` is an integer.

    Further fields are named in lower case, digits and ``_``, and ``time`` is in Unix seconds
    (cdp/custom-events).
    """
    _basics(body)
    body.need("event", TEXT).filled()
    for name in ("category", "label"):
        body.may(name, TEXT).filled()
    for name in ("value", "time"):
        body.may(name, INTEGER)
    body.may("payload", OBJECT)
    _named(body)


def message(body: BodyField) -> None:
    """Check ``POST /track/…`` ("Receiving App Push" and on): ``code``, ``type``, ``stream``."""
    body.need("code", TEXT).filled()
    body.need("type", TEXT).among(MESSAGE_TYPES)
    _stream(body)


def profile(body: BodyField) -> None:
    """Check ``POST /profile/set`` (cdp/profile/set): an identifier and typed properties."""
    _identified(body)
    for name in ("first_name", "last_name", "location", "shop_secret"):
        body.may(name, TEXT)
    for name in ("fb_id", "vk_id"):
        body.may(name, TEXT, INTEGER)
    body.may("gender", TEXT).among(("m", "f"))
    body.may("birthday", TEXT).satisfies(_is_date, "a date as YYYY-MM-DD")
    body.may("age", INTEGER)
    for name in ("kids", "auto"):
        body.may(name, LIST)
    _named(body)


def _basics(body: BodyField) -> None:
    """Check "Basic Details"; ``sid`` is ``seance`` by its newer name (the catalogue)."""
    _identified(body)
    body.need_one(("seance", "sid"), TEXT)
    _stream(body)
    body.may("segment", TEXT).among(("A", "B"))
    body.may("referer", TEXT).filled()
    _source(body)


def _identified(body: BodyField) -> None:
    body.need_one(IDENTIFIERS, TEXT, INTEGER)
    body.may("did", TEXT)
    body.may("email", TEXT).matches(EMAIL, "an e-mail address")


def _stream(body: BodyField) -> None:
    body.need("stream", TEXT).matches(STREAM, "at most 16 letters, digits or _")


def _source(body: BodyField) -> None:
    """Check "Source Param": ``from`` and ``code`` in a JSON string, or as an object (clients)."""
    source = body.may("source", TEXT, OBJECT)
    if isinstance(source.value, str):
        try:
            source.value = orjson.loads(source.value)
        except orjson.JSONDecodeError:
            source.fail(ProblemKind.FORMAT, "a JSON string of an object")
    source.of(OBJECT)
    for name in ("from", "code"):
        source.need(name, TEXT).filled()


def one_item(body: BodyField) -> None:
    """Check "the array should contain only one object with a product ID"."""
    _items(body.need("items", LIST).satisfies(lambda items: len(items) == 1, "exactly one item"))


def category(body: BodyField) -> None:
    """Check "Category View"; which categories are known depends on the shop's feed."""
    body.need("category_id", TEXT, INTEGER).filled()


def search(body: BodyField) -> None:
    """Check "Search Request"."""
    body.need("search_query", TEXT).filled()


def one_or_all(body: BodyField, *, flag: str) -> None:
    """Check one item added, or with ``flag`` the whole cart or wishlist: no items clear it.

    The flag is true; iOS sends it as a string, and amounts too (rees46/ios-sdk).
    """
    if body.may(flag, BOOLEAN, TEXT).satisfies(lambda said: said in (True, "true"), "true"):
        _items(body.may("items", LIST), amounts_as_text=True)
    else:
        one_item(body)


def purchase(body: BodyField) -> None:
    """Check "Successful checkout": the items, and the type of each part of the order."""
    _items(body.need("items", LIST).satisfies(bool, "at least one item"))
    body.may("order_id", TEXT, INTEGER).sized(LONGEST_ID)
    for name in ("price", "cash", "bonuses", "delivery", "discount"):
        body.may(f"order_{name}", NUMBER)
    body.may("promocode", TEXT).filled()
    body.may("delivery_address", TEXT).filled()
    body.may("delivery_type", TEXT)
    body.may("payment_type", TEXT)
    body.may("tax_free", BOOLEAN)
    properties = body.may("custom", OBJECT)
    for name in properties.value if properties else ():
        properties.may(name, TEXT, INTEGER)


def _items(items: BodyField, *, amounts_as_text: bool = False) -> None:
    """Check items: ``id`` a string or number, ``quantity`` another word for ``amount``.

    A wish may list bare ids, and out-of-range amounts are clamped, not refused (the catalogue).
    """
    amounts = (INTEGER, TEXT) if amounts_as_text else (INTEGER,)
    for item in items.each(OBJECT, TEXT, INTEGER):
        _item_id(item.need("id", TEXT, INTEGER) if isinstance(item.value, dict) else item)
        for name in ("amount", "quantity"):
            item.may(name, *amounts).matches(DIGITS, "a whole number")
        item.may("price", NUMBER).satisfies(lambda price: price >= 0, "a price of 0 or more")
        for name in ("line_id", "fashion_size"):
            item.may(name, TEXT, INTEGER)


def _item_id(found: BodyField) -> None:
    found.filled().sized(LONGEST_ID).matches(NO_BACKSLASH, "an id without a backslash")


def _named(body: BodyField) -> None:
    for name in body.value if body else ():
        named = BodyField(name, (name,), body.problems)
        named.matches(CUSTOM_NAME, "a field named in lower case, digits and _")


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


EVENTS: Final[Mapping[str, Callable[[BodyField], None]]] = {
    "view": one_item,
    "category": category,
    "cart": partial(one_or_all, flag="full_cart"),
    "remove_from_cart": one_item,
    "purchase": purchase,
    "search": search,
    "wish": partial(one_or_all, flag="full_wish"),
    "remove_wish": one_item,
}
SUCCESS: Final = {"status": "success"}
ENDPOINTS: Final[Mapping[str, tuple[Callable[[BodyField], None], Response]]] = {
    "/push": (push, json_response(200, SUCCESS)),
    "/push/custom": (custom, Response(204)),
    "/profile/set": (profile, json_response(200, SUCCESS)),
    **{f"/track/{call}": (message, Response(200)) for call in MESSAGE_CALLS},
}
"""Check and success response of each call: the document has no body for ``/push/custom`` and
``/track/…``."""


class PersonaclickSandbox(Sandbox):
    """Emulates the activity API; ``shop_id`` in the body is the key."""

    name: ClassVar[str] = "personaclick"
    docs: ClassVar[str] = "https://personaclick.atlassian.net/wiki"

    def respond(self, request: Request, key: str | None) -> SandboxResponse:
        """Judge one request; see ``Sandbox.respond``."""
        if (request.method, request.path) == ("GET", "/init"):
            return _init(request, key)
        if request.path not in ENDPOINTS:
            return _refused(404, "no such path")
        if request.method != "POST":
            return _refused(405, "only POST is documented")
        if not json_labelled(request):
            return _refused(400, "content-type: expected application/json")
        check, success = ENDPOINTS[request.path]
        body = json_body(request)
        stranger = _stranger(body, key)
        if stranger:
            return stranger
        check(body)
        if body.problems:
            return _refused(400, body.problems[0].reason)
        return SandboxResponse(success)

    def failure(self, status: int, request: Request) -> Response:
        """Return an error in the format of "API Response Data"."""
        del request
        return _refused(status, status_text(status)).response


def _stranger(asked: BodyField, key: str | None) -> SandboxResponse | None:
    """Refuse an absent or unknown ``shop_id`` with 403, and an empty one with 400."""
    if asked and "shop_id" not in asked:
        return _refused(403, "shop_id is missing")
    shop = asked.may("shop_id", TEXT).filled()
    if shop and key not in (None, shop.value):
        return _refused(403, "wrong shop_id")
    return None


def _init(request: Request, key: str | None) -> SandboxResponse:
    """Return the response of "Initialization (REST API)": received ids, or new ones."""
    asked = query(request)
    stranger = _stranger(asked, key)
    if stranger or asked.problems:
        return stranger or _refused(400, asked.problems[0].reason)
    made = uuid5(NAMESPACE_URL, f"{request.id}/{request.received_at}").hex
    did = asked.value.get("did") or made[:10]
    seance = asked.value.get("seance") or made[-10:]
    return SandboxResponse(json_response(200, {"did": did, "seance": seance}))


def _refused(status: int, message: str) -> SandboxResponse:
    return SandboxResponse(json_response(status, {"status": "error", "message": message}), message)

"""The emulated Store API of Quartic.

The source of every rule is https://docs.quarticon.com/storeapi/documentation/ (version 1.0.6).
Invalid input gets 405 in the error envelope. 401 and 404 are not documented; they have the same
envelope with a code in the same format.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from gateway.plugin import Request, Response
from gateway.sandbox import (
    BOOLEAN,
    EMAIL,
    INTEGER,
    LIST,
    NULL,
    NUMBER,
    OBJECT,
    TEXT,
    BodyField,
    Sandbox,
    SandboxResponse,
    json_body,
    json_labelled,
    json_response,
    query,
    status_text,
)

SYMBOL: Final = re.compile(r"[A-Za-z0-9_-]+")
"""The document's ``[a-z0-9A-Z-_]``."""
SYMBOL_RULE: Final = "letters, digits, - and _ only"
DECIMAL: Final = re.compile(r"\d+(\.\d+)?", re.ASCII)
LATEST: Final = 10**11
"""Unix seconds are below it until the year 5138; milliseconds have been above it since 1973."""


def collect_profile(body: BodyField) -> None:
    """Check "CollectProfile": ``userId`` and ``cookie``; ``email`` and ``agreement`` may come."""
    body.need("userId", TEXT).filled()
    body.need("cookie", TEXT).filled()
    body.may("email", TEXT).matches(EMAIL, "a valid email")
    body.may("agreement", BOOLEAN)


def contact(body: BodyField) -> None:
    """Check "Contact": ``email``, and every part of each agreement and each tag."""
    body.need("email", TEXT).matches(EMAIL, "a valid email")
    body.may("cookie", TEXT)
    for agreement in body.may("agreements", LIST).each(OBJECT):
        agreement.need("t", TEXT).filled()
        agreement.need("c", TEXT)
        agreement.need("s", BOOLEAN)
    for tag in body.may("tags", LIST).each(OBJECT):
        tag.need("n", TEXT).filled()
        tag.need("v", TEXT)


def event(body: BodyField) -> None:
    """Check "Event": the common fields, then those of the ``eventType``."""
    body.need("customer", TEXT).filled()
    kind = body.need("eventType", TEXT).among(EVENTS)
    body.need("timestamp", INTEGER).satisfies(
        lambda seconds: 0 < seconds < LATEST, "a UNIX timestamp in seconds"
    )
    for name in ("userId", "userEmail", "deviceId", "referrer", "cookie"):
        body.may(name, TEXT)
    if kind:
        EVENTS[kind.value](body)


def click(body: BodyField) -> None:
    """Check "EventClick": the product and the tracking string of a recommendation."""
    _product_id(body)
    body.need("trackingString", TEXT).filled()


def product_view(body: BodyField) -> None:
    """Check "EventProductView"."""
    _product_id(body)


def transaction(body: BodyField) -> None:
    """Check "EventTransaction" and its "TransactionProduct": price a float, quantity an integer."""
    body.need("transactionId", TEXT).filled()
    basket = body.need("basket", LIST).satisfies(bool, "at least one ordered product")
    for product in basket.each(OBJECT):
        _product_id(product)
        product.need("price", NUMBER)
        product.need("quantity", INTEGER)


def _product_id(place: BodyField) -> None:
    place.need("productId", TEXT).matches(SYMBOL, SYMBOL_RULE)


EVENTS: Final[Mapping[str, Callable[[BodyField], None]]] = {
    "eventClick": click,
    "eventProductView": product_view,
    "eventTransaction": transaction,
}


def product(body: BodyField) -> None:
    """Check "Product".

    The schema has text ids and numeric prices, the example has an integer id and text prices: both
    are accepted, if the text is a decimal number.
    """
    body.need("id", TEXT, INTEGER).matches(SYMBOL, SYMBOL_RULE)
    for name in ("title", "image", "description", "url", "catalogSymbol"):
        body.may(name, TEXT)
    for name in ("custom1", "custom2", "custom3"):
        body.may(name, TEXT)
    body.may("price", NUMBER, TEXT).matches(DECIMAL, "a decimal number")
    body.may("priceOld", NUMBER, TEXT, NULL).matches(DECIMAL, "a decimal number")
    body.may("status", BOOLEAN)
    for category in body.may("categories", LIST).each(OBJECT):
        category.need("id", INTEGER)
        category.need("name", TEXT)


def recommendation(asked: BodyField) -> None:
    """Check the query of "Recommendation": account, user, and the characters of each id."""
    asked.need("customer", TEXT).filled()
    asked.need_one(("cookie", "deviceId"), TEXT)
    for name in ("placementId", "cookie", "deviceId", "userId", "requestId", "filterProduct"):
        asked.may(name, TEXT).matches(SYMBOL, SYMBOL_RULE)
    asked.may("deduplicate", TEXT).among(("true", "false", "0", "1"))
    if "requestId" in asked:
        asked.need("deduplicate", TEXT)


def contact_query(asked: BodyField) -> None:
    """Check "GET /contact", which has the contact's ``email`` in its body."""
    asked.need("email", TEXT).matches(EMAIL, "a valid email")


WRITES: Final[Mapping[str, Callable[[BodyField], None]]] = {
    "/store/collectprofile": collect_profile,
    "/store/contact": contact,
    "/store/track/event": event,
    "/store/data/product": product,
}
READS: Final = ("/store/contact", "/store/recommendation")


class QuarticSandbox(Sandbox):
    """Emulates the Store API, with the key in ``x-api-key``."""

    name: ClassVar[str] = "quartic"
    docs: ClassVar[str] = "https://docs.quarticon.com/storeapi/documentation/"

    def respond(self, request: Request, key: str | None) -> SandboxResponse:
        """Judge one request; see ``Sandbox.respond``."""
        if request.path not in WRITES and request.path not in READS:
            return SandboxResponse(self.failure(404, request), "no such path")
        if (request.method, request.path) == ("GET", "/store/recommendation"):
            return self._recommend(request)
        sent = request.headers.get("x-api-key", "").strip()
        if not sent or key not in (None, sent):
            why = "wrong key in x-api-key" if sent else "no x-api-key header"
            return SandboxResponse(self.failure(401, request), why)
        if (request.method, request.path) == ("GET", "/store/contact"):
            return self._contact(request)
        if request.method != "POST" or request.path not in WRITES:
            why = f"{request.method} is not documented here"
            return SandboxResponse(self.failure(405, request), why)
        if not json_labelled(request):
            return self._invalid(request, "content-type: expected application/json")
        body = json_body(request)
        WRITES[request.path](body)
        if body.problems:
            return self._invalid(request, body.problems[0].reason)
        return SandboxResponse(
            json_response(200, {"status": "OK", "timestamp": _timestamp(request)})
        )

    def _contact(self, request: Request) -> SandboxResponse:
        """Return an empty contact for "GET /contact", since the sandbox stores none."""
        asked = json_body(request) if request.body else query(request)
        contact_query(asked)
        if asked.problems:
            return self._invalid(request, asked.problems[0].reason)
        found = {"email": asked.value["email"], "agreements": [], "tags": []}
        return _read(request, {"data": found})

    def _recommend(self, request: Request) -> SandboxResponse:
        """Return no products for "Recommendation", since the sandbox has no catalogue."""
        asked = query(request)
        recommendation(asked)
        if asked.problems:
            return self._invalid(request, asked.problems[0].reason)
        return _read(request, {"qrId": f"ad_{request.id}", "duplicatesCount": 0, "data": []})

    def _invalid(self, request: Request, reason: str) -> SandboxResponse:
        """Return the documented 405, without the reason; only the journal has it."""
        said = _envelope(request, 405, "Invalid data")
        return SandboxResponse(said, reason)

    def failure(self, status: int, request: Request) -> Response:
        """Return an error in the envelope of "Error handling"."""
        return _envelope(request, status, status_text(status))


def _envelope(request: Request, status: int, message: str) -> Response:
    data = {"error_code": f"http.status.{int(status)}", "error_message": message}
    timestamp = int(request.received_at.timestamp())
    return json_response(status, {"status": "ERROR", "timestamp": timestamp, "data": data})


def _read(request: Request, found: dict[str, Any]) -> SandboxResponse:
    return SandboxResponse(
        json_response(200, {"status": "OK", "timestamp": _timestamp(request), **found})
    )


def _timestamp(request: Request) -> int | str:
    """Return the time in the format of each endpoint's example: two of them use text."""
    if request.path in ("/store/collectprofile", "/store/contact"):
        return request.received_at.strftime("%Y-%m-%d %H:%M:%S")
    return int(request.received_at.timestamp())

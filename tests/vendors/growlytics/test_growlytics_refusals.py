"""What Growlytics' input rejects, and in which format."""

from typing import Any, ClassVar

import orjson
import pytest

from gateway.errors import Fault, Rejected
from gateway.testing import FaultAnswer, RefusalSuite, RefusedRequest, post
from plugins.growlytics.input import GrowlyticsInput

INPUT = GrowlyticsInput()
CUSTOMER = "/rest-api/customer"
EVENT = "/rest-api/event"
NUMBERS: list[dict[str, object]] = [
    {"name": f"n{i}", "type": "number", "value": i} for i in range(101)
]
OWN: list[dict[str, object]] = [
    {"name": name, "type": "string", "value": "x"} for name in ("name", "email", "mobile")
]
DATE = "must be a string with one of the following formats [YYYY-MM-DD HH:mm:ss]"


def joi(message: str, path: list[str | int], rule: str, **context: object) -> dict[str, Any]:
    """Return Joi's report of one problem."""
    label = path[-1] if path else "value"
    detail = {
        "message": f"{label} {message}",
        "path": path,
        "type": rule,
        "context": {**context, "key": label, "label": label},
    }
    return {"type": "ValidationError", "details": [detail]}


def one(**attribute: object) -> dict[str, Any]:
    """Return an event with one attribute."""
    return {"customerId": "c-1", "name": "x", "attributes": [attribute]}


BROKEN: list[tuple[str, object, dict[str, Any]]] = [
    (CUSTOMER, [], joi("must be an object", [], "object.base")),
    (CUSTOMER, {"attributes": []}, joi("is required", ["id"], "any.required")),
    (CUSTOMER, {"id": None, "attributes": []}, joi("must be a string", ["id"], "string.base")),
    (
        CUSTOMER,
        {"id": 7, "attributes": []},
        joi("must be a string", ["id"], "string.base", value=7),
    ),
    (
        CUSTOMER,
        {"id": "", "attributes": []},
        joi("is not allowed to be empty", ["id"], "any.empty", value=""),
    ),
    (CUSTOMER, {"id": "c-1"}, joi("is required", ["attributes"], "any.required")),
    (
        CUSTOMER,
        {"id": "c-1", "attributes": {"email": "a@b.example"}},
        joi("must be an array", ["attributes"], "array.base"),
    ),
    (
        CUSTOMER,
        {"id": "c-1", "attributes": NUMBERS},
        joi(
            "must contain less than or equal to 100 items",
            ["attributes"],
            "array.max",
            limit=100,
        ),
    ),
    (
        EVENT,
        {"name": "x", "attributes": []},
        joi("is required", ["customerId"], "any.required"),
    ),
    (
        EVENT,
        {"customerId": "c-1", "attributes": []},
        joi("is required", ["name"], "any.required"),
    ),
    (
        EVENT,
        {"customerId": "c-1", "name": "n" * 50, "attributes": []},
        joi(
            "length must be less than or equal to 49 characters long",
            ["name"],
            "string.max",
            limit=49,
            value="n" * 50,
        ),
    ),
    (
        EVENT,
        {"customerId": "c-1", "name": "app launched", "attributes": []},
        joi(
            "contains an invalid value, the name of an event that Growlytics makes itself",
            ["name"],
            "any.invalid",
            value="app launched",
        ),
    ),
    (
        EVENT,
        {"customerId": "c-1", "name": "x", "attributes": NUMBERS[:51]},
        joi(
            "must contain less than or equal to 50 items",
            ["attributes"],
            "array.max",
            limit=50,
        ),
    ),
    (
        EVENT,
        {"customerId": "c-1", "name": "x", "attributes": ["Amount"]},
        joi("must be an object", ["attributes", 0], "object.base", value="Amount"),
    ),
    (
        EVENT,
        one(type="string", value="x"),
        joi("is required", ["attributes", 0, "name"], "any.required"),
    ),
    (
        EVENT,
        one(name="n" * 50, type="string", value="x"),
        joi(
            "length must be less than or equal to 49 characters long",
            ["attributes", 0, "name"],
            "string.max",
            limit=49,
            value="n" * 50,
        ),
    ),
    (
        EVENT,
        one(name="n", value="x"),
        joi("is required", ["attributes", 0, "type"], "any.required"),
    ),
    (
        EVENT,
        one(name="n", type="string array", value=["a"]),
        joi(
            "must be one of [string, number, boolean, date]",
            ["attributes", 0, "type"],
            "any.allowOnly",
            valids=["string", "number", "boolean", "date"],
            value="string array",
        ),
    ),
    (
        EVENT,
        one(name="n", type="string"),
        joi("is required", ["attributes", 0, "value"], "any.required"),
    ),
    (
        EVENT,
        one(name="n", type="string", value=400001),
        joi("must be a string", ["attributes", 0, "value"], "string.base", value=400001),
    ),
    (
        EVENT,
        one(name="n", type="string", value=None),
        joi("must be a string", ["attributes", 0, "value"], "string.base"),
    ),
    (
        EVENT,
        one(name="n", type="number", value="many"),
        joi("must be a number", ["attributes", 0, "value"], "number.base", value="many"),
    ),
    (
        EVENT,
        one(name="n", type="number", value=True),
        joi("must be a number", ["attributes", 0, "value"], "number.base", value=True),
    ),
    (
        EVENT,
        one(name="n", type="boolean", value="yes"),
        joi("must be a boolean", ["attributes", 0, "value"], "boolean.base", value="yes"),
    ),
    (
        EVENT,
        one(name="n", type="date", value="YYYY-MM-DD HH:MM:SS"),
        joi(DATE, ["attributes", 0, "value"], "date.format", value="YYYY-MM-DD HH:MM:SS"),
    ),
    (
        EVENT,
        one(name="n", type="date", value=1579547655),
        joi(DATE, ["attributes", 0, "value"], "date.format", value=1579547655),
    ),
]


class TestGrowlyticsRefusals(RefusalSuite):
    """An invalid body gets Joi's report; other refusals get ``success`` false with a message."""

    input = INPUT
    faults: ClassVar = {
        Fault.UNAUTHENTICATED: FaultAnswer(
            401, "no API key: send it in the header x-growlytics-key"
        ),
        Fault.FORBIDDEN: FaultAnswer(401, "unknown API key in x-growlytics-key"),
        Fault.TOO_LARGE: FaultAnswer(413),
        Fault.NOT_FOUND: FaultAnswer(404),
        Fault.METHOD: FaultAnswer(405),
        Fault.UNSUPPORTED: FaultAnswer(501),
        Fault.UNAVAILABLE: FaultAnswer(503),
    }
    refused: ClassVar = [
        RefusedRequest(post(url, body), 422, report) for url, body, report in BROKEN
    ]
    credentials = (
        (post(EVENT), None),
        (post(EVENT, headers={"x-growlytics-key": "  "}), None),
        (post(EVENT, headers={"x-growlytics-key": "key-in"}), "key-in"),
    )

    def refusal(self, status: int, message: str) -> object:
        """Return ``success`` false with a message."""
        del status
        return {"success": False, "message": message}


def test_reports_what_is_no_json() -> None:
    """A body that is not JSON gets 422, the only documented status for bad input."""
    request = post(EVENT, b'{"name": ')
    with pytest.raises(Rejected) as caught:
        INPUT.parse(request)
    answer = INPUT.refuse(request, caught.value)
    assert answer.status == 422
    body = orjson.loads(answer.body)
    assert body["type"] == "ValidationError"
    assert body["details"][0]["path"] == []


def test_takes_as_many_as_allowed() -> None:
    """A customer may have 100 attributes beside name, email and mobile, and an event 50."""
    (customer,) = INPUT.parse(post(CUSTOMER, {"id": "c-1", "attributes": NUMBERS[:100] + OWN}))
    assert len(customer.traits.extra) == 100
    assert customer.traits.phone == "x"
    body = {"customerId": "c-1", "name": "x", "attributes": NUMBERS[:50]}
    (event,) = INPUT.parse(post(EVENT, body))
    assert len(event.properties.extra) == 50


def test_takes_names_up_to_the_limit() -> None:
    """Event and attribute names may have 49 characters; ids have no such limit."""
    named = [{"name": "a" * 49, "type": "string", "value": "x"}]
    body = {"customerId": "c" * 200, "name": "n" * 49, "attributes": named}
    (event,) = INPUT.parse(post(EVENT, body))
    assert event.user_id == "c" * 200
    assert event.name == "n" * 49
    assert event.properties.extra == {"a" * 49: "x"}

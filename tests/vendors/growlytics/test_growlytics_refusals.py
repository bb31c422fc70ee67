"""What Growlytics refuses, and in which words."""

from typing import Any

import orjson
import pytest

from gateway.errors import Fault, Rejected
from gateway.http import Request
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


def post(url: str, body: object, headers: dict[str, str] | None = None) -> Request:
    """Return a request as a client would send it."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return Request(method="POST", url=url, headers=headers or {}, body=raw)


def refused(request: Request) -> tuple[int, Any]:
    """Return the status and the body with which *request* is refused."""
    with pytest.raises(Rejected) as caught:
        INPUT.parse(request)
    answer = INPUT.refuse(request, caught.value)
    return answer.status, orjson.loads(answer.body)


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


@pytest.mark.parametrize(
    ("url", "body", "report"),
    [
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
    ],
    ids=str,
)
def test_reports_what_breaks_a_rule(url: str, body: object, report: dict[str, Any]) -> None:
    """A body that breaks a documented rule is answered 422 with Joi's report of the first one."""
    assert refused(post(url, body)) == (422, report)


def test_reports_what_is_no_json() -> None:
    """A body that is no JSON is a 422 too: Growlytics documents no other word for bad input."""
    status, body = refused(post(EVENT, b'{"name": '))
    assert status == 422
    assert body["type"] == "ValidationError"
    assert body["details"][0]["path"] == []


@pytest.mark.parametrize(
    ("fault", "status", "message"),
    [
        (Fault.UNAUTHENTICATED, 401, "no API key: send it in the header x-growlytics-key"),
        (
            Fault.FORBIDDEN,
            401,
            "the API key in x-growlytics-key is not one that is accepted here",
        ),
        (Fault.TOO_LARGE, 413, "as the gateway says"),
        (Fault.NOT_FOUND, 404, "as the gateway says"),
        (Fault.METHOD, 405, "as the gateway says"),
        (Fault.UNSUPPORTED, 501, "as the gateway says"),
        (Fault.UNAVAILABLE, 503, "as the gateway says"),
    ],
)
def test_refuses_what_is_not_about_the_body(fault: Fault, status: int, message: str) -> None:
    """What is wrong outside the body is answered in the shape of a success, turned around."""
    answer = INPUT.refuse(post(EVENT, {}), Rejected("$", "as the gateway says", fault))
    assert answer.status == status
    assert orjson.loads(answer.body) == {"success": False, "message": message}


@pytest.mark.parametrize("headers", [{}, {"x-growlytics-key": "  "}], ids=["none", "blank"])
def test_finds_no_key(headers: dict[str, str]) -> None:
    """A request without a key, or with a blank one, carries no credential."""
    assert INPUT.credential(post(EVENT, {}, headers), None) is None


def test_takes_as_many_as_allowed() -> None:
    """A customer may have 100 attributes beside name, email and mobile, and an event 50."""
    (customer,) = INPUT.parse(post(CUSTOMER, {"id": "c-1", "attributes": NUMBERS[:100] + OWN}))
    assert len(customer.traits.extra) == 100
    assert customer.traits.phone == "x"
    body = {"customerId": "c-1", "name": "x", "attributes": NUMBERS[:50]}
    (event,) = INPUT.parse(post(EVENT, body))
    assert len(event.properties.extra) == 50


def test_takes_names_up_to_the_limit() -> None:
    """Names of events and attributes may have 49 characters, ids as many as an address takes."""
    named = [{"name": "a" * 49, "type": "string", "value": "x"}]
    body = {"customerId": "c" * 200, "name": "n" * 49, "attributes": named}
    (event,) = INPUT.parse(post(EVENT, body))
    assert event.user_id == "c" * 200
    assert event.name == "n" * 49
    assert event.properties.extra == {"a" * 49: "x"}

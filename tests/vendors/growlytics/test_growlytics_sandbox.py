"""The Growlytics sandbox against https://docs.growlytics.in/rest-apis/tracking-users-1."""

from typing import Any

import orjson
import pytest

from gateway.http import Request
from gateway.sandbox import SandboxResponse
from plugins.growlytics.sandbox import GrowlyticsSandbox

HEADERS = {"accept": "application/json", "x-growlytics-key": "key-1"}
CUSTOMER = "/rest-api/customer"
EVENT = "/rest-api/event"


def send(path: str, body: Any, key: str | None = None, **changes: Any) -> SandboxResponse:
    """Send *body* as JSON, or unchanged if it is bytes, and return the verdict."""
    sent = body if isinstance(body, bytes) else orjson.dumps(body)
    request = Request(
        method=changes.get("method", "POST"),
        url=path,
        headers=changes.get("headers", HEADERS),
        body=sent,
    )
    return GrowlyticsSandbox().respond(request, key)


def said(answer: SandboxResponse) -> Any:
    """Return the response's body."""
    return orjson.loads(answer.response.body)


def attribute(name: str = "a", kind: str = "string", value: Any = "v") -> dict[str, Any]:
    """Return one attribute."""
    return {"name": name, "type": kind, "value": value}


EXAMPLE = {
    "id": "your-system-uniqe-id",
    "name": "Purchased",
    "attributes": [
        attribute("name", "string", "Customer Name"),
        attribute("email", "string", "customer_email@gmail.com"),
        attribute("mobile", "string", "9919211112"),
        attribute("City", "string", "Mumbai"),
        attribute("Total Orders", "number", 1),
        attribute("Is First Time Purchaser", "boolean", value=True),
        attribute("Last Order Date", "date", "2024-03-01 17:30:00"),
    ],
}
"""The documented example with its missing comma, without comments, and with a valid date."""


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CUSTOMER, EXAMPLE),
        (EVENT, {"customerId": "c", "name": "Order", "attributes": EXAMPLE["attributes"]}),
        (EVENT, {"customerId": "c" * 200, "name": "n" * 49, "attributes": []}),
        (CUSTOMER, {"id": "c", "attributes": [attribute(value="")]}),
        (
            EVENT,
            {"customerId": "c", "name": "e", "attributes": [attribute(str(n)) for n in range(50)]},
        ),
        (
            CUSTOMER,
            {
                "id": "c",
                "attributes": [
                    *(attribute(str(number)) for number in range(100)),
                    *(attribute(name) for name in ("name", "email", "mobile")),
                ],
            },
        ),
    ],
)
def test_documented_calls_are_accepted(path: str, body: Any) -> None:
    """The documented example, and calls at the documented limits, get 200."""
    answer = send(path, body, "key-1")
    assert (answer.reason, answer.response.status) == (None, 200)
    assert said(answer) == {"success": True}


REFUSED: list[tuple[str, dict[str, Any], str, list[str | int]]] = [
    (CUSTOMER, {"attributes": []}, "any.required", ["id"]),
    (CUSTOMER, {"id": "c"}, "any.required", ["attributes"]),
    (CUSTOMER, {"id": 7, "attributes": []}, "string.base", ["id"]),
    (CUSTOMER, {"id": "", "attributes": []}, "any.empty", ["id"]),
    (CUSTOMER, {"id": "c", "attributes": {"City": "Mumbai"}}, "array.base", ["attributes"]),
    (EVENT, {"name": "e", "attributes": []}, "any.required", ["customerId"]),
    (EVENT, {"customerId": "c", "attributes": []}, "any.required", ["name"]),
    (EVENT, {"customerId": "c", "name": "n" * 50, "attributes": []}, "string.max", ["name"]),
    (EVENT, {"customerId": "c", "name": "App launched", "attributes": []}, "any.invalid", ["name"]),
    (EVENT, {"customerId": "c", "name": "e"}, "any.required", ["attributes"]),
]


@pytest.mark.parametrize(("path", "body", "kind", "place"), REFUSED)
def test_a_wrong_call_is_refused_with_a_joi_report(
    path: str, body: Any, kind: str, place: list[str | int]
) -> None:
    """A call that breaks the document gets 422 and Joi's report with the place."""
    answer = send(path, body)
    assert answer.reason is not None
    assert answer.response.status == 422
    report = said(answer)
    assert report["type"] == "ValidationError"
    [detail] = report["details"]
    assert (detail["type"], detail["path"]) == (kind, place)
    assert detail["context"]["key"] == place[-1]
    assert detail["message"].startswith(f'"{place[-1]}" ')


ATTRIBUTES: list[tuple[Any, str, str]] = [
    ("x", "object.base", "attributes.0: expected an object"),
    ({"type": "string", "value": "v"}, "any.required", "attributes.0.name is missing"),
    ({"name": "a", "value": "v"}, "any.required", "attributes.0.type is missing"),
    ({"name": "a", "type": "string"}, "any.required", "attributes.0.value is missing"),
    (attribute("n" * 50), "string.max", "attributes.0.name: expected at most 49 characters"),
    (attribute(""), "any.empty", "attributes.0.name: expected a string that is not empty"),
    (attribute(kind="integer"), "any.allowOnly", "attributes.0.type: expected string, number"),
    (attribute(kind="string", value=1), "string.base", "attributes.0.value: expected a string"),
    (attribute(value=None), "string.base", "attributes.0.value: expected a string"),
    (attribute(value=[1]), "string.base", "attributes.0.value: expected a string"),
    (attribute(kind="number", value="1"), "number.base", "attributes.0.value: expected a number"),
    (attribute(kind="number", value=True), "number.base", "attributes.0.value: expected a number"),
    (attribute(kind="boolean", value=1), "boolean.base", "attributes.0.value: expected true or"),
    (attribute(kind="date", value=17), "string.base", "attributes.0.value: expected a string"),
    (
        attribute(kind="date", value="2024-03-01T17:30:00"),
        "any.invalid",
        "attributes.0.value: expected a date as YYYY-MM-DD HH:mm:ss",
    ),
    (
        attribute(kind="date", value="2024-02-30 17:30:00"),
        "any.invalid",
        "attributes.0.value: expected a date as YYYY-MM-DD HH:mm:ss",
    ),
    (
        attribute(kind="date", value="2024-03-01"),
        "any.invalid",
        "attributes.0.value: expected a date as YYYY-MM-DD HH:mm:ss",
    ),
]


@pytest.mark.parametrize(("wrong", "kind", "reason"), ATTRIBUTES)
def test_each_attribute_is_checked_against_its_type(wrong: Any, kind: str, reason: str) -> None:
    """An attribute has a short name, one of four types, and a value of that type."""
    for path, body in ((CUSTOMER, {"id": "c"}), (EVENT, {"customerId": "c", "name": "e"})):
        answer = send(path, {**body, "attributes": [wrong]})
        assert answer.reason is not None
        assert answer.reason.startswith(reason)
        assert said(answer)["details"][0]["type"] == kind


@pytest.mark.parametrize(
    ("path", "body", "most"),
    [(CUSTOMER, {"id": "c"}, 100), (EVENT, {"customerId": "c", "name": "e"}, 50)],
)
def test_there_is_a_most_of_attributes(path: str, body: dict[str, Any], most: int) -> None:
    """A customer has at most 100 custom attributes, an event at most 50."""
    many = [attribute(str(number)) for number in range(most + 1)]
    answer = send(path, {**body, "attributes": many})
    assert said(answer)["details"][0]["type"] == "array.max"
    assert answer.response.status == 422


def test_a_missing_key_is_refused_in_the_shape_of_a_failure() -> None:
    """A missing or blank key gets 401 in the documented format of a failure."""
    good = {"id": "c", "attributes": []}
    answer = send(CUSTOMER, good, headers={})
    assert answer.response.status == 401
    assert said(answer) == {"success": False, "message": "Unauthorized"}
    assert answer.reason == "no x-growlytics-key header"
    assert send(CUSTOMER, good, headers={"x-growlytics-key": " "}).response.status == 401


def test_unknown_paths_and_methods_are_refused_in_the_same_shape() -> None:
    """404 and 405 have the format of the 401."""
    assert said(send("/rest-api/product", {}))["success"] is False
    assert said(send(CUSTOMER, {}, method="PUT"))["success"] is False

"""The checks that sandbox rules consist of."""

import re
from typing import Any

import orjson
import pytest

from gateway.http import Request
from gateway.sandbox.checks import (
    BOOLEAN,
    INTEGER,
    LIST,
    NULL,
    NUMBER,
    OBJECT,
    TEXT,
    BodyField,
    JsonType,
    ProblemKind,
    json_body,
    json_labelled,
    query,
)


def body(value: Any) -> BodyField:
    """Return *value* as the body of a request."""
    return json_body(Request(method="POST", url="/", body=orjson.dumps(value)))


def reasons(place: BodyField) -> list[str]:
    """Return the problems as text."""
    return [problem.reason for problem in place.problems]


HELD: list[tuple[Any, set[JsonType]]] = [
    ("a", {TEXT}),
    (1, {INTEGER, NUMBER}),
    (1.0, {NUMBER}),
    (True, {BOOLEAN}),
    ({}, {OBJECT}),
    ([], {LIST}),
    (None, {NULL}),
]


@pytest.mark.parametrize(("value", "kinds"), HELD)
def test_each_value_has_its_json_types_and_no_other(value: Any, kinds: set[JsonType]) -> None:
    """A boolean is no number, a float is no integer, and null has a type of its own."""
    assert {kind for kind in JsonType if kind.holds(value)} == kinds


def test_a_missing_member_is_reported_with_its_place() -> None:
    """A missing member is reported with its path, list indexes included."""
    root = body({"events": [{"type": "a"}, {}]})
    for event in root.need("events", LIST).each(OBJECT):
        event.need("type", TEXT)
    assert reasons(root) == ["events.1.type is missing: expected a string"]
    assert root.problems[0].path == ("events", 1, "type")


def test_one_cause_gives_one_problem() -> None:
    """Checks below a missing or wrong value report no further problem."""
    root = body({"source": 7})
    root.need("source", OBJECT).need("id", TEXT).filled().sized(3)
    root.need("events", LIST).sized(2).satisfies(bool, "some")
    assert reasons(root) == [
        "source: expected an object",
        "events is missing: expected an array",
    ]


def test_an_optional_member_must_be_valid() -> None:
    """``may`` allows a missing member, but a present one, also null, must be valid."""
    root = body({"a": None, "b": "x"})
    root.may("a", TEXT)
    root.may("b", TEXT, NULL)
    root.may("c", TEXT)
    assert reasons(root) == ["a: expected a string"]


def test_null_has_no_members_to_miss() -> None:
    """Where null is allowed instead of an object, its members are not required."""
    root = body({"profile": None})
    root.may("profile", OBJECT, NULL).need("id", TEXT)
    assert reasons(root) == []


CHECKS: list[tuple[Any, Any, str]] = [
    ("  ", lambda place: place.filled(), "a string that is not empty"),
    ("abcd", lambda place: place.sized(3), "at most 3 characters"),
    ([1, 2], lambda place: place.sized(1), "at most 1 items"),
    ("x", lambda place: place.among(("a", "b", "c")), "a, b or c"),
    ("a1", lambda place: place.matches(re.compile("[a-z]"), "a letter"), "a letter"),
    (-1, lambda place: place.satisfies(lambda number: number > 0, "above 0"), "above 0"),
]


@pytest.mark.parametrize(("value", "check", "rule"), CHECKS)
def test_each_check_says_what_it_expected(value: Any, check: Any, rule: str) -> None:
    """A failed check reports the expectation, without the sent value."""
    root = body({"field": value})
    check(root.may("field"))
    assert reasons(root) == [f"field: expected {rule}"]


def test_one_of_several_members_is_enough_and_all_must_be_filled() -> None:
    """``need_one`` requires one of several members, and checks each that is present."""
    assert reasons(needing(body({"b": "x"}))) == []
    assert reasons(needing(body({}))) == ["a is missing: expected a, b or c"]
    assert reasons(needing(body({"b": "x", "c": ""}))) == ["c: expected a string that is not empty"]


def needing(root: BodyField) -> BodyField:
    """Return *root* after a check that requires one of a, b and c."""
    root.need_one(("a", "b", "c"), TEXT)
    return root


@pytest.mark.parametrize("sent", [b"", b"{", b"\xff", b'{"a":NaN}', b'"\\ud800"'])
def test_invalid_json_is_one_problem(sent: bytes) -> None:
    """A body that is not JSON is one problem, and no further check reports."""
    root = json_body(Request(method="POST", url="/", body=sent))
    root.need("a", TEXT)
    assert [problem.wrong for problem in root.problems] == [ProblemKind.MALFORMED]


@pytest.mark.parametrize("sent", [[], "a", 1, None])
def test_a_body_must_be_an_object(sent: Any) -> None:
    """JSON that is no object has the wrong type."""
    assert reasons(body(sent)) == ["the body: expected an object"]


@pytest.mark.parametrize(
    ("label", "json"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/vnd.api+json", True),
        ("text/plain", False),
        ("application/x-www-form-urlencoded", False),
        ("text/json+json", False),
        ("", False),
    ],
)
def test_a_content_type_is_json_or_not(label: str, json: bool) -> None:  # noqa: FBT001 - a table of cases
    """A content type is compared without case and parameters."""
    request = Request(method="POST", url="/", headers={"content-type": label})
    assert json_labelled(request) is json


def test_a_query_is_checked_like_a_body() -> None:
    """Query values are decoded texts; the last of each name holds; empty ones are kept."""
    asked = query(Request(method="GET", url="/x?a=1&b=%20c&a=2&d="))
    assert asked.value == {"a": "2", "b": " c", "d": ""}


def test_each_checks_without_a_loop() -> None:
    """The items of an array are checked although nobody loops over them."""
    root = body({"events": [{}, 7]})
    root.need("events", LIST).each(OBJECT)
    assert reasons(root) == ["events.1: expected an object"]

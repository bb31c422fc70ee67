"""What Tracardi's input rejects, and in which format.

The expected result is pydantic's, for the fields and types of Tracardi 0.9's own models (GitHub
Tracardi/tracardi, tracardi/domain/payload), called as FastAPI calls it.
"""

from datetime import datetime
from typing import Any, ClassVar

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError, field_validator

from gateway.errors import Fault, Rejected
from gateway.http import Request
from gateway.testing import FaultAnswer, RefusalSuite, RefusedRequest, post
from plugins.tracardi.input import TracardiInput
from plugins.tracardi.rules import problems

INPUT = TracardiInput()
SOURCE = {"id": "source-in"}
EVENT = {"type": "page-view"}
NO_BODY = {"detail": [{"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}]}
TRACK = "/track"
GOOD: dict[str, Any] = {"source": SOURCE, "session": {"id": "s-1"}, "events": [EVENT]}


class Entity(BaseModel):
    """An id."""

    id: str


class PrimaryEntity(Entity):
    """A profile's id."""

    primary_id: str | None = None


class Time(BaseModel):
    """When an event was collected, created and changed."""

    insert: datetime | None = None
    create: datetime | None = None
    update: datetime | None = None


class EventPayload(BaseModel):
    """One event."""

    id: str | None = None
    time: Time | None = None
    type: str
    properties: dict[str, Any] | None = {}
    options: dict[str, Any] | None = {}
    context: dict[str, Any] | None = {}
    tags: list[Any] | None = None

    @field_validator("type")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("an event type cannot be blank")
        return value


class TrackerPayload(BaseModel):
    """A body."""

    source: Entity
    session: Entity | None = None
    profile: PrimaryEntity | None = None
    context: dict[str, Any] | None = {}
    properties: dict[str, Any] | None = {}
    request: dict[str, Any] | None = {}
    events: list[EventPayload] = []
    options: dict[str, Any] | None = {}
    profile_less: bool = False
    debug: bool | None = False


ORACLE = TypeAdapter(TrackerPayload)


def fastapi(payload: Any) -> list[dict[str, Any]]:
    """Return the problems that FastAPI lists for *payload*."""
    try:
        ORACLE.validate_python(payload, from_attributes=True)
    except ValidationError as error:
        return [
            {
                "type": found["type"],
                "loc": ["body", *found["loc"]],
                "msg": found["msg"],
                "input": found["input"],
            }
            for found in error.errors(include_url=False)
        ]
    return []


def refused(request: Request) -> tuple[int, Any]:
    """Return the status and body of the refusal of *request*."""
    with pytest.raises(Rejected) as caught:
        INPUT.parse(request)
    answer = INPUT.refuse(request, caught.value)
    return answer.status, orjson.loads(answer.body)


def event(**fields: Any) -> dict[str, Any]:
    """Return a valid body whose one event has *fields*."""
    return {**GOOD, "events": [{**EVENT, **fields}]}


BROKEN: list[Any] = [
    [],
    0,
    "x",
    {},
    {"events": []},
    {"events": None},
    {**GOOD, "source": None},
    {**GOOD, "source": "source-in"},
    {**GOOD, "source": {}},
    {**GOOD, "source": {"id": 7}},
    {**GOOD, "source": {"id": None}},
    {**GOOD, "session": {}},
    {**GOOD, "session": {"id": None}},
    {**GOOD, "session": "s-1"},
    {**GOOD, "profile": {"id": 1}},
    {**GOOD, "profile": []},
    {**GOOD, "profile": {"id": "p", "primary_id": 1}},
    {**GOOD, "context": []},
    {**GOOD, "properties": "x"},
    {**GOOD, "request": 1},
    {**GOOD, "options": True},
    {**GOOD, "events": None},
    {**GOOD, "events": {}},
    {**GOOD, "events": [None]},
    {**GOOD, "events": ["page-view"]},
    {**GOOD, "events": [{}]},
    {**GOOD, "events": [EVENT, {"type": None}]},
    {**GOOD, "profile_less": None},
    {**GOOD, "profile_less": "perhaps"},
    {**GOOD, "profile_less": 2},
    {**GOOD, "profile_less": 0.5},
    {**GOOD, "debug": []},
    event(type=5),
    event(type=" "),
    event(id=5),
    event(properties=[]),
    event(options="x"),
    event(context=1),
    event(tags="a"),
    event(time="2024-03-28"),
    event(time={"create": []}),
    event(time={"insert": True}),
    {"session": 1, "profile": {}, "context": 1, "events": [{"properties": 1}], "debug": "x"},
]


def report(body: Any) -> dict[str, Any]:
    """Return FastAPI's response to a *body* that the server's model rejects."""
    found = fastapi(body)
    assert found, body
    return {"detail": found}


class TestTracardiRefusals(RefusalSuite):
    """A body is rejected with FastAPI's list of problems, other faults with a text."""

    input = INPUT
    faults: ClassVar = {
        Fault.UNAUTHENTICATED: FaultAnswer(401, "Access denied. Invalid source."),
        Fault.FORBIDDEN: FaultAnswer(401, "Access denied. Invalid source."),
        Fault.NOT_FOUND: FaultAnswer(404, "Not Found"),
        Fault.METHOD: FaultAnswer(405, "Method Not Allowed", {"allow": "POST"}),
        Fault.TOO_LARGE: FaultAnswer(413),
        Fault.UNSUPPORTED: FaultAnswer(501),
        Fault.UNAVAILABLE: FaultAnswer(503),
    }
    refused: ClassVar = [
        *(RefusedRequest(post(TRACK, body), 422, report(body)) for body in BROKEN),
        *(RefusedRequest(post(TRACK, body), 422, NO_BODY) for body in (b"", b"null")),
        RefusedRequest(
            post(TRACK, {**GOOD, "source": {"id": " @internal"}}),
            401,
            {"detail": "Internal event sources are not allowed via API."},
        ),
    ]
    credentials = (
        (post(TRACK, {"source": {"id": " "}}), None),
        (post(TRACK, {"source": {"id": " a "}}), "a"),
    )

    def refusal(self, status: int, message: str) -> object:
        """Return the detail as text."""
        del status
        return {"detail": message}


@pytest.mark.parametrize("time", ["yesterday", "2024-13-01T00:00:00Z", "", "12:30"])
def test_refuses_a_time_that_is_none(time: str) -> None:
    """A time that pydantic cannot read is rejected with its place."""
    body = event(time={"create": time})
    status, said = refused(post(TRACK, body))
    assert status == 422
    assert [found["loc"] for found in said["detail"]] == [found["loc"] for found in fastapi(body)]
    assert said["detail"][0]["loc"] == ["body", "events", 0, "time", "create"]


@pytest.mark.parametrize("name", ["insert", "create", "update"])
@pytest.mark.parametrize(
    "time",
    [
        "12", " 12 ", "+12", "12.", ".5", "1e3", "\uff11\uff12", "2024-W13-4", "20240328",
        "2024-088", "20240328T101530Z", "2024-03-28T10", "2024-03-28T10:15",
        "2024-03-28_10:15:30", "2024-03-28T24:00:00Z", "2024-03-28T10:15:30,5Z",
        "2024-03-28T10:15:30.1234567Z", "9999-12-31T23:59:59Z", 12, -12.5, 1e30, 253402300800,
    ],
)  # fmt: skip
def test_takes_the_times_that_the_server_takes(name: str, time: Any) -> None:
    """A time is accepted exactly if pydantic reads it."""
    body = event(time={name: time})
    assert [found["loc"] for found in problems(body)] == [found["loc"] for found in fastapi(body)]


LOOSE = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", "on", "1"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=3,
)
IDS = st.fixed_dictionaries({}, optional={"id": LOOSE}) | LOOSE
BODIES = st.fixed_dictionaries(
    {"source": st.just(SOURCE) | IDS},
    optional={
        "session": IDS,
        "profile": IDS,
        "context": LOOSE,
        "events": st.lists(
            st.fixed_dictionaries(
                {"type": st.just("page-view") | LOOSE},
                optional={"id": LOOSE, "properties": LOOSE, "context": LOOSE, "tags": LOOSE},
            ),
            max_size=2,
        )
        | LOOSE,
        "options": LOOSE,
        "profile_less": LOOSE,
        "debug": LOOSE,
    },
)


@given(body=BODIES)
@settings(max_examples=200, deadline=None)
def test_agrees_with_pydantic(body: dict[str, Any]) -> None:
    """Any body is rejected exactly where the server's model rejects it."""
    mine = [(found["type"], found["loc"]) for found in problems(body)]
    assert mine == [(found["type"], found["loc"]) for found in fastapi(body)]


@given(body=BODIES)
@settings(max_examples=100, deadline=None)
def test_reads_whatever_the_server_reads(body: dict[str, Any]) -> None:
    """A body that the server's model accepts becomes one event per item."""
    if not problems(body):
        assert len(INPUT.parse(post(TRACK, body))) == len(body.get("events", []))


def test_reports_where_json_is_invalid() -> None:
    """Invalid JSON is rejected with the position of the error."""
    status, said = refused(post(TRACK, b'{"source": ]'))
    assert status == 422
    (problem,) = said["detail"]
    assert problem.pop("ctx")["error"]
    assert problem == {
        "type": "json_invalid",
        "loc": ["body", 11],
        "msg": "JSON decode error",
        "input": {},
    }


def test_leaves_out_an_echo_too_deep_to_write() -> None:
    """A value too deeply nested for JSON is rejected without being echoed."""
    body = b'{"source": ' + b"[" * 400 + b"]" * 400 + b"}"
    status, said = refused(post(TRACK, body))
    assert status == 422
    assert said["detail"][0]["loc"] == ["body", "source"]
    assert said["detail"][0]["input"] is None


def test_answers_422_to_a_body_that_cannot_be_inflated() -> None:
    """A body that cannot be decompressed is rejected like invalid JSON, with the reason."""
    error = Rejected("$", "the body cannot be inflated", Fault.MALFORMED)
    answer = INPUT.refuse(post(TRACK), error)
    assert answer.status == 422
    (problem,) = orjson.loads(answer.body)["detail"]
    assert problem["loc"] == ["body", 0]
    assert problem["ctx"] == {"error": "the body cannot be inflated"}


def test_echoes_the_context_header_of_a_refused_request() -> None:
    """A refusal returns the x-context header, as the server does."""
    answer = INPUT.refuse(
        post(TRACK, headers={"x-context": "staging"}), Rejected("$", "x", Fault.METHOD)
    )
    assert answer.headers["x-context"] == "staging"

"""Tracardi's responses, and the identities in them."""

from typing import Any

import orjson
import pytest

from gateway.event import Event
from gateway.http import Request
from gateway.testing.samples import ARRIVAL
from plugins.tracardi.input import TracardiInput

INPUT = TracardiInput()
SOURCE = {"source": {"id": "source-in"}}
VIEW = {"type": "page-view"}


def post(body: object, url: str = "/track", request_id: str = "r-1", **headers: str) -> Request:
    """Return a request as a client sends it."""
    raw = orjson.dumps(body)
    return Request(
        method="POST", url=url, headers=headers, body=raw, id=request_id, received_at=ARRIVAL
    )


def answered(request: Request) -> tuple[list[Event], Any]:
    """Return the events of *request* and the response's body."""
    events = INPUT.parse(request)
    answer = INPUT.accept(request, events)
    assert answer.status == 200
    return events, orjson.loads(answer.body)


@pytest.mark.parametrize("events", [{}, {"events": []}])
def test_answers_null_to_no_events(events: dict[str, Any]) -> None:
    """A payload without events gets null."""
    assert answered(post({**SOURCE, **events})) == ([], None)


@pytest.mark.parametrize("profile", [{}, {"profile": None}, {"profile": {"id": " "}}])
def test_makes_one_profile_for_a_session(profile: dict[str, Any]) -> None:
    """Without a profile id, all requests of a session get the same profile."""
    body = {**SOURCE, "session": {"id": "s-1"}, "events": [VIEW, VIEW], **profile}
    events, said = answered(post(body))
    _, again = answered(post(body, request_id="r-2"))
    assert said["profile"] == again["profile"]
    assert {event.anonymous_id for event in events} == {said["profile"]["id"]}
    assert said["session"] == {"id": "s-1"}
    other = answered(post({**body, "session": {"id": "s-2"}}))[1]
    assert other["profile"] != said["profile"]


@pytest.mark.parametrize("session", [{}, {"session": None}, {"session": {"id": ""}}])
def test_makes_one_profile_for_a_request_without_a_session(session: dict[str, Any]) -> None:
    """Without session and profile, each request gets a profile of its own for its events."""
    body = {**SOURCE, "events": [VIEW, VIEW], **session}
    events, said = answered(post(body))
    assert {event.anonymous_id for event in events} == {said["profile"]["id"]}
    assert [event.session_id for event in events] == [None, None]
    assert said["session"]["id"]
    assert answered(post(body, request_id="r-2"))[1]["profile"] != said["profile"]


def test_keeps_the_profile_of_the_client() -> None:
    """The response has the profile id that the client sent."""
    body = {**SOURCE, "profile": {"id": "p-1"}, "events": [VIEW]}
    assert answered(post(body))[1]["profile"] == {"id": "p-1"}


@pytest.mark.parametrize("value", ["true", "1", "Yes", "on"])
def test_tracks_without_a_profile_on_request(value: str) -> None:
    """With profile_less in the query no profile is created or returned."""
    url = f"/track?profile_less={value}"
    events, said = answered(post({**SOURCE, "events": [VIEW]}, url))
    assert events[0].anonymous_id is None
    assert "profile" not in said
    assert "session" not in said
    with_session = {**SOURCE, "session": {"id": "s-1"}, "events": [VIEW]}
    assert answered(post(with_session, url))[1]["session"] == {"id": "s-1"}


@pytest.mark.parametrize("url", ["/track", "/track?profile_less=false", "/track?profile_less="])
def test_heeds_the_query_alone(url: str) -> None:
    """``profile_less`` in the body is ignored, since the server uses only the query's."""
    events, said = answered(post({**SOURCE, "profile_less": True, "events": [VIEW]}, url))
    assert events[0].anonymous_id == said["profile"]["id"]
    assert events[0].extra["profile_less"] is False


@pytest.mark.parametrize(("outer", "inner"), [({"debugger": True}, None), ({}, {"debugger": True})])
def test_debugs_on_request(outer: dict[str, Any], inner: dict[str, Any] | None) -> None:
    """With the debugger option the response has debugging and the events' ids."""
    body = {
        **SOURCE,
        "session": {"id": "s-1"},
        "profile": {"id": "p-1"},
        "options": outer,
        "events": [{**VIEW, "id": "m-1"}, {**VIEW, "options": inner}],
    }
    said = answered(post(body))[1]
    assert said["events"] == ["m-1", "r-1-1"]
    assert said["debugging"] == {
        "session": {"saved": 1, "errors": [], "ids": ["s-1"], "types": []},
        "events": {"saved": 2, "errors": [], "ids": ["m-1", "r-1-1"], "types": []},
        "profile": {"saved": 1, "errors": [], "ids": ["p-1"], "types": []},
        "execution": {},
        "segmentation": {"errors": [], "ids": []},
        "logs": [],
    }


@pytest.mark.parametrize("options", [None, {}, {"debugger": False}, {"debugger": "yes"}])
def test_sends_no_debug_flag_by_default(options: dict[str, Any] | None) -> None:
    """Any debugger option other than true is ignored."""
    said = answered(post({**SOURCE, "options": options, "events": [VIEW]}))[1]
    assert "debugging" not in said
    assert said["events"] == []


def test_echoes_the_context_header() -> None:
    """The response has the request's x-context header."""
    request = post({**SOURCE, "events": [VIEW]}, **{"x-context": "staging"})
    answer = INPUT.accept(request, INPUT.parse(request))
    assert answer.headers["x-context"] == "staging"
    assert INPUT.stored_headers >= {"x-context"}
    assert INPUT.timing_header == "x-process-time"


def test_keeps_the_context_of_some_events_alone_where_it_was() -> None:
    """An event's own context overrides the payload's for that event only."""
    body = {
        **SOURCE,
        "context": {"system": "shop", "tag": "outer"},
        "events": [{**VIEW, "context": {"tag": "inner"}}, VIEW],
    }
    first, second = INPUT.parse(post(body))
    assert first.context.extra == {"system": "shop", "tag": "inner"}
    assert second.context.extra == {"system": "shop"}
    assert first.extra["context"] == {"tag": "outer"}
    assert first.extra["context.*"] == ["system"]


def test_reads_the_example() -> None:
    """The input accepts its documented example."""
    assert [event.type for event in INPUT.parse(INPUT.example)] == ["page", "track"]
    payload = INPUT.decode(INPUT.example)
    assert INPUT.credential(INPUT.example, payload) == "3ee63fc6-490a-4fd8-bfb3-bf0c8c8d3387"

"""The Tracardi sandbox against https://docs.tracardi.com/events/event_tracking/."""

from typing import Any

import orjson
import pytest

from gateway.http import Request
from gateway.sandbox import SandboxResponse
from plugins.tracardi.sandbox import TracardiSandbox

SOURCE = "3ee63fc6-490a-4fd8-bfb3-bf0c8c8d3387"
SESSION = "bfb3-bf0c8c8d3387-3ee63fc6-490a-4fd8"
PROFILE = "bf0c8c8d3387-3ee63fc6-490a-4fd8bfb3"

EVENTS = [
    {
        "type": "page-view",
        "properties": {"pageTitle": "My Page"},
        "options": {"saveEvent": False, "saveSession": False, "debugger": False},
        "context": {"tag": "product-details-page"},
    },
    {
        "type": "consent-granted",
        "properties": {"marketing": False, "general": True},
        "options": {"profile": True, "saveSession": False},
    },
    {
        "type": "product-in-basket",
        "properties": {"product": "Adidas sneakers", "price": 34.43},
        "options": {"profile": False, "logs": False},
    },
]
MINIMAL: dict[str, Any] = {
    "source": {"id": SOURCE},
    "session": {"id": SESSION},
    "events": EVENTS,
}
FULL: dict[str, Any] = {
    **MINIMAL,
    "profile": {"id": PROFILE},
    "context": {
        "system": "webstore-backend",
        "webstore": {"url": "http://magento-store.com", "name": "Shoe store"},
        "client": {"browser": "Mozilla Firefox"},
    },
    "properties": {},
    "options": {},
}


def send(body: Any, key: str | None = None, **changes: Any) -> SandboxResponse:
    """Send *body* as JSON, or unchanged if it is bytes, and return the verdict."""
    request = Request(
        method=changes.get("method", "POST"),
        url=changes.get("url", "/track"),
        headers=changes.get("headers", {"content-type": "application/json"}),
        body=body if isinstance(body, bytes) else orjson.dumps(body),
        id="r-1",
    )
    return TracardiSandbox().respond(request, key)


def said(answer: SandboxResponse) -> Any:
    """Return the response's body."""
    return orjson.loads(answer.response.body)


def without(name: str) -> dict[str, Any]:
    """Return the minimal payload without one of its parts."""
    return {key: value for key, value in MINIMAL.items() if key != name}


@pytest.mark.parametrize("body", [FULL, MINIMAL], ids=["full", "minimal"])
def test_each_documented_payload_is_accepted(body: Any) -> None:
    """Both documented payloads get 200 with the timing header."""
    answer = send(body, SOURCE)
    assert (answer.reason, answer.response.status) == (None, 200)
    assert float(answer.response.headers["x-process-time"]) >= 0
    assert said(answer)["source"] == {"consent": False}


def test_the_profile_that_was_sent_is_kept_and_one_that_was_not_is_minted() -> None:
    """A sent profile id is returned; a created one is the same for the whole session."""
    assert said(send(FULL))["profile"] == {"id": PROFILE}
    minted = said(send(MINIMAL))["profile"]["id"]
    assert minted
    assert said(send({**MINIMAL, "profile": None}))["profile"]["id"] == minted
    assert said(send({**MINIMAL, "session": {"id": "other"}}))["profile"]["id"] != minted


def test_sends_the_debug_flag_if_configured() -> None:
    """The documented ``debugging`` is returned only with the debugger option."""
    assert "debugging" not in said(send(FULL))
    asked = send({**FULL, "options": {"debugger": True}})
    debugging = said(asked)["debugging"]
    assert debugging["events"]["saved"] == 3
    assert debugging["profile"]["ids"] == [PROFILE]
    assert set(debugging) == {
        *("session", "events", "profile", "execution", "segmentation", "logs")
    }


def test_no_events_are_answered_with_null() -> None:
    """A payload without events gets null (tracardi/service/tracking/tracker.py)."""
    assert send({**MINIMAL, "events": []}).response.body == b"null"


def test_a_profile_less_call_needs_no_session_and_gets_no_profile() -> None:
    """``?profile_less=true`` needs no session and gets no profile."""
    answer = send(without("session"), url="/track?profile_less=true")
    assert answer.reason is None
    assert "profile" not in said(answer)


@pytest.mark.parametrize(
    "more",
    [
        {"metadata": "<Time object>"},
        {"device": {"id": "d"}},
        {"context": None, "properties": None, "options": None, "request": None},
        {"events": [{"type": "a", "id": "e1", "time": {"insert": "2024-01-02T03:04:05Z"}}]},
        {"events": [{"type": "a", "time": {"create": 1700000000, "insert": None}, "tags": []}]},
    ],
)
def test_additions_of_clients_are_accepted(more: dict[str, Any]) -> None:
    """Unknown keys, a replaced ``metadata`` and null for optional parts are accepted."""
    assert send({**MINIMAL, **more}).reason is None


WRONG: list[tuple[Any, str, list[str | int], str]] = [
    (without("source"), "missing", ["source"], "Field required"),
    (without("session"), "missing", ["session"], "Field required"),
    (without("events"), "missing", ["events"], "Field required"),
    ({**MINIMAL, "source": {}}, "missing", ["source", "id"], "Field required"),
    ({**MINIMAL, "session": {}}, "missing", ["session", "id"], "Field required"),
    ({**MINIMAL, "profile": {}}, "missing", ["profile", "id"], "Field required"),
    ({**MINIMAL, "events": [{}]}, "missing", ["events", 0, "type"], "Field required"),
    (
        {**MINIMAL, "source": {"id": 1}},
        "string_type",
        ["source", "id"],
        "Input should be a valid string",
    ),
    (
        {**MINIMAL, "profile": {"id": 1}},
        "string_type",
        ["profile", "id"],
        "Input should be a valid string",
    ),
    (
        {**MINIMAL, "events": [*EVENTS, {"type": "a", "id": 5}]},
        "string_type",
        ["events", 3, "id"],
        "Input should be a valid string",
    ),
    ({**MINIMAL, "events": None}, "list_type", ["events"], "Input should be a valid list"),
    ({**MINIMAL, "context": []}, "dict_type", ["context"], "Input should be a valid dictionary"),
    (
        {**MINIMAL, "events": [{"type": "a", "properties": "p"}]},
        "dict_type",
        ["events", 0, "properties"],
        "Input should be a valid dictionary",
    ),
    ({**MINIMAL, "debug": "yes"}, "bool_type", ["debug"], "Input should be a valid boolean"),
    (
        {**MINIMAL, "events": [{"type": " "}]},
        "value_error",
        ["events", 0, "type"],
        "Value error, expected a string that is not empty",
    ),
    (
        {**MINIMAL, "events": [{"type": "a", "time": {"insert": "yesterday"}}]},
        "value_error",
        ["events", 0, "time", "insert"],
        "Value error, expected a valid datetime",
    ),
    ([], "dict_type", [], "Input should be a valid dictionary"),
]


@pytest.mark.parametrize(("body", "kind", "place", "message"), WRONG)
def test_a_wrong_payload_is_refused_as_fastapi_does(
    body: Any, kind: str, place: list[str | int], message: str
) -> None:
    """A missing or wrong field gets 422 and FastAPI's list of problems."""
    answer = send(body)
    assert answer.reason is not None
    assert answer.response.status == 422
    assert "x-process-time" in answer.response.headers
    [detail] = said(answer)["detail"]
    assert (detail["type"], detail["loc"], detail["msg"]) == (kind, ["body", *place], message)
    assert "input" in detail


def test_all_problems_are_listed() -> None:
    """A refusal lists every problem, as FastAPI does."""
    answer = send({"source": {"id": 1}, "events": [{}]})
    assert [detail["loc"][1:] for detail in said(answer)["detail"]] == [
        ["source", "id"],
        ["session"],
        ["events", 0, "type"],
    ]


@pytest.mark.parametrize(
    ("body", "label", "kind"),
    [
        (b"{", "application/json", "json_invalid"),
        (b"", "application/json", "missing"),
        (orjson.dumps(MINIMAL), "text/plain", "dict_type"),
    ],
)
def test_a_body_that_is_no_json_is_refused(body: bytes, label: str, kind: str) -> None:
    """Invalid JSON, an empty body and JSON with another content type get 422."""
    answer = send(body, headers={"content-type": label})
    assert answer.response.status == 422
    assert said(answer)["detail"][0]["type"] == kind


def test_json_without_a_label_is_read() -> None:
    """A body without a content type is read as JSON, as by FastAPI."""
    assert send(MINIMAL, headers={}).reason is None


def test_an_endlessly_nested_value_is_refused_without_an_echo() -> None:
    """A value too deeply nested to be echoed is refused with null as its input."""
    deep = orjson.dumps(MINIMAL)[:-1] + b',"debug":' + b"[" * 500 + b"]" * 500 + b"}"
    answer = send(deep)
    assert answer.response.status == 422
    assert said(answer)["detail"][0]["input"] is None


@pytest.mark.parametrize("source", ["", " ", "@internal"])
def test_a_source_that_cannot_be_is_unauthorized(source: str) -> None:
    """A blank source id, or one that starts with @, is unauthorized."""
    answer = send({**MINIMAL, "source": {"id": source}})
    assert answer.response.status == 401
    assert said(answer) == {"detail": "Access denied. Invalid source."}


def test_blanks_around_a_source_are_no_part_of_it() -> None:
    """Blanks around a source id are ignored."""
    assert send({**MINIMAL, "source": {"id": f" {SOURCE} "}}, SOURCE).reason is None


def test_crawlers_are_refused() -> None:
    """A crawler's user agent gets 401, and an HTTP library's does not."""
    json = {"content-type": "application/json"}
    crawler = {**json, "user-agent": "Mozilla/5.0 (compatible; Googlebot/2.1)"}
    assert send(MINIMAL, headers=crawler).response.status == 401
    library = {**json, "user-agent": "Python/3.11 aiohttp/3.14.5"}
    assert send(MINIMAL, headers=library).reason is None


def test_unknown_paths_and_methods_are_refused_as_fastapi_does() -> None:
    """404 and 405 are ``{"detail": ...}`` with the timing header."""
    assert said(send(MINIMAL, url="/nothing")) == {"detail": "Not Found"}
    answer = send(MINIMAL, method="GET")
    assert said(answer) == {"detail": "Method Not Allowed"}
    assert (answer.response.status, "x-process-time" in answer.response.headers) == (405, True)


def test_x_context_comes_back() -> None:
    """The x-context header is returned (app/main.py)."""
    answer = send(MINIMAL, headers={"content-type": "application/json", "x-context": "staging"})
    assert answer.response.headers["x-context"] == "staging"

"""The emulated ``/track`` of Tracardi, by its document and its source code.

Sources: https://docs.tracardi.com/events/event_tracking/ for what is required and for the
answer; GitHub Tracardi/tracardi (tracardi/domain/payload/tracker_payload.py and
event_payload.py) for the types; GitHub Tracardi/tracardi-api
(app/api/track/event_server_endpoint.py, app/main.py) for status codes and headers. Where the
document asks for more than the source does, as with ``session``, the document is followed.

Errors are FastAPI's: ``{"detail": ...}``, and for a 422 a list with pydantic 2's words.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Final
from uuid import NAMESPACE_URL, uuid5

import orjson

from gateway.plugin import Request, Response, dumps
from gateway.sandbox import (
    BOOLEAN,
    LIST,
    NULL,
    NUMBER,
    OBJECT,
    TEXT,
    BodyField,
    BodyProblem,
    JsonType,
    ProblemKind,
    Sandbox,
    SandboxResponse,
    json_body,
    json_labelled,
    json_response,
    query,
    status_text,
)

ELAPSED: Final = "0.001"
"""Seconds in the header; the sandbox does not measure the time."""
BOT: Final = re.compile(r"bot\b|crawler|spider|slurp", re.IGNORECASE)
"""User agents that Tracardi refuses by default, roughly: the original uses a library."""


def track(body: BodyField, *, profile_less: bool) -> None:
    """Check a tracker payload.

    Required are ``source.id``, ``session.id`` (not in a profile-less call) and ``events``; every
    id is a string. ``metadata`` is not checked, since the server replaces it.
    """
    body.need("source", OBJECT).need("id", TEXT)
    if not profile_less or body.value.get("session") is not None:
        body.need("session", OBJECT).need("id", TEXT).filled()
    body.may("profile", OBJECT, NULL).need("id", TEXT)
    for name in ("context", "properties", "request", "options"):
        body.may(name, OBJECT, NULL)
    for name in ("profile_less", "debug"):
        body.may(name, BOOLEAN)
    for event in body.need("events", LIST).each(OBJECT):
        _event(event)


def _event(event: BodyField) -> None:
    """Check one event: only ``type`` is required (event_payload.py)."""
    event.need("type", TEXT).filled()
    event.may("id", TEXT, NULL)
    time = event.may("time", OBJECT, NULL)
    for name in ("insert", "create", "update"):
        time.may(name, TEXT, NUMBER, NULL).satisfies(_is_time, "a valid datetime")
    for name in ("properties", "options", "context"):
        event.may(name, OBJECT, NULL)
    event.may("tags", LIST, NULL)


def _is_time(value: Any) -> bool:
    if not isinstance(value, str):
        return True
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


class TracardiSandbox(Sandbox):
    """Emulates ``POST /track``; the id of the source is the key."""

    name: ClassVar[str] = "tracardi"
    docs: ClassVar[str] = "https://docs.tracardi.com/events/event_tracking/"

    def respond(self, request: Request, key: str | None) -> SandboxResponse:
        """Judge one request; see ``Sandbox.respond``."""
        unknown = self.unknown_call(request, ("/track",))
        if unknown is not None:
            return unknown
        profile_less = query(request).value.get("profile_less", "").lower() in ("true", "1")
        body = _body(request)
        if body:
            track(body, profile_less=profile_less)
        if body.problems:
            details = [_detail(problem, request) for problem in body.problems]
            said = _said(422, {"detail": details}, request)
            return SandboxResponse(said, body.problems[0].reason)
        why_not = _unwelcome(body.value["source"]["id"].strip(), key, request)
        if why_not:
            detail = {"detail": "Access denied. Invalid source."}
            return SandboxResponse(_said(401, detail, request), why_not)
        tracked = _tracked(body.value, request, profile_less=profile_less)
        return SandboxResponse(_said(200, tracked, request))

    def failure(self, status: int, request: Request) -> Response:
        """Return an error in FastAPI's format."""
        return _said(status, {"detail": status_text(status)}, request)


def _body(request: Request) -> BodyField:
    """Return the body; FastAPI reads a body as text if it is not labelled as JSON."""
    if request.headers.get("content-type") and not json_labelled(request):
        return BodyField(request.body.decode("utf-8", "replace"), (), []).of(OBJECT)
    return json_body(request)


def _unwelcome(source: str, key: str | None, request: Request) -> str | None:
    """Return why a source is refused: unknown, internal (``@``), or used by a bot."""
    if not source or source.startswith("@"):
        return "source.id is empty or an internal source"
    if key is not None and source != key:
        return "wrong source.id"
    if BOT.search(request.headers.get("user-agent", "")):
        return "the user agent is a bot"
    return None


def _tracked(payload: Mapping[str, Any], request: Request, *, profile_less: bool) -> Any:
    """Return the response to an accepted payload, in the format of the document and version 0.9.

    Without events it is ``null``. A sent profile counts as known; without one the profile id is
    computed from the session. ``debugging`` comes only if the payload's options ask for it.
    """
    if not payload["events"]:
        return None
    ids = [
        event.get("id") or _id(f"{request.id}/{request.received_at}/{index}")
        for index, event in enumerate(payload["events"])
    ]
    debugging = (payload.get("options") or {}).get("debugger") is True
    said: dict[str, Any] = {
        "task": _id(f"{request.id}/{request.received_at}"),
        "ux": [],
        "response": {},
        "events": ids if debugging else [],
        "errors": [],
        "warnings": [],
        "source": {"consent": False},
    }
    if not profile_less:
        session = payload["session"]["id"]
        profile = payload.get("profile") or {"id": _id(session)}
        said |= {"profile": {"id": profile["id"]}, "session": {"id": session}}
        if debugging:
            said["debugging"] = _debugging(session, ids, profile["id"])
    return said


def _debugging(session: str, events: list[str], profile: str) -> dict[str, Any]:
    saved = {"session": [session], "events": events, "profile": [profile]}
    listed = {
        name: {"saved": len(ids), "errors": [], "ids": ids, "types": []}
        for name, ids in saved.items()
    }
    segmentation: dict[str, list[str]] = {"errors": [], "ids": []}
    return {**listed, "execution": {}, "segmentation": segmentation, "logs": []}


def _id(seed: str) -> str:
    return str(uuid5(NAMESPACE_URL, seed))


def _said(status: int, payload: Any, request: Request) -> Response:
    """Return a response with ``x-process-time``, and ``x-context`` if one was sent."""
    headers = {"x-process-time": ELAPSED}
    if "x-context" in request.headers:
        headers["x-context"] = request.headers["x-context"]
    return json_response(status, payload, headers)


PYDANTIC: Final[Mapping[str, tuple[str, str]]] = {
    JsonType.TEXT.value: ("string_type", "Input should be a valid string"),
    JsonType.LIST.value: ("list_type", "Input should be a valid list"),
    JsonType.BOOLEAN.value: ("bool_type", "Input should be a valid boolean"),
    JsonType.OBJECT.value: ("dict_type", "Input should be a valid dictionary"),
}
"""pydantic 2's error type and message for a value of another type."""


def _detail(problem: BodyProblem, request: Request) -> dict[str, Any]:
    """Return one problem in FastAPI's format."""
    if problem.wrong is ProblemKind.MALFORMED and not request.body.strip():
        return {"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}
    if problem.wrong is ProblemKind.MALFORMED:
        error = {"error": problem.rule.removeprefix("JSON, but ")}
        said = {"type": "json_invalid", "loc": ["body", 0], "msg": "JSON decode error"}
        return {**said, "input": {}, "ctx": error}
    if problem.wrong is ProblemKind.MISSING:
        kind, message = "missing", "Field required"
    elif problem.wrong is ProblemKind.TYPE:
        expected = problem.rule.removesuffix(f" or {NULL.value}")
        kind, message = PYDANTIC.get(expected, ("value_error", f"Input should be {expected}"))
    else:
        kind, message = "value_error", f"Value error, expected {problem.rule}"
    loc = ["body", *problem.path]
    return {"type": kind, "loc": loc, "msg": message, "input": _echo(problem.value)}


def _echo(value: Any) -> Any:
    """Return the value that FastAPI repeats, without values that are nested too deeply."""
    try:
        return orjson.Fragment(dumps(value))
    except orjson.JSONEncodeError:
        return None

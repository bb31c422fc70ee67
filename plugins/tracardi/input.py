"""The Tracardi input: turn requests into events.

Source: https://docs.tracardi.com/events/event_tracking/.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qs

import orjson
from msgspec.structs import replace

from gateway.plugin import JSON, Event, Fault, Input, Rejected, Request, Response, json_response
from plugins.tracardi.mapping import (
    ALREADY_PLACED,
    COMPLETED,
    CONSENT_TYPES,
    ENDPOINTS,
    MOVED,
    STARTED,
    inserted,
    leftover,
    spoken,
)
from plugins.tracardi.rules import TRUE, Invalid, detail, problems, told
from plugins.tracardi.values import TIME, derived

SESSION_CONTEXT: Final = frozenset({"utm", "browser", "time"})
"""Keys of the payload's context that Tracardi uses for the session; others apply to the events."""
STATUS: Final = {
    Fault.UNAUTHENTICATED: 401, Fault.FORBIDDEN: 401, Fault.TOO_LARGE: 413,
    Fault.NOT_FOUND: 404, Fault.METHOD: 405, Fault.UNSUPPORTED: 501, Fault.UNAVAILABLE: 503,
}  # fmt: skip
"""401, 404 and 405 are Tracardi's (GitHub Tracardi/tracardi-api,
app/api/track/event_server_endpoint.py, and FastAPI); the others are standard HTTP."""
WORDS: Final = {
    Fault.UNAUTHENTICATED: "Access denied. Invalid source.",
    Fault.FORBIDDEN: "Access denied. Invalid source.",
    Fault.NOT_FOUND: "Not Found",
    Fault.METHOD: "Method Not Allowed",
}
"""Messages that clients know (GitHub Tracardi/tracardi-js, README.md; FastAPI)."""
INTERNAL_SOURCE: Final = "Internal event sources are not allowed via API."
ALLOW: Final = {"allow": "POST"}

EXAMPLE: Final = Request(
    method="POST",
    url="/track",
    headers=JSON,
    body=orjson.dumps({
        "source": {"id": "3ee63fc6-490a-4fd8-bfb3-bf0c8c8d3387"},
        "session": {"id": "bfb3-bf0c8c8d3387-3ee63fc6-490a-4fd8"},
        "profile": {"id": "bf0c8c8d3387-3ee63fc6-490a-4fd8bfb3"},
        "context": {"system": "webstore-backend"},
        "events": [
            {"type": "page-view", "properties": {"pageTitle": "My Page"}},
            {
                "type": "product-in-basket",
                "properties": {"product": "Adidas sneakers", "price": 34.43},
            },
        ],
    }),
)  # fmt: skip
"""The document's example, shortened."""


class TracardiInput(Input):
    """Reads requests of tracardi-js and of the server SDKs."""

    name = "tracardi"
    docs = "https://docs.tracardi.com/events/event_tracking/"
    endpoints = ENDPOINTS
    example = EXAMPLE
    credential_in_body = True
    browsers_allowed = True
    """tracardi-js; the server accepts any origin (GitHub Tracardi/tracardi-api, app/main.py)."""
    browser_headers = frozenset({"content-type", "x-timestamp", "x-context"})
    """tracardi-js sends ``x-timestamp`` (GitHub Tracardi/tracardi-js); the server reads
    ``x-context``."""
    stored_headers = Input.stored_headers | {"x-context", "x-timestamp"}
    timing_header = "x-process-time"
    credential_keys = ("source.id",)
    prefixes = ("/track", "/collect/", "/redirect/", "/tracker/")
    """GitHub Tracardi/tracardi-api, app/api/track and app/main.py."""

    def credential(self, request: Request, payload: Any) -> str | None:  # noqa: ARG002 - it is in the body
        """Return the id of the source."""
        found: str = payload["source"]["id"]
        return found.strip() or None

    def decode(self, request: Request) -> Any:
        """Return the body of *request*, checked before the source, as in the server.

        Raises:
            Rejected: the body is not JSON, violates a rule, or has an internal source of Tracardi.
        """
        if not request.body:
            raise Invalid([detail("missing", (), None)])
        payload = super().decode(request)
        details = problems(payload)
        if details:
            raise Invalid(details)
        if payload["source"]["id"].strip().startswith("@"):
            raise Rejected("source.id", INTERNAL_SOURCE, Fault.FORBIDDEN)
        return payload

    def read(self, request: Request, payload: Any) -> list[Event]:
        """Return the events in *payload*, each with the profile id of the response."""
        loose = profile_less(request)
        arranged = _arranged(payload, loose=loose)
        read = super().read(request, arranged)
        return [
            _finished(event, item["type"], request, loose=loose)
            for event, item in zip(read, arranged["events"], strict=True)
        ]

    def accept(self, request: Request, events: Sequence[Event]) -> Response:
        """Return the response of versions 0.7 (the document) and 0.9; ``null`` without events."""
        said = _tracked(request, events) if events else None
        return json_response(200, said, _echoed(request))

    def refuse(self, request: Request, error: Rejected) -> Response:
        """Return an error in FastAPI's format."""
        status = STATUS.get(error.fault, 422)
        headers = _echoed(request)
        if status == 422:  # noqa: PLR2004 - the documented one
            return json_response(status, {"detail": told(error)}, headers)
        if error.fault is Fault.METHOD:
            headers = {**headers, **ALLOW}
        own = error.path == "source.id"
        said = error.reason if own else WORDS.get(error.fault, error.reason)
        return json_response(status, {"detail": said}, headers)


def profile_less(request: Request) -> bool:
    """Return whether the query asks for events without a profile."""
    if "?" not in request.url:
        return False
    return parse_qs(request.query).get("profile_less", [""])[-1].lower() in TRUE


def _arranged(payload: dict[str, Any], *, loose: bool) -> dict[str, Any]:
    """Return *payload* in the form that the tables read.

    Event types are trimmed. Keys of the payload's context that apply to the events are moved into
    each event's context; `MOVED` lists them, so that the output can move them back. A key that an
    event's own context has is not moved.
    """
    events = [{**event, "type": event["type"].strip()} for event in payload.get("events", ())]
    if len(events) > 1:
        _tell_orders_apart(events)
    arranged = {**payload, "events": events}
    arranged.pop(MOVED, None)
    if loose or "profile_less" in payload:
        arranged["profile_less"] = loose
    context: Mapping[str, Any] | None = payload.get("context")
    if not context or not events:
        return arranged
    own = {key for event in events for key in event.get("context") or ()}
    moved = {
        key: value
        for key, value in context.items()
        if key not in SESSION_CONTEXT and key not in own and value is not None
    }
    if moved:
        arranged["context"] = {key: context[key] for key in context if key not in moved}
        arranged[MOVED] = list(moved)
        for event in events:
            event["context"] = {**moved, **(event.get("context") or {})}
    return arranged


def _tell_orders_apart(events: list[dict[str, Any]]) -> None:
    """Mark the completion of an order that was started in the same payload: it is placed once."""
    placed = {_order_id(event) for event in events if event["type"] == STARTED} - {None}
    for event in events if placed else ():
        if event["type"] == COMPLETED and _order_id(event) in placed:
            event["type"] = ALREADY_PLACED


def _order_id(event: Mapping[str, Any]) -> str | None:
    found = (event.get("properties") or {}).get("id")
    return str(found) if type(found) in {str, int} else None


def _finished(event: Event, word: str, request: Request, *, loose: bool) -> Event:
    """Return *event* with fields that depend on several values: see the functions below."""
    known: dict[str, Any] = {}
    if event.anonymous_id is None and not loose:
        known["anonymous_id"] = request.client_id or derived(
            "profile", event.session_id or request.id
        )
    extra = event.extra
    if (
        event.timestamp is None
        and ("events" in extra or "metadata" in extra)
        and (moment := _collected(event)) is not None
    ):
        known["timestamp"] = moment
    if word == ALREADY_PLACED:
        word = COMPLETED
    if word in CONSENT_TYPES:
        known |= _consent(event)
    if (spoken(event) or event.name) != word:
        known["extra"] = {**event.extra, "events": [{**leftover(event), "type": word}]}
    return replace(event, **known) if known else event


def _collected(event: Event) -> datetime | None:
    """Return the time of collection: of the event, else of the payload; None if there is none.

    In the document ``metadata.time`` is the time of the event. The Python SDK writes another
    format, and unreadable times are ignored.
    """
    if (own := inserted(event)) is not None:
        return TIME.decode(own)  # type: ignore[no-any-return]  # codecs are untyped
    metadata = event.extra.get("metadata")
    told = metadata.get("time") if type(metadata) is dict else None
    if type(told) is dict:
        return _instant(told.get("create")) or _instant(told.get("insert"))
    return _instant(told)


def _instant(time: Any) -> datetime | None:
    if type(time) not in {str, int, float}:
        return None
    try:
        return TIME.decode(time)  # type: ignore[no-any-return]  # codecs are untyped
    except ValueError:
        return None


def _consent(event: Event) -> dict[str, Any]:
    """Return boolean properties as consent, and the other properties unchanged."""
    extra = event.properties.extra
    flags = {key: value for key, value in extra.items() if type(value) is bool}
    rest = {key: value for key, value in extra.items() if key not in flags}
    return {
        "consent": {**event.consent, **flags},
        "properties": replace(event.properties, extra=rest),
    }


def _tracked(request: Request, events: Sequence[Event]) -> dict[str, Any]:
    first = events[0]
    ids = [e.message_id or e.id for e in events] if any(map(_debugger, events)) else []
    said: dict[str, Any] = {
        "task": derived("task", request.id),
        "ux": [],
        "response": {},
        "events": ids,
        "errors": [],
        "warnings": [],
        "source": {"consent": False},
    }
    if profile_less(request):
        return said | ({"session": {"id": first.session_id}} if first.session_id else {})
    profile = first.anonymous_id or ""
    session = first.session_id or derived("session", first.user_id or profile)
    said |= {"profile": {"id": profile}, "session": {"id": session}}
    if ids:
        said["debugging"] = _debugging(session, ids, profile)
    return said


def _debugger(event: Event) -> bool:
    """Return whether the options of the payload or the event ask for the debugger."""
    extra = event.extra
    holders = (extra, leftover(event)) if "events" in extra else (extra,)
    for holder in holders:
        if "options" in holder and (holder["options"] or {}).get("debugger") is True:
            return True
    return False


def _debugging(session: str, events: list[str], profile: str) -> dict[str, Any]:
    saved = {"session": [session], "events": events, "profile": [profile]}
    return {
        **{
            name: {"saved": len(ids), "errors": [], "ids": ids, "types": []}
            for name, ids in saved.items()
        },
        "execution": {},
        "segmentation": {"errors": [], "ids": []},
        "logs": [],
    }


def _echoed(request: Request) -> dict[str, str]:
    """Return the request's ``x-context`` header, if any (tracardi-api, app/main.py)."""
    sent = request.headers.get("x-context")
    return {} if sent is None else {"x-context": sent}

"""The emulated Tracking API of Segment and RudderStack, by their documents.

Sources: https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/ (paths,
authentication, limits, statuses); https://segment.com/docs/connections/spec/common/ and its
neighbours (fields); https://segment.com/docs/connections/delivery-overview/ (why a call is
discarded, and the codes); .../server/pixel-tracking-api/ (pixels); GitHub
rudderlabs/rudder-server, gateway/handle_lifecycle.go, handle_http_beacon.go and
handle_http_pixel.go (the paths that only RudderStack has).

Segment answers 200 to a call that it then discards; so does the sandbox, and its journal says why.
A single call without a user gets 400, as from RudderStack: Segment's status is not documented.
"""

import base64
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Final
from urllib.parse import parse_qsl

from gateway.plugin import Request, Response, dumps
from gateway.sandbox import (
    BOOLEAN,
    LIST,
    NULL,
    OBJECT,
    TEXT,
    BodyField,
    Sandbox,
    SandboxResponse,
    json_body,
    json_response,
    status_text,
)

CALL_BYTES: Final = 32_768
BATCH_BYTES: Final = 512_000
BATCH_CALLS: Final = 2500
LABELS: Final = frozenset({
    "", "application/json", "text/plain", "application/x-www-form-urlencoded",
})  # fmt: skip
"""Accepted content types: JSON, and those of Analytics.js and RudderStack's library for Node.js."""
CONSENT: Final = "Segment Consent Preference Updated"
TRANSPARENT: Final = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,"
    b"\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x01D\x00;"
)
NOBODY: Final = "no_user_anon_id"


def identify(call: BodyField) -> None:
    """Check https://segment.com/docs/connections/spec/identify/."""
    call.may("traits", OBJECT, NULL)


def track(call: BodyField) -> None:
    """Check https://segment.com/docs/connections/spec/track/."""
    call.need("event", TEXT).filled()
    call.may("properties", OBJECT, NULL)
    if call.value.get("event") == CONSENT:
        call.need("anonymousId", TEXT).filled()
        chosen = call.need("context", OBJECT).need("consent", OBJECT)
        categories = chosen.need("categoryPreferences", OBJECT)
        for name in categories.value if categories else ():
            categories.may(name, BOOLEAN)


def visit(call: BodyField) -> None:
    """Check https://segment.com/docs/connections/spec/page/, and screens alike."""
    call.may("name", TEXT, NULL).filled()
    call.may("category", TEXT, NULL).filled()
    call.may("properties", OBJECT, NULL)


def group(call: BodyField) -> None:
    """Check https://segment.com/docs/connections/spec/group/."""
    call.need("groupId", TEXT).filled()
    call.may("traits", OBJECT, NULL)


def alias(call: BodyField) -> None:
    """Check https://segment.com/docs/connections/spec/alias/."""
    call.need("userId", TEXT).filled()
    call.need("previousId", TEXT).filled()


CALLS: Final[Mapping[str, Callable[[BodyField], None]]] = {
    "identify": identify, "track": track, "page": visit, "screen": visit, "group": group,
    "alias": alias,
}  # fmt: skip
POSTS: Final[Mapping[str, str]] = {
    "/v1/identify": "identify", "/v1/i": "identify", "/v1/track": "track", "/v1/t": "track",
    "/v1/page": "page", "/v1/p": "page", "/v1/screen": "screen", "/v1/s": "screen",
    "/v1/group": "group", "/v1/g": "group", "/v1/alias": "alias", "/v1/a": "alias",
    "/v1/batch": "batch", "/v1/b": "batch", "/v1/import": "batch", "/beacon/v1/batch": "batch",
}  # fmt: skip
GETS: Final[Mapping[str, str]] = {
    "/v1/pixel/identify": "identify", "/v1/pixel/group": "group", "/v1/pixel/alias": "alias",
    "/v1/pixel/page": "page", "/v1/pixel/screen": "screen", "/v1/pixel/track": "track",
    "/pixel/v1/page": "page", "/pixel/v1/track": "track",
}  # fmt: skip


def common(call: BodyField) -> None:
    """Check the fields of every call: https://segment.com/docs/connections/spec/common/."""
    call.need_one(("userId", "anonymousId"), TEXT, NULL)
    if call and not any(_filled(call.value.get(name)) for name in ("userId", "anonymousId")):
        call.clash("userId", "a userId or an anonymousId")
    call.may("context", OBJECT, NULL)
    call.may("integrations", OBJECT, NULL)
    call.may("messageId", TEXT).sized(100)
    for name in ("timestamp", "originalTimestamp", "sentAt"):
        call.may(name, TEXT, NULL).satisfies(_dated, "ISO 8601")


class SegmentSandbox(Sandbox):
    """Emulates the calls of both servers, with a write key."""

    name: ClassVar[str] = "segment"
    docs: ClassVar[str] = (
        "https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/"
    )

    def respond(self, request: Request, key: str | None) -> SandboxResponse:
        """Judge one request; see ``Sandbox.respond``."""
        if request.path in GETS and request.method == "GET":
            gif = Response(200, {"content-type": "image/gif"}, TRANSPARENT)
            return SandboxResponse(gif, _pixel(request, key))
        unknown = self.unknown_call(request, POSTS)
        if unknown is not None:
            return unknown
        kind = POSTS[request.path]
        most = BATCH_BYTES if kind == "batch" else CALL_BYTES
        if len(request.body) > most:
            return _refused(400, "payload_too_large", f"the body: expected at most {most} bytes")
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media not in LABELS:
            return _refused(400, "invalid_request", "content-type: expected application/json")
        body = json_body(request)
        if body.problems:
            return _refused(400, "invalid_request", body.problems[0].reason)
        why_not = _unwelcome(_write_key(request, body.value), key)
        if why_not:
            return _refused(401, "unauthorized", why_not)
        return _batch(body) if kind == "batch" else _single(body, kind)

    def failure(self, status: int, request: Request) -> Response:
        """Return an error in the format that Segment's libraries read."""
        del request
        return _error(status, "error", status_text(status))


def _single(body: BodyField, kind: str) -> SandboxResponse:
    common(body)
    if any(problem.path[:1] == ("userId",) for problem in body.problems):
        return _refused(400, NOBODY, body.problems[0].reason)
    CALLS[kind](body)
    return _taken(body)


def _batch(body: BodyField) -> SandboxResponse:
    calls = body.need("batch", LIST)
    if body.problems:
        return _refused(400, "invalid_request", body.problems[0].reason)
    if not calls.value:
        return _refused(400, "empty_batch", "batch: expected at least one call")
    for call in calls.each(OBJECT):
        if call and len(dumps(call.value)) > CALL_BYTES:
            reason = f"{call.path[-1]}: expected at most {CALL_BYTES} bytes"
            return _refused(400, "payload_too_large", reason)
        kind = call.need("type", TEXT).among(CALLS)
        common(call)
        if kind:
            CALLS[kind.value](call)
    calls.sized(BATCH_CALLS)
    body.may("context", OBJECT)
    body.may("integrations", OBJECT)
    return _taken(body)


def _taken(body: BodyField) -> SandboxResponse:
    """Return Segment's response to a call that it accepts or discards."""
    reason = f"discarded: {body.problems[0].reason}" if body.problems else None
    return SandboxResponse(json_response(200, {"success": True}), reason)


def _pixel(request: Request, key: str | None) -> str | None:
    """Return why the call in the query is discarded; None if it is not."""
    given = dict(parse_qsl(request.query, keep_blank_values=True))
    place = BodyField({}, (), [])
    if "data" in given:
        place = json_body(Request(method="GET", url="/", body=_unpacked(given["data"])))
        if place.problems:
            return place.problems[0].reason
    else:
        for name, value in given.items():
            *outer, last = name.split(".")
            node = place.value
            for step in outer:
                node = node.setdefault(step, {})
                if not isinstance(node, dict):
                    return f"{name}: expected one meaning of each name"
            node[last] = value
    why_not = _unwelcome(place.value.get("writeKey") or given.get("writeKey"), key)
    if why_not:
        return why_not
    common(place)
    CALLS[GETS[request.path]](place)
    return place.problems[0].reason if place.problems else None


def _unpacked(data: str) -> bytes:
    if data.startswith("{"):
        return data.encode()
    plain = data.replace(" ", "+").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        return b"no base64"


def _write_key(request: Request, payload: Mapping[str, Any]) -> Any:
    """Return the write key: of a Basic header, of a beacon's query, or of the body."""
    scheme, _, packed = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(packed, validate=True).decode().partition(":")[0]
        except ValueError:
            return None
    if request.path.startswith("/beacon/"):
        return dict(parse_qsl(request.query)).get("writeKey")
    return payload.get("writeKey")


def _unwelcome(sent: Any, key: str | None) -> str | None:
    if not isinstance(sent, str) or not sent:
        return "no write key"
    return None if key in (None, sent) else "wrong write key"


def _refused(status: int, code: str, reason: str) -> SandboxResponse:
    return SandboxResponse(_error(status, code, reason), reason)


def _error(status: int, code: str, message: str) -> Response:
    said = {"success": False, "message": message, "code": code}
    return json_response(status, said)


def _filled(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _dated(value: Any) -> bool:
    """Return whether *value* is ISO 8601; the document's batch has a month with one digit."""
    if value is None:
        return True
    try:
        datetime.fromisoformat(re.sub(r"^(\d{4})-(\d)-", r"\1-0\2-", value))
    except ValueError:
        return False
    return True

"""The chrts input: turn requests into events; https://chrts.co/docs/api."""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from gateway.plugin import (
    ISO8601,
    Event,
    Fault,
    Input,
    Rejected,
    Request,
    Response,
    bearer,
    json_name,
    json_response,
)
from plugins.chrts.mapping import (
    DOCUMENTED,
    ENDPOINTS,
    ENVELOPE,
    GIVEN_UP,
    IDS,
    segment_shaped,
)

ACCEPTED = {
    path: json_response(200, {"status": True, "code": 200, "message": said})
    for path, said in {
        "/customer/identify": "Customer identified successfully",
        "/customer/alias": "Customer alias set successfully",
        "/event/track": "Event tracked successfully",
    }.items()
}
"""The documented response of each endpoint."""
NO_UID = (
    "Customer UID is required. You can use `uid`, `userId` or `anonymousId` "
    "to identify the customer"
)
NO_ALIAS_UID = "Customer UID is required. You can use `uid` or `userId` to identify the customer"
NO_KNOWN_UID = (
    "Known UID is required. You can use `knownUid`, `previousId` or `anonymousId` "
    "to identify the known customer UID"
)
NO_NAME = "Event name is required. You can use `name` to name the event"
NO_KEY = "API key is required. You can send it in the header `Authorization: Bearer <key>`"
OTHER_KEY = "API key is unknown. You can find it in your list of sources"
WORDS = {
    ("/customer/identify", "uid"): NO_UID,
    ("/customer/alias", "uid"): NO_ALIAS_UID,
    ("/customer/alias", "knownUid"): NO_KNOWN_UID,
    ("/event/track", "uid"): NO_UID,
    ("/event/track", "name"): NO_NAME,
}
"""Messages for missing fields. chrts documents ``NO_UID`` and ``NO_KNOWN_UID``; the others follow
their style."""
STATUS = {
    Fault.UNAUTHENTICATED: 401, Fault.FORBIDDEN: 401, Fault.TOO_LARGE: 413,
    Fault.NOT_FOUND: 404, Fault.METHOD: 405, Fault.UNSUPPORTED: 501, Fault.UNAVAILABLE: 503,
}  # fmt: skip
"""chrts documents only 200 and 400; the others are standard HTTP statuses, in chrts' format."""


class ChrtsInput(Input):
    """Reads the requests of chrts' customers."""

    name = "chrts"
    docs = "https://chrts.co/docs/api"
    endpoints = ENDPOINTS
    browser_headers = Input.browser_headers | {"authorization"}
    example = Request(
        method="POST",
        url="/event/track",
        headers={
            "authorization": "Bearer api_chrts_3bxip2lXCUctEWLBFIEjgcu5fsrjRKNjCIgYiRPQXhMKo6GE"
            "1asMXX6sjZobcPU"
        },
        body=b'{"uid": "663fb97043f840a6dae87125", "name": "account-signup", '
        b'"properties": {"platform": "desktop"}}',
    )

    credential_headers = frozenset({"authorization"})
    prefixes = ("/customer/", "/event/")

    def credential(self, request: Request, payload: Any) -> str | None:  # noqa: ARG002 - it is in a header
        """Return the Bearer key."""
        return bearer(request)

    def read(self, request: Request, payload: Any) -> list[Event]:
        """Return the event in *payload*, with top-level properties moved into ``properties``.

        Raises:
            Rejected: there is no customer id, or the event has no name.
        """
        if type(payload) is dict:
            _check_ids(payload)
            if request.path == "/event/track":
                payload = gather(payload)
            elif request.path == "/customer/identify":
                payload = united(payload)
        (event,) = super().read(request, payload)
        if event.type == "alias":
            event = _joining(event, payload)
        elif not (request.client_id or _filled(event.user_id) or _filled(event.anonymous_id)):
            raise Rejected("uid", "required", Fault.MISSING)
        if event.type == "track" and not _filled(event.name):
            raise Rejected("name", "required", Fault.MISSING)
        return [_dated(event)] if event.extra else [event]

    def accept(self, request: Request, events: Sequence[Event]) -> Response:  # noqa: ARG002 - it depends on the path alone
        """Return the documented response of the endpoint."""
        return ACCEPTED[request.path]

    def refuse(self, request: Request, error: Rejected) -> Response:
        """Return an error in chrts' format, with its documented message if there is one."""
        status = STATUS.get(error.fault, 400)
        return json_response(
            status, {"status": False, "code": status, "message": _message(request.path, error)}
        )


def _message(path: str, error: Rejected) -> str:
    if error.fault is Fault.UNAUTHENTICATED:
        return NO_KEY
    if error.fault is Fault.FORBIDDEN:
        return OTHER_KEY
    if error.fault is Fault.MISSING and (path, error.path) in WORDS:
        return WORDS[path, error.path]
    return f"{error.path}: {error.reason}" if error.path != "$" else error.reason


def _check_ids(payload: dict[str, Any]) -> None:
    for key in IDS:
        value = payload.get(key)
        if value is not None and not isinstance(value, str):
            raise Rejected(key, f"expected string, got {json_name(value)}", Fault.TYPE, value)


def _filled(text: str | None) -> bool:
    return bool(text and text.strip())


def united(payload: dict[str, Any]) -> dict[str, Any]:
    """Return *payload* with its ``traits`` merged into its ``attributes``, if it has both.

    chrts documents that only one of them may be used, but not the result of both. If a key is in
    both, the value in ``attributes`` wins.

    Raises:
        Rejected: one of them is not an object.
    """
    attributes, traits = payload.get("attributes"), payload.get("traits")
    for key, value in (("attributes", attributes), ("traits", traits)):
        if value is not None and type(value) is not dict:
            raise Rejected(key, f"expected object, got {json_name(value)}", Fault.TYPE, value)
    if attributes is None or traits is None:
        return payload
    kept = {key: value for key, value in payload.items() if key != "traits"}
    return {**kept, "attributes": {**traits, **attributes}}


def gather(payload: dict[str, Any]) -> dict[str, Any]:
    """Return *payload* with its top-level properties moved into ``properties``.

    If a key is in both places, the value in ``properties`` wins. Names of Segment's envelope, such
    as ``type`` or ``timestamp``, are ordinary properties unless the body is Segment-shaped.

    Raises:
        Rejected: ``properties`` is not an object.
    """
    own = ENVELOPE if segment_shaped(payload) else DOCUMENTED
    loose = {key: value for key, value in payload.items() if key not in own}
    properties = payload.get("properties")
    if properties is not None and type(properties) is not dict:
        found = json_name(properties)
        raise Rejected("properties", f"expected object, got {found}", Fault.TYPE, properties)
    if not loose:
        return payload
    kept = {key: value for key, value in payload.items() if key in own}
    return {**kept, "properties": {**loose, **(properties or {})}}


def _joining(event: Event, payload: dict[str, Any]) -> Event:
    """Return an alias that keeps the Segment keys it came with, to restore them for chrts.

    Raises:
        Rejected: one of its two ids is blank.
    """
    own = payload.get("knownUid") is not None
    known, other = (event.user_id, event.previous_id)[:: 1 if own else -1]
    if not _filled(other):
        raise Rejected("uid", "required", Fault.MISSING)
    if not _filled(known):
        raise Rejected("knownUid", "required", Fault.MISSING)
    if own:
        return event
    words = {key: payload[key] for key in GIVEN_UP if _filled(payload.get(key))}
    rest = {key: value for key, value in event.extra.items() if key not in GIVEN_UP}
    return replace(event, extra={**rest, **words})


def _dated(event: Event) -> Event:
    """Return *event* with message id and timestamp of a Segment-shaped envelope."""
    message_id, text = event.extra.get("messageId"), event.extra.get("timestamp")
    moment = None
    if type(text) is str:
        try:
            moment = ISO8601.decode(text)
        except ValueError:
            moment = None
    known = message_id if type(message_id) is str else None
    return replace(event, message_id=known, timestamp=moment) if known or moment else event

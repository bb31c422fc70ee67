"""The Segment input: turn requests into events; https://segment.com/docs/connections/spec/."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

import orjson
from msgspec.structs import replace

from gateway.plugin import (
    JSON,
    Event,
    Fault,
    Input,
    Names,
    Rejected,
    Request,
    Response,
    Stamp,
    dumps,
    json_response,
)
from plugins.segment import files, keys
from plugins.segment.calls import SHARED, dated, of_batch, prepared
from plugins.segment.mapping import BATCH, CONSENT, ENDPOINTS, KINDS
from plugins.segment.pixel import PIXELS, call_in, image

LARGEST_CALL: Final = 32 * 1024
LARGEST_BATCH: Final = 500 * 1024
"""Bytes, https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/."""
LARGEST_SPREAD: Final = 8 * 1024 * 1024
"""Bytes of a batch's context, repeated for each call. It is the gateway's own limit: libraries
never reach it, but a hostile body could expand a thousandfold."""
NO_ID: Final = "no_user_anon_id"
EMPTY_BATCH: Final = "empty_batch"
NOTHING_IN_BATCH: Final = "empty_batch_result"
TROUBLE: Final = {
    Fault.UNAUTHENTICATED: (401, "unauthorized"),
    Fault.FORBIDDEN: (401, "project_not_found"),
    Fault.TOO_LARGE: (400, "payload_too_large"),
    Fault.NOT_FOUND: (404, "not_found"),
    Fault.METHOD: (405, "method_not_allowed"),
    Fault.UNSUPPORTED: (501, "not_supported"),
    Fault.UNAVAILABLE: (429, "too_many_requests"),
}
"""Status and code. 400 for too large bodies and 429 are from the document, 401 is RudderStack's
(GitHub rudderlabs/rudder-server, gateway/response/response.go), the codes ``project_not_found``
and ``too_many_requests`` are discard reasons of Segment
(https://segment.com/docs/connections/delivery-overview/); the others are standard HTTP."""


class Incomplete(Rejected):
    """An invalid call with a code of Segment.

    Attributes:
        code: Segment's code, https://segment.com/docs/connections/delivery-overview/.
    """

    def __init__(self, path: str, reason: str, code: str) -> None:
        super().__init__(path, reason, Fault.MISSING)
        self.code = code


class SegmentInput(Input):
    """Reads requests of Segment's and RudderStack's libraries, and pixels."""

    name = "segment"
    docs = "https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/"
    endpoints = ENDPOINTS
    Config = files.SegmentSourceSettings
    public_files = files.FILES
    unsupported = frozenset({"POST /v1/merge"})
    """RudderStack's merge of two identities in its warehouse (GitHub rudderlabs/rudder-server)."""
    credential_in_body = True
    browsers_allowed = True
    """For Analytics.js and RudderStack's library; both servers accept any origin."""
    browser_headers = frozenset({
        "content-type", "authorization", "x-retry-count", "anonymousid", "sentat",
        "rsa-recovered", "rsa-retry-attempt", "rsa-retry-reason", "rsa-since-first-attempt",
        "rsa-since-last-attempt",
    })  # fmt: skip
    """``x-retry-count`` comes with retries of Segment's library (npm @segment/analytics-next 1.84,
    plugins/segmentio), ``anonymousid`` and ``sentat`` with every call of RudderStack's, and
    ``rsa-*`` with its retries (npm @rudderstack/analytics-js 3.34, XhrQueue)."""
    words: ClassVar[Mapping[str, str]] = {CONSENT: Names.CONSENT_UPDATED}
    credential_headers = frozenset({"authorization"})
    credential_keys = ("writeKey",)
    prefixes = (
        "/v1/", "/pixel/v1/", "/beacon/v1/", "/analytics.js/v1/", "/analytics-next/bundles/",
        "/sourceConfig",
    )  # fmt: skip
    example = Request(
        method="POST",
        url="/v1/track",
        headers=JSON,
        body=orjson.dumps({
            "userId": "019mr8mf4r",
            "event": "Item Purchased",
            "properties": {"name": "Leap to Conclusions Mat", "revenue": 14.99},
            "context": {"ip": "24.5.68.47"},
            "timestamp": "2012-12-02T00:30:12.984Z",
            "writeKey": "YOUR_WRITE_KEY",
        }),
    )  # fmt: skip

    def __init__(self, config: Any = None, keys: Iterable[str] = ()) -> None:
        super().__init__(config, keys)
        self.files_url = "" if config is None else config.cdn_url

    def credential(self, request: Request, payload: Any) -> str | None:
        """Return the write key, from any of its places."""
        return keys.found(request, payload)

    def relayed_credential(self, request: Request) -> str | None:
        """Return the write key of a call that is not an event: from its path, header or query."""
        return files.key_of(request) or keys.found(request, None)

    def public_file(self, request: Request, address: str) -> Response | str:
        """Return the settings of a library, or the path of its script or a part of it.

        Raises:
            Rejected: there is no such file, or it needs a key.
        """
        path, key = request.path, self.relayed_credential(request)
        if path in files.SOURCE_CONFIG:
            if key is None:
                raise Rejected("$", "the request has no key", Fault.UNAUTHENTICATED)
            return files.source_config(key)
        if key is not None and files.SETTINGS.fullmatch(path):
            return files.settings_of_library(key, address)
        if not self.files_url:
            raise Rejected("$", "this gateway has no scripts: it has no cdn_url", Fault.NOT_FOUND)
        return files.path_at_cdn(path, self.config.cdn_layout)

    def decode(self, request: Request) -> Any:
        """Return the call or batch in the body or query of *request*.

        Raises:
            Rejected: it is too large, or not JSON.
        """
        path = request.path
        if path in PIXELS:
            return call_in(request.query)
        batch = KINDS.get(f"{request.method} {path}") == "batch"
        most = LARGEST_BATCH if batch else LARGEST_CALL
        if len(request.body) > most:
            raise Rejected("$", f"more than {most // 1024} KB", Fault.TOO_LARGE)
        payload = super().decode(request)
        if batch and len(request.body) > LARGEST_CALL:
            _check_sizes(payload)
        return payload

    def read(self, request: Request, payload: Any) -> list[Event]:
        """Return the events in *payload*.

        Raises:
            Rejected: it is not a call, or it identifies no user.
        """
        if type(payload) is not dict:
            raise Rejected("$", "expected an object", Fault.TYPE, payload)
        endpoint = f"{request.method} {request.path}"
        kind, stamp = KINDS[endpoint], Stamp(self.name, request.id, request.received_at)
        if kind == "batch":
            events = _batch(payload, stamp)
        else:
            call = prepared(payload, kind)
            (event,) = self.endpoints[endpoint].read(call, stamp)
            events = [dated(event, call)]
        by_cookie = bool(request.client_id) and kind != "alias"
        if not by_cookie and not any(map(_named, events)):
            raise Incomplete("userId", "a userId or an anonymousId is required", NO_ID)
        return events

    def accept(self, request: Request, events: Sequence[Event]) -> Response:  # noqa: ARG002 - all get the same response
        """Return Segment's success response; an image for a pixel."""
        return image() if request.path in PIXELS else json_response(200, {"success": True})

    def refuse(self, request: Request, error: Rejected) -> Response:
        """Return an error in Segment's format; always an image for a pixel."""
        if request.path in PIXELS:
            return image()
        if files.is_file(request.path):
            return files.error_of_cdn(error)
        status, code = TROUBLE.get(error.fault, (400, "invalid_request"))
        if isinstance(error, Incomplete):
            code = error.code
        headers = {}
        if error.fault is Fault.METHOD:
            headers["allow"] = "POST"
        elif error.fault is Fault.UNAVAILABLE:
            headers["x-ratelimit-reset"] = str(error.value)
        message = error.reason if error.path == "$" else f"{error.path}: {error.reason}"
        if error.fault is Fault.MALFORMED:
            message = f"malformed JSON: {error.reason.removeprefix('not valid JSON ')}"
        said = {"success": False, "message": message, "code": code}
        return json_response(status, said, headers)


def _batch(payload: dict[str, Any], stamp: Stamp) -> list[Event]:
    members = payload.get("batch")
    if members is None or members == []:
        raise Incomplete("batch", "must not be empty", EMPTY_BATCH)
    if type(members) is not list:
        raise Rejected("batch", "expected an array", Fault.TYPE, members)
    calls = of_batch(payload)
    if not calls:
        raise Incomplete("batch", "has no call of a known type", NOTHING_IN_BATCH)
    read = BATCH.read({"batch": calls}, stamp)
    return [dated(_alone(event), call) for event, call in zip(read, calls, strict=True)]


def _alone(event: Event) -> Event:
    """Return *event* with the leftovers of its call only, without the batch."""
    (left,) = event.extra.get("batch", ({},))
    return replace(event, extra=left)


def _check_sizes(payload: Any) -> None:
    """Check the sizes of the calls in a batch, alone and with the shared fields.

    Raises:
        Rejected: a call is too large, or the shared fields repeated for all calls are.
    """
    members = payload.get("batch") if type(payload) is dict else None
    if type(members) is list:
        _check_spread({key: payload[key] for key in SHARED if key in payload}, len(members))
    for index, member in enumerate(members if type(members) is list else ()):
        try:
            size = len(dumps(member))
        except orjson.JSONEncodeError:
            continue
        if size > LARGEST_CALL:
            reason = f"more than {LARGEST_CALL // 1024} KB"
            raise Rejected(f"batch.{index}", reason, Fault.TOO_LARGE)


def _check_spread(shared: dict[str, Any], calls: int) -> None:
    try:
        size = len(dumps(shared)) * calls
    except orjson.JSONEncodeError:
        return
    if size > LARGEST_SPREAD:
        reason = f"repeated for {calls} calls it has more than {LARGEST_SPREAD // 1024} KB"
        raise Rejected("context", reason, Fault.TOO_LARGE)


def _named(event: Event) -> bool:
    return bool((event.user_id or "").strip() or (event.anonymous_id or "").strip())

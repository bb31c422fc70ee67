"""The Segment output: turn events into requests; https://segment.com/docs/connections/spec/."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal
from uuid import NAMESPACE_URL, uuid5

from msgspec.structs import replace

from gateway.plugin import (
    JSON,
    Declined,
    Event,
    Fault,
    FreeFormSettings,
    Loss,
    Names,
    OutgoingCall,
    Output,
    Refused,
    Rejected,
    Request,
    Response,
    RetryLater,
    Secret,
    Table,
    Unrenderable,
    Verdict,
    as_basic,
    dumps,
    forwarded_headers,
    merge_lists,
    verdict_by_status,
    wait_of,
    with_amounts,
)
from gateway.plugin.spec import is_single_product
from plugins.segment import keys
from plugins.segment.calls import PAGE_FIELDS, SHARED, SPELLING, sent_back
from plugins.segment.mapping import (
    ALIAS,
    CALLS,
    CONSENT,
    ENDPOINTS,
    FULL_PAGE,
    FULL_SCREEN,
    GROUP,
    IDENTIFY,
    SHORT,
    TRACK,
    TRACK_ONE,
)

LARGEST_CALL: Final = 32 * 1024
LARGEST_BATCH: Final = 500 * 1024
LONGEST_ID: Final = 100
"""Bytes, bytes and characters;
https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/."""
TABLES: Final[Mapping[str, Table]] = {
    "identify": IDENTIFY,
    "page": FULL_PAGE,
    "screen": FULL_SCREEN,
    "group": GROUP,
    "alias": ALIAS,
}

IDS: Final = frozenset({"userId", "anonymousId"})
NOBODY: Final = (
    "segment needs a user: the event has no user, anonymous or device id, no e-mail and no phone"
)
NAMESPACE: Final = uuid5(NAMESPACE_URL, "https://segment.com/docs/connections/spec/identify/")

Dialect = Literal["segment", "rudderstack", "compatible"]
LARGEST: Final[Mapping[Dialect, int]] = {
    "segment": LARGEST_CALL,
    "rudderstack": 4000 * 1024,
    "compatible": LARGEST_CALL,
}
"""Most bytes of a call. RudderStack's servers limit the request (GitHub rudderlabs/rudder-server,
``maxReqSizeInKB``)."""
SAME: Final = frozenset(f"/v1/{kind}" for kind in (*CALLS, "batch"))
FORWARDED: Final[Mapping[Dialect, frozenset[str]]] = {
    "segment": SAME
    | {f"/v1/{letter}" for letter in (*SHORT, "b")}
    | {f"/v1/pixel/{kind}" for kind in CALLS},
    "rudderstack": SAME | {"/v1/import", keys.BEACON, "/pixel/v1/page", "/pixel/v1/track"},
    "compatible": SAME,
}
"""The paths that each server has."""

LATER: Final = frozenset({410, 460})
NEVER: Final = frozenset({501, 505, 511})
"""Statuses that Segment's library for Node.js retries besides the usual ones, and statuses that it
does not retry (npm @segment/analytics-node 3)."""
DISABLED: Final = b"source is disabled"
"""RudderStack's 404 (GitHub rudderlabs/rudder-server, gateway/response/response.go)."""


class SegmentOutput(Output):
    """Posts one call per request, or what has gathered of one user as a batch."""

    name = "segment"
    docs = "https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/"
    endpoints = ENDPOINTS

    class Config(FreeFormSettings):
        """``[destinations.*]`` with ``vendor = "segment"``."""

        url: str = "https://api.segment.io"
        """Scheme and host of the Tracking API: `https://events.eu1.segmentapis.com` for a
        workspace in the EU, a data plane of RudderStack, or whatever else takes these calls."""
        write_key: Secret
        """The write key of the source to write to."""
        dialect: Dialect = "segment"
        """Whose server it is: `segment`, `rudderstack`, or `compatible` for any other. It decides
        which requests go on as they came: those under paths that the server has."""

    config: Config
    batch_size = 100
    forward_max_age = 10.0

    def headers(self) -> Mapping[str, str]:
        """Return the write key, as the user name of a Basic header, and the content type."""
        return {**JSON, "authorization": as_basic(self.config.write_key.get_secret_value())}

    def select(self, event: Event) -> OutgoingCall | Declined:
        """Return the call for *event*: each type has its own; products have none."""
        if event.type == "product":
            return Declined("segment has no call for products of a catalogue")
        user, visitor = _filled(event.user_id), _filled(event.anonymous_id)
        if not user and not visitor:
            visitor = _filled(event.context.device.id) or _by_contact(event)
            if not visitor:
                return Declined(NOBODY)
        said = _filled(event.message_id)
        odd = event.origin == self.name and "timestamp" in event.extra
        known = replace(
            event,
            user_id=user,
            anonymous_id=visitor,
            message_id=said if said and len(said) <= LONGEST_ID else event.id,
            timestamp=None if odd else event.time,
            sent_at=None,
            name=_filled(event.name),
        )
        if event.type == "track":
            return self._track(known)
        if event.type == "alias":
            return _alias(known)
        if event.type == "group" and not _filled(event.group_id):
            return Declined("segment needs a group id for a group call")
        if event.type == "page" and event.origin != self.name:
            known = _paged(known)
        return OutgoingCall(f"POST /v1/{event.type}", TABLES[event.type], known)

    def _track(self, event: Event) -> OutgoingCall | Declined:
        if event.name is None:
            return Declined("segment needs an event name")
        name = self.event_name(event)
        if event.name in {Names.CONSENT_UPDATED, CONSENT}:
            name = event.name
            if not (event.anonymous_id and event.consent):
                return Declined(
                    "segment needs an anonymous id and at least one category for consent"
                )
        known = event if event.origin == self.name else with_amounts(event)
        table = TRACK_ONE if is_single_product(known) else TRACK
        said = self.included(known).event
        return OutgoingCall(
            "POST /v1/track", table, replace(said, name=name, timestamp=event.timestamp)
        )

    def render(self, event: Event) -> Request | Declined:
        """Return the request for *event*, without received ids that are not text.

        Raises:
            Unrenderable: it is too large for Segment, or cannot be written as JSON.
        """
        if event.origin == self.name and not IDS.isdisjoint(event.extra):
            event = replace(event, extra={k: v for k, v in event.extra.items() if k not in IDS})
        return super().render(event)

    def request(self, endpoint: str, payload: dict[str, Any], event: Event) -> Request:
        """Return *payload* as a request to *endpoint*, in its sender's spelling.

        Raises:
            Unrenderable: it cannot be written as JSON, or is too large for Segment.
        """
        spelling = payload.pop(SPELLING, None)
        if spelling is not None:
            sent_back(payload, spelling)
        request = super().request(endpoint, payload, event)
        size, most = len(request.body), LARGEST[self.config.dialect]
        if size <= most:
            return request
        shared = self._with_shared_context(request, payload)
        if shared is None:
            raise Unrenderable(f"{event.id}: {size} bytes; segment accepts at most {most}")
        return shared

    def _with_shared_context(self, request: Request, payload: dict[str, Any]) -> Request | None:
        """Return a batch of one call with the context on the batch, if it fits that way.

        Segment merges it into the call. A context that is larger than a call came in the same way.
        RudderStack ignores a context there.
        """
        if self.config.dialect != "segment":
            return None
        shared = {key: payload[key] for key in SHARED if key in payload}
        call = {key: value for key, value in payload.items() if key not in shared}
        body = dumps({**shared, "batch": [call]})
        if len(dumps(call)) > LARGEST_CALL or len(body) > LARGEST_BATCH:
            return None
        return replace(request, url=self._batch_url, body=body)

    @property
    def _batch_url(self) -> str:
        return self.config.url.rstrip("/") + "/v1/batch"

    def merge(self, request: Request, further: Request) -> Request | None:
        """Return a batch of what both say, if it is not too large for one.

        A call whose context stands on its batch stays alone: it would hold for the others too.
        """
        if further.url == self._batch_url:
            return None
        batches = (self._batch(request), self._batch(further))
        return merge_lists(*batches, "batch", max_bytes=LARGEST_BATCH)

    def _batch(self, request: Request) -> Request:
        """Return a call as a batch of one; a batch as it is."""
        if request.url == self._batch_url:
            return request
        return replace(request, url=self._batch_url, body=b'{"batch":[%b]}' % request.body)

    def forward(self, request: Request) -> Request | None:
        """Return *request* with every write key replaced by the destination's.

        JSON is labelled as JSON, and a pixel has no body. None if the server does not have the
        path.

        Raises:
            Unrenderable: a key cannot be replaced.
        """
        if request.path not in FORWARDED[self.config.dialect]:
            return None
        key = self.config.write_key.get_secret_value()
        headers = forwarded_headers(request, self.frame[0])
        body = b""
        if request.method == "GET":
            del headers["content-type"]
        elif request.body:
            body = keys.in_body(request.body, key)
        query = f"?{keys.in_query(request.query, key)}" if request.query else ""
        return Request(
            method=request.method,
            url=self.config.url.rstrip("/") + request.path + query,
            headers=headers,
            body=body,
        )

    def with_credential(
        self, request: Request, changes: Mapping[str, Any] | None = None
    ) -> Request:
        """Return *request*, which is not an event, with every write key replaced.

        Raises:
            Rejected: the key in its body cannot be replaced.
        """
        key, with_key = (
            self.config.write_key.get_secret_value(),
            super().with_credential(request, changes),
        )
        path, mark, query = with_key.url.partition("?")
        try:
            body = keys.in_body(with_key.body, key)
        except ValueError:
            body = with_key.body
        except Unrenderable as error:
            raise Rejected("$", str(error), Fault.MALFORMED) from error
        return replace(with_key, url=f"{path}{mark}{keys.in_query(query, key)}", body=body)

    def losses(self, event: Event) -> list[Loss]:
        """Return the fields of *event* that its request lacks or changes."""
        found = super().losses(event)
        if event.sent_at is None or isinstance(self.select(event), Declined):
            return found
        return [Loss("sent_at", "lost", event.sent_at), *found]

    def verdict(self, response: Response, now: datetime | None = None) -> Verdict:
        """Judge by the status, as Segment's libraries do."""
        status = response.status
        judged = verdict_by_status(response, now)
        if status == 404 and DISABLED in response.body:  # noqa: PLR2004 - RudderStack's
            return RetryLater(f"HTTP {status}: source is disabled", cause="credential")
        if status in LATER and isinstance(judged, Refused):
            return RetryLater(judged.reason)
        if status in NEVER and isinstance(judged, RetryLater):
            return Refused(judged.reason)
        if isinstance(judged, RetryLater) and judged.after is None:
            return replace(
                judged, after=wait_of(response.headers.get("x-ratelimit-reset", ""), now)
            )
        return judged


def _alias(event: Event) -> OutgoingCall | Declined:
    """Return the alias call with the old id and the new one."""
    previous = _filled(event.previous_id) or event.anonymous_id
    if not event.user_id or not previous:
        return Declined(
            "segment needs two ids for an alias: the user id or the previous id is missing"
        )
    return OutgoingCall("POST /v1/alias", ALIAS, replace(event, previous_id=previous))


def _by_contact(event: Event) -> str | None:
    """Return an anonymous id for a user with only an e-mail address or phone number.

    The same contact always has the same id. Segment connects it to other ids by the trait.
    """
    contact = _filled(event.traits.email) or _filled(event.traits.phone)
    if contact is None or event.type in {"group", "alias"}:
        return None
    return str(uuid5(NAMESPACE, contact))


def _paged(event: Event) -> Event:
    """Return a page with its address in its properties too, as in the Spec."""
    page = {key: getattr(event.context.page, key) for key in PAGE_FIELDS}
    known = {key: value for key, value in page.items() if value is not None}
    extra = {**known, **event.properties.extra}
    return replace(event, properties=replace(event.properties, extra=extra))


def _filled(text: str | None) -> str | None:
    return text if text and text.strip() else None

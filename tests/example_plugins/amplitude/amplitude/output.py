"""The Amplitude output, which sends events; https://amplitude.com/docs/apis/analytics/http-v2."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from gateway.plugin import (
    EPOCH,
    JSON,
    Declined,
    Event,
    FreeFormSettings,
    OutgoingCall,
    Output,
    Refused,
    Request,
    Response,
    RetryLater,
    Secret,
    Verdict,
    merge_lists,
    verdict_by_status,
)
from gateway.plugin.spec import to_track, with_flags

from .mapping import ENDPOINTS, UPLOAD

MAX_BYTES = 1_000_000
"""Maximum bytes of a request: Amplitude responds 413 to more than 1 MB."""
PAUSE = 30.0
"""Seconds to wait after a 429."""


class AmplitudeOutput(Output):
    """Sends the events of one user, up to ten in one request."""

    name = "amplitude"
    docs = "https://amplitude.com/docs/apis/analytics/http-v2"
    endpoints = ENDPOINTS
    batch_size = 10

    class Config(FreeFormSettings):
        """``[destinations.*]`` with ``vendor = "amplitude"``."""

        url: str = "https://api2.amplitude.com"
        """Scheme and host of Amplitude's API; `https://api.eu.amplitude.com` for the EU."""
        api_key: Secret
        """The project's API key."""
        include: tuple[str, ...] = ("context.page", "context.campaign")
        """Context fields to send among the event's properties."""

    config: Config

    def headers(self) -> Mapping[str, str]:
        """Return the content type; the credential is in the body."""
        return JSON

    def envelope(self) -> dict[str, Any]:
        """Return the key, and the option that allows short ids."""
        key = self.config.api_key.get_secret_value()
        return {"api_key": key, "options": {"min_id_length": 1}}

    def credential_fields(self, path: str, body: bytes) -> dict[str, Any]:  # noqa: ARG002 - all requests have it in one place
        """Return the key; a forwarded request keeps its own options."""
        return {"api_key": self.config.api_key.get_secret_value()}

    def select(self, event: Event) -> OutgoingCall | Declined:
        """Return how *event* is sent: by its name, or as an ``$identify``."""
        if event.type in {"alias", "product"}:
            what = "an alias call" if event.type == "alias" else "an entry of a catalogue"
            return Declined(f"amplitude has no way to say {what}")
        visitor = event.anonymous_id or event.context.device.id
        if not event.user_id and not visitor:
            return Declined("amplitude needs a user id or a device id")
        event = with_flags(event)
        if event.type != "identify":
            event = self.included(to_track(event) or event).event
            name = self.event_name(event)
            if not name.strip():
                return Declined("amplitude takes no event without a name")
            event = replace(event, name=name)
        moment = event.time if event.time != EPOCH else None
        known = replace(
            event,
            anonymous_id=visitor,
            timestamp=moment,
            message_id=event.message_id or event.id or None,
        )
        return OutgoingCall("POST /2/httpapi", UPLOAD, known)

    def merge(self, request: Request, further: Request) -> Request | None:
        """Return one request with the events of both, or None if it would be too large."""
        return merge_lists(request, further, "events", max_bytes=MAX_BYTES)

    def verdict(self, response: Response, now: datetime | None = None) -> Verdict:
        """Return the verdict by status, with exceptions for an unknown key and the pause."""
        judged = verdict_by_status(response, now)
        if isinstance(judged, Refused) and b"Invalid API key" in response.body:
            return RetryLater(judged.reason, cause="credential")
        if isinstance(judged, RetryLater) and judged.cause == "limit" and judged.after is None:
            return replace(judged, after=PAUSE)
        return judged

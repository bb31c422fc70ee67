"""The chrts output: turn events into requests; https://chrts.co/docs/api."""

from collections.abc import Mapping
from datetime import datetime

from msgspec.structs import replace

from gateway.plugin import (
    JSON,
    Declined,
    Event,
    FreeFormSettings,
    Loss,
    OutgoingCall,
    Output,
    Response,
    Secret,
    Verdict,
    verdict_by_envelope,
    with_amounts,
)
from gateway.plugin.spec import is_single_product, to_track, with_flags
from plugins.chrts.mapping import (
    ALIAS,
    ALIAS_OF_SEGMENT,
    ALIAS_OF_VISITOR,
    ENDPOINTS,
    GIVEN_UP,
    IDENTIFY,
    TRACK,
    TRACK_ONE,
)

INCLUDED = (
    "timestamp", "traits.email", "traits.phone", "context.page.url", "context.campaign",
    "context.channel",
)  # fmt: skip
NOBODY = "chrts needs a user: the event has no user, anonymous or device id, no e-mail and no phone"


class ChrtsOutput(Output):
    """Sends one customer or event per request."""

    name = "chrts"
    docs = "https://chrts.co/docs/api"
    endpoints = ENDPOINTS

    class Config(FreeFormSettings):
        """``[destinations.*]`` with ``vendor = "chrts"``."""

        url: str = "https://api.chrts.co"
        """Scheme and host of chrts' API."""
        api_key: Secret
        """The Bearer key of the source to write to, from chrts' list of sources."""
        include: tuple[str, ...] = INCLUDED
        """What of an event's circumstances goes out among its properties: see the other vendors
        with free properties. The time always should, for chrts has no other place for it."""

    config: Config

    def headers(self) -> Mapping[str, str]:
        """Return the Bearer key and the content type."""
        return {**JSON, "authorization": f"Bearer {self.config.api_key.get_secret_value()}"}

    def select(self, event: Event) -> OutgoingCall | Declined:
        """Return the call for *event*: identify, alias, or track by name."""
        if event.type == "product":
            return Declined("chrts has no catalogue for products")
        if event.type == "alias":
            return _alias(event)
        known = _identified(event)
        if known is None:
            return Declined(NOBODY)
        if event.type == "identify":
            return OutgoingCall("POST /customer/identify", IDENTIFY, with_flags(known))
        tracked = to_track(known) or known
        name = self.event_name(tracked)
        if not name.strip():
            return Declined("chrts needs an event name")
        if event.origin != self.name:
            tracked = with_amounts(with_flags(tracked))
        table = TRACK_ONE if is_single_product(tracked) else TRACK
        said = self.included(tracked, moved=False)
        told = said.event if said.event.name == name else replace(said.event, name=name)
        return OutgoingCall("POST /event/track", table, told, said.paths.values())

    def losses(self, event: Event) -> list[Loss]:
        """Return the fields of *event* that its request lacks or changes.

        A Segment-shaped body goes back to chrts with its envelope, so its fields are not lost.
        """
        found = super().losses(event)
        if event.origin != self.name:
            return found
        told = {"message_id": "messageId", "timestamp": "timestamp"}
        return [loss for loss in found if told.get(loss.path) not in event.extra]

    def verdict(self, response: Response, now: datetime | None = None) -> Verdict:
        """Judge by the status; a body with ``status`` false has its own status in ``code``."""
        return verdict_by_envelope(
            response, lambda said: said.get("status") is False or said.get("success") is False, now
        )


def _alias(event: Event) -> OutgoingCall | Declined:
    """Return the alias call: the customer's id as ``knownUid``, the old id as ``uid``.

    An alias that came to chrts with Segment's keys goes back with them.
    """
    previous = _filled(event.previous_id) or _filled(event.anonymous_id)
    if not _filled(event.user_id) or not previous:
        return Declined(
            "chrts needs two ids for an alias: the user id or the previous id is missing"
        )
    table = ALIAS
    if event.origin == "chrts":
        words = [key for key in GIVEN_UP if key in event.extra]
        table = {"previousId": ALIAS_OF_SEGMENT, "anonymousId": ALIAS_OF_VISITOR}.get(
            words[0] if words else "", ALIAS
        )
    spare = event.anonymous_id if previous != event.anonymous_id else None
    known = replace(event, previous_id=previous, anonymous_id=spare)
    return OutgoingCall("POST /customer/alias", table, known)


def _identified(event: Event) -> Event | None:
    """Return *event* with the ids to send; None if it identifies no user.

    If only an e-mail address or phone number is known, it becomes the user id.
    """
    user, visitor = _filled(event.user_id), _filled(event.anonymous_id)
    if user and visitor:
        return event
    device = event.context.device
    if not user and not visitor and _filled(device.id):
        visitor = device.id
    if not user and not visitor and event.type != "group":
        user = _filled(event.traits.email) or _filled(event.traits.phone)
    if not user and not visitor:
        return None
    return replace(event, user_id=user, anonymous_id=visitor)


def _filled(text: str | None) -> str | None:
    return text if text and text.strip() else None

"""The Tracardi output: turn events into requests.

Source: https://docs.tracardi.com/events/event_tracking/.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from msgspec.structs import replace

from gateway.plugin import (
    JSON,
    NOTHING,
    Declined,
    Duration,
    Event,
    FreeFormSettings,
    Naming,
    OutgoingCall,
    Output,
    Refused,
    Request,
    Response,
    Secret,
    Table,
    Traits,
    Verdict,
    envelope,
    merge_lists,
    restore_leftovers,
    with_amounts,
)
from gateway.plugin.spec import is_single_product, to_track
from plugins.tracardi.mapping import (
    ALREADY_PLACED,
    ANY_ONE_WRITER,
    ANY_WRITER,
    COMPLETED,
    CONSENT,
    CONSENT_TYPES,
    ENDPOINTS,
    MOVED,
    ORDER_TYPES,
    PREDEFINED,
    WRITERS,
    inserted,
    sent_as,
    spoken,
)
from plugins.tracardi.values import TIME, derived

TRACK: Final = "POST /track"
PROFILE_LESS: Final = "POST /track?profile_less=true"
UNSAYABLE: Final = {
    "alias": (
        "tracardi has no alias call: it merges profiles by the merge keys in its configuration"
    ),
    "product": "tracardi has no catalogue for products",
}
NOBODY: Final = (
    "tracardi needs a user for a profile: the event has no anonymous, session, user or "
    "device id, no e-mail and no phone"
)
WITH_ERRORS: Final = 226
"""Status of an accepted event whose processing failed (GitHub Tracardi/tracardi-api,
app/api/track/event_server_endpoint.py)."""


class TracardiOutput(Output):
    """Posts one event per request."""

    name = "tracardi"
    docs = "https://docs.tracardi.com/events/event_tracking/"
    endpoints = ENDPOINTS

    class Config(FreeFormSettings):
        """``[destinations.*]`` with ``vendor = "tracardi"``."""

        source_id: Secret
        """The id of the event source to write to, from Tracardi's list of inbound traffic; its
        bridge is the REST API."""
        session_window: Duration = 4 * 3600.0
        """How long a visit may go on whose sender has no session id of its own. The session's id
        then follows from the visitor and from the stretch of time, of this length, in which the
        event happened. Tracardi calls a visit a session."""
        naming: Naming = "kebab-case"
        """How to spell the types of events that Tracardi does not predefine; events that came in
        Tracardi's own format keep theirs."""

    config: Config
    batch_size = 20

    def headers(self) -> Mapping[str, str]:
        """Return the content type; the key is in the body."""
        return JSON

    def envelope(self) -> dict[str, Any]:
        """Return the source, which every payload contains."""
        return {"source": {"id": self.config.source_id.get_secret_value()}}

    def select(self, event: Event) -> OutgoingCall | Declined:
        """Return the call for *event*: with a predefined type, else with its name as type."""
        if event.type in UNSAYABLE:
            return Declined(UNSAYABLE[event.type])
        loose = event.origin == self.name and event.extra.get("profile_less") is True
        known = _identified(event, self.config.session_window, loose=loose)
        if known.session_id is None and event.type == "identify":
            return Declined(NOBODY)
        said = self._said(known)
        if type(said) is Declined:
            return said
        table, prepared = said
        endpoint = PROFILE_LESS if loose or known.session_id is None else TRACK
        return OutgoingCall(endpoint, table, prepared)

    def render(self, event: Event) -> Request | Declined:
        """Return the request for *event*, or why Tracardi cannot express it.

        Raises:
            Unrenderable: a value cannot be written as JSON.
        """
        call = self.select(event)
        if type(call) is Declined:
            return call
        same = event.origin == self.name
        payload = call.table.writer(call.event, same)
        item = payload["events"][0]
        if event.consent and event.type == "identify" and not same:
            payload["events"].append(_consent_of(call.event))
        if not same or inserted(event) is None:
            moment = event.received_at if same else event.time
            for each in payload["events"]:
                time = each.setdefault("time", {})
                same_moment = moment is call.event.timestamp
                time["insert"] = time["create"] if same_moment else TIME.encode(moment)
        if same and event.extra:
            restore_leftovers(payload, _lifted(payload, item, event.extra))
        return self.request(call.endpoint, payload, event)

    def merge(self, request: Request, further: Request) -> Request | None:
        """Return one request with the events of both, if they say the same around them."""
        return merge_lists(request, further, "events")

    def verdict(self, response: Response, now: datetime | None = None) -> Verdict:
        """Judge by the status; 226 or a list of ``errors`` means that the processing failed."""
        if response.status == WITH_ERRORS or envelope(response).get("errors"):
            said = response.body[:200].decode("utf-8", "replace")
            return Refused(f"HTTP {response.status}, processed with errors: {said}")
        return super().verdict(response, now)

    def _said(self, event: Event) -> tuple[Table, Event] | Declined:
        """Return the table for *event*, and the event in the form that the table reads."""
        if event.origin == self.name:
            word = _type_again(event)
        else:
            event = with_amounts(event)
            word = spoken(event)
        if word is not None:
            if event.type == "track":
                event = self.included(event).event
            return WRITERS[word], _prepared(event, word)
        tracked = self.included(to_track(event) or event).event
        if _filled(tracked.name) is None:
            return Declined("tracardi needs an event name")
        table = ANY_ONE_WRITER if is_single_product(tracked) else ANY_WRITER
        return table, replace(tracked, name=self.event_name(tracked))


def _type_again(event: Event) -> str | None:
    """Return the predefined type of an event from Tracardi: its own, if that still matches."""
    sent = sent_as(event)
    if sent is not None:
        if sent == COMPLETED and event.name == "Order Updated":
            return ALREADY_PLACED
        table = PREDEFINED.get(sent)
        if table is not None and table.table_for(event) is not None:
            return sent
        if sent == event.name:
            return None
    return spoken(event)


def _identified(event: Event, window: float, *, loose: bool) -> Event:
    """Return *event* with the ids to send; without a session id it identifies no user."""
    visitor = _filled(event.anonymous_id)
    session = _filled(event.session_id)
    if session is None and not loose:
        session = _visit(event, window)
    return replace(
        event,
        user_id=_filled(event.user_id),
        anonymous_id=visitor,
        session_id=session,
        message_id=_filled(event.message_id) or event.id,
    )


def _visit(event: Event, window: float) -> str | None:
    """Return the session id of *event*, by user and time window; None if it identifies no user.

    The anonymous id is used before the user id, so that a session continues after a login. The kind
    of id is part of it, since a cookie may equal another user's id.
    """
    traits = event.traits
    for kind, name in (
        ("visitor", event.anonymous_id),
        ("device", event.context.device.id),
        ("user", event.user_id),
        ("email", traits.email),
        ("phone", traits.phone),
    ):
        if name and name.strip():
            moment = event.timestamp or event.received_at
            stretch = int(moment.timestamp() // window) if window else 0
            return derived("session", f"{kind} {name} {stretch}")
    return None


def _prepared(event: Event, word: str) -> Event:
    """Return *event* in the form of the predefined types.

    The categories of consent are properties. The income is the total, or the revenue if there is no
    total.
    """
    properties = event.properties
    if word in CONSENT_TYPES and event.consent:
        told = replace(properties, extra={**properties.extra, **event.consent})
        return replace(event, consent=NOTHING, properties=told)
    if word in ORDER_TYPES and properties.total is None and properties.revenue is not None:
        return replace(event, properties=replace(properties, total=properties.revenue))
    return event


def _consent_of(event: Event) -> dict[str, Any]:
    """Return the consent event for a profile with consent."""
    change = replace(
        event,
        type="track",
        name=CONSENT,
        traits=Traits(),
        message_id=derived("consent", event.message_id or event.id),
    )
    word = "consent-update"
    (item,) = WRITERS[word].write(_prepared(change, word))["events"]
    return item  # type: ignore[no-any-return]  # a payload is of JSON values


def _lifted(
    payload: dict[str, Any], item: dict[str, Any], extra: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Move keys that came in the payload's context back there; return the other leftovers."""
    if MOVED not in extra:
        return extra
    inner = item.get("context", {})
    moved = {key: inner.pop(key) for key in extra[MOVED] if key in inner}
    if not inner:
        item.pop("context", None)
    if moved:
        payload["context"] = {**payload.get("context", {}), **moved}
    return {key: value for key, value in extra.items() if key != MOVED}


def _filled(text: str | None) -> str | None:
    return text if text and text.strip() else None

"""The Growlytics output: turn events into requests.

Source: https://docs.growlytics.in/rest-apis/tracking-events-1.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal

import orjson
from msgspec.structs import replace

from gateway.plugin import (
    JSON,
    NOTHING,
    Declined,
    Event,
    FreeFormSettings,
    Included,
    Loss,
    OutgoingCall,
    Output,
    Request,
    Response,
    Secret,
    Unrenderable,
    Verdict,
    restore_leftovers,
    verdict_by_envelope,
    with_amounts,
)
from gateway.plugin.spec import is_single_product, to_track, with_flags
from plugins.growlytics.attributes import Listed, list_attributes
from plugins.growlytics.mapping import CUSTOMER, ENDPOINTS, table_for
from plugins.growlytics.rules import (
    LONGEST_NAME,
    MOST_FOR_CUSTOMER,
    MOST_FOR_EVENT,
    RESERVED,
)

UNSAYABLE = {
    "alias": "growlytics cannot merge customers: its REST API has one id per customer",
    "product": "growlytics accepts products only at another host (POST /product), not as events",
}

INCLUDED = (
    "timestamp", "traits.email", "traits.phone", "context.page.url", "context.campaign",
    "context.channel",
)  # fmt: skip
NOBODY = (
    "growlytics needs a customer: the event has no user, anonymous or device id, no "
    "e-mail and no phone"
)
DECLINES_ANONYMOUS = (
    'growlytics has no anonymous users, and this destination declines them (anonymous = "decline")'
)


class GrowlyticsOutput(Output):
    """Sends one customer or event per request."""

    name = "growlytics"
    docs = "https://docs.growlytics.in/rest-apis/tracking-events-1"
    endpoints = ENDPOINTS

    class Config(FreeFormSettings):
        """``[destinations.*]`` with ``vendor = "growlytics"``."""

        url: str = "https://dcqs-india.growlytics.in"
        """Scheme and host of Growlytics' REST API."""
        api_key: Secret
        """The key that goes out as ``x-growlytics-key``."""
        anonymous: Literal["as-id", "decline"] = "as-id"
        """What happens to users without a user id: their anonymous or device id becomes the
        customer's id, or their events are declined."""
        include: tuple[str, ...] = INCLUDED
        """What of an event's circumstances goes out among its attributes: see the other vendors
        with free properties. The time always should, for the API has no other place for it."""
        dates: tuple[str, ...] = ()
        """Names of attributes whose ISO 8601 texts go out as dates. Growlytics ignores an
        attribute whose type changes, so choose before the first one is sent."""

    config: Config

    def headers(self) -> Mapping[str, str]:
        """Return the key and the content type."""
        return {**JSON, "x-growlytics-key": self.config.api_key.get_secret_value()}

    def select(self, event: Event) -> OutgoingCall | Declined:
        """Return the call for *event*: a customer for an identify, else an event by name."""
        if event.type in UNSAYABLE:
            return Declined(UNSAYABLE[event.type])
        if event.origin == self.name:
            event = _as_sent(event)
        known = self._identified(event)
        if type(known) is Declined:
            return known
        if event.type == "identify":
            return OutgoingCall("POST /rest-api/customer", CUSTOMER, with_flags(known, "mobile"))
        told = self._told(known)
        tracked, name = told.event, self.event_name(told.event)
        if name.lower() in RESERVED:
            what = f"growlytics reserves the event name {name!r}; rename the event in a step"
            return Declined(what)
        if len(name) > LONGEST_NAME or not name.strip():
            return Declined(f"growlytics needs an event name of 1 to {LONGEST_NAME} characters")
        table = table_for(tracked)
        if tracked.name != name:
            tracked = replace(tracked, name=name)
        return OutgoingCall("POST /rest-api/event", table, tracked, told.paths.values())

    def time(self, moment: datetime) -> Any:
        """Return *moment* as it is; the list of attributes makes a date of it."""
        return moment

    def _told(self, event: Event) -> Included:
        """Return *event* as a track event with all fields that become attributes."""
        tracked = to_track(event) or event
        if event.origin != self.name:
            tracked = with_amounts(with_flags(tracked, "mobile"))
        return self.included(tracked, moved=False, phone="mobile")

    def render(self, event: Event) -> Request | Declined:
        """Return the request for *event*, or why Growlytics cannot express it.

        Raises:
            Unrenderable: a value cannot be written as JSON.
        """
        call = self.select(event)
        if type(call) is Declined:
            return call
        payload = call.table.writer(call.event, False)  # noqa: FBT003 - names are no leftovers here
        try:
            listed = self._listed(call, payload.get("attributes", {}))
        except orjson.JSONEncodeError as error:
            raise Unrenderable(f"{event.id}: {error}") from error
        payload["attributes"] = listed.attributes
        if event.origin == self.name:
            restore_leftovers(payload, {k: v for k, v in event.extra.items() if k != "attributes"})
        return self.request(call.endpoint, payload, event)

    def losses(self, event: Event) -> list[Loss]:
        """Return the fields of *event* that its request lacks or changes, limits included."""
        call = self.select(event)
        if isinstance(call, Declined):
            return []
        found = self.unsaid(call)
        if event.anonymous_id and not call.event.anonymous_id:
            found.append(Loss("anonymous_id", "coerced", event.anonymous_id))
        unsaid = self._unsaid(call)
        if event.type != "identify":
            unsaid = self._of_included(event, unsaid)
        told = {loss.path for loss in found}
        return found + [loss for loss in unsaid if loss.path not in told]

    def _of_included(self, event: Event, unsaid: Iterable[Loss]) -> Iterator[Loss]:
        """Yield *unsaid*, for included fields with their places in *event*."""
        paths = self._told(event).paths
        for loss in unsaid:
            path = paths.get(loss.path.removeprefix("properties.extra."))
            if path is None:
                yield loss
            elif path != "timestamp" or loss.how == "lost":
                yield loss._replace(path=path)
            elif event.timestamp is not None:
                yield loss._replace(path=path, why="without its fraction of a second")

    def verdict(self, response: Response, now: datetime | None = None) -> Verdict:
        """Judge by the status; a body with ``success`` false is a failure."""
        return verdict_by_envelope(response, lambda said: said.get("success") is False, now)

    def _unsaid(self, call: OutgoingCall) -> Iterator[Loss]:
        """Yield fields without an attribute, by their path in the written event."""
        values = call.table.write(call.event).get("attributes", {})
        for group, extra in _free(call.event):
            for key, value in extra.items():
                if values.get(key) is not value or value is None:
                    yield Loss(f"{group}.{key}", "lost", value)
        listed = self._listed(call, values)
        for name, value in listed.dropped.items():
            yield Loss(_path(call, name), "lost", value)
        for name, value in listed.reshaped.items():
            yield Loss(_path(call, name), "coerced", value)

    def _listed(self, call: OutgoingCall, values: Mapping[str, Any]) -> Listed:
        event = call.event
        customer = event.type == "identify"
        dates = self.config.dates
        kinds: dict[str, str] = dict.fromkeys(dates, "date") if dates else {}
        if event.origin == self.name:
            kinds.update(event.extra.get("attributes", {}))
        most = MOST_FOR_CUSTOMER if customer else MOST_FOR_EVENT
        return list_attributes(values, kinds, most, standard=customer)

    def _identified(self, event: Event) -> Event | Declined:
        """Return *event* with the customer's id as its user id."""
        user = _filled(event.user_id)
        if user is not None and user != event.anonymous_id:
            return event
        unknown = event.anonymous_id or event.context.device.id
        allowed = unknown if self.config.anonymous == "as-id" else None
        known = user or _filled(allowed) or _filled(_contact(event))
        if known is None:
            return Declined(DECLINES_ANONYMOUS if unknown else NOBODY)
        spare = event.anonymous_id if known != event.anonymous_id else None
        return replace(event, user_id=known, anonymous_id=spare)


def _as_sent(event: Event) -> Event:
    """Return an event from Growlytics without the contact that was derived from its id."""
    if "user_id" not in event.derived.values():
        return event
    gone = {path.partition(".")[2]: None for path in event.derived}
    return replace(event, traits=replace(event.traits, **gone), derived=NOTHING)


def _filled(text: str | None) -> str | None:
    return text if text and text.strip() else None


def _contact(event: Event) -> str | None:
    """Return the user's e-mail or phone; Growlytics' document allows both as the id."""
    return None if event.type == "group" else event.traits.email or event.traits.phone


def _free(event: Event) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield path and content of each mapping whose keys become attributes."""
    if event.type == "identify":
        yield "traits.extra", event.traits.extra
        return
    yield "properties.extra", event.properties.extra
    if is_single_product(event):
        yield "properties.products[].extra", event.properties.products[0].extra


def _path(call: OutgoingCall, name: str) -> str:
    """Return the path of the event field of the attribute *name*, as losses write it."""
    for row in call.table.rows:
        place, _, key = row.wire.partition(".")
        if place == "attributes" and f"{name}.".startswith(f"{key}."):
            return row.event.replace("[0]", "[]") + name[len(key) :]
    for group, extra in _free(call.event):
        if any(f"{name}.".startswith(f"{key}.") for key in extra):
            return f"{group}.{name}"
    raise KeyError(name)

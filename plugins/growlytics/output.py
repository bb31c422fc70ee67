"""Growlytics out: events become requests; https://docs.growlytics.in/rest-apis/tracking-events-1."""

from collections.abc import Iterator, Mapping
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
    "alias": "growlytics cannot join two customers: its REST API knows one id per customer",
    "product": "growlytics takes its catalogue at another host (POST /product), not as events",
}

INCLUDED = (
    "timestamp", "traits.email", "traits.phone", "context.page.url", "context.campaign",
    "context.channel",
)  # fmt: skip
NOBODY = (
    "growlytics needs to know whom it is about: no user, anonymous or device id, no e-mail "
    "and no phone"
)
DECLINES_ANONYMOUS = (
    "growlytics knows no anonymous users, and this destination declines them "
    '(anonymous = "decline")'
)


class GrowlyticsOutput(Output):
    """Posts one customer or event per request."""

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
        """An identify updates the customer; all else that happens is an event by name."""
        if event.type in UNSAYABLE:
            return Declined(UNSAYABLE[event.type])
        if event.origin == self.name:
            event = _as_sent(event)
        known = self._identified(event)
        if isinstance(known, Declined):
            return known
        if event.type == "identify":
            return OutgoingCall("POST /rest-api/customer", CUSTOMER, with_flags(known, "mobile"))
        tracked = self._told(known).event
        name = self.event_name(tracked)
        if name.lower() in RESERVED:
            return Declined(f"growlytics makes events called {name!r} itself; rename it")
        if len(name) > LONGEST_NAME or not name.strip():
            return Declined(f"growlytics takes event names of 1 to {LONGEST_NAME} characters")
        return OutgoingCall("POST /rest-api/event", table_for(tracked), replace(tracked, name=name))

    def time(self, moment: datetime) -> Any:
        """Return *moment*, which becomes a date."""
        return moment.replace(microsecond=0)

    def _told(self, event: Event) -> Included:
        """Return *event* as a track event with all that goes among its attributes."""
        tracked = to_track(event) or event
        if event.origin != self.name:
            tracked = with_amounts(with_flags(tracked, "mobile"))
        return self.included(tracked, phone="mobile")

    def render(self, event: Event) -> Request | Declined:
        """Return the request that delivers *event*, or why Growlytics cannot take it.

        Raises:
            Unrenderable: a value is none that JSON can say.
        """
        call = self.select(event)
        if isinstance(call, Declined):
            return call
        payload = call.table.write(call.event)
        try:
            listed = self._listed(call, payload.get("attributes", {}))
        except orjson.JSONEncodeError as error:
            raise Unrenderable(f"{event.id}: {error}") from error
        payload["attributes"] = listed.attributes
        if event.origin == self.name:
            restore_leftovers(payload, {k: v for k, v in event.extra.items() if k != "attributes"})
        return self.request(call.endpoint, payload, event)

    def losses(self, event: Event) -> list[Loss]:
        """Return what *event* knows and its request will not say, limits included."""
        call = self.select(event)
        if isinstance(call, Declined):
            return []
        found = self.unsaid(call)
        if event.anonymous_id and not call.event.anonymous_id:
            found.append(Loss("anonymous_id", "coerced", event.anonymous_id))
        if event.type != "identify":
            found += self._of_included(event, call)
        told = {loss.path for loss in found}
        return found + [loss for loss in self._unsaid(call) if loss.path not in told]

    def _of_included(self, event: Event, call: OutgoingCall) -> Iterator[Loss]:
        """Yield what is no longer whole of the circumstances that became attributes."""
        paths = self._told(event).paths
        if "timestamp" in paths.values() and event.timestamp and event.timestamp.microsecond:
            yield Loss("timestamp", "coerced", event.timestamp, "its fraction of a second is cut")
        for loss in self._unsaid(call):
            name = loss.path.removeprefix("properties.extra.")
            if name in paths and name != loss.path:
                yield loss._replace(path=paths[name])

    def verdict(self, response: Response, now: datetime | None = None) -> Verdict:
        """Judge by the status; a body with ``success`` false says that nothing was taken."""
        return verdict_by_envelope(response, lambda said: said.get("success") is False, now)

    def _unsaid(self, call: OutgoingCall) -> Iterator[Loss]:
        """Yield what has no attribute, by its place in the event that was written."""
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
        kinds: dict[str, str] = dict.fromkeys(self.config.dates, "date")
        if event.origin == self.name:
            kinds.update(event.extra.get("attributes", {}))
        most = MOST_FOR_CUSTOMER if customer else MOST_FOR_EVENT
        return list_attributes(values, kinds, most, standard=customer)

    def _identified(self, event: Event) -> Event | Declined:
        """Return *event* with the customer's id as its user id."""
        unknown = event.anonymous_id or event.context.device.id
        allowed = unknown if self.config.anonymous == "as-id" else None
        known = _filled(event.user_id) or _filled(allowed) or _filled(_contact(event))
        if known is None:
            return Declined(DECLINES_ANONYMOUS if unknown else NOBODY)
        spare = event.anonymous_id if known != event.anonymous_id else None
        return replace(event, user_id=known, anonymous_id=spare)


def _as_sent(event: Event) -> Event:
    """Return an event of Growlytics' own without the contact that its customer's id is."""
    if "user_id" not in event.derived.values():
        return event
    gone = {path.partition(".")[2]: None for path in event.derived}
    return replace(event, traits=replace(event.traits, **gone), derived=NOTHING)


def _filled(text: str | None) -> str | None:
    return text if text and text.strip() else None


def _contact(event: Event) -> str | None:
    """Return the user's e-mail or phone, either of which Growlytics' document allows as the id."""
    return None if event.type == "group" else event.traits.email or event.traits.phone


def _free(event: Event) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the mappings of *event* that become attributes key by key, with their paths."""
    if event.type == "identify":
        yield "traits.extra", event.traits.extra
        return
    yield "properties.extra", event.properties.extra
    if is_single_product(event):
        yield "properties.products[].extra", event.properties.products[0].extra


def _path(call: OutgoingCall, name: str) -> str:
    """Return where the attribute *name* comes from, as paths of losses are spelled."""
    for row in call.table.rows:
        place, _, key = row.wire.partition(".")
        if place == "attributes" and f"{name}.".startswith(f"{key}."):
            return row.event.replace("[0]", "[]") + name[len(key) :]
    for group, extra in _free(call.event):
        if any(f"{name}.".startswith(f"{key}.") for key in extra):
            return f"{group}.{name}"
    raise KeyError(name)

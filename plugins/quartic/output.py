"""The Quartic output: turn events into requests.

Source: https://docs.quarticon.com/storeapi/documentation/.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from msgspec.structs import replace

from gateway.plugin import (
    JSON,
    Declined,
    Event,
    Loss,
    Names,
    OutgoingCall,
    Output,
    Request,
    Response,
    Secret,
    Settings,
    Unrenderable,
    Verdict,
    dumps,
    envelope,
    verdict_as_told,
    with_query_values,
)
from plugins.quartic.fitting import (
    cut,
    fields_beside_email,
    fit_basics,
    fit_catalogued,
    fit_contact,
    fit_ordered,
    fit_time,
    on_its_device,
    unfit_id,
    unfit_order,
)
from plugins.quartic.mapping import (
    CATALOGUED,
    CLICK,
    CONTACT,
    ENDPOINTS,
    PROFILE,
    TRANSACTION,
    VIEW,
)
from plugins.quartic.rules import TEXTS, as_lists, derived_total, filled

TAKES = (
    "quartic accepts only product views, clicks on its own recommendations, orders, "
    "profiles and products"
)
NOBODY = (
    "quartic needs a user id and an anonymous id for a profile, or an e-mail address "
    "for a contact: the event has neither"
)
NOT_RECOMMENDED = "quartic needs the tracking string of its recommendation for a click"
ALIAS = (
    "quartic has no alias call: it links a cookie to a user by a profile with both "
    "ids; send an identify with the anonymous id and the user id"
)
CONSENT = (
    "quartic needs an e-mail address for consent, or a user id, an anonymous id and "
    "the category email: the event has neither"
)
UNKNOWN_AGREEMENT = (
    "quartic reads a profile without consent to e-mails as a refusal: the event has no "
    "consent of the category email, and no e-mail address for a contact"
)
TRACK = "POST /store/track/event"
EMAILS = "email"
"""The category of consent of a profile's ``agreement``."""
CODE = re.compile(r"http\.status\.([45]\d\d)")


class QuarticOutput(Output):
    """Sends one profile, contact, event or product per request."""

    name = "quartic"
    docs = "https://docs.quarticon.com/storeapi/documentation/"
    endpoints = ENDPOINTS
    account = frozenset({"customer"})

    class Config(Settings):
        """``[destinations.*]`` with ``vendor = "quartic"``."""

        url: str = "https://restapi.quartic.pl"
        """Scheme and host of Quartic's API, without ``/store``."""
        api_key: Secret
        """The key that goes out as ``x-api-key``."""
        customer: str
        """The symbol of the account, which every event names."""
        accept_version: str | None = None
        """The version of the API to ask for in ``accept-version``; none if left out."""
        tags: tuple[str, ...] = ("firstname", "lastname", "phone", "city", "age")
        """Names of the tags that exist in the account; other traits do not go out. Quartic takes
        no others. The default is the tags that its documentation names."""
        agreements: Mapping[str, str] = {}
        """Categories of consent to the texts that people agreed to. Quartic keeps an agreement
        only with its text, so other categories do not go out."""

        def model_post_init(self, _: Any, /) -> None:
            """Check the settings.

            Raises:
                ValueError: a text is blank, or the URL ends with ``/store``.
            """
            if self.url.rstrip("/").endswith("/store"):
                raise ValueError("url: remove /store at the end; it is part of the paths")
            if not filled(self.customer):
                raise ValueError("customer: is blank; write the symbol of your Quartic account")
            for kind, said in self.agreements.items():
                if not filled(kind) or not filled(said):
                    raise ValueError(f"agreements: {kind!r} needs the text that users agree to")

    config: Config

    def headers(self) -> Mapping[str, str]:
        """Return the key, the content type, and the version if one is asked for."""
        sent = {**JSON, "x-api-key": self.config.api_key.get_secret_value()}
        if self.config.accept_version is not None:
            sent["accept-version"] = self.config.accept_version
        return sent

    def with_credential(
        self, request: Request, changes: Mapping[str, Any] | None = None
    ) -> Request:
        """Return *request* with the destination's key, and its account symbol if it has one."""
        with_key = super().with_credential(request, changes)
        return replace(
            with_key, url=with_query_values(with_key.url, {"customer": self.config.customer})
        )

    def credential_fields(self, path: str, body: bytes) -> dict[str, Any]:
        """Return the account's symbol, which events contain besides the key."""
        del body
        return {"customer": self.config.customer} if path == "/store/track/event" else {}

    def select(self, event: Event) -> OutgoingCall | Declined:
        """Return the first call for *event*, or why there is none."""
        calls = self.calls(event)
        return calls if isinstance(calls, Declined) else calls[0]

    def calls(self, event: Event) -> tuple[OutgoingCall, ...] | Declined:
        """Return all calls for *event*, or why Quartic cannot express it."""
        known = fit_basics(event)
        if event.type == "identify":
            return self._identify(known)
        if event.type == "alias":
            return Declined(ALIAS)
        if event.type == "track" and event.name == Names.CONSENT_UPDATED:
            return self._consent(known)
        call: OutgoingCall | Declined
        if event.type == "product":
            call = _catalogued(known)
        elif event.type == "track" and event.name == "Order Completed":
            call = _order(on_its_device(known))
        elif event.type == "track" and event.name in {"Product Viewed", "Product Clicked"}:
            call = _about_one(on_its_device(known))
        else:
            what = repr(event.name) if event.type == "track" else f"a {event.type} call"
            call = Declined(f"{TAKES}, not {what}")
        return call if isinstance(call, Declined) else (call,)

    def render(self, event: Event) -> Request | Declined:
        """Return the request for *event*, or why Quartic cannot express it.

        Raises:
            Unrenderable: a value cannot be written as JSON.
        """
        calls = self.calls(event)
        if isinstance(calls, Declined):
            return calls
        first, *further = [self._written(call, event) for call in calls]
        return replace(first, also=tuple(further)) if further else first

    def _written(self, call: OutgoingCall, event: Event) -> Request:
        same = event.origin == self.name
        payload = call.table.write(call.event, same=same)
        if call.table is CONTACT:
            payload = as_lists(payload, self._texts(event))
        if call.endpoint == TRACK:
            payload["customer"] = self.config.customer
        if same:
            kept = {key: value for key, value in event.extra.items() if key != TEXTS}
            payload = {**kept, **payload}
        try:
            body = dumps(payload)
        except orjson.JSONEncodeError as error:
            raise Unrenderable(f"{event.id}: {error}") from error
        url = self.config.url.rstrip("/") + call.endpoint.removeprefix("POST ")
        return Request(method="POST", url=url, headers=self.headers(), body=body)

    def losses(self, event: Event) -> list[Loss]:
        """Return the fields of *event* that its requests lack or change, limits included.

        A total that equals the sum of the basket is not lost.
        """
        calls = self.calls(event)
        if isinstance(calls, Declined):
            return []
        told = [self._cut(call, event) for call in calls]
        found = [loss for path, loss in told[0].items() if all(path in each for each in told)]
        total = event.properties.total
        if calls[0].table is not TRANSACTION or total != derived_total(event.properties.products):
            return found
        return [loss for loss in found if loss.path != "properties.total"]

    def _cut(self, call: OutgoingCall, event: Event) -> dict[str, Loss]:
        """Return the losses of *event* in *call*, by path."""
        found: dict[str, Loss] = {}
        for loss in (*self.unsaid(call), *cut(event, call.event)):
            if loss.path not in call.event.derived:
                found.setdefault(loss.path, loss)
        return found

    def verdict(self, response: Response, now: datetime | None = None) -> Verdict:
        """Judge the response by its status, or by the error in its envelope.

        The document: every error has the envelope, but only some have their own status. An error
        without a code counts as "unexpected", 500.
        """
        if envelope(response).get("status") != "ERROR":
            return super().verdict(response, now)
        found = CODE.search(response.body.decode("utf-8", "replace"))
        return verdict_as_told(response, int(found[1]) if found else 500, now)

    def _identify(self, event: Event) -> tuple[OutgoingCall, ...] | Declined:
        """Return a profile, a contact, or both, since each has fields that the other lacks.

        A profile without the agreement forbids e-mails. So an event of another vendor becomes a
        profile only if its consent to e-mails is known.
        """
        own = event.origin == self.name
        named = bool(event.user_id and event.anonymous_id)
        profile = OutgoingCall("POST /store/collectprofile", PROFILE, event)
        if named and own:
            return (profile,)
        contact = self._contact(event)
        if named and EMAILS in event.consent:
            further = contact is not None and contact.event
            says = further and (further.consent or fields_beside_email(further.traits))
            return (profile, contact) if contact is not None and says else (profile,)
        if contact is not None:
            return (contact,)
        return Declined(UNKNOWN_AGREEMENT if named else NOBODY)

    def _contact(self, event: Event) -> OutgoingCall | None:
        if not event.traits.email:
            return None
        known = on_its_device(event)
        tags = None if event.origin == self.name else frozenset(self.config.tags)
        return OutgoingCall(
            "POST /store/contact", CONTACT, fit_contact(known, tags, self._texts(event))
        )

    def _consent(self, event: Event) -> tuple[OutgoingCall, ...] | Declined:
        """Return a contact with only the consent, or a profile if there is no e-mail address."""
        if event.traits.email:
            bare = fit_contact(on_its_device(event), frozenset(), self._texts(event))
            return (OutgoingCall("POST /store/contact", CONTACT, bare),)
        if event.user_id and event.anonymous_id and EMAILS in event.consent:
            return (OutgoingCall("POST /store/collectprofile", PROFILE, event),)
        return Declined(CONSENT)

    def _texts(self, event: Event) -> Mapping[str, str]:
        """Return the agreed texts by category: as received from Quartic, else as configured."""
        own = event.extra.get(TEXTS, {}) if event.origin == self.name else {}
        return {**self.config.agreements, **own}


def _about_one(event: Event) -> OutgoingCall | Declined:
    products = event.properties.products
    reason = unfit_id(products[0]) if products else "quartic needs a product: the event has none"
    if reason is not None:
        return Declined(reason)
    if event.name == "Product Viewed":
        return OutgoingCall(TRACK, VIEW, fit_time(event))
    if filled(event.properties.extra.get("tracking_string")) is None:
        return Declined(NOT_RECOMMENDED)
    return OutgoingCall(TRACK, CLICK, fit_time(event))


def _order(event: Event) -> OutgoingCall | Declined:
    reason = unfit_order(event)
    if reason is not None:
        return Declined(reason)
    products = event.properties.products
    bought = tuple(fit_ordered(product) for product in products)
    assumed = any(product.quantity is None for product in products)
    derived = {"properties.products[].quantity": "nothing: 1 is assumed"} if assumed else {}
    fitted = replace(
        event,
        properties=replace(event.properties, products=bought),
        derived={**event.derived, **derived},
    )
    return OutgoingCall(TRACK, TRANSACTION, fit_time(fitted))


def _catalogued(event: Event) -> OutgoingCall | Declined:
    products = event.properties.products
    reason = unfit_id(products[0]) if products else "quartic needs a product: the event has none"
    if reason is not None:
        return Declined(reason)
    return OutgoingCall("POST /store/data/product", CATALOGUED, fit_catalogued(event))

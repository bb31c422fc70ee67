"""Quartic out: events become requests; https://docs.quarticon.com/storeapi/documentation/."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from msgspec.structs import replace

from gateway.errors import Unrenderable
from gateway.event import Event
from gateway.exchange import (
    Declined,
    Request,
    Response,
    Verdict,
    envelope,
    in_query,
    verdict_as_told,
)
from gateway.json_text import dumps
from gateway.mapping import Loss
from gateway.plugin import JSON, Call, Output, Secret, Settings
from plugins.quartic.fitting import (
    cut,
    fit_basics,
    fit_catalogued,
    fit_contact,
    fit_ordered,
    fit_time,
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
    "quartic takes product views, clicks on its own recommendations, orders, profiles and products"
)
NOBODY = (
    "quartic takes a profile by user id and anonymous id, or a contact by e-mail address: "
    "this one has neither"
)
NOT_RECOMMENDED = (
    "quartic takes a click only with the tracking string that it issued with the recommendation"
)
ALIAS = (
    "quartic has no call that joins two ids: it links a cookie to a user when a profile names "
    "both, so send an identify with the anonymous id and the user id"
)
CONSENT = "quartic takes consent only with a profile: send it with an identify"
TRACK = "POST /store/track/event"
CODE = re.compile(r"http\.status\.([45]\d\d)")


class QuarticOutput(Output):
    """Posts one profile, contact, event or product per request."""

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
            """Check what Quartic would not take.

            Raises:
                ValueError: a text is blank, or the URL has the part that every path begins with.
            """
            if self.url.rstrip("/").endswith("/store"):
                raise ValueError("url: leave out the /store at its end; it is part of the paths")
            if not filled(self.customer):
                raise ValueError("customer: is blank; it is the symbol of your Quartic account")
            for kind, said in self.agreements.items():
                if not filled(kind) or not filled(said):
                    raise ValueError(f"agreements: {kind!r} needs the text that was agreed to")

    config: Config

    def headers(self) -> Mapping[str, str]:
        """Return the key, the content type, and the version if one is asked for."""
        sent = {**JSON, "x-api-key": self.config.api_key.get_secret_value()}
        if self.config.accept_version is not None:
            sent["accept-version"] = self.config.accept_version
        return sent

    def lend(self, request: Request, changes: Mapping[str, Any] | None = None) -> Request:
        """Return *request* with our key, and with our account's symbol where it names one."""
        lent = super().lend(request, changes)
        return replace(lent, url=in_query(lent.url, {"customer": self.config.customer}))

    def exchanged(self, path: str, body: bytes) -> dict[str, Any]:
        """Return the account's symbol, which events carry beside the key."""
        del body
        return {"customer": self.config.customer} if path == "/store/track/event" else {}

    def choose(self, event: Event) -> Call | Declined:
        """Each kind that Quartic takes has its own fields, and nothing else can be said."""
        known = fit_basics(event)
        if event.type == "identify":
            return self._identify(known)
        if event.type == "alias":
            return Declined(ALIAS)
        if event.type == "product":
            return _catalogued(known)
        if event.type == "track" and event.name == "Order Completed":
            return _order(known)
        if event.type == "track" and event.name in {"Product Viewed", "Product Clicked"}:
            return _about_one(known)
        if event.name == "Segment Consent Preference Updated":
            return Declined(CONSENT)
        what = repr(event.name) if event.type == "track" else f"a {event.type} call"
        return Declined(f"{TAKES}: it has no way to say {what}")

    def render(self, event: Event) -> Request | Declined:
        """Return the request that delivers *event*, or why Quartic cannot take it.

        Raises:
            Unrenderable: a value is none that JSON can say.
        """
        call = self.choose(event)
        if isinstance(call, Declined):
            return call
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
        """Return what *event* knows and its request will not say, limits included.

        A total that is the sum of the basket is told by the basket.
        """
        call = self.choose(event)
        if isinstance(call, Declined):
            return []
        found = super().losses(event)
        told = {loss.path for loss in found}
        found += [loss for loss in cut(event, call.event) if loss.path not in told]
        total = event.properties.total
        if call.table is not TRANSACTION or total != derived_total(event.properties.products):
            return found
        return [loss for loss in found if loss.path != "properties.total"]

    def verdict(self, response: Response, now: datetime | None = None) -> Verdict:
        """Judge the answer by its status, and by its envelope where that tells of an error.

        Every error is said to come in the envelope, and only some with a status of their own. One
        without a code is taken for "unexpected", 500.
        """
        if envelope(response).get("status") != "ERROR":
            return super().verdict(response, now)
        found = CODE.search(response.body.decode("utf-8", "replace"))
        return verdict_as_told(response, int(found[1]) if found else 500, now)

    def _identify(self, event: Event) -> Call | Declined:
        if event.user_id and event.anonymous_id:
            return Call("POST /store/collectprofile", PROFILE, event)
        if not event.traits.email:
            return Declined(NOBODY)
        tags = None if event.origin == self.name else frozenset(self.config.tags)
        return Call("POST /store/contact", CONTACT, fit_contact(event, tags, self._texts(event)))

    def _texts(self, event: Event) -> Mapping[str, str]:
        """Return what was agreed to by category: as it came from Quartic, else as configured."""
        own = event.extra.get(TEXTS, {}) if event.origin == self.name else {}
        return {**self.config.agreements, **own}


def _about_one(event: Event) -> Call | Declined:
    products = event.properties.products
    reason = unfit_id(products[0]) if products else "quartic needs a product: there is none"
    if reason is not None:
        return Declined(reason)
    if event.name == "Product Viewed":
        return Call(TRACK, VIEW, fit_time(event))
    if filled(event.properties.extra.get("tracking_string")) is None:
        return Declined(NOT_RECOMMENDED)
    return Call(TRACK, CLICK, fit_time(event))


def _order(event: Event) -> Call | Declined:
    reason = unfit_order(event)
    if reason is not None:
        return Declined(reason)
    bought = tuple(fit_ordered(product) for product in event.properties.products)
    fitted = replace(event, properties=replace(event.properties, products=bought))
    return Call(TRACK, TRANSACTION, fit_time(fitted))


def _catalogued(event: Event) -> Call | Declined:
    products = event.properties.products
    reason = unfit_id(products[0]) if products else "quartic needs a product: there is none"
    if reason is not None:
        return Declined(reason)
    return Call("POST /store/data/product", CATALOGUED, fit_catalogued(event))

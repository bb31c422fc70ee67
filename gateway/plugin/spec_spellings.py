"""Recognise other spellings of the Segment Spec's names.

Segment's own destinations read events with two libraries; this module follows both:

- names of events: https://github.com/segmentio/analytics-events (any case; a space, an underscore
  or nothing between words; the first version's order of words, ``Completed Order``);
- names of properties: https://github.com/segmentio/facade, which looks them up with
  https://github.com/segmentio/obj-case (any case, whatever signs between words), ``id`` for the
  id of a product or an order.
"""

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, Final

from gateway.plugin.spec import SpecProduct, SpecProperties

V2: Final = (
    "Products Searched", "Product List Viewed", "Product List Filtered", "Promotion Viewed",
    "Promotion Clicked", "Product Clicked", "Product Viewed", "Product Added", "Product Removed",
    "Cart Viewed", "Checkout Started", "Checkout Step Viewed", "Checkout Step Completed",
    "Payment Info Entered", "Order Completed", "Order Updated", "Order Refunded",
    "Order Cancelled", "Coupon Entered", "Coupon Applied", "Coupon Denied", "Coupon Removed",
    "Product Added to Wishlist", "Product Removed from Wishlist",
    "Wishlist Product Added to Cart", "Product Shared", "Cart Shared", "Product Reviewed",
)  # fmt: skip
"""The E-commerce Spec's names, https://segment.com/docs/connections/spec/ecommerce/v2/."""
MOBILE: Final = (
    "Application Installed", "Application Opened", "Application Updated",
    "Application Backgrounded", "Application Uninstalled", "Push Notification Received",
    "Push Notification Tapped", "Push Notification Bounced", "Install Attributed",
    "Deep Link Opened",
)  # fmt: skip
"""The Mobile Spec's names, https://segment.com/docs/connections/spec/mobile/."""
V1: Final[Mapping[str, str]] = {
    "Viewed Promotion": "Promotion Viewed",
    "Clicked Promotion": "Promotion Clicked",
    "Viewed Product Category": "Product List Viewed",
    "Viewed Product": "Product Viewed",
    "Viewed Product Detail": "Product Viewed",
    "Viewed Product Details": "Product Viewed",
    "Clicked Product": "Product Clicked",
    "Added Product": "Product Added",
    "Removed Product": "Product Removed",
    "Started Order": "Checkout Started",
    "Order Started": "Checkout Started",
    "Updated Order": "Order Updated",
    "Completed Order": "Order Completed",
    "Refunded Order": "Order Refunded",
    "Viewed Checkout Step": "Checkout Step Viewed",
    "Completed Checkout Step": "Checkout Step Completed",
    "Payment Info Added": "Payment Info Entered",
    "Wishlist Product Removed": "Product Removed from Wishlist",
}
"""Current names, by the names of the first version and others in analytics-events."""
ORDER_EVENTS: Final = frozenset({
    "Checkout Started", "Order Completed", "Order Updated", "Order Refunded", "Order Cancelled",
})  # fmt: skip
"""Events whose ``id`` is the order id."""
LONGEST_NAME: Final = 64
_SPACES: Final = str.maketrans("", "", " _")
_SIGNS: Final = re.compile(r"[^a-z0-9]+")
PROPERTY_NAMES: Final = frozenset(SpecProperties.__annotations__)
"""Names of the properties that the E-commerce Spec V2 has."""
PRODUCT_NAMES: Final = frozenset(SpecProduct.__annotations__)
"""Names of a product's fields in the E-commerce Spec V2."""
ALL_NAMES: Final = PROPERTY_NAMES | PRODUCT_NAMES
"""Both: the names that the properties of an event about one product may have."""
_BY_LETTERS: Final = {_SIGNS.sub("", name): name for name in ALL_NAMES}


def _letters(name: str) -> str:
    return name.translate(_SPACES).lower()


SPELT: Final = frozenset({*V2, *MOBILE})
_NAMES: Final = {_letters(name): name for name in SPELT} | {
    _letters(old): new for old, new in V1.items()
}


def spec_name(name: str) -> str:
    """Return the Spec's name for another spelling of it; any other name stays."""
    if name in SPELT or len(name) > LONGEST_NAME:
        return name
    return _NAMES.get(_letters(name), name)


def respelled(held: dict[str, Any], names: Collection[str], an_id: str = "") -> dict[str, str]:
    """Return the Spec's names of keys in another spelling, by key.

    Args:
        held: the object; keys in the Spec's own spelling take precedence.
        names: the Spec's names.
        an_id: the name that ``id`` means, if the object has no other key for it.
    """
    found: dict[str, str] = {}
    for key in held:
        if key not in names:
            meant = _meant(key) if len(key) <= LONGEST_NAME else ""
            if meant in names and meant not in held and meant not in found.values():
                found[key] = meant
    if an_id and an_id not in held and an_id not in found.values():
        found |= dict.fromkeys([key for key in ("id", "ID", "Id") if key in held][:1], an_id)
    return found


def in_spec_spelling(held: dict[str, Any], names: Collection[str], an_id: str) -> dict[str, Any]:
    """Return an object with the Spec's *names* in its own spelling; see `respelled`."""
    theirs = respelled(held, names, an_id)
    return {theirs.get(key, key): value for key, value in held.items()} if theirs else held


@lru_cache(maxsize=4096)
def _meant(key: str) -> str:
    """Return the Spec's name with the same letters as *key*; empty if there is none."""
    return _BY_LETTERS.get(_SIGNS.sub("", key.lower()), "")

"""Types of PersonaClick's payloads.

Sources: PersonaClick, User Activity Tracking (REST API),
https://personaclick.atlassian.net/wiki/spaces/english/pages/100303799/User+Activity+Tracking+REST+API
(``DOCS``); PersonaClick, User Profile (REST API),
https://personaclick.atlassian.net/wiki/spaces/english/pages/100303840/User+Profile+REST+API;
newer names and other identifiers than ``did``:
https://github.com/rees46/documentation-unified (docs/integration/cdp); requests of the app SDKs:
https://github.com/PersonaClick/rn-sdk, https://github.com/rees46/android-sdk and
https://github.com/rees46/ios-sdk.
"""

from typing import Any, TypedDict

DOCS = (
    "https://personaclick.atlassian.net/wiki/spaces/english/pages/100303799/"
    "User+Activity+Tracking+REST+API"
)

Source = TypedDict("Source", {"from": str, "code": str}, total=False)
"""The campaign of the visit: ``from`` is its kind, ``code`` its code. The page has it as JSON text
under ``source``, React Native and iOS send an object, Android two keys of the body."""


class Basics(Source, total=False):
    """Fields of every call about a person; one of ``did`` to ``telegram_id`` is required.

    ``sid`` is the name of ``seance`` in newer documentation. Only servers send ``shop_secret``.
    """

    shop_id: str
    shop_secret: str
    did: str
    email: str
    phone: str | int
    external_id: str | int
    loyalty_id: str | int
    telegram_id: str | int
    seance: str
    sid: str
    stream: str
    segment: str
    referer: str
    source: Source


class Item(TypedDict, total=False):
    """A product; ``Any``, because PersonaClick silently ignores errors in fields except the id."""

    id: str | int | float
    amount: Any
    quantity: Any
    price: Any
    line_id: Any
    fashion_size: Any


class Push(Basics, total=False):
    """The body of ``POST /push``; ``event`` decides which fields are used."""

    event: str
    items: list[Item | str | int]
    recommended_by: str
    recommended_code: str
    full_cart: bool | str | int
    full_wish: bool | str | int
    category_id: str | int
    search_query: str
    order_id: str | int
    order_price: float | str
    order_cash: float | str
    order_bonuses: float | str
    order_delivery: float | str
    order_discount: float | str
    promocode: str
    delivery_address: str
    delivery_type: str
    payment_type: str
    tax_free: bool
    custom: dict[str, Any]


class Custom(Basics, total=False):
    """The body of ``POST /push/custom``; further keys in ``[a-z0-9_]+`` are allowed."""

    event: str
    category: str
    label: str
    value: int | float
    time: int | float


class Message(TypedDict, total=False):
    """The body of ``POST /track/…``: an event about a message that PersonaClick sent."""

    shop_id: str
    shop_secret: str
    did: str
    seance: str
    sid: str
    stream: str
    code: str
    type: str


class Profile(Basics, total=False):
    """The body of ``POST /profile/set``; further keys in ``[a-z0-9_]+`` are allowed.

    ``id`` is another name of ``external_id``, the shop's own id of the person.
    """

    id: str | int
    first_name: str
    last_name: str
    gender: str
    birthday: str
    age: float | str

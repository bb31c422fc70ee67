"""Types of Quartic's payloads.

Source: https://docs.quarticon.com/storeapi/documentation/, version 1.0.6.

In a payload ``agreements`` and ``tags`` of a contact are lists. In the tables they are objects by
name; plugins/quartic/rules.py converts between them.
"""

from typing import TypedDict


class Profile(TypedDict, total=False):
    """The body of ``POST /store/collectprofile``; ``userId`` and ``cookie`` are required."""

    userId: str
    cookie: str
    email: str
    agreement: bool


class Agreement(TypedDict):
    """One agreement in a contact's list: its type, its text, and whether it is given."""

    t: str
    c: str
    s: bool


class Tag(TypedDict):
    """One tag in a contact's list: its name and its value."""

    n: str
    v: str


class Tags(TypedDict, total=False):
    """A contact's tags, by name.

    The page names ``firstname``, ``lastname``, ``city``, ``phone`` and ``age``; accounts define
    their own.
    """

    firstname: str
    lastname: str
    name: str
    phone: str
    gender: str
    birthday: str
    age: str


class Contact(TypedDict, total=False):
    """The body of ``POST /store/contact``; ``email`` is required."""

    cookie: str
    email: str
    agreements: dict[str, bool]
    tags: Tags


class Tracked(TypedDict, total=False):
    """Common fields of a body of ``POST /store/track/event``.

    ``customer``, ``eventType`` and ``timestamp`` are required.
    """

    customer: str
    eventType: str
    userId: str
    userEmail: str
    deviceId: str
    timestamp: int
    referrer: str
    cookie: str


class Click(Tracked, total=False):
    """A click on a product that Quartic recommended: ``eventClick``."""

    productId: str
    trackingString: str


class View(Tracked, total=False):
    """A view of a product: ``eventProductView``."""

    productId: str


class Ordered(TypedDict, total=False):
    """One product in a basket: ``TransactionProduct``."""

    productId: str
    price: float
    quantity: int


class Transaction(Tracked, total=False):
    """An order: ``eventTransaction``."""

    transactionId: str
    basket: list[Ordered]


class Category(TypedDict):
    """One category of a product."""

    id: int
    name: str


class Catalogued(TypedDict, total=False):
    """The body of ``POST /store/data/product``.

    The document's schema has text for ``id`` and numbers for the prices; its example has them the
    other way round.
    """

    id: str | int
    title: str
    image: str
    description: str
    url: str
    price: float | str
    priceOld: float | str
    custom1: str
    custom2: str
    custom3: str
    status: bool
    categories: list[Category]
    catalogSymbol: str

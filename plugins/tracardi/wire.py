"""Types of Tracardi's payload.

Sources: https://docs.tracardi.com/events/event_tracking/ (the payload); GitHub Tracardi/tracardi,
tracardi/domain/payload (types) and tracardi/service/setup/events (properties of predefined
events); GitHub Tracardi/tracardi-js, src/domain/clientInfo.js and src/tracardi.js (context).
"""

from typing import Any, Required, TypedDict

from gateway.plugin.spec import SpecProperties, SpecTraits


class Entity(TypedDict, total=False):
    """An object with only an id."""

    id: Required[str]


class Utm(TypedDict, total=False):
    """``context.utm``, from the page's query."""

    source: str
    medium: str
    campaign: str
    term: str
    content: str


class Navigator(TypedDict, total=False):
    """``context.browser.local.browser``, from the browser's navigator."""

    userAgent: str
    language: str


class Local(TypedDict, total=False):
    """``context.browser.local``."""

    browser: Navigator


class Browser(TypedDict, total=False):
    """``context.browser``."""

    local: Local


class Clock(TypedDict, total=False):
    """``context.time``."""

    tz: str


class SessionContext(TypedDict, total=False):
    """Keys of the payload's context that Tracardi uses when a session begins."""

    utm: Utm
    browser: Browser
    time: Clock


class SentFrom(TypedDict, total=False):
    """``device``, which tracardi-js sends and the server ignores."""

    id: str | int


class Referer(TypedDict, total=False):
    """The previous page, as tracardi-js sends it."""

    host: str


class Page(TypedDict, total=False):
    """``context.page`` of an event."""

    url: str
    path: str
    title: str
    search: str
    referer: Referer


class Device(TypedDict, total=False):
    """``context.device`` of an event; not Tracardi's, but a context may have any keys."""

    id: str | int
    type: str
    manufacturer: str
    model: str
    name: str


class App(TypedDict, total=False):
    """``context.app`` of an event; not Tracardi's, but a context may have any keys."""

    name: str
    version: str
    build: str
    namespace: str


class EventContext(TypedDict, total=False):
    """``context`` of an event; further keys are allowed."""

    page: Page
    device: Device
    app: App
    ip: str
    channel: str
    user_id: str | int
    group_id: str | int
    consent: dict[str, Any]
    traits: SpecTraits


class EventTime(TypedDict, total=False):
    """``time`` of an event: text by ISO 8601, or Unix time in s or ms."""

    create: str | int | float


class AnyEvent(TypedDict, total=False):
    """One of ``events[]``."""

    id: str
    type: Required[str]
    time: EventTime
    context: EventContext


class TrackerPayload(TypedDict, total=False):
    """The body of ``POST /track``."""

    source: Required[Entity]
    session: Entity
    profile: Entity
    device: SentFrom
    context: SessionContext
    events: list[AnyEvent]


class Product(TypedDict, total=False):
    """A product in predefined events."""

    id: str | int
    name: str
    sku: str | int
    category: str
    brand: str
    variant: Any
    """``{name, color, size}``, or only the name."""
    price: float | str
    quantity: float | str
    position: int | float | str
    url: Any
    """``{page, image}``, or only the page."""
    coupon: str
    description: str


class Money(TypedDict, total=False):
    """``income`` of an order."""

    value: float | str
    currency: str


class AnyProperties(SpecProperties, total=False):
    """Properties of an event of any type; those of the Segment Spec have its names."""

    products: list[Product]  # type: ignore[misc]  # products are spelled as Tracardi does
    id: str | int
    name: str
    income: Money
    method: str


class ProductProperties(AnyProperties, Product, total=False):
    """Properties of an event about one product."""

    media: str
    review: str
    rate: float | int | str


class TrackedEvent(AnyEvent, total=False):
    """An event about any number of products."""

    properties: AnyProperties


class ProductEvent(AnyEvent, total=False):
    """An event about one product."""

    properties: ProductProperties


class Pii(TypedDict, total=False):
    """``pii`` of a profile."""

    firstname: str
    lastname: str
    display_name: str
    name: str
    birthday: str
    gender: str


class Identifier(TypedDict, total=False):
    """``identifier`` of a profile."""

    id: str | int
    pk: str | int


class Contact(TypedDict, total=False):
    """``contact`` of a profile."""

    email: Any
    """``{main, private, business}`` since 0.8.2, text before."""
    phone: Any
    """``{main, mobile, whatsapp, business}`` since 0.8.2, text before."""
    address: dict[str, Any] | str


class Media(TypedDict, total=False):
    """``media`` of a profile."""

    image: str
    webpage: str


class Job(TypedDict, total=False):
    """``job`` of a profile."""

    position: str
    company: dict[str, Any] | str


class Profile(TypedDict, total=False):
    """Properties of ``profile-update``; the last four are not Tracardi's, but any are allowed."""

    pii: Pii
    identifier: Identifier
    contact: Contact
    media: Media
    job: Job
    age: int | float | str
    username: str
    description: str
    created_at: str


class ProfileEvent(AnyEvent, total=False):
    """``profile-update``."""

    properties: Profile


class Identification(TypedDict, total=False):
    """Properties of ``identification``."""

    id: str | int
    pk: str | int
    login: str
    firstname: str
    lastname: str
    email: Any
    """``{main, private, business}`` since 0.8.2, text before."""
    phone: Any
    """``{main, mobile, whatsapp, business}`` since 0.8.2, text before."""


class IdentificationEvent(AnyEvent, total=False):
    """``identification``."""

    properties: Identification

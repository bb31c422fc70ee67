"""Types of Segment's payloads.

Sources: https://segment.com/docs/connections/spec/common/ (fields of every call) and the pages
next to it: identify, track, page, screen, group and alias;
https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/ (the batch).
"""

from typing import Any, TypedDict

from gateway.plugin.spec import SpecProductProperties, SpecProperties, SpecTraits


class App(TypedDict, total=False):
    """``context.app``."""

    name: str
    version: str
    build: str
    namespace: str


class Campaign(TypedDict, total=False):
    """``context.campaign``."""

    name: str
    source: str
    medium: str
    term: str
    content: str


class Device(TypedDict, total=False):
    """``context.device``."""

    id: str | int
    type: str
    manufacturer: str
    model: str
    name: str


class Page(TypedDict, total=False):
    """``context.page``."""

    url: str
    path: str
    title: str
    referrer: str
    search: str


class Consent(TypedDict, total=False):
    """``context.consent``; https://segment.com/docs/privacy/consent-management/."""

    categoryPreferences: dict[str, Any]


class Context(TypedDict, total=False):
    """``context``; further keys are allowed."""

    app: App
    campaign: Campaign
    device: Device
    page: Page
    consent: Consent
    ip: str
    userAgent: str
    locale: str
    timezone: str
    channel: str
    groupId: str | int
    sessionId: str | int
    """RudderStack's (GitHub rudderlabs/rudder-sdk-js); Segment has no place for a session."""
    traits: SpecTraits


class Call(TypedDict, total=False):
    """Fields of every call."""

    type: str
    writeKey: str
    messageId: str | int
    timestamp: str
    sentAt: str
    userId: str | int | float
    anonymousId: str | int | float
    channel: str
    """RudderStack's place for it."""
    context: Context


class Identify(Call, total=False):
    """An ``identify`` call."""

    traits: SpecTraits


class Track(Call, total=False):
    """A ``track`` call."""

    event: str
    properties: SpecProperties


class TrackOne(Call, total=False):
    """A ``track`` call about one product."""

    event: str
    properties: SpecProductProperties


class Visited(TypedDict, total=False):
    """Properties of a page or screen; further keys are allowed."""

    name: str
    category: str


class Visit(Call, total=False):
    """A ``page`` or ``screen`` call."""

    name: str
    category: str
    properties: Visited


class VisitInFull(Call, total=False):
    """The same, with all event properties of the Spec."""

    name: str
    properties: SpecProperties


class Group(Call, total=False):
    """A ``group`` call."""

    groupId: str | int
    traits: SpecTraits


class Alias(Call, total=False):
    """An ``alias`` call."""

    previousId: str | int | float


class Batch(TypedDict, total=False):
    """Several calls; ``context`` and ``integrations`` apply to all of them."""

    writeKey: str
    sentAt: str
    batch: list[Any]

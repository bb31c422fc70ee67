"""Types of chrts' payloads: https://chrts.co/docs/api."""

from typing import TypedDict

from gateway.plugin.spec import SpecProductProperties, SpecProperties, SpecTraits


class Customer(TypedDict, total=False):
    """The customer of a request; one of the three ids is required."""

    uid: str
    userId: str
    anonymousId: str


class Identify(Customer, total=False):
    """The body of ``POST /customer/identify``; ``attributes`` or ``traits``, not both."""

    attributes: SpecTraits
    traits: SpecTraits


class Alias(TypedDict, total=False):
    """The body of ``POST /customer/alias``; here ``anonymousId`` is the known side."""

    uid: str
    userId: str
    knownUid: str
    previousId: str
    anonymousId: str


class Track(Customer, total=False):
    """The body of ``POST /event/track``, with top-level properties in ``properties``.

    ``event`` is the name in a Segment-shaped body.
    """

    name: str
    event: str
    properties: SpecProperties


class TrackProduct(Track, total=False):
    """The same for an event about one product."""

    properties: SpecProductProperties  # type: ignore[misc]  # narrowed for its own table

"""Types of Growlytics' payloads.

Customers: https://docs.growlytics.in/rest-apis/tracking-users-1; events:
https://docs.growlytics.in/rest-apis/tracking-events-1.

In a payload ``attributes`` is a list of `Attribute`. In the tables it is an object by name;
plugins/growlytics/attributes.py converts between them.
"""

from datetime import datetime
from typing import Literal, TypedDict

from gateway.plugin.spec import SpecProductProperties, SpecProperties

Kind = Literal["string", "number", "boolean", "date"]


class Attribute(TypedDict):
    """One attribute in the list; a date's value is ``YYYY-MM-DD HH:mm:ss``."""

    name: str
    type: Kind
    value: str | float | bool


class CustomerAttributes(TypedDict, total=False):
    """Attributes of a customer, by name.

    ``name``, ``email`` and ``mobile`` are Growlytics' own; the others are traits of the Segment
    Spec. Further attributes are allowed.
    """

    name: str
    email: str
    mobile: str | int | float
    firstName: str
    lastName: str
    gender: str
    birthday: str | datetime
    age: int | float | str
    username: str
    title: str
    avatar: str
    website: str
    description: str
    createdAt: str | datetime
    address: str
    company: str


class Customer(TypedDict, total=False):
    """The body of ``POST /rest-api/customer``."""

    id: str
    attributes: CustomerAttributes


class Track(TypedDict, total=False):
    """The body of ``POST /rest-api/event``; any attributes are allowed."""

    customerId: str
    name: str
    attributes: SpecProperties


class TrackProduct(Track, total=False):
    """The same for an event about one product."""

    attributes: SpecProductProperties  # type: ignore[misc]  # narrowed for its own table

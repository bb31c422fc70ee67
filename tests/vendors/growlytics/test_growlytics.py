"""Growlytics holds to the contract."""

from pathlib import Path
from typing import ClassVar, TypedDict

from gateway.plugin import Secret
from gateway.testing import DeliverySuite, VendorSuite
from plugins.growlytics.input import GrowlyticsInput
from plugins.growlytics.output import GrowlyticsOutput
from plugins.growlytics.wire import Attribute


class Customer(TypedDict):
    """The body of ``POST /rest-api/customer``, its attributes as they are sent."""

    id: str
    attributes: list[Attribute]


class Track(TypedDict):
    """The body of ``POST /rest-api/event``, likewise."""

    customerId: str
    name: str
    attributes: list[Attribute]


class TestGrowlytics(VendorSuite):
    """See gateway/testing/vendor.py."""

    samples = Path(__file__).parent
    wires: ClassVar = {"POST /rest-api/customer": Customer, "POST /rest-api/event": Track}
    input = GrowlyticsInput()
    output = GrowlyticsOutput(
        GrowlyticsOutput.Config(url="https://growlytics.example", api_key=Secret("key-out"))
    )


class TestGrowlyticsDelivery(DeliverySuite):
    """See gateway/testing/delivery.py."""

    samples = TestGrowlytics.samples
    input = TestGrowlytics.input
    output = TestGrowlytics.output

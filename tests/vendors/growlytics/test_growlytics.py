"""Growlytics holds to the contract."""

from pathlib import Path
from typing import ClassVar, TypedDict

import orjson

from gateway.http import Response
from gateway.plugin.settings import Secret
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
    """See gateway/testing/vendor_suite.py."""

    samples = Path(__file__).parent
    wires: ClassVar = {"POST /rest-api/customer": Customer, "POST /rest-api/event": Track}
    input = GrowlyticsInput()
    output = GrowlyticsOutput(
        GrowlyticsOutput.Config(url="https://growlytics.example", api_key=Secret("key-out"))
    )

    def native(self, answer: Response) -> bool:
        """Tell whether *answer* is Joi's report of one problem, or a success turned around."""
        said = orjson.loads(answer.body)
        if answer.status == 422:
            (problem,) = said.pop("details")
            keys = {"message", "path", "type", "context"}
            return said == {"type": "ValidationError"} and set(problem) == keys
        message = said.pop("message")
        return answer.status in {401, 413} and said == {"success": False} and bool(message)


class TestGrowlyticsDelivery(DeliverySuite):
    """See gateway/testing/delivery_suite.py."""

    samples = TestGrowlytics.samples
    input = TestGrowlytics.input
    output = TestGrowlytics.output

"""Growlytics passes the suites of the conformance kit."""

from pathlib import Path
from typing import ClassVar, TypedDict

import orjson

from gateway.event import Event
from gateway.http import Response
from gateway.plugin.settings import Secret
from gateway.testing import DeliverySuite, SandboxSuite, VendorSuite
from plugins.growlytics.input import GrowlyticsInput
from plugins.growlytics.output import GrowlyticsOutput
from plugins.growlytics.sandbox import GrowlyticsSandbox
from plugins.growlytics.wire import Attribute
from tests.vendors.growlytics.rendering import output, track

NOBODY = (
    "growlytics needs a customer: the event has no user, anonymous or device id, no "
    "e-mail and no phone"
)


class Customer(TypedDict):
    """The body of ``POST /rest-api/customer`` with its attributes as sent."""

    id: str
    attributes: list[Attribute]


class Track(TypedDict):
    """The body of ``POST /rest-api/event`` with its attributes as sent."""

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
    declined = (
        (
            track(user_id=None),
            NOBODY,
        ),
        (track("n" * 50), "growlytics needs an event name of 1 to 49 characters"),
        (track("  "), "growlytics needs an event name of 1 to 49 characters"),
        (
            track("UTM Visited"),
            ("growlytics reserves the event name 'UTM Visited'; rename the event in a step"),
        ),
        (
            track("app uninstalled"),
            ("growlytics reserves the event name 'app uninstalled'; rename the event in a step"),
        ),
        (
            Event(type="alias", user_id="u1", previous_id="a1"),
            "growlytics cannot merge customers: its REST API has one id per customer",
        ),
        (
            Event(type="product", user_id="u1"),
            ("growlytics accepts products only at another host (POST /product), not as events"),
        ),
    )

    def native(self, answer: Response) -> bool:
        """Return whether *answer* is Joi's report of one problem, or has ``success`` false."""
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


class TestGrowlyticsSandbox(SandboxSuite):
    """See gateway/testing/sandbox_suite.py."""

    sandbox = GrowlyticsSandbox()
    outputs: ClassVar = {kind: output(anonymous=kind) for kind in ("as-id", "decline")}
    key = "key-out"
    input = TestGrowlytics.input
    samples = TestGrowlytics.samples
    wrong_body = 422

"""Quartic holds to the contract."""

from pathlib import Path
from typing import ClassVar, NotRequired, TypedDict

from gateway.plugin import Secret
from gateway.testing import DeliverySuite, VendorSuite
from plugins.quartic.input import QuarticInput
from plugins.quartic.output import QuarticOutput
from plugins.quartic.wire import Agreement, Tag


class Contact(TypedDict):
    """The body of ``POST /store/contact``, its lists as they are sent."""

    email: str
    cookie: NotRequired[str]
    agreements: NotRequired[list[Agreement]]
    tags: NotRequired[list[Tag]]


class TestQuartic(VendorSuite):
    """See gateway/testing/vendor.py."""

    samples = Path(__file__).parent
    wires: ClassVar = {"POST /store/contact": Contact}
    input = QuarticInput()
    output = QuarticOutput(
        QuarticOutput.Config(
            url="https://quartic.example", api_key=Secret("key-out"), customer="account_out"
        )
    )


class TestQuarticDelivery(DeliverySuite):
    """See gateway/testing/delivery.py."""

    samples = TestQuartic.samples
    input = TestQuartic.input
    output = TestQuartic.output

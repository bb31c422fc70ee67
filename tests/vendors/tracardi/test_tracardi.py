"""Tracardi holds to the contract."""

from pathlib import Path

from gateway.plugin import Secret
from gateway.testing import DeliverySuite, VendorSuite
from plugins.tracardi.input import TracardiInput
from plugins.tracardi.output import TracardiOutput


class TestTracardi(VendorSuite):
    """See gateway/testing/vendor.py."""

    samples = Path(__file__).parent
    input = TracardiInput()
    output = TracardiOutput(
        TracardiOutput.Config(url="https://tracardi.example", source_id=Secret("source-out"))
    )


class TestTracardiDelivery(DeliverySuite):
    """See gateway/testing/delivery.py."""

    samples = TestTracardi.samples
    input = TestTracardi.input
    output = TestTracardi.output

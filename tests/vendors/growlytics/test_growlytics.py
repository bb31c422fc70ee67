"""Growlytics holds to the contract."""

from pathlib import Path

from gateway.plugin import Secret
from gateway.testing import VendorSuite
from plugins.growlytics.input import GrowlyticsInput
from plugins.growlytics.output import GrowlyticsOutput


class TestGrowlytics(VendorSuite):
    """See gateway/testing/vendor.py."""

    samples = Path(__file__).parent
    input = GrowlyticsInput()
    output = GrowlyticsOutput(
        GrowlyticsOutput.Config(url="https://growlytics.example", api_key=Secret("key-out"))
    )

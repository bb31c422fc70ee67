"""Quartic holds to the contract."""

from pathlib import Path

from gateway.plugin import Secret
from gateway.testing import VendorSuite
from plugins.quartic.input import QuarticInput
from plugins.quartic.output import QuarticOutput


class TestQuartic(VendorSuite):
    """See gateway/testing/vendor.py."""

    samples = Path(__file__).parent
    input = QuarticInput()
    output = QuarticOutput(
        QuarticOutput.Config(
            url="https://quartic.example", api_key=Secret("key-out"), customer="account_out"
        )
    )

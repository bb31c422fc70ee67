"""chrts holds to the contract."""

from pathlib import Path

from gateway.plugin import Secret
from gateway.testing import DeliverySuite, VendorSuite
from plugins.chrts.input import ChrtsInput
from plugins.chrts.output import ChrtsOutput


class TestChrts(VendorSuite):
    """See gateway/testing/vendor.py."""

    samples = Path(__file__).parent
    input = ChrtsInput()
    output = ChrtsOutput(
        ChrtsOutput.Config(url="https://chrts.example", api_key=Secret("api_chrts_out"))
    )


class TestChrtsDelivery(DeliverySuite):
    """See gateway/testing/delivery.py."""

    samples = TestChrts.samples
    input = TestChrts.input
    output = TestChrts.output

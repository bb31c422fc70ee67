"""chrts holds to the contract."""

from pathlib import Path

from gateway.plugin import Secret
from gateway.testing import VendorSuite
from plugins.chrts.input import ChrtsInput
from plugins.chrts.output import ChrtsOutput


class TestChrts(VendorSuite):
    """See gateway/testing/vendor.py."""

    samples = Path(__file__).parent
    input = ChrtsInput()
    output = ChrtsOutput(
        ChrtsOutput.Config(url="https://chrts.example", api_key=Secret("api_chrts_out"))
    )

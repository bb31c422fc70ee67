"""chrts holds to the contract."""

from pathlib import Path

import orjson

from gateway.http import Response
from gateway.plugin.settings import Secret
from gateway.testing import DeliverySuite, VendorSuite
from plugins.chrts.input import ChrtsInput
from plugins.chrts.output import ChrtsOutput


class TestChrts(VendorSuite):
    """See gateway/testing/vendor_suite.py."""

    samples = Path(__file__).parent
    input = ChrtsInput()
    output = ChrtsOutput(
        ChrtsOutput.Config(url="https://chrts.example", api_key=Secret("api_chrts_out"))
    )

    def native(self, answer: Response) -> bool:
        """Tell whether *answer* has the shape of chrts' documented 400."""
        said = orjson.loads(answer.body)
        message = said.pop("message")
        shape = {"status": False, "code": answer.status}
        return answer.status in {400, 401, 413} and said == shape and bool(message)


class TestChrtsDelivery(DeliverySuite):
    """See gateway/testing/delivery_suite.py."""

    samples = TestChrts.samples
    input = TestChrts.input
    output = TestChrts.output

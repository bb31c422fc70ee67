"""chrts passes the suites of the conformance kit."""

from pathlib import Path
from typing import ClassVar

import orjson

from gateway.event import Event
from gateway.http import Response
from gateway.plugin.settings import Secret
from gateway.testing import DeliverySuite, SandboxSuite, VendorSuite
from plugins.chrts.input import ChrtsInput
from plugins.chrts.output import ChrtsOutput
from plugins.chrts.sandbox import ChrtsSandbox

NOBODY = "chrts needs a user: the event has no user, anonymous or device id, no e-mail and no phone"
HALF_AN_ALIAS = "chrts needs two ids for an alias: the user id or the previous id is missing"


class TestChrts(VendorSuite):
    """See gateway/testing/vendor_suite.py."""

    samples = Path(__file__).parent
    input = ChrtsInput()
    output = ChrtsOutput(
        ChrtsOutput.Config(url="https://chrts.example", api_key=Secret("api_chrts_out"))
    )
    declined = (
        (Event(type="product", user_id="u1"), "chrts has no catalogue for products"),
        (Event(type="track", name="x", origin="growlytics"), NOBODY),
        (
            Event(type="track", name="  ", user_id="u1", origin="growlytics"),
            "chrts needs an event name",
        ),
        (Event(type="alias", user_id="u1"), HALF_AN_ALIAS),
        (Event(type="alias", previous_id="p1", anonymous_id="a1"), HALF_AN_ALIAS),
    )

    def native(self, answer: Response) -> bool:
        """Return whether *answer* has the format of the documented 400."""
        said = orjson.loads(answer.body)
        message = said.pop("message")
        shape = {"status": False, "code": answer.status}
        return answer.status in {400, 401, 413} and said == shape and bool(message)


class TestChrtsDelivery(DeliverySuite):
    """See gateway/testing/delivery_suite.py."""

    samples = TestChrts.samples
    input = TestChrts.input
    output = TestChrts.output


class TestChrtsSandbox(SandboxSuite):
    """See gateway/testing/sandbox_suite.py."""

    sandbox = ChrtsSandbox()
    outputs: ClassVar = {"": TestChrts.output}
    key = "api_chrts_out"
    input = TestChrts.input
    samples = TestChrts.samples

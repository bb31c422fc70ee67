"""Quartic holds to the contract."""

from pathlib import Path
from typing import ClassVar, NotRequired, TypedDict

import orjson

from gateway.http import Response
from gateway.plugin.settings import Secret
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
    """See gateway/testing/vendor_suite.py."""

    samples = Path(__file__).parent
    wires: ClassVar = {"POST /store/contact": Contact}
    input = QuarticInput()
    output = QuarticOutput(
        QuarticOutput.Config(
            url="https://quartic.example", api_key=Secret("key-out"), customer="account_out"
        )
    )

    def native(self, answer: Response) -> bool:
        """Tell whether *answer* has the envelope of Quartic's errors."""
        said = orjson.loads(answer.body)
        data = said.pop("data")
        coded = data.pop("error_code") == f"http.status.{answer.status}"
        stamped = type(said.pop("timestamp")) is int
        told = said == {"status": "ERROR"} and data.keys() == {"error_message"}
        return answer.status in {401, 405, 413} and coded and stamped and told


class TestQuarticDelivery(DeliverySuite):
    """See gateway/testing/delivery_suite.py."""

    samples = TestQuartic.samples
    input = TestQuartic.input
    output = TestQuartic.output

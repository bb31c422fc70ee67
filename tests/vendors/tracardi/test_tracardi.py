"""Tracardi holds to the contract."""

from pathlib import Path

import orjson

from gateway.http import Response
from gateway.plugin.settings import Secret
from gateway.testing import DeliverySuite, VendorSuite
from plugins.tracardi.input import TracardiInput
from plugins.tracardi.output import TracardiOutput


class TestTracardi(VendorSuite):
    """See gateway/testing/vendor_suite.py."""

    samples = Path(__file__).parent
    input = TracardiInput()
    output = TracardiOutput(
        TracardiOutput.Config(url="https://tracardi.example", source_id=Secret("source-out"))
    )

    def native(self, answer: Response) -> bool:
        """Tell whether *answer* has FastAPI's shape: problems in a list, or one sentence."""
        said = orjson.loads(answer.body)
        told = said.pop("detail")
        if answer.status == 422:
            keys = {"type", "loc", "msg", "input"}
            return not said and all(keys <= problem.keys() for problem in told)
        return answer.status in {401, 413} and not said and type(told) is str


class TestTracardiDelivery(DeliverySuite):
    """See gateway/testing/delivery_suite.py."""

    samples = TestTracardi.samples
    input = TestTracardi.input
    output = TestTracardi.output

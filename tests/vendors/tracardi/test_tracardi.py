"""Tracardi passes the suites of the conformance kit."""

from pathlib import Path
from typing import ClassVar

import orjson

from gateway.event import Event, Properties, Traits
from gateway.http import Response
from gateway.plugin.settings import Secret
from gateway.testing import DeliverySuite, SandboxSuite, VendorSuite
from plugins.tracardi.input import TracardiInput
from plugins.tracardi.output import TracardiOutput
from plugins.tracardi.sandbox import TracardiSandbox
from tests.vendors.tracardi.rendering import SHOES, track

NOBODY = (
    "tracardi needs a user for a profile: the event has no anonymous, session, user or "
    "device id, no e-mail and no phone"
)
NO_ALIAS = "tracardi has no alias call: it merges profiles by the merge keys in its configuration"
NO_TYPE = "tracardi needs an event name"


class TestTracardi(VendorSuite):
    """See gateway/testing/vendor_suite.py."""

    samples = Path(__file__).parent
    input = TracardiInput()
    output = TracardiOutput(
        TracardiOutput.Config(url="https://tracardi.example", source_id=Secret("source-out"))
    )
    declined = (
        (
            Event(type="identify", traits=Traits(first_name="Ada")),
            NOBODY,
        ),
        (
            Event(type="alias", user_id="u1", previous_id="a1"),
            NO_ALIAS,
        ),
        (
            Event(type="product", properties=Properties(products=(SHOES,))),
            "tracardi has no catalogue for products",
        ),
        (track(""), NO_TYPE),
        (track("  "), NO_TYPE),
    )

    def native(self, answer: Response) -> bool:
        """Return whether *answer* has FastAPI's format: a list of problems, or one text."""
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


class TestTracardiSandbox(SandboxSuite):
    """See gateway/testing/sandbox_suite.py."""

    sandbox = TracardiSandbox()
    outputs: ClassVar = {"": TestTracardi.output}
    key = "source-out"
    input = TestTracardi.input
    samples = TestTracardi.samples
    wrong_body = 422

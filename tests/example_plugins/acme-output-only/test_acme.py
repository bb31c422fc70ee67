"""Acme's output and sandbox pass the suites of the conformance kit."""

from pathlib import Path
from typing import ClassVar

import acme
import pytest
from acme.output import AcmeOutput
from acme.sandbox import AcmeSandbox

from gateway.plugin import Event, Request, Secret
from gateway.testing import DeliverySuite, OutputSuite, SandboxSuite, load_plugins


class TestAcmeOutput(OutputSuite):
    """The rules for an output, checked on each sample."""

    samples = Path(__file__).parent / "samples"
    output = AcmeOutput(
        AcmeOutput.Config(url="https://acme.example", api_key=Secret("acme-out")),
    )
    declined = (
        (
            Event(type="track", name="Product Viewed"),
            "acme needs to know the user: there is no user id",
        ),
        (Event(type="page", user_id="u1"), "acme has no way to say a page call"),
    )


class TestAcmeSandbox(SandboxSuite):
    """The sandbox accepts what the output sends, and refuses the rest."""

    sandbox = AcmeSandbox()
    outputs: ClassVar = {"": TestAcmeOutput.output}
    key = "acme-out"
    samples = TestAcmeOutput.samples
    success = frozenset({202})
    wrong_method = 404


class TestAcmeDelivery(DeliverySuite):
    """A running gateway gives each event one outcome, also if Acme fails."""

    output = TestAcmeOutput.output


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, b'{"what": "looked", "who": "u1"}', 401),
        ({"x-acme-key": "acme-out"}, b'{"what": "looked"}', 400),
        ({"x-acme-key": "acme-out"}, b'{"what": " ", "who": "u1"}', 400),
    ],
)
def test_its_sandbox_is_strict(headers: dict[str, str], body: bytes, status: int) -> None:
    """A request that breaks the vendor's documentation is refused with a reason."""
    request = Request(method="POST", url="/v1/events", headers=headers, body=body)
    answer = AcmeSandbox().respond(request, "acme-out")
    assert answer.response.status == status
    assert answer.reason


def test_is_found_through_its_hooks() -> None:
    """The gateway finds output and sandbox through the hooks."""
    registry = load_plugins([acme])
    assert registry.outputs["acme"] is AcmeOutput
    assert registry.sandboxes["acme"] is AcmeSandbox

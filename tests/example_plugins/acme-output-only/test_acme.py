"""Acme's output and its emulated server hold to the contract."""

from pathlib import Path
from typing import ClassVar

import acme
import pytest
from acme.output import AcmeOutput
from acme.sandbox import AcmeSandbox

from gateway.plugin import Event, Request, Secret
from gateway.testing import DeliverySuite, OutputSuite, SandboxSuite, load_plugins


class TestAcmeOutput(OutputSuite):
    """What it must hold to, sample by sample."""

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
    """What Acme's emulated server must hold to."""

    sandbox = AcmeSandbox()
    outputs: ClassVar = {"": TestAcmeOutput.output}
    key = "acme-out"
    samples = TestAcmeOutput.samples
    success = frozenset({202})
    wrong_method = 404


class TestAcmeDelivery(DeliverySuite):
    """The running gateway, and Acme in trouble: every event meets one end."""

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
    """A request that the vendor's document rules out is refused, with a reason."""
    request = Request(method="POST", url="/v1/events", headers=headers, body=body)
    answer = AcmeSandbox().respond(request, "acme-out")
    assert answer.response.status == status
    assert answer.reason


def test_is_found_through_its_hooks() -> None:
    """The gateway finds both, whether the package is installed or not."""
    registry = load_plugins([acme])
    assert registry.outputs["acme"] is AcmeOutput
    assert registry.sandboxes["acme"] is AcmeSandbox

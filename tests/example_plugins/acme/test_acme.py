"""Acme passes the suites of the conformance kit."""

from pathlib import Path
from typing import ClassVar

import acme
import orjson
import pytest
from acme.input import AcmeInput
from acme.output import AcmeOutput
from acme.sandbox import AcmeSandbox

from gateway.plugin import Event, Fault, Request, Response, Secret
from gateway.testing import (
    DeliverySuite,
    FaultAnswer,
    RefusalSuite,
    RefusedRequest,
    SandboxSuite,
    VendorSuite,
    load_plugins,
    post,
)


class TestAcme(VendorSuite):
    """The rules for both halves, checked on each sample."""

    samples = Path(__file__).parent / "samples"
    input = AcmeInput()
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

    def native(self, answer: Response) -> bool:
        """Return whether the refusal *answer* has the format of Acme's errors."""
        said = orjson.loads(answer.body)
        return answer.status < 500 and said == {"ok": False, "error": said["error"]}


class TestAcmeDelivery(DeliverySuite):
    """A running gateway gives each event one outcome, also if Acme fails."""

    samples = TestAcme.samples
    input = TestAcme.input
    output = TestAcme.output


class TestAcmeSandbox(SandboxSuite):
    """The sandbox accepts what the output sends, and refuses the rest."""

    sandbox = AcmeSandbox()
    outputs: ClassVar = {"": TestAcme.output}
    key = "acme-out"
    input = TestAcme.input
    samples = TestAcme.samples
    success = frozenset({202})
    wrong_method = 404


class TestAcmeRefusals(RefusalSuite):
    """Which requests Acme's input refuses, and in which format."""

    input = TestAcme.input
    faults: ClassVar = {
        Fault.UNAUTHENTICATED: FaultAnswer(401),
        Fault.FORBIDDEN: FaultAnswer(403),
        Fault.TOO_LARGE: FaultAnswer(413),
        Fault.NOT_FOUND: FaultAnswer(404),
        Fault.METHOD: FaultAnswer(405),
        Fault.UNSUPPORTED: FaultAnswer(400),
        Fault.UNAVAILABLE: FaultAnswer(503),
    }
    refused = (
        RefusedRequest(
            post("/v1/events", {"what": "looked"}), 400, {"ok": False, "error": "who: required"}
        ),
    )
    credentials = (
        (post("/v1/events"), None),
        (post("/v1/events", headers={"x-acme-key": "acme-in"}), "acme-in"),
    )

    def refusal(self, status: int, message: str) -> object:
        """Return the body of an error."""
        del status
        return {"ok": False, "error": message}


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, b'{"what": "looked", "who": "u1"}', 401),
        ({"x-acme-key": "other"}, b'{"what": "looked", "who": "u1"}', 401),
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
    """The gateway finds input, output and sandbox through the hooks."""
    registry = load_plugins([acme])
    assert registry.inputs["acme"] is AcmeInput
    assert registry.outputs["acme"] is AcmeOutput
    assert registry.sandboxes["acme"] is AcmeSandbox

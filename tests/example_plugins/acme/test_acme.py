"""Acme holds to the contract."""

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
    """What its two halves must hold to, sample by sample."""

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
        """Tell whether *answer*, a refusal, has the shape of Acme's errors."""
        said = orjson.loads(answer.body)
        return answer.status < 500 and said == {"ok": False, "error": said["error"]}


class TestAcmeDelivery(DeliverySuite):
    """The running gateway, and Acme in trouble: every event meets one end."""

    samples = TestAcme.samples
    input = TestAcme.input
    output = TestAcme.output


class TestAcmeSandbox(SandboxSuite):
    """What the output writes is what the document asks for, and Acme's server is strict."""

    sandbox = AcmeSandbox()
    outputs: ClassVar = {"": TestAcme.output}
    key = "acme-out"
    input = TestAcme.input
    samples = TestAcme.samples
    success = frozenset({202})
    wrong_method = 404


class TestAcmeRefusals(RefusalSuite):
    """What Acme's input refuses, in which words."""

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
    """A request that the vendor's document rules out is refused, with a reason."""
    request = Request(method="POST", url="/v1/events", headers=headers, body=body)
    answer = AcmeSandbox().respond(request, "acme-out")
    assert answer.response.status == status
    assert answer.reason


def test_is_found_through_its_hooks() -> None:
    """The gateway finds all three, whether the package is installed or not."""
    registry = load_plugins([acme])
    assert registry.inputs["acme"] is AcmeInput
    assert registry.outputs["acme"] is AcmeOutput
    assert registry.sandboxes["acme"] is AcmeSandbox

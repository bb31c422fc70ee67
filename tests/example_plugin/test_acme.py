"""Acme holds to the contract."""

from pathlib import Path
from urllib.parse import urlsplit

import acme
import orjson
import pytest
from acme.input import AcmeInput
from acme.output import AcmeOutput
from acme.sandbox import AcmeSandbox
from msgspec.structs import replace

from gateway.http import Request, Response
from gateway.plugin.registry import load_plugins
from gateway.plugin.settings import Secret
from gateway.testing import DeliverySuite, Sample, VendorSuite, request_of


class TestAcme(VendorSuite):
    """What its two halves must hold to, sample by sample."""

    samples = Path(__file__).parent / "samples"
    input = AcmeInput()
    output = AcmeOutput(
        AcmeOutput.Config(url="https://acme.example", api_key=Secret("acme-out")),
    )

    def native(self, answer: Response) -> bool:
        """Tell whether *answer*, a refusal, has the shape of Acme's errors."""
        said = orjson.loads(answer.body)
        return answer.status < 500 and said == {"ok": False, "error": said["error"]}

    def test_its_sandbox_takes_what_goes_out(self, sample: Sample) -> None:
        """What the output writes is what the vendor's document asks for."""
        for event in self.input.parse(request_of(sample)):
            sent = self.output.render(event)
            assert isinstance(sent, Request)
            received = replace(sent, url=urlsplit(sent.url).path)
            assert AcmeSandbox().respond(received, "acme-out").reason is None


class TestAcmeDelivery(DeliverySuite):
    """The running gateway, and Acme in trouble: every event meets one end."""

    samples = TestAcme.samples
    input = TestAcme.input
    output = TestAcme.output


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

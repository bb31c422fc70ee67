"""Acme holds to the contract."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace

from gateway.exchange import Delivered, Request
from gateway.plugin import Secret
from gateway.plugins import load
from gateway.testing import Sample, VendorSuite, load_samples, request_of
from tests.e2e.running import running
from tests.example_plugin import acme
from tests.example_plugin.acme.input import AcmeInput
from tests.example_plugin.acme.output import AcmeOutput
from tests.example_plugin.acme.sandbox import AcmeSandbox

SAMPLES = Path(__file__).parent / "samples"


class TestAcme(VendorSuite):
    """See gateway/testing/vendor.py."""

    samples = SAMPLES
    input = AcmeInput()
    output = AcmeOutput(
        AcmeOutput.Config(url="https://acme.example", api_key=Secret("acme-out")),
    )

    def test_its_sandbox_takes_what_goes_out(self, sample: Sample) -> None:
        """What the output writes is what the vendor's document asks for."""
        for event in self.input.parse(request_of(sample)):
            sent = self.output.render(event)
            assert isinstance(sent, Request)
            received = replace(sent, url=urlsplit(sent.url).path)
            assert AcmeSandbox().answer(received, "acme-out").reason is None


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
    answer = AcmeSandbox().answer(request, "acme-out")
    assert answer.response.status == status
    assert answer.reason


def test_is_found_through_its_hooks() -> None:
    """A module that is handed over registers as those in plugins/ do."""
    registry = load(extra=[acme])
    assert registry.inputs["acme"] is AcmeInput
    assert registry.outputs["acme"] is AcmeOutput
    assert registry.sandboxes["acme"] is AcmeSandbox


async def test_runs(tmp_path: Path) -> None:
    """A gateway with the plugin answers as Acme does, and what it delivers is what Acme takes."""

    def config(sandbox: str) -> str:
        return (
            f'[server]\nlisten = "127.0.0.1:0"\n[spool]\npath = "{tmp_path / "spool"}"\n'
            '[sources.shop]\nvendor = "acme"\nkeys = ["acme-in"]\n'
            f'[destinations.crm]\nvendor = "acme"\nurl = "{sandbox}/acme"\napi_key = "acme-out"\n'
            '[[routes]]\nto = ["crm"]\n'
        )

    sample = load_samples(SAMPLES)["looked"]
    raw = sample["request"]
    async with running(tmp_path, config, [acme]) as run:
        async with run.client.post(
            run.url + raw["url"], json=raw["body"], headers=raw["headers"]
        ) as answer:
            assert (answer.status, await answer.json()) == (202, {"ok": True})
        await run.watch.until(lambda watch: bool(watch.settled))
        (entry,) = await run.journal("acme")
    assert isinstance(run.watch.settled[0][2], Delivered)
    assert entry["verdict"] == "accepted"
    assert entry["body"] == sample["deliveries"][0]["body"]

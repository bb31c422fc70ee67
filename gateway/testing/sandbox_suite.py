"""The sandbox suite: the vendor's sandbox accepts every request that the output renders.

The sandbox is written from the vendor's documentation, the output from its mapping: if they
disagree, one of them is wrong.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from msgspec.structs import replace

from gateway.event import Event
from gateway.http import Request
from gateway.plugin.vendor import Input, Output
from gateway.sandbox import Sandbox, SandboxResponse
from gateway.testing.output_rules import rendered
from gateway.testing.plugin_watch import PluginSuite
from gateway.testing.samples import (
    ARRIVAL,
    EVENTS,
    Sample,
    events_of,
    load_samples,
    request_of,
)
from gateway.testing.side_effects import forbid_side_effects

NO_OBJECTS = [b"", b"{", b"[]", b"\xff"]
"""Bodies that are not JSON objects."""


class SandboxSuite(PluginSuite):
    """Tests the contract of a vendor's sandbox, and of its output."""

    sandbox: ClassVar[Sandbox]
    outputs: ClassVar[Mapping[str, Output]]
    """Outputs of the vendor, by a name for their settings; all use `key`."""
    key: ClassVar[str]
    """The key of the outputs, as the sandbox compares it."""
    input: ClassVar[Input | None] = None
    """The vendor's input, if it has one."""
    samples: ClassVar[Path | None] = None
    """The folder of its samples."""
    success: ClassVar[frozenset[int]] = frozenset({200})
    """The statuses of an accepted request."""
    unauthorized: ClassVar[int] = 401
    """The status of a request with another key."""
    wrong_path: ClassVar[int] = 404
    """The status of a path that is not documented."""
    wrong_method: ClassVar[int] = 405
    """The status of a documented path with another method."""
    wrong_body: ClassVar[int] = 400
    """The status of a body that is not a JSON object."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test about what goes out once per destination."""
        super().pytest_generate_tests(metafunc)
        if "output" in metafunc.fixturenames:
            metafunc.parametrize("output", self.outputs.values(), ids=self.outputs.keys())
        if "sample" in metafunc.fixturenames:
            found = load_samples(self.samples) if self.samples else {}
            metafunc.parametrize("sample", found.values(), ids=found.keys())

    @pytest.mark.parametrize("event", EVENTS, ids=lambda e: f"{e.type}-{e.name}")
    def test_accepts_every_rendered_request(self, event: Event, output: Output) -> None:
        """The sandbox accepts every rendered request, whatever the event's origin."""
        for told in (event, replace(event, origin=output.name)):
            for request in _requests(output, told):
                self._check_accepted(output, request)

    def test_accepts_the_samples(self, sample: Sample, output: Output) -> None:
        """The sandbox accepts the samples' events, parsed from requests if there is an input."""
        own = self.input
        for event in events_of(sample) if own is None else own.parse(request_of(sample)):
            for request in _requests(output, event):
                self._check_accepted(output, request)

    def test_sees_nothing_but_the_request(self, output: Output) -> None:
        """Responding uses no clock, randomness, socket or file, and repeats the same response."""
        request = self._some(output)
        before = self._respond(output, request, self.key)
        with forbid_side_effects():
            after = self._respond(output, request, self.key)
        assert before == after

    def halves(self) -> list[Input | Output | Sandbox]:
        """Return the sandbox and its outputs."""
        return [*super().halves(), *self.outputs.values()]

    def _check_accepted(self, output: Output, request: Request) -> None:
        answer = self._respond(output, request, self.key)
        assert answer.reason is None
        assert answer.response.status in self.success

    def _respond(self, output: Output, request: Request, key: str | None) -> SandboxResponse:
        path = request.url.removeprefix(output.config.url.rstrip("/"))
        return self.sandbox.respond(replace(request, url=path, received_at=ARRIVAL), key)

    def _some(self, output: Output) -> Request:
        """Return a request that the sandbox accepts."""
        return next(request for event in EVENTS for request in _requests(output, event))

    def test_knows_its_key(self, output: Output) -> None:
        """With a key, only that key is accepted; without one, any key is."""
        request = self._some(output)
        assert self._respond(output, request, None).reason is None
        refused = self._respond(output, request, "not-the-key")
        assert refused.response.status == self.unauthorized
        assert refused.reason

    def test_needs_a_key(self, output: Output) -> None:
        """A request without a key gets a 4xx response, even if any key is accepted."""
        request = self._some(output)
        headers = {name: text for name, text in request.headers.items() if name == "content-type"}
        body = request.body.replace(self.key.encode(), b"")
        answer = self._respond(output, replace(request, headers=headers, body=body), None)
        assert 400 <= answer.response.status < 500
        assert answer.reason

    def test_knows_no_other_path(self, output: Output) -> None:
        """An undocumented path is rejected."""
        base = output.config.url.rstrip("/")
        answer = self._respond(output, replace(self._some(output), url=f"{base}/nothing"), None)
        assert answer.response.status == self.wrong_path
        assert answer.reason

    def test_knows_no_other_method(self, output: Output) -> None:
        """A documented path with an undocumented method is rejected."""
        answer = self._respond(output, replace(self._some(output), method="DELETE"), None)
        assert answer.response.status == self.wrong_method
        assert answer.reason

    @pytest.mark.parametrize("body", NO_OBJECTS, ids=repr)
    def test_needs_an_object(self, body: bytes, output: Output) -> None:
        """A body that is not a JSON object is rejected as the vendor does."""
        answer = self._respond(output, replace(self._some(output), body=body), None)
        assert answer.response.status == self.wrong_body
        assert answer.reason

    def test_shows_no_key(self, output: Output) -> None:
        """The reason of a rejection contains no key, since people see it."""
        request = self._some(output)
        for answer in (
            self._respond(output, request, "not-the-key"),
            self._respond(output, replace(request, body=b""), None),
        ):
            assert answer.reason
            assert self.key not in answer.reason
            assert "not-the-key" not in answer.reason


def _requests(output: Output, event: Event) -> Iterator[Request]:
    """Yield the requests that deliver *event*; none if the output declines it."""
    request = rendered(output, event)
    if isinstance(request, Request):
        yield request
        yield from request.also

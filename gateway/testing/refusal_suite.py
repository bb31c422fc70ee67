"""The refusal suite: what an input rejects, with which status and body.

The expected statuses and bodies, and the requests that break rules, come from the vendor's
documentation.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import orjson
import pytest
from msgspec.structs import replace

from gateway.errors import Fault, Rejected
from gateway.http import Request
from gateway.plugin.endpoints import match_endpoint
from gateway.plugin.vendor import Input
from gateway.testing.plugin_watch import PluginSuite
from gateway.testing.samples import ARRIVAL, REQUEST_ID, assert_json

OUTSIDE: frozenset[Fault] = frozenset({
    Fault.UNAUTHENTICATED, Fault.FORBIDDEN, Fault.TOO_LARGE, Fault.NOT_FOUND, Fault.METHOD,
    Fault.UNSUPPORTED, Fault.UNAVAILABLE,
})  # fmt: skip
"""Faults that do not depend on a body; every vendor needs a response to each."""
REASON = "the gateway's own words"
WAIT = 7
"""Seconds after which the sender should retry."""


class FaultAnswer(NamedTuple):
    """The response to a fault."""

    status: int
    """The status of the response."""
    message: str = REASON
    """The vendor's fixed message. Leave it out if the response repeats the gateway's message."""
    headers: Mapping[str, str] = {}
    """Headers of this response only; responses to other faults do not have them."""


class RefusedRequest(NamedTuple):
    """A request that breaks a rule of the vendor, and its response."""

    request: Request
    status: int
    answer: object
    """The body of the response, as JSON values."""


def post(url: str, body: object = b"", headers: Mapping[str, str] | None = None) -> Request:
    """Return a ``POST`` request to *url*, as the gateway receives it."""
    return Request(
        method="POST",
        url=url,
        headers=headers or {},
        body=body if isinstance(body, bytes) else orjson.dumps(body),
        id=REQUEST_ID,
        received_at=ARRIVAL,
    )


class RefusalSuite(PluginSuite):
    """Tests the contract of an input's rejections."""

    input: ClassVar[Input]
    faults: ClassVar[Mapping[Fault, FaultAnswer]]
    """The response to each fault. Those that do not depend on a body are required: all but
    `MALFORMED`, `MISSING`, `TYPE` and `VALUE`."""
    refused: ClassVar[Sequence[RefusedRequest]]
    """Requests whose bodies break a documented rule; at least one per endpoint."""
    credentials: ClassVar[Sequence[tuple[Request, str | None]]]
    """Requests with the key that each contains; at least one with None."""
    headers: ClassVar[Mapping[str, str]] = {"content-type": "application/json"}
    """The headers of the response to a rejected body."""
    untold: ClassVar[frozenset[str]] = frozenset()
    """Endpoints whose rejections look like their success responses."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test once per fact."""
        super().pytest_generate_tests(metafunc)
        if "fault" in metafunc.fixturenames:
            metafunc.parametrize("fault", sorted(OUTSIDE | self.faults.keys()))
        if "refused" in metafunc.fixturenames:
            metafunc.parametrize("refused", self.refused, ids=_id)
        if "credential" in metafunc.fixturenames:
            metafunc.parametrize(("request_", "credential"), self.credentials)

    @abstractmethod
    def refusal(self, status: int, message: str) -> object:
        """Return the body of an error, as JSON values."""

    def test_answers_each_fault(self, fault: Fault) -> None:
        """Each fault has its status, message and headers."""
        if fault not in self.faults:
            pytest.fail(
                f"`faults` lacks Fault.{fault.name}. Add the status of the vendor's response: "
                f"Fault.{fault.name}: FaultAnswer(400)",
                pytrace=False,
            )
        expected = self.faults[fault]
        request = replace(self.input.example, received_at=ARRIVAL)
        answer = self.input.refuse(request, Rejected("$", REASON, fault, WAIT))
        assert answer.status == expected.status
        said = self.refusal(expected.status, expected.message)
        assert_json(orjson.loads(answer.body), said, "the response")
        special = {name for known in self.faults.values() for name in known.headers}
        sent = {name: text for name, text in answer.headers.items() if name in special}
        assert sent == expected.headers

    def test_refuses_what_breaks_a_rule(self, refused: RefusedRequest) -> None:
        """A body that breaks a documented rule gets the documented response."""
        with pytest.raises(Rejected) as caught:
            self.input.parse(refused.request)
        answer = self.input.refuse(refused.request, caught.value)
        assert (answer.status, answer.headers) == (refused.status, self.headers)
        assert_json(orjson.loads(answer.body), refused.answer, "the response")

    def test_every_endpoint_refuses_something(self) -> None:
        """Each endpoint has a request that breaks a rule."""
        listed = self.input.endpoints
        cases = {match_endpoint(listed, case.request) for case in self.refused}
        assert listed.keys() - self.untold - cases == set()

    def test_finds_the_credential(self, request_: Request, credential: str | None) -> None:
        """The key is found where the vendor's documentation puts it, and nowhere else."""
        payload = self.input.decode(request_) if self.input.credential_in_body else None
        assert self.input.credential(request_, payload) == credential

    def test_knows_both_with_and_without_a_credential(self) -> None:
        """There is a request with a key, and one without."""
        assert {found is None for _, found in self.credentials} == {True, False}


def _id(refused: RefusedRequest) -> str:
    return f"{refused.request.path} {refused.request.body[:60]!r}"

"""The refusal suite: what an input refuses, with which status, in which words.

The facts are the vendor's: statuses and bodies from its document, requests that break its rules.
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
from gateway.testing.samples import ARRIVAL, REQUEST_ID

OUTSIDE: frozenset[Fault] = frozenset({
    Fault.UNAUTHENTICATED, Fault.FORBIDDEN, Fault.TOO_LARGE, Fault.NOT_FOUND, Fault.METHOD,
    Fault.UNSUPPORTED, Fault.UNAVAILABLE,
})  # fmt: skip
"""Faults that lie outside of a body; every vendor has to answer each of them."""
REASON = "the gateway's own words"
WAIT = 7
"""Seconds after which the sender should try again."""


class FaultAnswer(NamedTuple):
    """What the sender of a faulty request reads back."""

    status: int
    message: str = REASON
    """The vendor's words; `REASON` where it passes the gateway's on."""
    headers: Mapping[str, str] = {}
    """Headers of this answer alone; no other fault's has them."""


class RefusedRequest(NamedTuple):
    """A request that breaks a rule of the vendor's, and the answer."""

    request: Request
    status: int
    answer: object
    """The body of the answer, as JSON values."""


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
    """The contract of an input's refusals, as tests."""

    input: ClassVar[Input]
    faults: ClassVar[Mapping[Fault, FaultAnswer]]
    """The answer to each fault; those that lie outside of a body (`OUTSIDE`) must be there."""
    refused: ClassVar[Sequence[RefusedRequest]]
    """Requests whose bodies break a documented rule; each endpoint has one."""
    credentials: ClassVar[Sequence[tuple[Request, str | None]]]
    """Requests, and the credential that each carries; some carry none."""
    headers: ClassVar[Mapping[str, str]] = {"content-type": "application/json"}
    """The headers of every refused body."""
    untold: ClassVar[frozenset[str]] = frozenset()
    """Endpoints that answer what they refuse as they answer what they take."""

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
        """Each fault has its status, its words and its headers."""
        assert fault in self.faults, f"say in `faults` how the vendor answers {fault}"
        expected = self.faults[fault]
        request = replace(self.input.example, received_at=ARRIVAL)
        answer = self.input.refuse(request, Rejected("$", REASON, fault, WAIT))
        assert answer.status == expected.status
        assert orjson.loads(answer.body) == self.refusal(expected.status, expected.message)
        special = {name for known in self.faults.values() for name in known.headers}
        sent = {name: text for name, text in answer.headers.items() if name in special}
        assert sent == expected.headers

    def test_refuses_what_breaks_a_rule(self, refused: RefusedRequest) -> None:
        """A body that breaks a documented rule is refused with the documented answer."""
        with pytest.raises(Rejected) as caught:
            self.input.parse(refused.request)
        answer = self.input.refuse(refused.request, caught.value)
        assert (answer.status, answer.headers) == (refused.status, self.headers)
        assert orjson.loads(answer.body) == refused.answer

    def test_every_endpoint_refuses_something(self) -> None:
        """Each endpoint has a rule that a body can break, and a case that breaks it."""
        listed = self.input.endpoints
        cases = {match_endpoint(listed, case.request) for case in self.refused}
        assert listed.keys() - self.untold - cases == set()

    def test_finds_the_credential(self, request_: Request, credential: str | None) -> None:
        """The credential is found where the vendor's document puts it, and nowhere else."""
        payload = self.input.decode(request_) if self.input.credential_in_body else None
        assert self.input.credential(request_, payload) == credential

    def test_knows_both_with_and_without_a_credential(self) -> None:
        """There is a request with a credential, and one without."""
        assert {found is None for _, found in self.credentials} == {True, False}


def _id(refused: RefusedRequest) -> str:
    return f"{refused.request.path} {refused.request.body[:60]!r}"

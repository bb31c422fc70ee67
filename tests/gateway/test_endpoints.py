"""Endpoints with values in their paths: matched, filled, and tested by the kit."""

from pathlib import Path
from typing import Any, TypedDict

import pytest

from gateway.errors import Fault, Rejected, Unrenderable
from gateway.event import Event
from gateway.http import Request, Response
from gateway.ingest.sources import Source
from gateway.mapping import TEXT, Row, Table
from gateway.plugin.endpoints import Endpoints, EndpointSet, fill_path, match_endpoint
from gateway.plugin.settings import Secret
from gateway.plugin.vendor import OutgoingCall
from gateway.testing import DeliverySuite, VendorSuite
from gateway.verdict import Declined
from tests.example_plugins.acme.acme.input import AcmeInput
from tests.example_plugins.acme.acme.output import AcmeOutput


class Wave(TypedDict, total=False):
    """The body of a wave, and the person from its path."""

    what: str
    who: str


class Waved(TypedDict):
    """The body as it is sent."""

    what: str


WAVE = "PUT /v1/people/{who}/waves"
TABLE = Table(
    Wave,
    [Row("what", "name", TEXT, required=True), Row("who", "user_id", required=True)],
)
ENDPOINTS = Endpoints({WAVE: TABLE})


class WavingInput(AcmeInput):
    """An input that reads the person from the path."""

    name = "waving"
    endpoints = ENDPOINTS
    unsupported = EndpointSet({"GET /v1/people/{who}", "GET /v1/people"})

    def decode(self, request: Request) -> Any:
        """Return the body with the person."""
        body = super().decode(request)
        if type(body) is not dict:
            raise Rejected("$", "expected an object", Fault.TYPE, body)
        return {**body, **ENDPOINTS.told(request)}


class WavingOutput(AcmeOutput):
    """An output that writes the person into the path."""

    name = "waving"
    endpoints = ENDPOINTS

    def select(self, event: Event) -> OutgoingCall | Declined:
        """Select events with a name and a person."""
        if event.name is None or event.user_id is None:
            return Declined("nobody waved")
        return super().select(event)

    def request(self, endpoint: str, payload: dict[str, Any], event: Event) -> Request:
        """Return the request, with the person in its path."""
        who = payload.pop("who")
        made = super().request(endpoint, payload, event)
        return Request(
            method=made.method,
            url=fill_path(made.url, {"who": who}),
            headers=made.headers,
            body=made.body,
        )


class TestWaving(VendorSuite):
    """The kit finds the samples of an endpoint with a value in its path."""

    samples = Path(__file__).parent / "endpoint_samples"
    input = WavingInput()
    output = WavingOutput(
        WavingOutput.Config(url="https://acme.example", api_key=Secret("acme-out"))
    )
    wires = {WAVE: Waved}  # noqa: RUF012 - the kit's own class says that it is a ClassVar

    def native(self, answer: Response) -> bool:
        """Return whether *answer* has the format of Acme's errors."""
        return answer.status < 500 and b'"ok":false' in answer.body


class TestWavingDelivery(DeliverySuite):
    """The running gateway delivers to a path with a value."""

    samples = TestWaving.samples
    input = TestWaving.input
    output = TestWaving.output


def test_a_path_value_is_one_segment() -> None:
    """A path value is one non-empty segment; the endpoint keeps its documented name."""
    assert list(ENDPOINTS) == [WAVE]
    assert len(ENDPOINTS) == 1
    assert ENDPOINTS["PUT /v1/people/7/waves"] is ENDPOINTS[WAVE] is TABLE
    for other in (
        "PUT /v1/people//waves",
        "PUT /v1/people/7/8/waves",
        "GET /v1/people/7/waves",
        "PUT /v1/people/7/waves/",
    ):
        assert other not in ENDPOINTS


def test_an_endpoint_without_values_goes_first() -> None:
    """A literal endpoint is matched before one with a path value."""
    plain = Table(Wave, [Row("what", "name")])
    both = Endpoints({WAVE: TABLE, "PUT /v1/people/all/waves": plain})
    assert both["PUT /v1/people/all/waves"] is plain
    assert both.told(Request(method="PUT", url="/v1/people/all/waves")) == {}
    asked = Request(method="PUT", url="/v1/people/7/waves?x=1")
    assert both.told(asked) == {"who": "7"}
    assert match_endpoint(both, asked) == WAVE
    assert match_endpoint({}, asked) == "PUT /v1/people/7/waves"


def test_a_path_that_is_no_text_is_refused() -> None:
    """A path with percent-encoded bytes that are not UTF-8 is rejected."""
    with pytest.raises(Rejected, match="UTF-8"):
        ENDPOINTS.told(Request(method="PUT", url="/v1/people/%ff/waves"))


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_no_path_holds_dots_or_nothing(value: str) -> None:
    """An empty value, ``.`` and ``..`` are not written into a path."""
    with pytest.raises(Unrenderable, match="who"):
        fill_path("https://acme.example/v1/people/{who}/waves", {"who": value})


def test_a_wrong_method_gets_405_and_an_unknown_path_404() -> None:
    """A known path with another method gets 405; an unknown path gets 404."""
    source = Source("s", WavingInput(), None)
    assert source.allowed("/v1/people/7/waves") == {"PUT"}
    assert source.translates("PUT", "/v1/people/7/waves")
    assert source.rejection_for("GET", "/v1/people/7/waves").fault is Fault.METHOD
    assert source.rejection_for("GET", "/v1/persons").fault is Fault.NOT_FOUND


def test_an_unsupported_endpoint_may_have_a_path_value() -> None:
    """An unsupported endpoint with a path value matches any value."""
    source = Source("s", WavingInput(), None)
    for path in ("/v1/people/7", "/v1/people/{who}", "/v1/people"):
        assert source.rejection_for("GET", path).fault is Fault.UNSUPPORTED
        assert source.rejection_for("PUT", path).fault is Fault.METHOD
        assert source.allowed(path) == {"GET"}
    assert source.rejection_for("GET", "/v1/people/7/8").fault is Fault.NOT_FOUND
    assert sorted(WavingInput.unsupported) == ["GET /v1/people", "GET /v1/people/{who}"]

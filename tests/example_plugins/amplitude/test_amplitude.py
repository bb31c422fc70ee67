"""Amplitude passes the suites of the conformance kit."""

from pathlib import Path
from typing import ClassVar

import amplitude
import orjson
import pytest
from amplitude.input import AmplitudeInput
from amplitude.output import MAX_BYTES, AmplitudeOutput
from amplitude.sandbox import AmplitudeSandbox

from gateway.plugin import (
    Event,
    Fault,
    Properties,
    Request,
    Response,
    RetryLater,
    Secret,
)
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

MISSING = "Request missing required field"
INVALID = "Invalid field values on some events"


class TestAmplitude(VendorSuite):
    """The rules for both halves, checked on each sample."""

    samples = Path(__file__).parent / "samples"
    input = AmplitudeInput()
    output = AmplitudeOutput(
        AmplitudeOutput.Config(url="https://amplitude.example", api_key=Secret("amplitude-out")),
    )
    declined = (
        (
            Event(type="alias", user_id="u1", previous_id="a1"),
            "amplitude has no way to say an alias call",
        ),
        (Event(type="track", name="Signed Up"), "amplitude needs a user id or a device id"),
        (Event(type="track", user_id="u1"), "amplitude takes no event without a name"),
    )

    def native(self, answer: Response) -> bool:
        """Return whether the refusal *answer* has the format of Amplitude's errors."""
        said = orjson.loads(answer.body)
        return answer.status in {400, 413} and said["code"] == answer.status and bool(said["error"])


class TestAmplitudeRefusals(RefusalSuite):
    """Which requests Amplitude's input refuses, and in which format."""

    input = TestAmplitude.input
    faults: ClassVar = {
        Fault.UNAUTHENTICATED: FaultAnswer(400, MISSING),
        Fault.FORBIDDEN: FaultAnswer(400, "Invalid API key"),
        Fault.TOO_LARGE: FaultAnswer(413, "Payload too large"),
        Fault.NOT_FOUND: FaultAnswer(400, "Invalid request path"),
        Fault.METHOD: FaultAnswer(400, "Invalid request path"),
        Fault.UNSUPPORTED: FaultAnswer(400, "Invalid request path"),
        Fault.UNAVAILABLE: FaultAnswer(503, "Service unavailable"),
        Fault.MALFORMED: FaultAnswer(400, "Invalid JSON request body"),
    }
    refused = (
        RefusedRequest(
            post("/2/httpapi", {"api_key": "k"}),
            400,
            {"code": 400, "error": MISSING, "missing_field": "events"},
        ),
        RefusedRequest(
            post("/2/httpapi", {
                "events": [
                    {"event_type": "e", "user_id": "long enough"},
                    {"user_id": "long enough"},
                    {"event_type": "e", "user_id": "u1"},
                ]
            }),
            400,
            {
                "code": 400,
                "error": MISSING,
                "events_with_missing_fields": {"event_type": [1], "user_id": [2]},
                "events_with_invalid_fields": {},
            },
        ),
        RefusedRequest(
            post("/2/httpapi", {
                "events": [{"event_type": "e", "user_id": "long enough", "time": "yesterday"}]
            }),
            400,
            {
                "code": 400,
                "error": INVALID,
                "events_with_missing_fields": {},
                "events_with_invalid_fields": {"time": [0]},
            },
        ),
    )  # fmt: skip
    credentials = (
        (post("/2/httpapi", {"events": []}), None),
        (post("/2/httpapi", {"api_key": "amplitude-in"}), "amplitude-in"),
    )

    def refusal(self, status: int, message: str) -> object:
        """Return the body of an error."""
        said = {"code": status, "error": message}
        return said | {"missing_field": "api_key"} if message == MISSING else said


class TestAmplitudeSandbox(SandboxSuite):
    """The sandbox accepts what the output sends, and refuses the rest."""

    sandbox = AmplitudeSandbox()
    outputs: ClassVar = {"": TestAmplitude.output}
    key = "amplitude-out"
    input = TestAmplitude.input
    samples = TestAmplitude.samples
    unauthorized = 400
    wrong_path = 400
    wrong_method = 400


class TestAmplitudeDelivery(DeliverySuite):
    """A running gateway gives each event one outcome, also if Amplitude fails."""

    samples = TestAmplitude.samples
    input = TestAmplitude.input
    output = TestAmplitude.output


def rendered(**properties: object) -> Request:
    """Return the request for an event with *properties*."""
    event = Event(
        type="track", name="Signed Up", user_id="u1", properties=Properties(extra=properties)
    )
    request = TestAmplitude.output.render(event)
    assert isinstance(request, Request)
    return request


def test_events_of_one_user_go_together() -> None:
    """Two events of one user become one request, which Amplitude counts as two."""
    merged = TestAmplitude.output.merge(rendered(n=1), rendered(n=2))
    assert merged is not None
    events = orjson.loads(merged.body)["events"]
    assert [event["event_properties"]["n"] for event in events] == [1, 2]
    received = Request(method="POST", url="/2/httpapi", headers=merged.headers, body=merged.body)
    summary = orjson.loads(AmplitudeSandbox().respond(received, "amplitude-out").response.body)
    assert summary["events_ingested"] == 2


def test_a_request_keeps_within_its_size() -> None:
    """Events too large for one request are not merged."""
    half = rendered(text="x" * (MAX_BYTES // 2))
    assert TestAmplitude.output.merge(half, half) is None


@pytest.mark.parametrize(
    ("response", "after", "cause"),
    [
        (Response(429), 30.0, "limit"),
        (Response(429, {"retry-after": "7"}), 7.0, "limit"),
        (Response(400, body=b'{"code":400,"error":"Invalid API key"}'), None, "credential"),
    ],
)
def test_waits_as_the_document_says(response: Response, after: float | None, cause: str) -> None:
    """A 429 is retried after the documented 30 seconds; an unknown key counts as a wrong key."""
    verdict = TestAmplitude.output.verdict(response)
    assert isinstance(verdict, RetryLater)
    assert (verdict.after, verdict.cause) == (after, cause)


def test_is_found_through_its_hooks() -> None:
    """The gateway finds input, output and sandbox through the hooks."""
    registry = load_plugins([amplitude])
    assert registry.inputs["amplitude"] is AmplitudeInput
    assert registry.outputs["amplitude"] is AmplitudeOutput
    assert registry.sandboxes["amplitude"] is AmplitudeSandbox

"""Acme's input passes the suites of the conformance kit."""

from pathlib import Path
from typing import ClassVar

import acme
import orjson
from acme.input import AcmeInput

from gateway.plugin import Fault, Response
from gateway.testing import (
    FaultAnswer,
    InputSuite,
    RefusalSuite,
    RefusedRequest,
    load_plugins,
    post,
)


class TestAcmeInput(InputSuite):
    """The rules for an input, checked on each sample."""

    samples = Path(__file__).parent / "samples"
    input = AcmeInput()

    def native(self, answer: Response) -> bool:
        """Return whether the refusal *answer* has the format of Acme's errors."""
        said = orjson.loads(answer.body)
        return answer.status < 500 and said == {"ok": False, "error": said["error"]}


class TestAcmeRefusals(RefusalSuite):
    """Which requests Acme's input refuses, and in which format."""

    input = TestAcmeInput.input
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


def test_is_found_through_its_hooks() -> None:
    """The gateway finds the input through the hooks."""
    assert load_plugins([acme]).inputs["acme"] is AcmeInput

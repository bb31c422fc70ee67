"""Acme's input holds to the contract."""

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
    """What it must hold to, sample by sample."""

    samples = Path(__file__).parent / "samples"
    input = AcmeInput()

    def native(self, answer: Response) -> bool:
        """Tell whether *answer*, a refusal, has the shape of Acme's errors."""
        said = orjson.loads(answer.body)
        return answer.status < 500 and said == {"ok": False, "error": said["error"]}


class TestAcmeRefusals(RefusalSuite):
    """What Acme's input refuses, in which words."""

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
    """The gateway finds it, whether the package is installed or not."""
    assert load_plugins([acme]).inputs["acme"] is AcmeInput

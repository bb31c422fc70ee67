"""What chrts' input rejects, and in which format."""

from typing import ClassVar

import orjson
import pytest

from gateway.errors import Fault, Rejected
from gateway.testing import FaultAnswer, RefusalSuite, RefusedRequest, post
from plugins.chrts.input import ChrtsInput

INPUT = ChrtsInput()
IDENTIFY = "/customer/identify"
ALIAS = "/customer/alias"
TRACK = "/event/track"
NO_UID = (
    "Customer UID is required. You can use `uid`, `userId` or `anonymousId` to identify the "
    "customer"
)
NO_ALIAS_UID = "Customer UID is required. You can use `uid` or `userId` to identify the customer"
NO_KNOWN_UID = (
    "Known UID is required. You can use `knownUid`, `previousId` or `anonymousId` to identify "
    "the known customer UID"
)
NO_NAME = "Event name is required. You can use `name` to name the event"


BROKEN: list[tuple[str, object, str]] = [
    (IDENTIFY, {}, NO_UID),
    (IDENTIFY, {"attributes": {"email": "ada@shop.example"}}, NO_UID),
    (IDENTIFY, {"uid": None, "userId": "", "anonymousId": " "}, NO_UID),
    (IDENTIFY, {"uid": 7}, "uid: expected string, got integer"),
    (IDENTIFY, {"uid": "u1", "attributes": []}, "attributes: expected object, got array"),
    (IDENTIFY, {"uid": "u1", "traits": "x"}, "traits: expected object, got string"),
    (IDENTIFY, [], "expected an object"),
    (ALIAS, {"knownUid": "k"}, NO_ALIAS_UID),
    (ALIAS, {"knownUid": "k", "anonymousId": "a"}, NO_ALIAS_UID),
    (ALIAS, {"knownUid": "k", "uid": " "}, NO_ALIAS_UID),
    (ALIAS, {"uid": "u1"}, NO_KNOWN_UID),
    (ALIAS, {"uid": "u1", "previousId": ""}, NO_KNOWN_UID),
    (ALIAS, {"uid": "u1", "knownUid": {}}, "knownUid: expected string, got object"),
    (TRACK, {"name": "x"}, NO_UID),
    (TRACK, {"name": "x", "anonymousId": 1.5}, "anonymousId: expected string, got number"),
    (TRACK, {"uid": "u1"}, NO_NAME),
    (TRACK, {"uid": "u1", "name": []}, "name: expected string, got array"),
    (TRACK, {"uid": "u1", "name": " "}, NO_NAME),
    (TRACK, {"uid": "u1", "name": True}, "name: expected string, got boolean"),
    (TRACK, {"uid": "u1", "name": ["x"]}, "name: expected string, got array"),
    (TRACK, {"uid": "u1", "event": {}}, "event: expected string, got object"),
    (
        TRACK,
        {"uid": "u1", "name": "x", "properties": [1]},
        "properties: expected object, got array",
    ),
]


def refusal(status: int, message: str) -> object:
    """Return the body of the documented 400, with *status*."""
    return {"status": False, "code": status, "message": message}


class TestChrtsRefusals(RefusalSuite):
    """Undocumented refusals have the format of the documented 400."""

    input = INPUT
    faults: ClassVar = {
        Fault.UNAUTHENTICATED: FaultAnswer(
            401, "API key is required. You can send it in the header `Authorization: Bearer <key>`"
        ),
        Fault.FORBIDDEN: FaultAnswer(
            401, "API key is unknown. You can find it in your list of sources"
        ),
        Fault.TOO_LARGE: FaultAnswer(413),
        Fault.NOT_FOUND: FaultAnswer(404),
        Fault.METHOD: FaultAnswer(405),
        Fault.UNSUPPORTED: FaultAnswer(501),
        Fault.UNAVAILABLE: FaultAnswer(503),
    }
    refused: ClassVar = [
        RefusedRequest(post(url, body), 400, refusal(400, message)) for url, body, message in BROKEN
    ]
    credentials = (
        (post(TRACK), None),
        (post(TRACK, headers={"authorization": "Bearer "}), None),
        (post(TRACK, headers={"authorization": "Basic YXBpOg=="}), None),
        (post(TRACK, headers={"authorization": "api_chrts_in"}), None),
        (post(TRACK, headers={"authorization": "bearer api_chrts_in"}), "api_chrts_in"),
    )

    def refusal(self, status: int, message: str) -> object:
        """Return the body of the documented 400, with *status*."""
        return refusal(status, message)


def test_refuses_what_is_no_json() -> None:
    """A body that is not JSON gets 400 with the place of the error."""
    request = post(TRACK, b'{"name": ')
    with pytest.raises(Rejected) as caught:
        INPUT.parse(request)
    answer = INPUT.refuse(request, caught.value)
    body = orjson.loads(answer.body)
    assert answer.status == body["code"] == 400
    assert body["status"] is False
    assert "column" in body["message"]

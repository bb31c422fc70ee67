"""What chrts refuses, and in which words."""

from typing import Any

import orjson
import pytest

from gateway.errors import Fault, Rejected
from gateway.http import Request
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


def post(url: str, body: object, headers: dict[str, str] | None = None) -> Request:
    """Return a request as a client would send it."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return Request(method="POST", url=url, headers=headers or {}, body=raw)


def refused(request: Request) -> tuple[int, Any]:
    """Return the status and the body with which *request* is refused."""
    with pytest.raises(Rejected) as caught:
        INPUT.parse(request)
    answer = INPUT.refuse(request, caught.value)
    return answer.status, orjson.loads(answer.body)


@pytest.mark.parametrize(
    ("url", "body", "message"),
    [
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
    ],
    ids=str,
)
def test_refuses_what_breaks_a_rule(url: str, body: object, message: str) -> None:
    """A body that breaks a documented rule is answered 400, in the documented words if any."""
    assert refused(post(url, body)) == (
        400,
        {"status": False, "code": 400, "message": message},
    )


def test_refuses_what_is_no_json() -> None:
    """A body that is no JSON is a 400 that says where it breaks."""
    status, body = refused(post(TRACK, b'{"name": '))
    assert status == body["code"] == 400
    assert body["status"] is False
    assert "column" in body["message"]


@pytest.mark.parametrize(
    ("fault", "status", "message"),
    [
        (
            Fault.UNAUTHENTICATED,
            401,
            "API key is required. You can send it in the header `Authorization: Bearer <key>`",
        ),
        (
            Fault.FORBIDDEN,
            401,
            "API key is not known here. You can find it in your list of sources",
        ),
        (Fault.TOO_LARGE, 413, "as the gateway says"),
        (Fault.NOT_FOUND, 404, "as the gateway says"),
        (Fault.METHOD, 405, "as the gateway says"),
        (Fault.UNSUPPORTED, 501, "as the gateway says"),
        (Fault.UNAVAILABLE, 503, "as the gateway says"),
    ],
)
def test_refuses_what_is_not_about_the_body(fault: Fault, status: int, message: str) -> None:
    """What chrts does not document is answered in the shape of its 400."""
    answer = INPUT.refuse(post(TRACK, {}), Rejected("$", "as the gateway says", fault))
    assert answer.status == status
    assert orjson.loads(answer.body) == {"status": False, "code": status, "message": message}


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({}, None),
        ({"authorization": "Bearer "}, None),
        ({"authorization": "Basic YXBpOg=="}, None),
        ({"authorization": "api_chrts_in"}, None),
        ({"authorization": "bearer api_chrts_in"}, "api_chrts_in"),
    ],
)
def test_finds_the_key(headers: dict[str, str], key: str | None) -> None:
    """Only a Bearer token is a key, whatever the case of the scheme's name."""
    assert INPUT.credential(post(TRACK, {}, headers), None) == key

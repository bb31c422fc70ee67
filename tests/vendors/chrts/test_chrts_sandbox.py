"""The chrts sandbox accepts the examples of https://chrts.co/docs/api and refuses the rest."""

from typing import Any

import orjson
import pytest

from gateway.http import Request
from gateway.sandbox import SandboxResponse
from plugins.chrts.sandbox import ChrtsSandbox

KEY = "api_chrts_3bxip2lXCUctEWLBFIEjgcu5fsrjRKNjCIgYiRPQXhMKo6GE1asMXX6sjZobcPU"
HEADERS = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}

IDENTIFY = "/customer/identify"
ALIAS = "/customer/alias"
TRACK = "/event/track"

UID_REQUIRED = (
    "Customer UID is required. You can use `uid`, `userId` or `anonymousId` "
    "to identify the customer"
)
KNOWN_REQUIRED = (
    "Known UID is required. You can use `knownUid`, `previousId` or `anonymousId` "
    "to identify the known customer UID"
)


def send(path: str, body: Any, key: str | None = None, **changes: Any) -> SandboxResponse:
    """Send *body* as JSON, or unchanged if it is bytes, and return the verdict."""
    sent = body if isinstance(body, bytes) else orjson.dumps(body)
    request = Request(
        method=changes.get("method", "POST"),
        url=path,
        headers=changes.get("headers", HEADERS),
        body=sent,
    )
    return ChrtsSandbox().respond(request, key)


def said(answer: SandboxResponse) -> Any:
    """Return the response's body."""
    return orjson.loads(answer.response.body)


EXAMPLES: list[tuple[str, dict[str, Any], str]] = [
    (
        IDENTIFY,
        {
            "uid": "cus_sample_ciaVhuuE",
            "attributes": {"email": "a@example.com", "country": "CA", "city": "Vancouver"},
        },
        "Customer identified successfully",
    ),
    (
        ALIAS,
        {"knownUid": "cus_sample_ciaVhuuE", "uid": "663fb97043f840a6dae87125"},
        "Customer alias set successfully",
    ),
    (
        TRACK,
        {"uid": "663fb97043f840a6dae87125", "name": "account-signup", "platform": "desktop"},
        "Event tracked successfully",
    ),
    (
        TRACK,
        {
            "uid": "663fb97043f840a6dae87125",
            "name": "account-signup",
            "properties": {"platform": "desktop"},
        },
        "Event tracked successfully",
    ),
]


@pytest.mark.parametrize(("path", "body", "message"), EXAMPLES)
def test_each_documented_example_is_accepted(path: str, body: Any, message: str) -> None:
    """Each documented request gets the documented 200."""
    answer = send(path, body, KEY)
    assert (answer.reason, answer.response.status) == (None, 200)
    assert said(answer) == {"status": True, "code": 200, "message": message}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (IDENTIFY, {"userId": "u"}),
        (IDENTIFY, {"anonymousId": "a", "traits": {"plan": "pro"}}),
        (ALIAS, {"userId": "u", "previousId": "p"}),
        (ALIAS, {"uid": "u", "anonymousId": "a"}),
        (TRACK, {"anonymousId": "a", "name": "n"}),
        (TRACK, {"uid": "u", "userId": "u", "name": "n", "properties": {}, "loose": [1]}),
    ],
)
def test_each_documented_synonym_is_accepted(path: str, body: Any) -> None:
    """Each documented name identifies the customer, and properties may be at the top level."""
    assert send(path, body).reason is None


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (IDENTIFY, {"attributes": {}}, UID_REQUIRED),
    (IDENTIFY, {"uid": ""}, UID_REQUIRED),
    (TRACK, {"name": "n"}, UID_REQUIRED),
    (TRACK, {"uid": 7, "name": "n"}, UID_REQUIRED),
    (ALIAS, {"uid": "u"}, KNOWN_REQUIRED),
    (ALIAS, {"uid": "u", "knownUid": None}, KNOWN_REQUIRED),
]


@pytest.mark.parametrize(("path", "body", "message"), REFUSED)
def test_each_documented_400_has_its_words(path: str, body: Any, message: str) -> None:
    """A missing or unusable id is refused with the documented message."""
    answer = send(path, body)
    assert answer.reason is not None
    assert answer.response.status == 400
    assert said(answer) == {"status": False, "code": 400, "message": message}


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        (IDENTIFY, {"uid": "u", "attributes": [1]}, "attributes: expected an object"),
        (IDENTIFY, {"uid": "u", "traits": "x"}, "traits: expected an object"),
        (
            IDENTIFY,
            {"uid": "u", "attributes": {}, "traits": {}},
            "traits: expected attributes or traits, not both",
        ),
        (IDENTIFY, {"uid": "u", "userId": None}, "userId: expected a string"),
        (ALIAS, {"knownUid": "k"}, "uid is missing: expected uid or userId"),
        (
            ALIAS,
            {"anonymousId": "a", "knownUid": "k"},
            "uid is missing: expected uid or userId",
        ),
        (TRACK, {"uid": "u"}, "name is missing: expected a string"),
        (TRACK, {"uid": "u", "name": " "}, "name: expected a string that is not empty"),
        (TRACK, {"uid": "u", "name": 1}, "name: expected a string"),
        (TRACK, {"uid": "u", "name": "n", "properties": []}, "properties: expected an object"),
        (TRACK, [], "the body: expected an object"),
    ],
)
def test_a_wrong_shape_is_refused_with_its_place(path: str, body: Any, reason: str) -> None:
    """A body that breaks the parameter tables gets 400, and a reason with the place."""
    answer = send(path, body)
    assert answer.reason == reason
    assert (answer.response.status, said(answer)["code"]) == (400, 400)


def test_the_body_must_be_labelled_json() -> None:
    """The body must be JSON, with the content type application/json."""
    assert send(TRACK, b"{").response.status == 400
    good = {"uid": "u", "name": "n"}
    labelled = {**HEADERS, "content-type": "text/plain"}
    answer = send(TRACK, good, headers=labelled)
    assert answer.reason == "content-type: expected application/json"
    assert answer.response.status == 400


@pytest.mark.parametrize("sent", [None, "", "Bearer", "Bearer ", f"Basic {KEY}", KEY])
def test_a_missing_credential_is_always_refused(sent: str | None) -> None:
    """A request without a Bearer key is refused, even if any key is accepted."""
    headers = {"content-type": "application/json"} | ({"authorization": sent} if sent else {})
    answer = send(TRACK, {"uid": "u", "name": "n"}, headers=headers)
    assert said(answer) == {"status": False, "code": 401, "message": "Unauthorized"}
    assert (answer.response.status, answer.reason is None) == (401, False)


def test_unknown_paths_and_methods_are_refused_in_the_same_shape() -> None:
    """404 and 405 have the format of the documented 400."""
    assert said(send("/v1/batch", {}))["code"] == 404
    assert said(send(TRACK, {}, method="GET"))["code"] == 405

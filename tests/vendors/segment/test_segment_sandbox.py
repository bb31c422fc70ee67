"""The Segment sandbox against the documentation of Segment and RudderStack."""

import base64
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from gateway.http import Request
from gateway.sandbox import SandboxResponse
from plugins.segment.sandbox import SegmentSandbox

KEY = {"authorization": "Basic " + base64.b64encode(b"abc123:").decode()}
TRACK: dict[str, Any] = {"userId": "u1", "event": "Song Played"}
CONSENT: dict[str, Any] = {
    "anonymousId": "a1",
    "event": "Segment Consent Preference Updated",
    "context": {"consent": {"categoryPreferences": {"ads": False}}},
}


def send(
    body: Any, url: str = "/v1/track", key: str | None = None, **changes: Any
) -> SandboxResponse:
    """Send *body* as JSON, or unchanged if it is bytes, and return the verdict."""
    request = Request(
        method=changes.get("method", "POST"),
        url=url,
        headers=changes.get("headers", {**KEY, "content-type": "application/json"}),
        body=body if isinstance(body, bytes) else orjson.dumps(body),
    )
    return SegmentSandbox().respond(request, key)


def pixel(query: str, url: str = "/v1/pixel/track", key: str | None = None) -> SandboxResponse:
    """Send a pixel request and return the verdict."""
    return send(b"", f"{url}?{query}", key, method="GET", headers={})


def said(answer: SandboxResponse) -> Any:
    """Return the response's body."""
    return orjson.loads(answer.response.body)


CALLS: list[tuple[str, dict[str, Any]]] = [
    ("track", TRACK),
    ("identify", {"userId": "u1", "traits": {"email": "pgibbons@example.com"}}),
    ("page", {"userId": "u1", "name": "Tracking HTTP API"}),
    ("screen", {"anonymousId": "a1", "name": "Home"}),
    ("group", {"userId": "u1", "groupId": "8e9df332ac", "traits": {"name": "Initech"}}),
    ("alias", {"userId": "u1", "previousId": "39239-239239"}),
]


@pytest.mark.parametrize(("kind", "call"), CALLS)
def test_every_kind_of_call_is_accepted_everywhere(kind: str, call: dict[str, Any]) -> None:
    """Documented calls get 200 at their path, the short path, in batches and as pixels."""
    for url in (f"/v1/{kind}", f"/v1/{kind[0]}"):
        answer = send(call, url)
        assert (answer.reason, answer.response.status) == (None, 200)
        assert said(answer) == {"success": True}
    for url in ("/v1/batch", "/v1/b", "/v1/import", "/beacon/v1/batch?writeKey=k"):
        assert send({"batch": [{"type": kind, **call}]}, url).reason is None
    data = base64.b64encode(orjson.dumps({"writeKey": "k", **call})).decode()
    answer = pixel(f"data={quote(data, safe='')}", f"/v1/pixel/{kind}")
    assert answer.reason is None
    assert answer.response.headers["content-type"] == "image/gif"
    assert answer.response.body.startswith(b"GIF89a")


@pytest.mark.parametrize(
    ("call", "place"),
    [
        ({"userId": "u1"}, "event"),
        ({**TRACK, "event": ""}, "event"),
        ({**TRACK, "event": 7}, "event"),
        ({**TRACK, "properties": []}, "properties"),
        ({**TRACK, "context": "x"}, "context"),
        ({**TRACK, "integrations": []}, "integrations"),
        ({**TRACK, "messageId": "m" * 101}, "messageId"),
        ({**TRACK, "timestamp": "yesterday"}, "timestamp"),
        ({**TRACK, "sentAt": 5}, "sentAt"),
        ({**CONSENT, "anonymousId": None, "userId": "u1"}, "anonymousId"),
        ({**CONSENT, "context": {}}, "context.consent"),
        (
            {**CONSENT, "context": {"consent": {"categoryPreferences": {"ads": "no"}}}},
            "context.consent.categoryPreferences.ads",
        ),
    ],
)
def test_discarded_calls_get_200_and_a_reason(call: Any, place: str) -> None:
    """A call that Segment discards gets 200, and the journal has the reason."""
    for body, url, at in (
        (call, "/v1/track", place),
        ({"batch": [{**TRACK, "type": "track"}, {**call, "type": "track"}]}, "/v1/batch",
         f"batch.1.{place}"),
    ):  # fmt: skip
        answer = send(body, url)
        assert (answer.response.status, said(answer)) == (200, {"success": True})
        assert answer.reason is not None
        assert answer.reason.startswith(f"discarded: {at}")


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        ("identify", {"userId": "u1", "traits": "x"}),
        ("page", {"userId": "u1", "name": ""}),
        ("page", {"userId": "u1", "category": 7}),
        ("screen", {"userId": "u1", "properties": "x"}),
        ("group", {"userId": "u1"}),
        ("alias", {"userId": "u1"}),
        ("alias", {"anonymousId": "u1", "previousId": "a"}),
    ],
)
def test_each_kind_has_what_it_needs(kind: str, call: Any) -> None:
    """A missing or wrong field of any kind of call is recorded as a reason."""
    assert send(call, f"/v1/{kind}").reason


@pytest.mark.parametrize("ids", [{}, {"userId": None}, {"userId": "", "anonymousId": None}])
def test_a_call_without_a_user_is_refused(ids: Any) -> None:
    """A user id or an anonymous id is required, and the other may be null."""
    answer = send({"event": "x", **ids})
    assert (answer.response.status, said(answer)["code"]) == (400, "no_user_anon_id")
    assert send({"event": "x", "userId": "u", "anonymousId": None}).reason is None
    batched = send({"batch": [{"type": "track", "event": "x", **ids}]}, "/v1/batch")
    assert batched.response.status == 200
    assert batched.reason


def test_sizes_are_those_of_the_document() -> None:
    """More than 32 KB per call or 500 KB per batch gets 400; calls past 2500 are discarded."""
    padded = orjson.dumps(TRACK).ljust(32 * 1024)
    assert send(padded).reason is None
    assert send(padded + b" ").response.status == 400
    one = {"type": "track", **TRACK}
    batch = orjson.dumps({"batch": [one]}).ljust(500 * 1024)
    assert send(batch, "/v1/batch").reason is None
    assert send(batch + b" ", "/v1/batch").response.status == 400
    large = {**one, "properties": {"text": "x" * 33_000}}
    assert said(send({"batch": [large]}, "/v1/batch"))["code"] == "payload_too_large"
    assert send({"batch": [one] * 2500}, "/v1/batch").reason is None
    crowded = send({"batch": [one] * 2501}, "/v1/batch")
    assert crowded.response.status == 200
    assert crowded.reason


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_request"),
        (b"", "invalid_request"),
        ([], "invalid_request"),
        ({}, "invalid_request"),
        ({"batch": "x"}, "invalid_request"),
        ({"batch": []}, "empty_batch"),
    ],
)
def test_an_invalid_batch_is_refused(body: Any, code: str) -> None:
    """A batch that is not JSON, or has no calls, gets 400 with message and code."""
    answer = send(body, "/v1/batch")
    assert answer.response.status == 400
    assert said(answer)["code"] == code
    assert said(answer)["success"] is False
    assert said(answer)["message"]


def test_a_member_of_another_kind_is_noted() -> None:
    """Each call of a batch must have a valid type."""
    for member in ({"userId": "u"}, {"userId": "u", "type": "delete"}, "x"):
        assert send({"batch": [member]}, "/v1/batch").reason


def test_a_write_key_is_needed() -> None:
    """The configured key is required, in a Basic header, the body or a beacon's URL."""
    plain = {"content-type": "application/json"}
    bearer = {**plain, "authorization": "Bearer token"}
    assert send(TRACK, headers=plain).response.status == 401
    assert send(TRACK, headers=bearer).response.status == 401
    assert send(TRACK, headers={**plain, "authorization": "Basic ?"}).response.status == 401
    keyed = {**TRACK, "writeKey": "abc123"}
    batch = {"batch": [{"type": "track", **TRACK}]}
    beacon = "/beacon/v1/batch?writeKey=abc123"
    for key, fine in (("abc123", True), ("other", False), (None, True)):
        answers = [
            send(TRACK, key=key),
            send(keyed, headers=plain, key=key),
            send(keyed, headers=bearer, key=key),
            send(batch, beacon, headers=plain, key=key),
            pixel("writeKey=abc123&userId=u&event=e", key=key),
        ]
        assert [answer.reason is None for answer in answers] == [fine] * 5
        statuses = [answer.response.status for answer in answers]
        assert statuses == ([200] * 5 if fine else [401] * 4 + [200])


@pytest.mark.parametrize(
    "query",
    [
        "",
        "writeKey=k",
        "writeKey=k&userId=u",
        "userId=u&event=e",
        "data=%7B",
        "data=!",
        "writeKey=k&context=1&context.ip=2&userId=u&event=e",
    ],
)
def test_a_pixel_is_always_answered_with_an_image(query: str) -> None:
    """An invalid pixel gets 200 and an image, and the journal has the reason."""
    answer = pixel(query)
    assert answer.response.status == 200
    assert answer.response.headers["content-type"] == "image/gif"
    assert answer.reason


@pytest.mark.parametrize(
    ("label", "status"),
    [
        ("application/json; charset=utf-8", 200),
        ("text/plain", 200),
        ("application/x-www-form-urlencoded", 200),
        ("", 200),
        ("application/xml", 400),
    ],
)
def test_labels_are_those_of_the_libraries(label: str, status: int) -> None:
    """JSON is accepted as JSON, as text, and as the form type of RudderStack's library."""
    assert send(TRACK, headers={**KEY, "content-type": label}).response.status == status


def test_unknown_paths_and_methods_are_refused() -> None:
    """404 and 405 have a message and a code."""
    for answer, status in (
        (send(TRACK, "/v1/nothing"), 404),
        (send(TRACK, method="PUT"), 405),
        (send(TRACK, "/v1/pixel/track"), 404),
    ):
        assert answer.response.status == status
        assert said(answer)["code"]
        assert answer.reason

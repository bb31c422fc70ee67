"""What Segment's input rejects, in which format, and what it always accepts."""

import base64
from typing import Any, ClassVar
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.errors import Fault, Rejected
from gateway.http import ClientInfo, Request
from gateway.testing import FaultAnswer, RefusalSuite, RefusedRequest, post
from gateway.testing.refusal_suite import REASON, WAIT
from gateway.testing.samples import plain
from plugins.segment.input import SegmentInput
from plugins.segment.mapping import KINDS
from plugins.segment.output import SegmentOutput
from plugins.segment.pixel import GIF, PIXELS

INPUT = SegmentInput()
POSTS = sorted(endpoint.split()[1] for endpoint in KINDS if endpoint.startswith("POST"))
CALL: dict[str, Any] = {"type": "track", "userId": "u1", "event": "Song Played"}


def refused(request: Request) -> tuple[int, Any]:
    """Return the status and body of the refusal of *request*."""
    with pytest.raises(Rejected) as caught:
        INPUT.parse(request)
    answer = INPUT.refuse(request, caught.value)
    return answer.status, orjson.loads(answer.body)


def code(request: Request) -> tuple[int, str]:
    """Return the status and code of the refusal of *request*."""
    status, said = refused(request)
    assert said["success"] is False
    assert said["message"]
    return status, said["code"]


def called(body: object, url: str = "/v1/track") -> Request:
    """Return a call with the id ``r-1``."""
    return replace(post(url, body), id="r-1")


def basic(key: str) -> str:
    """Return a Basic header."""
    return "Basic " + base64.b64encode(key.encode()).decode()


def refusal(message: str, code: str) -> object:
    """Return the gateway's message with the given code."""
    return {"success": False, "message": message, "code": code}


def keyed(body: Any, **headers: str) -> Request:
    """Return a call with *body* in it and *headers*."""
    return post("/v1/track", {**CALL, **body}, headers)


DATA = quote(base64.b64encode(orjson.dumps({"userId": "u"})).decode(), safe="")
NO_JSON = {
    b"": "the body is empty; send JSON",
    b"{": "at line 1, column 2",
    b"\xff": "at line 1, column 1",
    b"[1,]": "at line 1, column 3",
}
NOBODY = refusal("userId: a userId or an anonymousId is required", "no_user_anon_id")
NO_IDS: list[dict[str, Any]] = [
    {"userId": None},
    {"userId": ""},
    {"userId": " ", "anonymousId": None},
    {"userId": {"id": 1}},
    {"userId": ["u1"]},
    {"userId": True},
    {"anonymousId": "\t"},
]
EMPTY = refusal("batch: must not be empty", "empty_batch")
NO_ARRAY = refusal("batch: expected an array", "invalid_request")
NO_CALL = refusal("batch: has no call of a known type", "empty_batch_result")
NO_BATCH: list[tuple[dict[str, Any], object]] = [
    ({}, EMPTY),
    ({"batch": None}, EMPTY),
    ({"batch": []}, EMPTY),
    ({"batch": {}}, NO_ARRAY),
    ({"batch": "x"}, NO_ARRAY),
    ({"batch": [1, None, {}, {"type": "delete"}, {"type": ["track"]}]}, NO_CALL),
    ({"batch": [{"type": "track", "event": "x"}]}, NOBODY),
]


class TestSegmentRefusals(RefusalSuite):
    """Each refusal has a message and a code, which older libraries need."""

    input = INPUT
    untold = frozenset(f"GET {path}" for path in PIXELS)
    faults: ClassVar = {
        Fault.UNAUTHENTICATED: FaultAnswer(401, "unauthorized"),
        Fault.FORBIDDEN: FaultAnswer(401, "project_not_found"),
        Fault.TOO_LARGE: FaultAnswer(400, "payload_too_large"),
        Fault.NOT_FOUND: FaultAnswer(404, "not_found"),
        Fault.METHOD: FaultAnswer(405, "method_not_allowed", {"allow": "POST"}),
        Fault.UNSUPPORTED: FaultAnswer(501, "not_supported"),
        Fault.UNAVAILABLE: FaultAnswer(429, "too_many_requests", {"x-ratelimit-reset": str(WAIT)}),
    }
    refused: ClassVar = [
        *(
            RefusedRequest(
                post(url, body), 400, refusal(f"malformed JSON: {place}", "invalid_request")
            )
            for url in POSTS
            for body, place in NO_JSON.items()
        ),
        *(
            RefusedRequest(post("/v1/track", {"event": "Song Played", **ids}), 400, NOBODY)
            for ids in NO_IDS
        ),
        *(
            RefusedRequest(post(url, batch), 400, answer)
            for url in ("/v1/batch", "/v1/b", "/v1/import", "/beacon/v1/batch")
            for batch, answer in NO_BATCH
        ),
    ]
    credentials = (
        (keyed({}, authorization=basic("k:")), "k"),
        (keyed({}, authorization=basic("k")), "k"),
        (keyed({"writeKey": "other"}, authorization=basic("k:").replace("Basic", "basic")), "k"),
        (keyed({"writeKey": "k"}), "k"),
        (keyed({"writeKey": "k"}, authorization="Bearer token"), "k"),
        (keyed({}, authorization="Bearer k"), "k"),
        (keyed({"writeKey": None}, authorization="Bearer k"), "k"),
        (keyed({"writeKey": "k"}, authorization=basic(":")), "k"),
        (keyed({}, authorization="Basic ?"), None),
        (keyed({"writeKey": "k"}, authorization="Basic ?"), "k"),
        (keyed({}, authorization="Basic /w=="), None),
        (keyed({"writeKey": 7}), None),
        (keyed({}), None),
        (post("/v1/track", [CALL]), None),
        (post("/beacon/v1/batch?writeKey=k%2B1", {"batch": []}), "k+1"),
        (post("/v1/track?writeKey=k", CALL), None),
        (Request(method="GET", url="/v1/pixel/track?writeKey=k&userId=u"), "k"),
        (Request(method="GET", url=f"/v1/pixel/track?writeKey=k&data={DATA}"), "k"),
    )

    def refusal(self, status: int, message: str) -> object:
        """Return the gateway's words with a code, which *message* is."""
        del status
        return refusal(REASON, message)


def test_lets_a_cookie_name_whom_a_call_does_not() -> None:
    """A call may take its id from the client's cookie; an alias needs its own."""
    known = ClientInfo("203.0.113.7", "known-1")
    call = replace(called({"event": "Song Played"}), client=known)
    assert len(INPUT.parse(call)) == 1
    alias = replace(called({"previousId": "a1"}, "/v1/alias"), client=known)
    assert code(alias) == (400, "no_user_anon_id")


def test_takes_what_segment_discards_later() -> None:
    """A track call without a name is accepted, as by Segment, and is an event."""
    (event,) = INPUT.parse(called({"userId": "u1", "properties": {"a": 1}}))
    assert (event.type, event.name) == ("track", None)
    (event,) = INPUT.parse(called({"userId": "u1", "event": 7, "properties": "x"}))
    assert event.extra == {"event": 7, "properties": "x"}


def test_keeps_the_rest_of_a_batch() -> None:
    """A bad member of a batch does not affect the others, and ids number the events."""
    batch = [5, {"type": "track", "event": "nobody's"}, {"type": "?"}, CALL]
    events = INPUT.parse(called({"batch": batch}, "/v1/batch"))
    assert [(event.id, event.name) for event in events] == [
        ("r-1-0", "nobody's"),
        ("r-1-1", "Song Played"),
    ]


@pytest.mark.parametrize(
    ("size", "url"), [(32 * 1024, "/v1/track"), (32 * 1024, "/v1/t"), (500 * 1024, "/v1/batch")]
)
def test_takes_no_more_than_segment(size: int, url: str) -> None:
    """A body of the documented size is accepted, and one byte more gets 400."""
    body = orjson.dumps({**CALL, "batch": [CALL]})
    padded = body + b" " * (size - len(body))
    assert INPUT.parse(called(padded, url))
    assert code(called(padded + b" ", url)) == (400, "payload_too_large")


def test_takes_no_large_call_in_a_batch() -> None:
    """Each call in a batch has the size limit of a single call; the refusal names the call."""
    large = {**CALL, "properties": {"text": "x" * 33_000}}
    status, said = refused(called({"batch": [CALL, large]}, "/v1/batch"))
    assert (status, said["code"]) == (400, "payload_too_large")
    assert said["message"] == "batch.1: more than 32 KB"
    many = [{**CALL, "properties": {"text": "x" * 30_000}}] * 10
    assert len(INPUT.parse(called({"batch": many}, "/v1/batch"))) == 10


def test_takes_more_calls_than_segment() -> None:
    """A batch of more than 2500 events is accepted whole, although Segment drops the rest."""
    events = INPUT.parse(called({"batch": [CALL] * 2501}, "/v1/batch"))
    assert len(events) == 2501


@pytest.mark.parametrize("fault", list(Fault))
def test_a_pixel_is_an_image_whatever_is_wrong(fault: Fault) -> None:
    """A rejected pixel gets 200 and an image, as Segment documents."""
    pixel = Request(method="GET", url="/v1/pixel/track")
    answer = INPUT.refuse(pixel, Rejected("$", "why", fault, 5))
    assert (answer.status, answer.headers["content-type"]) == (200, "image/gif")
    assert answer.body == GIF
    assert (len(GIF), GIF[:6]) == (42, b"GIF89a")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "data=",
        "data=%7B",
        "data=%7B%22a",
        "data=!!!!",
        "data=W10",
        "data=bnVsbA",
        "userId=",
        "userId.x=1",
        "=&=&.=1",
        ".".join("a" * 40) + "=1",
    ],
)
def test_refuses_a_pixel_that_says_nothing(query: str) -> None:
    """A pixel without a valid call is rejected, and still gets an image."""
    pixel = Request(method="GET", url=f"/v1/pixel/track?{query}", id="r-1")
    with pytest.raises(Rejected) as caught:
        INPUT.parse(pixel)
    assert INPUT.refuse(pixel, caught.value).status == 200


def test_reads_a_pixel_in_any_base64() -> None:
    """Pixel data may use both base64 alphabets, with or without padding, or spaces for plus."""
    body = orjson.dumps({**CALL, "properties": {"a": "?>?>~~~ÿ"}}).replace(b"Song", b"S>>?ng")
    plain_text = base64.b64encode(body).decode()
    assert "+" in plain_text
    for data in (
        plain_text,
        plain_text.rstrip("="),
        quote(plain_text, safe=""),
        base64.urlsafe_b64encode(body).decode(),
    ):
        url = f"/v1/pixel/track?data={data}"
        (event,) = INPUT.parse(Request(method="GET", url=url, id="r-1"))
        assert event.name == "S>>?ng Played"


def test_takes_the_last_meaning_of_a_dotted_name() -> None:
    """If a name is both a text and an object in a query, the last one is used."""
    url = "/v1/pixel/track?userId=u&event=x&properties=1&properties.a=2&context.ip=1&context=3"
    (event,) = INPUT.parse(Request(method="GET", url=url, id="r-1"))
    assert plain(event)["properties"] == {"extra": {"a": "2"}}
    assert event.extra == {"context": "3"}


@pytest.mark.parametrize(
    ("timestamp", "sent_at", "expected"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", "2026-01-02T03:04:04Z"),
        ("2030-01-01T00:00:00+02:00", "2030-01-01T00:00:00+02:00", "2026-01-02T03:04:05Z"),
        ("2026-01-01T00:00:00", None, "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00Z", "then", "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00.123456789Z", 7, "2026-01-01T00:00:00.123456Z"),
        ("0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00+23:59", None, None),
        ("yesterday", "2026-01-01T00:00:01Z", None),
        (1767323045, "2026-01-01T00:00:01Z", None),
    ],
)
def test_corrects_the_senders_clock(timestamp: Any, sent_at: Any, expected: str | None) -> None:
    """The timestamp is corrected by the difference of sentAt and arrival, if both are valid."""
    (event,) = INPUT.parse(called({**CALL, "timestamp": timestamp, "sentAt": sent_at}))
    assert plain(event).get("timestamp") == expected
    moved = expected is not None and event.sent_at is not None and event.timestamp.year > 1  # type: ignore[union-attr]  # there is one
    assert event.extra.get("originalTimestamp") == (timestamp if moved else None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False,
    allow_infinity=False) | st.text(max_size=8)
    | st.sampled_from(["2026-01-02T03:04:05Z", "track", "0001-01-01T00:00:00+23:59", "1e999"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.text(max_size=4)
        | st.sampled_from(["traits", "page", "device", "id", "products", "price", "consent",
                           "categoryPreferences", "url", "email", "batch"]),
        inner,
        max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip
FIELDS = (
    "name", "category", "properties", "traits", "context", "integrations", "messageId",
    "timestamp", "originalTimestamp", "sentAt", "anonymousId", "groupId", "previousId", "channel",
    "writeKey", "_metadata", "version",
)  # fmt: skip
CALLS = st.fixed_dictionaries(
    {"userId": st.just("u1"), "type": st.sampled_from(sorted({*KINDS.values()} - {"batch"}))},
    optional={
        **dict.fromkeys(FIELDS, JSON),
        "event": st.sampled_from(["Product Viewed", "Order Completed", "x"]) | JSON,
    },
)
OUTPUT = SegmentOutput(SegmentOutput.Config(url="https://segment.example", write_key="key-out"))  # type: ignore[arg-type]  # pydantic makes it a secret


@given(call=CALLS)
@settings(max_examples=300, deadline=None)
def test_reads_any_value_in_any_field(call: dict[str, Any]) -> None:
    """A call with any value in any field is an event, alone and in a batch."""
    (alone,) = INPUT.parse(called(call, f"/v1/{call['type']}"))
    (member,) = INPUT.parse(called({"batch": [call]}, "/v1/batch"))
    assert alone == member
    assert INPUT.refuse(called(call), Rejected("$", "x")).status == 400
    OUTPUT.render(alone)
    OUTPUT.losses(alone)


@given(batch=st.fixed_dictionaries({}, optional={
    "batch": st.lists(CALLS | JSON, max_size=3) | JSON, "context": JSON, "integrations": JSON,
    "sentAt": JSON, "writeKey": JSON,
}) | JSON)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_reads_or_refuses_any_batch(batch: Any) -> None:
    """Any batch is read, or rejected in Segment's format."""
    request = called(batch, "/v1/batch")
    INPUT.credential(request, batch)
    try:
        events = INPUT.parse(request)
    except Rejected as refusal:
        answer = INPUT.refuse(request, refusal)
        assert answer.status == 400
        return
    assert [event.id for event in events] == [f"r-1-{n}" for n in range(len(events))]
    forwarded = OUTPUT.forward(request)
    assert forwarded is not None
    assert b"key-out" in forwarded.body or not isinstance(batch.get("writeKey"), str)


@given(query=st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_a_pixel_never_fails(query: str) -> None:
    """A pixel with any query gets an image."""
    pixel = Request(method="GET", url=f"/v1/pixel/track?{query}", id="r-1")
    try:
        answer = INPUT.accept(pixel, INPUT.parse(pixel))
    except Rejected as error:
        answer = INPUT.refuse(pixel, error)
    assert (answer.status, answer.body) == (200, GIF)


def test_reads_a_deeply_nested_context() -> None:
    """A deeply nested context is read unchanged."""
    deep = b'{"a":' * 900 + b"1" + b"}" * 900
    body = b'{"context":%b,"batch":[{"type":"page","userId":"u","context":%b}]}' % (deep, deep)
    (event,) = INPUT.parse(called(body, "/v1/batch"))
    assert "a" in event.context.extra

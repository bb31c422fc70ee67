"""What Segment's entrances refuse, in which words, and what they take whatever comes."""

import base64
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.errors import Fault, Rejected
from gateway.http import ClientInfo, Request
from gateway.testing.samples import ARRIVAL, plain
from plugins.segment.input import SegmentInput
from plugins.segment.mapping import KINDS
from plugins.segment.output import SegmentOutput
from plugins.segment.pixel import GIF

INPUT = SegmentInput()
POSTS = sorted(endpoint.split()[1] for endpoint in KINDS if endpoint.startswith("POST"))
CALL: dict[str, Any] = {"type": "track", "userId": "u1", "event": "Song Played"}


def post(body: object, url: str = "/v1/track", **headers: str) -> Request:
    """Return a request as a client would send it."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return Request(method="POST", url=url, headers=headers, body=raw, id="r-1", received_at=ARRIVAL)


def refused(request: Request) -> tuple[int, Any]:
    """Return the status and the body with which *request* is refused."""
    with pytest.raises(Rejected) as caught:
        INPUT.parse(request)
    answer = INPUT.refuse(request, caught.value)
    return answer.status, orjson.loads(answer.body)


def code(request: Request) -> tuple[int, str]:
    """Return the status and the code with which *request* is refused."""
    status, said = refused(request)
    assert said["success"] is False
    assert said["message"]
    return status, said["code"]


def credential(request: Request) -> str | None:
    """Return the write key that came along."""
    return INPUT.credential(request, INPUT.decode(request))


@pytest.mark.parametrize("url", POSTS)
@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[1,]"])
def test_tells_what_is_no_json(url: str, body: bytes) -> None:
    """What is no JSON is refused with 400 and the code that Segment's libraries know."""
    status, said = refused(post(body, url))
    assert (status, said["code"]) == (400, "invalid_request")
    assert said["message"].startswith("malformed JSON: ")


@pytest.mark.parametrize(
    "ids",
    [
        {"userId": None},
        {"userId": ""},
        {"userId": " ", "anonymousId": None},
        {"userId": {"id": 1}},
        {"userId": ["u1"]},
        {"userId": True},
        {"anonymousId": "\t"},
    ],
)
def test_needs_to_know_whom_it_is_about(ids: dict[str, Any]) -> None:
    """A call without a user id and an anonymous id gets Segment's own code."""
    assert code(post({"event": "Song Played", **ids})) == (400, "no_user_anon_id")


def test_lets_a_cookie_name_whom_a_call_does_not() -> None:
    """A call that the client's cookie names needs no id of its own; an alias needs one."""
    known = ClientInfo("203.0.113.7", "known-1")
    call = replace(post({"event": "Song Played"}), client=known)
    assert len(INPUT.parse(call)) == 1
    alias = replace(post({"previousId": "a1"}, "/v1/alias"), client=known)
    assert code(alias) == (400, "no_user_anon_id")


def test_takes_what_segment_discards_later() -> None:
    """A track without a name is answered with success, as Segment does, and is an event."""
    (event,) = INPUT.parse(post({"userId": "u1", "properties": {"a": 1}}))
    assert (event.type, event.name) == ("track", None)
    (event,) = INPUT.parse(post({"userId": "u1", "event": 7, "properties": "x"}))
    assert event.extra == {"event": 7, "properties": "x"}


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ({}, "empty_batch"),
        ({"batch": None}, "empty_batch"),
        ({"batch": []}, "empty_batch"),
        ({"batch": {}}, "invalid_request"),
        ({"batch": "x"}, "invalid_request"),
        ({"batch": [1, None, {}, {"type": "delete"}, {"type": ["track"]}]}, "empty_batch_result"),
        ({"batch": [{"type": "track", "event": "x"}]}, "no_user_anon_id"),
    ],
)
@pytest.mark.parametrize("url", ["/v1/batch", "/v1/b", "/v1/import", "/beacon/v1/batch"])
def test_needs_something_in_a_batch(url: str, batch: Any, said: str) -> None:
    """A batch in which nothing is an event of anyone is refused."""
    assert code(post(batch, url)) == (400, said)


def test_keeps_the_rest_of_a_batch() -> None:
    """One bad member of a batch costs no other, and ids count the events that there are."""
    batch = [5, {"type": "track", "event": "nobody's"}, {"type": "?"}, CALL]
    events = INPUT.parse(post({"batch": batch}, "/v1/batch"))
    assert [(event.id, event.name) for event in events] == [
        ("r-1-0", "nobody's"),
        ("r-1-1", "Song Played"),
    ]


@pytest.mark.parametrize(
    ("size", "url"), [(32 * 1024, "/v1/track"), (32 * 1024, "/v1/t"), (500 * 1024, "/v1/batch")]
)
def test_takes_no_more_than_segment(size: int, url: str) -> None:
    """A body of the documented size is taken, and one byte more is 400."""
    body = orjson.dumps({**CALL, "batch": [CALL]})
    padded = body + b" " * (size - len(body))
    assert INPUT.parse(post(padded, url))
    assert code(post(padded + b" ", url)) == (400, "payload_too_large")


def test_takes_no_large_call_in_a_batch() -> None:
    """A call in a batch may be as large as a call by itself, and the answer says which is not."""
    large = {**CALL, "properties": {"text": "x" * 33_000}}
    status, said = refused(post({"batch": [CALL, large]}, "/v1/batch"))
    assert (status, said["code"]) == (400, "payload_too_large")
    assert said["message"] == "batch.1: more than 32 KB"
    many = [{**CALL, "properties": {"text": "x" * 30_000}}] * 10
    assert len(INPUT.parse(post({"batch": many}, "/v1/batch"))) == 10


def test_takes_more_calls_than_segment() -> None:
    """Segment drops what is beyond 2500 events of a batch, in silence; here nothing is dropped."""
    events = INPUT.parse(post({"batch": [CALL] * 2501}, "/v1/batch"))
    assert len(events) == 2501


def basic(key: str) -> str:
    """Return a Basic header."""
    return "Basic " + base64.b64encode(key.encode()).decode()


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"authorization": basic("k:")}, {}, "k"),
        ({"authorization": basic("k")}, {}, "k"),
        ({"authorization": basic("k:").replace("Basic", "basic")}, {"writeKey": "other"}, "k"),
        ({}, {"writeKey": "k"}, "k"),
        ({"authorization": "Bearer token"}, {"writeKey": "k"}, "k"),
        ({"authorization": "Bearer k"}, {}, "k"),
        ({"authorization": "Bearer k"}, {"writeKey": None}, "k"),
        ({"authorization": basic(":")}, {"writeKey": "k"}, "k"),
        ({"authorization": "Basic ?"}, {"writeKey": "k"}, "k"),
        ({"authorization": "Basic /w=="}, {}, None),
        ({}, {"writeKey": 7}, None),
        ({}, {}, None),
    ],
)
def test_finds_the_write_key(headers: dict[str, str], body: Any, expected: str | None) -> None:
    """The key may stand in a Basic header, in the body, or alone in a Bearer header."""
    assert credential(post({**CALL, **body}, **headers)) == expected


def test_finds_the_write_key_of_what_is_no_object() -> None:
    """A body that is no object has no key."""
    assert credential(post([CALL])) is None


def test_reads_a_key_in_the_query_where_it_is_documented() -> None:
    """A beacon and a pixel may have the key in their address, other calls may not."""
    assert credential(post({"batch": []}, "/beacon/v1/batch?writeKey=k%2B1")) == "k+1"
    assert credential(post(CALL, "/v1/track?writeKey=k")) is None
    dotted = Request(method="GET", url="/v1/pixel/track?writeKey=k&userId=u")
    assert credential(dotted) == "k"
    data = quote(base64.b64encode(orjson.dumps({"userId": "u"})).decode(), safe="")
    beside = Request(method="GET", url=f"/v1/pixel/track?writeKey=k&data={data}")
    assert credential(beside) == "k"


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        (Fault.UNAUTHENTICATED, 401, "unauthorized"),
        (Fault.FORBIDDEN, 401, "project_not_found"),
        (Fault.TOO_LARGE, 400, "payload_too_large"),
        (Fault.NOT_FOUND, 404, "not_found"),
        (Fault.METHOD, 405, "method_not_allowed"),
        (Fault.UNSUPPORTED, 501, "not_supported"),
        (Fault.UNAVAILABLE, 429, "too_many_requests"),
    ],
)
def test_answers_every_other_fault(fault: Fault, status: int, said: str) -> None:
    """Each fault has its status, a message, and a code, which older libraries need."""
    answer = INPUT.refuse(post(CALL), Rejected("$", "why", fault, 5))
    body = {"success": False, "message": "why", "code": said}
    assert (answer.status, orjson.loads(answer.body)) == (status, body)
    assert answer.headers.get("allow") == ("POST" if status == 405 else None)
    assert answer.headers.get("x-ratelimit-reset") == ("5" if status == 429 else None)


@pytest.mark.parametrize("fault", list(Fault))
def test_a_pixel_is_an_image_whatever_is_wrong(fault: Fault) -> None:
    """Segment documents that a pixel is always answered with 200 and an image."""
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
    """What is no call in an image's address becomes no event, and an image all the same."""
    pixel = Request(method="GET", url=f"/v1/pixel/track?{query}", id="r-1")
    with pytest.raises(Rejected) as caught:
        INPUT.parse(pixel)
    assert INPUT.refuse(pixel, caught.value).status == 200


def test_reads_a_pixel_in_any_base64() -> None:
    """Both alphabets, with padding and without, and a plus sign that became a space."""
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
    """A name that is a text and has names below it is what came last."""
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
    """A time is moved by how far the time of sending is from the arrival, where both parse."""
    (event,) = INPUT.parse(post({**CALL, "timestamp": timestamp, "sentAt": sent_at}))
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
    """Whatever stands in the fields of someone's call, it is an event, alone and in a batch."""
    (alone,) = INPUT.parse(post(call, f"/v1/{call['type']}"))
    (member,) = INPUT.parse(post({"batch": [call]}, "/v1/batch"))
    assert alone == member
    assert INPUT.refuse(post(call), Rejected("$", "x")).status == 400
    OUTPUT.render(alone)
    OUTPUT.losses(alone)


@given(batch=st.fixed_dictionaries({}, optional={
    "batch": st.lists(CALLS | JSON, max_size=3) | JSON, "context": JSON, "integrations": JSON,
    "sentAt": JSON, "writeKey": JSON,
}) | JSON)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_reads_or_refuses_any_batch(batch: Any) -> None:
    """Whatever a batch is, it is read or refused in Segment's own shape."""
    request = post(batch, "/v1/batch")
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
    """Whatever stands in an image's address, the answer is an image."""
    pixel = Request(method="GET", url=f"/v1/pixel/track?{query}", id="r-1")
    try:
        answer = INPUT.accept(pixel, INPUT.parse(pixel))
    except Rejected as error:
        answer = INPUT.refuse(pixel, error)
    assert (answer.status, answer.body) == (200, GIF)


def test_merges_what_is_nested_too_deep_to_follow() -> None:
    """A context of a thousand objects within objects is read as it comes."""
    deep = b'{"a":' * 900 + b"1" + b"}" * 900
    body = b'{"context":%b,"batch":[{"type":"page","userId":"u","context":%b}]}' % (deep, deep)
    (event,) = INPUT.parse(post(body, "/v1/batch"))
    assert "a" in event.context.extra

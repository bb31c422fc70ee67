"""Requests that go on as they came: with which headers, and for how long."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from gateway.delivery.job import Job
from gateway.delivery.rendering import Prepared, Rendering
from gateway.exchange import Request
from gateway.forwarding import carried
from gateway.spool import Entry, Mark
from plugins.segment.input import SegmentInput
from plugins.segment.output import SegmentOutput

OURS = {"content-type": "application/json", "authorization": "ours"}
BODY = (
    b'{"userId": "u1", "event": "Signed Up", "timestamp": "2026-01-02T03:04:05Z", '
    b'"sentAt": "2026-01-02T03:04:06Z", "writeKey": "theirs"}'
)


@pytest.mark.parametrize(
    ("headers", "body", "wanted"),
    [
        ({}, b"{}", OURS),
        ({"x-own": "1", "user-agent": "app"}, b"{}", {**OURS, "x-own": "1", "user-agent": "app"}),
        ({"authorization": "theirs"}, b"{}", OURS),
        ({"content-type": "text/plain"}, b' {"a": 1}', OURS),
        ({"content-type": "application/vnd.a+json"}, b"{}",
         {**OURS, "content-type": "application/vnd.a+json"}),
        ({"content-type": "application/x-www-form-urlencoded"}, b"a=1",
         {**OURS, "content-type": "application/x-www-form-urlencoded"}),
    ],
)  # fmt: skip
def test_what_is_stored_goes_on_but_for_credentials_and_wrong_labels(
    headers: dict[str, str], body: bytes, wanted: dict[str, str]
) -> None:
    """The client's headers go on, ours go before them, and JSON is labelled as JSON."""
    assert carried(Request(method="POST", url="/x", headers=headers, body=body), OURS) == wanted


@pytest.mark.parametrize(("age", "as_it_came"), [(1, "yes"), (3600, "no")])
def test_a_late_request_is_written_anew_where_the_vendor_goes_by_its_own_clock(
    age: int, as_it_came: str
) -> None:
    """Segment gets `sentAt` while it means something, and the corrected time alone after that."""
    config = SegmentOutput.Config(write_key=SecretStr("ours"))
    request = Request(
        method="POST", url="/v1/track", headers={"content-type": "application/json"}, body=BODY,
        id="r-1", received_at=datetime.now(UTC) - timedelta(seconds=age),
    )  # fmt: skip
    entry = Entry("r-1", "shop", request, {"segment": (0,)}, "segment")
    (event,) = SegmentInput().parse(request)
    rendering = Rendering(SegmentOutput(config), passthrough=True)
    prepared = rendering.prepare([Job(Mark(1, 0), entry, event)])
    assert isinstance(prepared, Prepared)
    assert (b"sentAt" in prepared.request.body) is (as_it_came == "yes")
    assert b"theirs" not in prepared.request.body

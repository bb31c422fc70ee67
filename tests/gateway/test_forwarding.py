"""Forwarded requests: which headers they carry, and until which age they are forwarded."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from gateway.delivery.job import Job
from gateway.delivery.renderer import PreparedRequest, Renderer
from gateway.http import ClientInfo, Request
from gateway.ingest.events import with_client
from gateway.plugin.vendor import forwarded_headers
from gateway.spool import DeliveryRef, Entry
from plugins.segment.input import SegmentInput
from plugins.segment.output import SegmentOutput

OURS = {"content-type": "application/json", "authorization": "ours"}
BODY = (
    b'{"userId": "u1", "event": "Signed Up", "timestamp": "2026-01-02T03:04:05Z", '
    b'"sentAt": "2026-01-02T03:04:06Z", "writeKey": "theirs"}'
)
OWN = BODY.replace(b'"userId"', b'"context": {"ip": "8.8.8.8"}, "userId"')


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
def test_stored_headers_are_forwarded_without_credentials(
    headers: dict[str, str], body: bytes, wanted: dict[str, str]
) -> None:
    """The client's headers stay, the gateway's override them, and a JSON body is labelled JSON."""
    assert (
        forwarded_headers(Request(method="POST", url="/x", headers=headers, body=body), OURS)
        == wanted
    )


@pytest.mark.parametrize(("age", "as_it_came"), [(1, "yes"), (3600, "no")])
def test_a_late_segment_request_is_rendered_anew(age: int, as_it_came: str) -> None:
    """A late Segment request is rendered anew without ``sentAt``; a recent one is forwarded."""
    config = SegmentOutput.Config(write_key=SecretStr("ours"))
    request = Request(
        method="POST", url="/v1/track", headers={"content-type": "application/json"}, body=BODY,
        id="r-1", received_at=datetime.now(UTC) - timedelta(seconds=age),
    )  # fmt: skip
    entry = Entry("r-1", "shop", request, {"segment": (0,)}, "segment")
    (event,) = SegmentInput().parse(request)
    rendering = Renderer(SegmentOutput(config), passthrough=True)
    prepared = rendering.prepare([Job(DeliveryRef(1, 0), entry, event)])
    assert isinstance(prepared, PreparedRequest)
    assert (b"sentAt" in prepared.request.body) is (as_it_came == "yes")
    assert b"theirs" not in prepared.request.body


@pytest.mark.parametrize(
    ("client_ip", "body", "client", "header", "as_it_came"),
    [
        ("x-forwarded-for", BODY, "203.0.113.7", "203.0.113.7", True),
        ("x-real-ip", BODY, "203.0.113.7", "203.0.113.7", True),
        ("x-forwarded-for", BODY, "", None, True),
        ("", BODY, "203.0.113.7", None, True),
        ("field", BODY, "203.0.113.7", None, False),
        ("field", BODY, "", None, True),
        ("x-forwarded-for", OWN, "203.0.113.7", None, True),
        ("x-forwarded-for", OWN.replace(b"8.8.8.8", b"0.0.0.0"), "203.0.113.7", None, True),
        ("field", OWN, "203.0.113.7", None, True),
    ],
)
def test_the_visitors_address_reaches_the_same_vendor(
    client_ip: str, body: bytes, client: str, header: str | None, *, as_it_came: bool
) -> None:
    """The client's address goes into the header or the field, unless the payload has one."""
    config = SegmentOutput.Config(write_key=SecretStr("ours"))
    request = Request(
        method="POST", url="/v1/t", headers={"content-type": "application/json"}, body=body,
        id="r-1", received_at=datetime.now(UTC), client=ClientInfo(client),
    )  # fmt: skip
    entry = Entry("r-1", "shop", request, {"segment": (0,)}, "segment")
    (event,) = with_client(SegmentInput().parse(request), request)
    rendering = Renderer(SegmentOutput(config), passthrough=True, client_ip=client_ip)
    prepared = rendering.prepare([Job(DeliveryRef(1, 0), entry, event)])
    assert isinstance(prepared, PreparedRequest)
    assert prepared.forwarded is as_it_came
    assert prepared.request.headers.get(client_ip or "x-forwarded-for") == header
    assert prepared.request.url.endswith("/v1/t" if as_it_came else "/v1/track")
    if not as_it_came:
        assert b'"ip":"203.0.113.7"' in prepared.request.body


def test_the_visitors_address_is_the_same_when_it_is_late() -> None:
    """A late request that is rendered anew carries the client's address in its body."""
    config = SegmentOutput.Config(write_key=SecretStr("ours"))
    request = Request(
        method="POST", url="/v1/t", headers={"content-type": "application/json"}, body=BODY,
        id="r-1", received_at=datetime.now(UTC) - timedelta(hours=1),
        client=ClientInfo("203.0.113.7"),
    )  # fmt: skip
    entry = Entry("r-1", "shop", request, {"segment": (0,)}, "segment")
    (event,) = with_client(SegmentInput().parse(request), request)
    rendering = Renderer(SegmentOutput(config), passthrough=True, client_ip="x-forwarded-for")
    prepared = rendering.prepare([Job(DeliveryRef(1, 0), entry, event)])
    assert isinstance(prepared, PreparedRequest)
    assert not prepared.forwarded
    assert b'"ip":"203.0.113.7"' in prepared.request.body

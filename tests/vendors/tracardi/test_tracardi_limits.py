"""Tracardi's limits: losses, sessions and profiles, and verdicts on its responses."""

from typing import Any
from uuid import uuid5

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.errors import Unrenderable
from gateway.event import Context, Device, Page, Properties, Traits
from gateway.http import Response
from gateway.verdict import Delivered, Refused, RetryLater
from plugins.tracardi.values import NAMESPACE, derived
from tests.vendors.tracardi.rendering import (
    AT,
    SHOES,
    SOCKS,
    item,
    output,
    request_for,
    sent,
    track,
)


@given(kind=st.text(), seed=st.text())
def test_a_derived_id_is_a_uuid_of_version_5(kind: str, seed: str) -> None:
    """A derived id is the UUID of its kind and seed in Tracardi's namespace."""
    assert derived(kind, seed) == str(uuid5(NAMESPACE, f"{kind} {seed}"))


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"user_id": "u1", "anonymous_id": "a1"}, "visitor a1"),
        ({"user_id": " ", "anonymous_id": "a1"}, "visitor a1"),
        ({"user_id": "u1", "context": Context(device=Device(id="dev-1"))}, "device dev-1"),
        ({"user_id": "u1"}, "user u1"),
        ({"traits": Traits(email="ada@shop.example")}, "email ada@shop.example"),
        ({"traits": Traits(phone="+442079460000")}, "phone +442079460000"),
        ({"session_id": " ", "anonymous_id": "a1"}, "visitor a1"),
    ],
)
def test_derives_a_session_from_the_user(fields: dict[str, Any], key: str) -> None:
    """Without a session, one is derived from the visitor, else from another id."""
    event = replace(track(), **{"user_id": None, **fields})
    body = sent(event)
    stretch = int(event.time.timestamp() // (4 * 3600))
    assert body["session"] == {"id": derived("session", f"{key} {stretch}")}
    assert body == sent(event)
    known = body.get("profile")
    assert known == ({"id": "a1"} if fields.get("anonymous_id") else None)


def test_sends_an_event_without_a_user_without_a_profile() -> None:
    """An event without a user is sent with ``profile_less``."""
    request = request_for(track(user_id=None))
    assert request.url == "https://tracardi.example/track?profile_less=true"
    assert "session" not in orjson.loads(request.body)
    assert "profile" not in orjson.loads(request.body)


def test_reports_lost_fields() -> None:
    """The sent time and all products but one are reported as lost."""
    properties = Properties(products=(SHOES, SOCKS))
    event = track("Product Viewed", properties, sent_at=AT, traits=Traits(email="a@b.example"))
    assert [(loss.path, loss.how) for loss in output().losses(event)] == [
        ("sent_at", "lost"),
        ("properties.products[1:]", "lost"),
    ]


def test_a_value_that_json_cannot_express_is_unrenderable() -> None:
    """A value that JSON cannot express makes the event unrenderable, with its id."""
    with pytest.raises(Unrenderable, match="r-1-0"):
        output().render(track(properties=Properties(extra={"a": {1, 2}})))


def test_judges_by_the_status() -> None:
    """226 and 406 are final, a refused source is a wrong key, server errors are retried."""
    judge = output().verdict
    assert judge(Response(200, body=b"null")) == Delivered()
    failed = judge(Response(226, body=b'{"errors":["no such field"]}'))
    assert isinstance(failed, Refused)
    assert "no such field" in failed.reason
    assert isinstance(judge(Response(406)), Refused)
    assert isinstance(judge(Response(422)), Refused)
    denied = judge(Response(401))
    assert isinstance(denied, RetryLater)
    assert denied.cause == "credential"
    assert isinstance(judge(Response(500)), RetryLater)


@pytest.mark.parametrize("referrer", ["a.example", "https://a.example:8080/b", "http://[", "x"])
def test_writes_any_referrer(referrer: str) -> None:
    """A referrer is sent as its host, or unchanged if it is no URL with a host."""
    event = track(context=Context(page=Page(referrer=referrer)))
    host = {"https://a.example:8080/b": "a.example:8080"}.get(referrer, referrer)
    assert item(event)["context"]["page"] == {"referer": {"host": host}}

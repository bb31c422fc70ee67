"""What Tracardi cannot be told, whom an event is about, and what its answers mean."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from gateway.errors import Unrenderable
from gateway.event import Context, Device, Event, Page, Product, Properties, Traits
from gateway.http import Request, Response
from gateway.plugin.settings import Secret
from gateway.testing.samples import ARRIVAL, EVENTS
from gateway.verdict import Declined, Delivered, Refused, RetryLater
from plugins.tracardi.output import TracardiOutput
from plugins.tracardi.sandbox import TracardiSandbox
from plugins.tracardi.values import derived

AT = datetime(2024, 3, 28, 10, 15, 30, 523000, UTC)
SHOES = Product(product_id="42", name="Red shoes", price=59.9, quantity=1)
SOCKS = Product(product_id="43", price=4, quantity=2, extra={"colour": "grey"})


def output(**settings: Any) -> TracardiOutput:
    """Return a destination with *settings*."""
    source = Secret("source-out")
    return TracardiOutput(
        TracardiOutput.Config(url="https://tracardi.example/", source_id=source, **settings)
    )


def request_for(event: Event, **settings: Any) -> Request:
    """Return the request that delivers *event*."""
    request = output(**settings).render(event)
    assert isinstance(request, Request), request
    return request


def sent(event: Event, **settings: Any) -> dict[str, Any]:
    """Return the body that delivers *event*."""
    body: dict[str, Any] = orjson.loads(request_for(event, **settings).body)
    return body


def item(event: Event, **settings: Any) -> dict[str, Any]:
    """Return the one event in the body that delivers *event*."""
    (only,) = sent(event, **settings)["events"]
    found: dict[str, Any] = only
    return found


def declined(event: Event) -> str:
    """Return why *event* is declined."""
    refusal = output().render(event)
    assert isinstance(refusal, Declined)
    return refusal.reason


def track(name: str = "x", properties: Properties = Properties(), **fields: Any) -> Event:  # noqa: B008 - immutable
    """Return an event of another vendor."""
    known = {"id": "r-1-0", "user_id": "u1", "origin": "segment", "received_at": ARRIVAL, **fields}
    return Event(type="track", name=name, properties=properties, **known)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: f"{event.type}-{event.name}")
@pytest.mark.parametrize("origin", ["segment", "tracardi"])
def test_sends_only_what_tracardi_takes(event: Event, origin: str) -> None:
    """Whatever goes out, a server as strict as the document and the models accepts."""
    request = output().render(replace(event, origin=origin))
    if isinstance(request, Declined):
        return
    path = request.url.removeprefix("https://tracardi.example")
    answer = TracardiSandbox().respond(replace(request, url=path), "source-out")
    assert answer.reason is None
    assert answer.response.status == 200


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
    """Without a session, whatever names the user makes one, the visitor before the user."""
    event = replace(track(), **{"user_id": None, **fields})
    body = sent(event)
    stretch = int(event.time.timestamp() // (4 * 3600))
    assert body["session"] == {"id": derived("session", f"{key} {stretch}")}
    assert body == sent(event)
    known = body.get("profile")
    assert known == ({"id": "a1"} if fields.get("anonymous_id") else None)


def test_sends_what_nobody_did_without_a_profile() -> None:
    """An event that names no user must not make Tracardi invent one."""
    request = request_for(track(user_id=None))
    assert request.url == "https://tracardi.example/track?profile_less=true"
    assert "session" not in orjson.loads(request.body)
    assert "profile" not in orjson.loads(request.body)


def test_declines_a_profile_of_nobody() -> None:
    """A profile can only be updated where something says whose it is."""
    reason = declined(Event(type="identify", traits=Traits(first_name="Ada")))
    assert "nothing says whose" in reason


def test_declines_what_has_no_call() -> None:
    """Joining two profiles and filling a catalogue are not /track's business."""
    assert "merge keys" in declined(Event(type="alias", user_id="u1", previous_id="a1"))
    assert "catalogue" in declined(Event(type="product", properties=Properties(products=(SHOES,))))


@pytest.mark.parametrize("name", ["", "  "])
def test_declines_an_event_without_a_name(name: str) -> None:
    """A type is the one thing that every event of Tracardi has."""
    assert "no name" in declined(track(name))


def test_tells_what_is_lost() -> None:
    """The time of sending and all products but one have no place."""
    properties = Properties(products=(SHOES, SOCKS))
    event = track("Product Viewed", properties, sent_at=AT, traits=Traits(email="a@b.example"))
    assert [(loss.path, loss.how) for loss in output().losses(event)] == [
        ("sent_at", "lost"),
        ("properties.products[1:]", "lost"),
    ]


def test_cannot_write_what_json_cannot_say() -> None:
    """A value that is no JSON makes the event a dead letter, with the event's id."""
    with pytest.raises(Unrenderable, match="r-1-0"):
        output().render(track(properties=Properties(extra={"a": {1, 2}})))


def test_judges_by_the_status() -> None:
    """226 and 406 are final, a refused source waits for a person, trouble passes."""
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


def test_keeps_the_source_secret() -> None:
    """The source's id is a credential and shows nowhere but in the body."""
    made = output()
    assert "source-out" not in repr(made.config)
    assert "source-out" in request_for(track()).body.decode()


@pytest.mark.parametrize("referrer", ["a.example", "https://a.example:8080/b", "http://[", "x"])
def test_writes_any_referrer(referrer: str) -> None:
    """A referrer that is no URL goes out as it is."""
    event = track(context=Context(page=Page(referrer=referrer)))
    host = {"https://a.example:8080/b": "a.example:8080"}.get(referrer, referrer)
    assert item(event)["context"]["page"] == {"referer": {"host": host}}

"""How a request's client is identified, and which fields events get from it."""

from typing import Any

import msgspec
import pytest
from multidict import CIMultiDict

from gateway.event import Context, Event
from gateway.http import ClientInfo, Request
from gateway.ingest.client import ClientCookie, sent_by_browser
from gateway.ingest.events import with_client, without_unused_client_id
from gateway.spool import Entry
from gateway.spool.rows import pack, retarget, unpack

IP = "203.0.113.7"
AGENT = {"user-agent": "Mozilla/5.0"}


def request(client: ClientInfo | None, **headers: str) -> Request:
    """Return a stored request."""
    return Request(method="POST", url="/", headers=headers, client=client)


def introduce(client: ClientInfo | None, **known: Any) -> Event:
    """Return an event after it got its client's fields."""
    before = Event(**{"type": "track", "name": "x"} | known)
    (event,) = with_client([before], request(client, **AGENT))
    return event


@pytest.mark.parametrize(
    ("headers", "page"),
    [
        ({"Origin": "https://shop.example"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": "capacitor://localhost"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "client", "Sec-Fetch-Mode": "cors"}, False),
        ({"Sec-Fetch-Mode": "cors"}, False),
        ({"User-Agent": "Mozilla/5.0"}, False),
    ],
)
def test_browsers_are_recognised_by_their_headers(headers: dict[str, str], *, page: bool) -> None:
    """Only headers that browsers alone send identify a browser; a user agent does not."""
    assert sent_by_browser(CIMultiDict(headers)) is page


def test_an_event_gets_its_clients_address_and_user_agent() -> None:
    """Address and user agent fill only the fields that the event leaves empty."""
    event = introduce(ClientInfo(IP))
    assert (event.context.ip, event.context.user_agent) == (IP, "Mozilla/5.0")
    said = introduce(ClientInfo(IP), context=Context(ip="", user_agent="own", locale="pl"))
    assert said.context == Context(ip="", user_agent="own", locale="pl")


def test_an_unknown_address_is_left_out() -> None:
    """An unknown address stays unset, and without a client no field is filled."""
    assert introduce(ClientInfo()).context == Context(user_agent="Mozilla/5.0")
    assert introduce(None).context == Context()


def test_a_product_event_gets_no_client_fields() -> None:
    """A product event gets no client address, user agent or anonymous id."""
    event = introduce(ClientInfo(IP, "c-1"), type="product")
    assert (event.context, event.anonymous_id) == (Context(), None)


@pytest.mark.parametrize(
    ("known", "anonymous"),
    [
        ({}, "c-1"),
        ({"anonymous_id": " "}, "c-1"),
        ({"session_id": "s"}, "c-1"),
        ({"user_id": "u"}, None),
        ({"anonymous_id": "a"}, "a"),
    ],
)
def test_the_cookies_id_becomes_the_anonymous_id(
    known: dict[str, str], anonymous: str | None
) -> None:
    """The cookie's id becomes the anonymous id if the event has no user and no anonymous id."""
    assert introduce(ClientInfo(IP, "c-1"), **known).anonymous_id == anonymous


def test_an_unused_cookie_id_is_not_stored() -> None:
    """The cookie's id is stored only if an event uses it."""
    kept = request(ClientInfo(IP, "c-1"))
    own, by_cookie = Event(type="track", anonymous_id="a"), Event(type="track", anonymous_id="c-1")
    assert without_unused_client_id(kept, [own]).client == ClientInfo(IP)
    assert without_unused_client_id(kept, [own, by_cookie]) is kept
    plain = request(None)
    assert without_unused_client_id(plain, [own]) is plain


@pytest.mark.parametrize(
    ("cookie", "secure", "header"),
    [
        (ClientCookie("_id"), False, "_id=1; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax"),
        (
            ClientCookie("_id", "shop.example", 60),
            True,
            "_id=1; Path=/; Max-Age=60; Domain=shop.example; Secure; HttpOnly; SameSite=Lax",
        ),
        (
            ClientCookie("__Host-id", max_age=1.4),
            False,
            "__Host-id=1; Path=/; Max-Age=1; Secure; HttpOnly; SameSite=Lax",
        ),
    ],
)
def test_a_cookie_is_written(cookie: ClientCookie, header: str, *, secure: bool) -> None:
    """The cookie is HttpOnly and SameSite, and Secure over TLS."""
    assert cookie.header("1", secure=secure) == header


def test_a_row_of_an_older_gateway_has_no_client() -> None:
    """A row from before clients were stored has no client, also after it is retargeted."""
    entry = Entry("r", "shop", request(None, **AGENT), {"a": (0,)}, "chrts")
    older = msgspec.msgpack.encode(msgspec.msgpack.decode(pack(entry))[:8])
    assert unpack("r", older, b"") == entry
    assert unpack("r", retarget(older, {"b": (0,)}), b"").request == entry.request


def test_a_row_of_a_newer_gateway_can_be_read() -> None:
    """Unknown fields that a later gateway adds to row or client are ignored."""
    entry = Entry("r", "shop", request(ClientInfo(IP, "c-1")), {"a": (0,)}, "chrts")
    fields = msgspec.msgpack.decode(pack(entry))
    fields[8].append("new")
    newer = msgspec.msgpack.encode([*fields, "new"])
    assert unpack("r", newer, b"") == entry

"""A visit is one session at Tracardi and PersonaClick, also through a login."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.event import Event
from tests.fidelity.translation import configured, read, sent

AT = datetime(2026, 5, 4, 10, 5, tzinfo=UTC)


def session(event: Event, **settings: Any) -> str:
    """Return the id of the session of *event*."""
    found: str = sent(event, configured("tracardi", **settings))[1]["session"]["id"]
    return found


def page(**known: Any) -> Event:
    """Return a page event of another vendor."""
    return Event(**{"type": "page", "timestamp": AT, "origin": "segment", **known})


def test_a_session_goes_on_through_a_login() -> None:
    """A login does not change the session, since the anonymous id has priority."""
    before = page(anonymous_id="anon-77")
    after = page(anonymous_id="anon-77", user_id="u-77", type="identify")
    assert session(before) == session(after)


def test_a_session_is_one_devices() -> None:
    """One user in two browsers has two sessions."""
    assert session(page(anonymous_id="a", user_id="u")) != session(
        page(anonymous_id="b", user_id="u")
    )


def test_a_session_ends() -> None:
    """An event hours later is in another session; one minutes later is in the same."""
    first = page(anonymous_id="a")
    assert session(first) == session(page(anonymous_id="a", timestamp=AT + timedelta(minutes=20)))
    for later in (timedelta(hours=8), timedelta(days=1), timedelta(days=400)):
        assert session(first) != session(page(anonymous_id="a", timestamp=AT + later))


def test_how_long_a_session_lasts_is_configured() -> None:
    """``session_window`` is the maximum length of a session."""
    later = page(anonymous_id="a", timestamp=AT + timedelta(minutes=40))
    assert session(page(anonymous_id="a"), session_window="30m") != session(
        later, session_window="30m"
    )
    assert session(page(anonymous_id="a"), session_window="1d") == session(
        later, session_window="1d"
    )


def test_a_senders_own_session_holds() -> None:
    """A session from the sender is kept, and none is derived."""
    assert session(page(anonymous_id="a", session_id="s-1")) == "s-1"


@pytest.mark.parametrize("kinds", [("user_id", "anonymous_id")])
def test_ids_of_different_kinds_never_meet(kinds: tuple[str, str]) -> None:
    """A user id and an anonymous id with the same text have different sessions."""
    first, second = (page(**{kind: "zz9"}) for kind in kinds)
    assert session(first) != session(second)


def test_a_late_delivery_is_in_the_session_of_its_time() -> None:
    """The event's own time decides its session, not its arrival."""
    moment = "2026-05-04T10:05:00Z"
    body = {"type": "page", "anonymousId": "a", "timestamp": moment, "name": "Home"}
    (event,) = read("segment", "/v1/page", body)
    assert session(event) == session(page(anonymous_id="a"))


def seance(event: Event) -> str:
    """Return PersonaClick's session of *event*."""
    found: str = sent(event, "personaclick")[1]["seance"]
    return found


def test_personaclicks_sessions_are_visits_too() -> None:
    """PersonaClick's derived sessions follow the same rules as Tracardi's."""
    before = page(anonymous_id="a")
    assert seance(before) == seance(page(anonymous_id="a", user_id="u", type="identify"))
    assert seance(before) == seance(page(anonymous_id="a", timestamp=AT + timedelta(minutes=20)))
    assert seance(before) != seance(page(anonymous_id="a", timestamp=AT + timedelta(days=1)))
    assert seance(page(anonymous_id="zz9")) != seance(page(user_id="zz9"))
    assert seance(page(anonymous_id="a", session_id="s-1")) == "s-1"

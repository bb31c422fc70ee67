"""Finding a person's events in stored requests."""

from msgspec.structs import replace

from gateway.admin.erasure import EventFinder
from gateway.event import Event
from gateway.person import Person
from gateway.spool import Entry
from gateway.testing.spool.contract import entry

ANNA = "anna@shop.example"
HASHES = {7}


def unreadable(_: Entry) -> list[Event]:
    """Fail, as a plugin that is gone."""
    raise KeyError("shop")


def stored(body: bytes, *users: int) -> Entry:
    """Return a request with an event of each of *users*, by their hashes."""
    made = entry("r1", body=body, crm=tuple(range(len(users))))
    return replace(made, users=users)


def test_an_unreadable_request_loses_only_the_persons_events() -> None:
    """Where a request cannot be read any more, the users' hashes say whose its events are."""
    find = EventFinder(Person([ANNA]), HASHES, unreadable)
    both = stored(b'[{"email": "anna@shop.example"}, {"email": "bob@shop.example"}]', 7, 8)
    assert find(both) == {0: ""}
    assert find(stored(both.request.body, 8, 9)) == {}
    assert find(stored(b'{"email": "anna@shop.example"}', 8)) == {0: ""}
    assert find(stored(b'{"email": "bob@shop.example"}', 8)) == {}


def test_an_id_that_does_not_stand_in_the_request_is_found() -> None:
    """What the source's plugin reads decides, however the request spells it."""
    find = EventFinder(Person([ANNA]), set(), lambda _: [Event("track", user_id=ANNA)])
    assert find(stored(b"YW5uYUBzaG9wLmV4YW1wbGU=", 8)) == {0: ""}

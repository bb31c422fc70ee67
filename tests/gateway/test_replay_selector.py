"""Which events of a retained request a replay takes."""

from typing import Any

import pytest

from gateway.config.steps import Hash
from gateway.event import Event
from gateway.ingest.suppression import Suppression
from gateway.person import parse_suppressions
from gateway.replay.selector import EventFilter, Selected, select
from gateway.routing.router import Router
from gateway.spool.replays import ReplayJob, ReplaySelection, RetainedEntry
from gateway.testing.spool.contract import entry
from tests.gateway.test_router import route

EVENTS = [
    Event(type="track", name=name, user_id=user)
    for name, user in (("Seen", "anna"), ("Bought", "ben"), ("Seen", "ben"), ("Seen", "carl"))
]
NOBODY = EventFilter(None, None, None)


def selected(wanted: EventFilter = NOBODY, router: Router | None = None, **more: Any) -> Selected:
    """Return what a replay to ``new`` takes of a request whose last event was filtered for all."""
    suppression = more.pop("suppression", None)
    job = ReplayJob(7, ReplaySelection(to="new", since=0.0, **more), "running", 0.0, 0, 0, 9)
    found = RetainedEntry(5, 0.0, entry("r", old=(0, 1), new=(2,)), frozenset({1}))
    plan = None if router is None else router.plan("shop", EVENTS)
    return select(job, found, EVENTS, wanted=wanted, plan=plan, suppression=suppression)


def numbers(one: Selected) -> tuple[int, ...]:
    """Return the deliveries that it makes."""
    return () if one.copy is None else tuple(one.copy.targets["new"])


def test_what_the_destination_had_is_left_out_unless_asked() -> None:
    """Events that were routed to the destination, or replayed to it, go again only if asked."""
    one = selected()
    assert (numbers(one), one.repeated) == ((0,), 2)
    again = selected(again=True)
    assert (numbers(again), again.repeated) == ((0, 1, 2), 0)
    assert again.copy is not None
    assert (again.copy.replay, dict(again.copy.routes), again.copy.id) == (7, {}, "r")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (("shop", None, None), (0, 1, 2)),
        (("other", None, None), ()),
        ((None, "Bought", None), (1,)),
        ((None, None, 'event.user_id == "ben"'), (1, 2)),
        (("shop", "Seen", 'source == "shop" && event.user_id == "ben"'), (2,)),
    ],
)
def test_every_filter_must_match(
    given: tuple[str | None, str | None, str | None], found: tuple[int, ...]
) -> None:
    """Source, name and condition must all match."""
    assert numbers(selected(EventFilter(*given), again=True)) == found


def test_nobody_on_the_suppression_list_is_replayed() -> None:
    """Events of people on the suppression list are left out."""
    suppression = Suppression(parse_suppressions("ben"), refuses=False)
    assert numbers(selected(again=True, suppression=suppression)) == (0,)


def test_routes_choose_events_and_steps() -> None:
    """Through routes only what a route leads to the destination goes, with that route's steps."""
    router = Router(
        [
            route(["new"], name="bought", names=["Bought"], steps=[Hash(hash=("user_id",))]),
            route(["new"], name="anna", when='event.user_id == "anna"'),
            route(["old"], name="rest"),
        ]
    )
    one = selected(router=router, again=True)
    assert numbers(one) == (0, 1)
    assert one.copy is not None
    assert one.copy.routes == {"new": {"bought": (1,)}}

"""What a suppression list leaves out of a request, and how its sender is answered."""

from datetime import UTC, datetime

import pytest

from gateway.event import Context, Event, Properties, Traits
from gateway.http import Request
from gateway.ingest.suppression import Suppression, blanked, rejection, targets_without
from gateway.person import parse_suppressions
from gateway.plugin.registry import load_plugins

INPUTS = load_plugins().inputs
ANNA = Event(
    type="track",
    name="Seen",
    id="r-1",
    origin="segment",
    message_id="m1",
    received_at=datetime(2026, 5, 1, tzinfo=UTC),
    user_id="anna",
    anonymous_id="a1",
    traits=Traits(email="anna@shop.example"),
    properties=Properties(total=3),
    context=Context(ip="192.0.2.7"),
    consent={"ads": True},
)
BERT = Event(type="track", name="Seen", id="r-0", user_id="bert")


@pytest.mark.parametrize("vendor", sorted(INPUTS))
def test_every_vendor_refuses_in_its_own_words(vendor: str) -> None:
    """A refused person's sender gets the vendor's answer to an invalid value, without an id."""
    reads = INPUTS[vendor]()
    answer = reads.refuse(reads.example, rejection())
    assert 400 <= answer.status < 500
    request = Request(method="POST", url="/nowhere", body=b"{}")
    assert reads.refuse(request, rejection()).status == answer.status


def test_the_events_of_the_list_are_found() -> None:
    """The indexes of the events of people on the list are returned; none without any."""
    suppression = Suppression(parse_suppressions("anna@shop.example"), refuses=False)
    assert suppression.among([BERT, ANNA]) == {1}
    assert suppression.among([BERT]) == frozenset()


def test_nothing_of_a_person_is_left_in_a_blanked_event() -> None:
    """A blanked event keeps its place, type and time, and nothing of its person."""
    kept, blank = blanked([BERT, ANNA], {1})
    assert kept is BERT
    assert blank == Event(type="track", id="r-1", origin="segment", received_at=ANNA.received_at)
    assert blank.user_key == ""


def test_only_the_deliveries_of_the_list_are_left_out() -> None:
    """Deliveries of others stay, further copies included; a destination without any goes."""
    targets = {"a": (0, 1, (1 << 32) + 1), "b": (1,)}
    assert targets_without(targets, {1}) == {"a": (0,)}
    assert targets_without(targets, ()) is targets

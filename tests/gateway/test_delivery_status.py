"""The words that describe the state of a delivery."""

import pytest

from gateway.spool import DeliveryRef, Entry, PendingRequest, WaitingDelivery
from gateway.testing.spool.contract import entry
from gateway.trace.delivery_status import (
    DELETED,
    FINISHED,
    FINISHED_NOT_SAMPLED,
    NOT_SAMPLED,
    PARKED,
    PENDING_OR_EVICTED,
    REPLAYED,
    DeliveryState,
    DeliveryStatus,
    delivery_states,
)
from gateway.trace.records import AttemptRecord, Outcome

SENT: Entry = entry("r1", crm=(0, 1), mail=(0,))
TURN = "it is pending in the spool"


def tried(outcome: Outcome) -> AttemptRecord:
    """Return an attempt with this outcome."""
    return AttemptRecord("r1-0", "r1", 0.0, "shop", "crm", "chrts", "Viewed", outcome)


def standing(later: WaitingDelivery | None) -> DeliveryState:
    """Return the pending state of a delivery that waits."""
    found = delivery_states(PendingRequest(SENT, {("crm", 0): later}))
    return next(one for one in found if (one.destination, one.event) == ("crm", "r1-0"))


DUE_AT = 1_700_000_000.0
NOW = DUE_AT - 10
NEXT = WaitingDelivery(DeliveryRef(1, 0), DUE_AT)


@pytest.mark.parametrize(
    ("tries", "stands", "words"),
    [
        ((), standing(None), TURN),
        ((), standing(WaitingDelivery(DeliveryRef(1, 0), 0.0)), TURN),
        ((), standing(WaitingDelivery(DeliveryRef(1, 0), 5.0, parked=True)), PARKED),
        ((), None, FINISHED),
        (("retry",), standing(NEXT), "its next attempt is due at 2023-11-14 22:13:20 UTC"),
        (("retry",), None, FINISHED),
        (("retry", "delivered"), None, ""),
        (("delivered",), standing(None), ""),
        (("dead_letter",), standing(WaitingDelivery(DeliveryRef(1, 0), 0.0)), REPLAYED),
        (("dead_letter",), None, DELETED),
    ],
)
def test_the_last_attempt_and_the_spool_decide_the_words(
    tries: tuple[Outcome, ...], stands: DeliveryState | None, words: str
) -> None:
    """The last attempt decides the words; if it leaves them open, the spool's state does."""
    end = DeliveryStatus("crm", "", [tried(one) for one in tries], None, stands)
    assert end.words(traced=True, now=NOW) == words


def test_unknown_states_are_not_guessed() -> None:
    """Without a trace or without the spool, the words say what is unknown."""
    end = DeliveryStatus("crm", "", (), None)
    assert end.words(traced=False, now=NOW) == FINISHED_NOT_SAMPLED
    assert end.words(traced=False, now=NOW, asked=False) == NOT_SAMPLED
    assert end.words(traced=True, now=NOW, asked=False) == PENDING_OR_EVICTED
    given_up = DeliveryStatus("crm", "", [tried("dead_letter")], None)
    assert given_up.words(traced=True, now=NOW, asked=False) == ""


@pytest.mark.parametrize(("now", "words"), [(DUE_AT - 1, "is due at 2023-"), (DUE_AT, "now")])
def test_an_attempt_that_is_due_has_no_time(now: float, words: str) -> None:
    """A next attempt whose time has come is due now; a time in the past is never shown."""
    end = DeliveryStatus("crm", "", [tried("retry")], None, standing(NEXT))
    assert words in end.words(traced=True, now=now)


def test_each_target_in_the_log_has_a_state() -> None:
    """Each target of a logged request has a state, pending or not."""
    found = list(delivery_states(PendingRequest(SENT, {("crm", 1): NEXT})))
    assert [(one.event, one.destination, one.pending) for one in found] == [
        ("r1-0", "crm", False), ("r1-1", "crm", True), ("r1-0", "mail", False),
    ]  # fmt: skip
    assert list(delivery_states(None)) == []

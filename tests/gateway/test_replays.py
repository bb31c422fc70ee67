"""What becomes of replayed dead letters."""

import pytest

from gateway.observability import replays
from gateway.observability.replays import ReplayedDelivery, ReplayOutcomes

ONE, TWO = ReplayedDelivery("crm", "r1-0"), ReplayedDelivery("crm", "r2-0")


def test_ends_count_for_their_replay() -> None:
    """An end counts once, for the latest replay of its delivery; other deliveries do not count."""
    outcomes = ReplayOutcomes()
    first = outcomes.begin()
    outcomes.follow(first, [ONE, TWO])
    outcomes.ended("crm", "r1-0", "dead_letter")
    outcomes.ended("mail", "r2-0", "delivered")
    second = outcomes.begin()
    outcomes.follow(second, [ONE])
    outcomes.ended("crm", "r1-0", "delivered")
    outcomes.ended("crm", "r1-0", "delivered")
    assert outcomes.outcomes(first) == {"dead_letter": 1}
    assert outcomes.outcomes(second) == {"delivered": 1}
    assert outcomes.follows()
    outcomes.ended("crm", "r2-0", "delivered")
    assert not outcomes.follows()
    assert outcomes.outcomes(3) is None


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the latest deliveries and replays are remembered."""
    monkeypatch.setattr(replays, "MOST", 1)
    monkeypatch.setattr(replays, "MOST_REPLAYS", 1)
    outcomes = ReplayOutcomes()
    first = outcomes.begin()
    outcomes.follow(first, [ONE, TWO])
    outcomes.ended("crm", "r1-0", "delivered")
    outcomes.ended("crm", "r2-0", "delivered")
    assert outcomes.outcomes(first) == {"delivered": 1}
    outcomes.begin()
    assert outcomes.outcomes(first) is None

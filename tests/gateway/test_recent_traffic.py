"""The outcomes of the latest minute of traffic."""

from gateway.observability.recent_traffic import RecentTraffic

START = 1000.0


def test_only_the_latest_minute_counts() -> None:
    """Outcomes older than a minute before the last change do not count."""
    traffic = RecentTraffic(START, {"delivered": 7})
    traffic.add(START + 10, {"delivered": 9})
    traffic.add(START + 40, {"delivered": 9, "retry": 3})
    assert traffic.outcomes(START + 40).counts == {"delivered": 2, "retry": 3}
    traffic.add(START + 71, {"delivered": 10, "retry": 3})
    assert traffic.outcomes(START + 71).counts == {"delivered": 1, "retry": 3}
    traffic.add(START + 200, {"delivered": 11, "retry": 3})
    assert traffic.outcomes(START + 200).counts == {"delivered": 1}


def test_silence_keeps_the_last_minute_of_traffic() -> None:
    """Without changes the last minute stays, with its age, and its rate is 0 after a minute."""
    traffic = RecentTraffic(START, {})
    traffic.add(START + 20, {"retry": 10})
    for later in (25, 79):
        traffic.add(START + later, {"retry": 10})
    found = traffic.outcomes(START + 79)
    assert (found.counts, found.age) == ({"retry": 10}, 59)
    assert found.rate("retry") == 0.5
    much_later = traffic.outcomes(START + 5000)
    assert much_later.counts == {"retry": 10}
    assert much_later.rate("retry") == 0


def test_a_short_time_makes_no_high_rate() -> None:
    """A rate is computed over five seconds at least."""
    traffic = RecentTraffic(START, {})
    traffic.add(START + 0.1, {"retry": 10})
    assert traffic.outcomes(START + 0.2).rate("retry", "delivered") == 2


def test_nothing_happened_yet() -> None:
    """Without traffic there are no outcomes."""
    found = RecentTraffic(START, {"delivered": 3}).outcomes(START + 9)
    assert (found.counts, found.total, found.rate("delivered")) == ({}, 0, 0)


def test_each_outcome_has_its_age() -> None:
    """An outcome's age is the time since it occurred last."""
    traffic = RecentTraffic(START, {"retry": 5, "delivered": 1})
    traffic.add(START + 10, {"retry": 6, "delivered": 1})
    traffic.add(START + 30, {"retry": 6, "delivered": 2})
    assert traffic.outcomes(START + 31).ages == {"retry": 21, "delivered": 1}

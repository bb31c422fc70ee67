"""When alerts fire, repeat and resolve."""

import pytest

from gateway.config.operations import AlertsConfig
from gateway.observability.alerts import Alert, AlertRules, DestinationReading, Moment

START = 1_800_000_000.0


class Story:
    """The alert rules and a clock; alerts are sent unless a test says otherwise."""

    def __init__(self, **bounds: float) -> None:
        given = {
            "paused_for": 60,
            "backlog_age": 900,
            "dead_letters": 2,
            "repeat_interval": 3600,
        } | bounds
        self.judge = AlertRules(
            AlertsConfig.model_validate({"url": "https://hook.example"} | given)
        )

    def at(
        self, seconds: float, *readings: DestinationReading, reaches: bool = True
    ) -> list[Alert]:
        """Return the alerts at a time after the start."""
        now = Moment(START + seconds, seconds)
        found = self.judge.evaluate(readings, now)
        for alert in found if reaches else ():
            self.judge.mark_sent(alert, now)
        return found


def said(alerts: list[Alert]) -> list[tuple[str, str]]:
    """Return the kinds and the states of *alerts*."""
    return [(alert.kind, alert.state) for alert in alerts]


DOWN = DestinationReading("crm", trouble="answered 401: no such key")
WELL = DestinationReading("crm")
FIRING = [("destination_paused", "firing")]
RESOLVED = [("destination_paused", "resolved")]


def test_a_pause_fires_after_its_bound() -> None:
    """A pause fires after its bound, repeats after an interval, and resolves once."""
    story = Story()
    assert story.at(0, DOWN) == story.at(59, DOWN) == []
    (alert,) = story.at(60, DOWN)
    assert (alert.kind, alert.state, alert.since, alert.value) == (*FIRING[0], START, 60)
    assert alert.text == "Nothing has been sent to crm for 60 seconds: answered 401: no such key"
    assert story.at(61, DOWN) == story.at(3659, DOWN) == []
    assert said(story.at(3660, DOWN)) == FIRING
    (over,) = story.at(3700, WELL)
    assert said([over]) == RESOLVED
    assert over.text == "Events are sent to crm again, after 62 minutes"
    assert story.at(3701, WELL) == []


def test_a_short_pause_fires_no_alert() -> None:
    """A pause that ends before its bound fires no alert, and the next pause starts at zero."""
    story = Story()
    assert [story.at(n * 50, DOWN if n % 2 == 0 else WELL) for n in range(6)] == [[]] * 6


def test_an_alert_that_was_not_sent_is_sent_again() -> None:
    """An alert that could not be sent is sent at the next check, firing and resolved alike."""
    story = Story(paused_for=0)
    assert said(story.at(0, DOWN, reaches=False)) == FIRING
    assert said(story.at(15, DOWN)) == FIRING
    assert said(story.at(30, WELL, reaches=False)) == RESOLVED
    assert said(story.at(45, WELL)) == RESOLVED
    assert story.at(60, WELL) == []


def test_an_alert_that_was_never_sent_is_not_resolved() -> None:
    """An alert whose firing was never sent does not send a resolved message."""
    story = Story(paused_for=0)
    story.at(0, DOWN, reaches=False)
    assert story.at(15, WELL) == []


def test_an_old_backlog_fires_by_the_age_of_its_oldest_event() -> None:
    """The age of the oldest event fires the alert, not the time since the first check."""
    story = Story()
    assert story.at(0, DestinationReading("crm", oldest=START - 900, owed=4)) == []
    (alert,) = story.at(1, DestinationReading("crm", oldest=START - 900, owed=4))
    assert (alert.kind, alert.since, alert.value, alert.bound) == (
        "backlog_old",
        START - 900,
        901,
        900,
    )
    assert alert.text == "crm is 15 minutes behind: 4 requests are pending"
    assert said(story.at(2, DestinationReading("crm", oldest=START - 1))) == [
        ("backlog_old", "resolved")
    ]


def test_only_new_dead_letters_fire() -> None:
    """Only new dead letters count; replaying or deleting old ones lowers no count."""
    story = Story()
    assert (
        story.at(0, DestinationReading("crm", dead=40))
        == story.at(15, DestinationReading("crm", dead=41))
        == []
    )
    (alert,) = story.at(30, DestinationReading("crm", dead=43))
    assert (alert.kind, alert.value) == ("dead_letters", 3)
    assert "crm has 3 new dead letters, 43 in total" in alert.text
    assert story.at(45, DestinationReading("crm", dead=50)) == []
    (alert,) = story.at(3630, DestinationReading("crm", dead=52))
    assert alert.value == 9
    assert (
        story.at(9000, DestinationReading("crm", dead=1))
        == story.at(9015, DestinationReading("crm", dead=2))
        == []
    )
    assert said(story.at(9030, DestinationReading("crm", dead=3))) == [("dead_letters", "firing")]


def test_alerts_of_a_removed_destination_resolve() -> None:
    """A removed destination's alerts resolve; if it returns, its old dead letters are not new."""
    story = Story(paused_for=0, dead_letters=1)
    story.at(0, DOWN)
    assert said(story.at(15)) == RESOLVED
    assert said(story.at(30, DOWN)) == FIRING


def test_destinations_have_separate_alerts() -> None:
    """An alert of one destination neither hides nor resolves that of another."""
    story = Story(paused_for=0)
    mail = DestinationReading("mail", trouble="connection refused")
    assert [alert.destination for alert in story.at(0, DOWN, mail)] == ["crm", "mail"]
    (over,) = story.at(15, WELL, mail)
    assert (over.destination, over.state) == ("crm", "resolved")


def test_a_gateway_that_accepts_nothing_fires() -> None:
    """A gateway that accepts no events fires an alert of its own kind without a destination."""
    story = Story()
    full = DestinationReading("", trouble="the disk is full")
    assert story.at(0, full) == []
    (alert,) = story.at(60, full)
    assert (alert.kind, alert.destination) == ("not_accepting", "")
    assert alert.text == "The gateway has accepted no events for 60 seconds: the disk is full"
    (over,) = story.at(75, DestinationReading(""))
    assert over.text == "The gateway accepts events again, after 75 seconds"


def test_a_wrong_balance_fires_at_once() -> None:
    """A wrong balance, too low or too high, fires at once, and resolves."""
    story = Story()
    (alert,) = story.at(0, DestinationReading("crm", missing=1))
    assert (alert.kind, alert.state, alert.destination) == ("unaccounted", "firing", "crm")
    assert alert.text == "Deliveries to crm are unaccounted for: 1 delivery missing"
    assert story.at(15, DestinationReading("crm", missing=2)) == []
    (over,) = story.at(30, WELL)
    assert over.text == "All deliveries to crm are accounted for again, after 30 seconds"
    (alert,) = story.at(45, DestinationReading("crm", missing=-7))
    assert "7 deliveries more than were accepted" in alert.text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(61, "61 seconds"), (180, "3 minutes"), (7200, "2 hours"), (200_000, "2 days")],
)
def test_times_are_shown_in_the_largest_unit(seconds: float, shown: str) -> None:
    """An alert shows a time in the largest unit of which there are at least two."""
    story = Story(backlog_age=60)
    (alert,) = story.at(0, DestinationReading("crm", oldest=START - seconds))
    assert f"crm is {shown} behind" in alert.text


def test_a_destination_at_its_limit_fires() -> None:
    """A destination at its limit fires `destination_full`, apart from its delivery alerts."""
    story = Story(paused_for=30)
    full = DestinationReading("crm", full="destination 'crm' has reached max_backlog (3)")
    assert story.at(0, full) == []
    (alert,) = story.at(30, full)
    assert (alert.kind, alert.state, alert.destination) == ("destination_full", "firing", "crm")
    assert "max_backlog (3)" in alert.text
    (over,) = story.at(45, WELL)
    assert (over.kind, over.state) == ("destination_full", "resolved")

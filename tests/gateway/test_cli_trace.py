"""The lines of `gateway trace`."""

from collections.abc import Sequence

from gateway.cli.trace_text import trace_lines
from gateway.trace.records import (
    AttemptRecord,
    EventRecord,
    Outcome,
    RecordedLoss,
    RecordedMessage,
    RouteRecord,
    Trace,
)

LOST = (RecordedLoss("session_id", "lost"),)
BODY = '{"name": "Viewed"}'
SENT = RecordedMessage("POST", "https://crm.example/track", {}, BODY, len(BODY))
ROUTE = RouteRecord("all", ("crm",), taken=True, reason="all events", routed_to=("crm",))
EVENT = EventRecord("r-0", "r", 0.0, "shop", "track", "Viewed", decisions=(ROUTE,))


def attempt(
    number: int,
    outcome: Outcome = "retry",
    losses: Sequence[RecordedLoss] = LOST,
    event: str = "r-0",
) -> AttemptRecord:
    """Return an attempt of one delivery."""
    return AttemptRecord(
        event, "r", 1.7e9 + number, "shop", "crm", "chrts", "Viewed", outcome,
        number=number, status=503, sent=SENT, losses=tuple(losses),
    )  # fmt: skip


def lines(*attempts: AttemptRecord, whole: bool = False) -> list[str]:
    """Return the lines of a trace with these attempts."""
    return list(trace_lines(Trace("r", None, (EVENT,), attempts), whole=whole))


def test_losses_are_told_once_for_a_delivery() -> None:
    """A delivery of many attempts tells its losses and the sent request below the first one."""
    told = lines(*(attempt(number) for number in range(1, 5)), whole=True)
    assert sum("attempt" in line for line in told) == 4
    assert told.count("    lost: session_id") == 1
    assert sum(SENT.url in line for line in told) == 1
    second = next(place for place, line in enumerate(told) if "attempt 2" in line)
    assert told.index("    lost: session_id") < second


def test_losses_are_told_again_where_they_change() -> None:
    """An attempt whose losses differ from the one before, as after a reload, tells its own."""
    other = (RecordedLoss("context.ip", "lost"),)
    told = lines(attempt(1), attempt(2, losses=other), attempt(3, losses=other))
    assert [line for line in told if "lost:" in line] == [
        "    lost: session_id",
        "    lost: context.ip",
    ]


def test_attempts_without_their_event_are_grouped() -> None:
    """Attempts whose event has expired stand below one heading for each event, in order."""
    told = lines(attempt(1, event="r-10"), attempt(2, event="r-10"), attempt(1, event="r-2"))
    assert [line for line in told if line.startswith("event ")] == [
        "event r-0  track 'Viewed'",
        "event r-10  Viewed",
        "event r-2  Viewed",
    ]

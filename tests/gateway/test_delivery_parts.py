"""The parts of a worker that decide when and in what order."""

from datetime import UTC, datetime

import pytest

from gateway.delivery.gate import THRESHOLD, Gate, backoff
from gateway.delivery.job import REMEMBERED_ATTEMPTS, Job
from gateway.delivery.users import Users
from gateway.event import Event
from gateway.exchange import Request, Response, retry_after, verdict_by_status
from gateway.spool import Attempt, Entry, Mark

ENTRY = Entry("r", "shop", Request(method="POST", url="/"), {"crm": (0,)})


def job(index: int, user: str = "u") -> Job:
    """Return the delivery of event *index* of *user*."""
    return Job(Mark(1, index), ENTRY, Event(type="track", name=f"e{index}", user_id=user or None))


def state(gate: Gate) -> str:
    """Return the gate's state, which the calls between two looks change."""
    return gate.state


def test_backoff_doubles_up_to_its_bound_and_never_repeats_itself() -> None:
    """Waits are drawn from zero up to a bound that doubles with each failure, then stays."""
    for tries, bound in [(1, 1), (2, 2), (5, 16), (6, 20), (60, 20)]:
        waits = [backoff(tries, 1, 20) for _ in range(200)]
        assert min(waits) >= 0
        assert bound / 2 < max(waits) <= bound
        assert len(set(waits)) > 100


def test_the_circuit_opens_after_failures_in_a_row_and_one_probe_closes_it() -> None:
    """Failures in a row open the circuit; then a single attempt decides."""
    gate = Gate(low=1, high=60)
    for _ in range(THRESHOLD - 1):
        assert gate.wait(0) == 0
        gate.failed("server", "HTTP 500", None, 0)
    assert state(gate) == "closed"
    gate.failed("server", "HTTP 500", None, 0)
    assert state(gate) == "open"
    assert gate.reason == "HTTP 500"
    assert 0.5 <= gate.wait(0) <= 1
    assert gate.wait(1) == 0
    assert state(gate) == "probing"
    assert gate.wait(1) > 0
    gate.passed()
    assert state(gate) == "closed"
    assert gate.wait(1) == 0


def test_an_outage_may_last_for_any_number_of_probes() -> None:
    """After thousands of failed probes the wait is still the longest one, and no error."""
    gate, now = Gate(low=1, high=8), 0.0
    for _ in range(5000):
        assert gate.wait(now) == 0
        gate.failed("server", "HTTP 503", None, now)
        now += gate.wait(now)
    assert gate.state == "open"
    assert gate.wait(now - 1) == pytest.approx(1)


def test_a_failed_probe_opens_the_circuit_for_longer() -> None:
    """Each failed probe doubles the wait before the next, up to the bound."""
    gate = Gate(low=1, high=8)
    now = 0.0
    for _ in range(THRESHOLD):
        gate.failed("connect", "refused", None, now)
    for bound in (1, 2, 4, 8, 8):
        wait = gate.wait(now)
        assert bound / 2 <= wait <= bound
        now += wait
        assert gate.wait(now) == 0
        gate.failed("connect", "refused", None, now)


def test_one_success_forgets_the_failures_before() -> None:
    """Only failures in a row open the circuit."""
    gate = Gate(low=1, high=60)
    for _ in range(3 * THRESHOLD):
        gate.failed("timeout", "slow", None, 0)
        gate.passed()
    assert gate.state == "closed"


def test_a_refused_credential_pauses_at_once() -> None:
    """A key that a person must mend opens the circuit at the first refusal, for long."""
    gate = Gate(low=1, high=60)
    gate.failed("credential", "HTTP 401", None, 0)
    assert gate.state == "open"
    assert gate.wait(0) >= 30


def test_a_vendors_limit_is_honoured_to_the_second() -> None:
    """Retry-After of a 429 holds every attempt back, and opens no circuit."""
    gate = Gate(low=1, high=60)
    gate.failed("limit", "HTTP 429", 7.0, 100)
    assert gate.state == "closed"
    assert gate.wait(100) == 7
    assert gate.wait(107) == 0


def test_a_rate_is_kept_after_its_burst() -> None:
    """A burst goes at once, then attempts are spaced by the rate."""
    gate = Gate(low=1, high=60, rate=10, burst=3)
    assert [gate.wait(50.0) for _ in range(3)] == [0, 0, 0]
    assert gate.wait(50.0) == pytest.approx(0.1)
    assert gate.wait(50.1) == 0
    assert gate.wait(50.1) > 0


def test_a_probe_that_sent_nothing_leaves_the_question_open() -> None:
    """An event that is declined says nothing about the destination, so the next one probes."""
    gate = Gate(low=1, high=60)
    gate.failed("credential", "HTTP 401", None, 0)
    assert gate.wait(61) == 0
    assert gate.wait(61) > 0
    gate.abandoned()
    assert gate.wait(61) == 0


def test_a_users_next_event_waits_for_the_one_before() -> None:
    """One event of a user is on its way at a time, in order; others' go on."""
    users = Users()
    first, second, third, other = job(0), job(1), job(2), job(3, "v")
    assert users.enter(first)
    assert not users.enter(second)
    assert not users.enter(third)
    assert users.enter(other)
    assert users.leave("u") is second
    assert users.leave("u") is third
    assert users.leave("u") is None
    assert users.enter(job(4))


def test_events_of_nobody_wait_for_nobody() -> None:
    """An event that names no user goes at once."""
    users = Users()
    assert all(users.enter(job(n, "")) for n in range(3))
    assert users.leave("") is None


def test_a_user_is_blocked_until_all_exceptions_are_settled() -> None:
    """A user with deliveries that wait in the spool stays blocked until the last is settled."""
    users = Users()
    users.seed({"u": 1})
    users.block("u")
    users.unblock("u")
    assert users.blocked("u")
    users.unblock("u")
    assert not users.blocked("u")


def test_a_delivery_keeps_a_bounded_number_of_attempts() -> None:
    """A vendor that is down for a week does not fill the memory with its answers."""
    tried = job(0)
    for n in range(REMEMBERED_ATTEMPTS + 10):
        tried.tried(Attempt(float(n), 500, 0.1, "no"))
    assert len(tried.attempts) == REMEMBERED_ATTEMPTS
    assert tried.attempts[-1].at == REMEMBERED_ATTEMPTS + 9


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [("7", 7), ("", None), ("soon", None), ("Sun, 22 Nov 2026 00:00:10 GMT", 10),
     ("Sat, 21 Nov 2026 00:00:00 GMT", 0)],
)  # fmt: skip
def test_retry_after_is_read_as_seconds_or_as_a_date(asked: str, seconds: float | None) -> None:
    """Both forms of RFC 9110, section 10.2.3, are understood; anything else is ignored."""
    now = datetime(2026, 11, 22, tzinfo=UTC)
    assert retry_after({"retry-after": asked}, now) == seconds


def test_a_reason_quotes_the_vendor() -> None:
    """A refusal's reason carries the status and the start of what the vendor said."""
    verdict = verdict_by_status(Response(400, {}, b'{"message":"no did"}'))
    assert verdict.reason == 'HTTP 400: {"message":"no did"}'  # type: ignore[union-attr]  # it is refused

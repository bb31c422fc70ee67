"""The parts of a worker that decide when attempts are made, and in which order."""

from datetime import UTC, datetime
from itertools import count
from typing import Any

import msgspec
import pytest

from gateway.delivery.circuit_breaker import (
    KEY_THRESHOLD,
    MAX_PROBE_WAIT,
    RECENT,
    THRESHOLD,
    CircuitBreaker,
    backoff,
)
from gateway.delivery.job import REMEMBERED_ATTEMPTS, Job
from gateway.delivery.queue import MET, SOURCE_JOBS, WINDOW, WINDOW_JOBS, JobQueue, UserOrder
from gateway.delivery.rate_limiter import RateLimiter
from gateway.delivery.worker import MAX_ISOLATED_ATTEMPTS
from gateway.event import Event
from gateway.http import Request, Response
from gateway.spool import Attempt, DeliveryRef, Entry, WaitingDelivery
from gateway.spool.user_hash import UserHash
from gateway.verdict import retry_after, verdict_by_status

NUMBERS = count()
ENTRY = Entry("r", "shop", Request(method="POST", url="/"), {"crm": (0,)})


def job(index: int, user: str = "u") -> Job:
    """Return the delivery of event *index* of *user*."""
    return Job(
        DeliveryRef(1, index), ENTRY, Event(type="track", name=f"e{index}", user_id=user or None)
    )


def fail(breaker: CircuitBreaker, user: str, cause: str = "server", **said: Any) -> float:
    """Record a failure of an event of *user*, its first unless *number* says otherwise."""
    number = said.pop("number", next(NUMBERS))
    given = {"reason": "no", "after": None, "now": 0.0, "isolated_before": False, **said}
    return breaker.record_failure(DeliveryRef(number, 0), user, cause=cause, **given)


def attempt_at(breaker: CircuitBreaker, now: float) -> bool:
    """Begin an attempt if the breaker allows one, and return whether it does."""
    if breaker.wait_time(now):
        return False
    breaker.begin_attempt()
    return True


def state(breaker: CircuitBreaker) -> str:
    """Return the breaker's state, read anew."""
    return breaker.state


def test_the_circuit_opens_after_failures_of_several_users_and_one_probe_closes_it() -> None:
    """Failures of several users in a row open the circuit, and one successful probe closes it."""
    breaker = CircuitBreaker(low=1, high=60)
    for user in range(THRESHOLD - 1):
        fail(breaker, f"u{user}")
    assert state(breaker) == "closed"
    fail(breaker, "last", reason="HTTP 500")
    assert state(breaker) == "open"
    assert breaker.reason == "HTTP 500"
    assert 0.5 <= breaker.wait_time(0) <= 1
    assert attempt_at(breaker, 1)
    assert not attempt_at(breaker, 1)
    breaker.record_success(0.0)
    assert state(breaker) == "closed"
    assert attempt_at(breaker, 1)


@pytest.mark.parametrize("cause", ["server", "timeout", "reset", "protocol", "credential"])
def test_one_users_events_open_no_circuit(cause: str) -> None:
    """Failures of a single user's events never open the circuit, whatever their cause."""
    breaker = CircuitBreaker(low=1, high=60)
    for _ in range(100):
        fail(breaker, "u", cause)
    assert breaker.state == "closed"


@pytest.mark.parametrize("cause", ["server", "timeout", "credential"])
def test_failures_after_a_recent_success_open_no_circuit(cause: str) -> None:
    """Failures do not open the circuit shortly after a success."""
    breaker = CircuitBreaker(low=1, high=60)
    breaker.record_success(100.0)
    for user in range(1000):
        fail(breaker, f"u{user}", cause, now=100.0 + 0.99 * RECENT)
    assert state(breaker) == "closed"
    fail(breaker, "last", cause, now=100.0 + RECENT)
    assert state(breaker) == "open"


def test_events_without_a_user_count_as_different_users() -> None:
    """Events without a user count as events of different users."""
    breaker = CircuitBreaker(low=1, high=60)
    for _ in range(THRESHOLD):
        fail(breaker, "")
    assert breaker.state == "open"


def test_connect_failures_of_one_event_open_the_circuit() -> None:
    """Connect failures open the circuit even if they are all of one event."""
    breaker = CircuitBreaker(low=1, high=60)
    for _ in range(THRESHOLD):
        fail(breaker, "u", "connect", number=1)
    assert breaker.state == "open"


def test_isolated_events_open_no_circuit() -> None:
    """Failures of an isolated event never open the circuit again."""
    breaker = CircuitBreaker(low=1, high=60)
    bad = range(-THRESHOLD, 0)
    for number in bad:
        fail(breaker, f"bad{number}", number=number)
    breaker.record_success(0.0)
    for number in bad[:2]:
        fail(breaker, f"bad{number}", number=number)
    for _ in range(3):
        breaker.record_success(0.0)
        assert all(fail(breaker, f"bad{n}", number=n, isolated_before=False) for n in bad[:2])
    for _ in range(3):
        for number in bad:
            fail(breaker, f"bad{number}", number=number, isolated_before=True)
    assert breaker.state == "closed"


@pytest.mark.parametrize(("bad", "good", "counts"), [(9, 1, 0.05), (5, 5, 0.25), (1, 9, 1)])
def test_isolation_is_the_share_of_successes(bad: int, good: int, counts: float) -> None:
    """A failure counts as isolated by the share of successes since the event's last failure."""
    breaker = CircuitBreaker(low=1, high=60)
    fail(breaker, "u", number=-1)
    for _ in range(10):
        for _ in range(bad):
            fail(breaker, "v")
        for _ in range(good):
            breaker.record_success(0.0)
    assert fail(breaker, "u", number=-1) == pytest.approx(counts)


@pytest.mark.parametrize(("bad", "good"), [(1, 3), (1, 1), (6, 1)])
def test_a_failing_event_ends_among_other_failures(bad: int, good: int) -> None:
    """A failing event ends after bounded attempts, even if many other events fail."""
    breaker = CircuitBreaker(low=1, high=60)
    counted = [fail(breaker, "u", number=-1)]
    while sum(counted) + 1 < MAX_ISOLATED_ATTEMPTS:
        for _ in range(bad):
            fail(breaker, "v")
        for _ in range(good):
            breaker.record_success(0.0)
        counted.append(fail(breaker, "u", number=-1))
    assert len(counted) <= REMEMBERED_ATTEMPTS
    assert len(counted) > 2 * MAX_ISOLATED_ATTEMPTS, "a part of the vendor may be out"


def test_in_an_outage_no_event_is_isolated() -> None:
    """While the vendor accepts nothing, no event counts as isolated."""
    breaker = CircuitBreaker(low=1, high=60)
    assert not any(fail(breaker, "u", number=-1) for _ in range(100))


def test_a_rate_limited_probe_is_followed_by_another() -> None:
    """A probe that gets 429 leaves the circuit open, and the next probe waits for Retry-After."""
    breaker = CircuitBreaker(low=1, high=60)
    for user in range(THRESHOLD):
        fail(breaker, f"u{user}")
    assert attempt_at(breaker, 1.0)
    fail(breaker, "probe", "limit", after=2.0, now=1.0)
    assert state(breaker) == "open"
    assert not attempt_at(breaker, 2.9)
    assert attempt_at(breaker, 3.0)
    breaker.record_success(3.0)
    assert state(breaker) == "closed"


def test_waits_double_up_to_the_longest_and_are_drawn_at_random() -> None:
    """Waits double up to the maximum, and each is drawn at random."""
    for attempts, bound in ((1, 0.5), (2, 1.0), (3, 2.0), (50, 8.0), (5000, 8.0)):
        waits = [backoff(attempts, 0.5, 8.0) for _ in range(200)]
        assert min(waits) < bound / 2 < max(waits) <= bound


def test_an_isolated_probe_does_not_lengthen_the_wait() -> None:
    """A failed probe with an isolated event does not lengthen the wait."""
    breaker = CircuitBreaker(low=1, high=60)
    for user in range(THRESHOLD):
        fail(breaker, f"u{user}")
    for now in (1.0, 2.0, 3.0, 4.0):
        assert attempt_at(breaker, now)
        fail(breaker, "bad", now=now, isolated_before=True)
        assert breaker.wait_time(now) <= 1


def test_an_outage_may_last_for_any_number_of_probes() -> None:
    """After thousands of failed probes the wait stays at its maximum, without an overflow."""
    breaker, now = CircuitBreaker(low=1, high=8), 0.0
    for number in range(5000):
        assert attempt_at(breaker, now)
        fail(breaker, f"u{number}", now=now)
        now += breaker.wait_time(now)
    assert breaker.state == "open"
    assert breaker.wait_time(now - 1) == pytest.approx(1)


def test_a_failed_probe_opens_the_circuit_for_longer() -> None:
    """Each failed probe doubles the wait before the next, up to the maximum."""
    breaker = CircuitBreaker(low=1, high=600)
    now = 0.0
    for _ in range(THRESHOLD):
        fail(breaker, "", "connect", now=now)
    for bound in (1.0, 2.0, 4.0, MAX_PROBE_WAIT, MAX_PROBE_WAIT):
        wait = breaker.wait_time(now)
        assert bound / 2 <= wait <= bound
        now += wait
        assert attempt_at(breaker, now)
        fail(breaker, "", "connect", now=now)


def test_one_success_forgets_the_failures_before() -> None:
    """A success resets the count of failures."""
    breaker = CircuitBreaker(low=1, high=60)
    for _ in range(3 * THRESHOLD):
        fail(breaker, "", "timeout")
        breaker.record_success(0.0)
    assert breaker.state == "closed"


def test_a_key_that_is_refused_to_several_users_opens_the_circuit() -> None:
    """A rejected key opens the circuit after failures of a few users."""
    breaker = CircuitBreaker(low=1, high=60)
    for user in range(KEY_THRESHOLD - 1):
        fail(breaker, f"u{user}", "credential")
    assert state(breaker) == "closed"
    fail(breaker, "last", "credential")
    assert state(breaker) == "open"


def test_a_vendors_limit_is_honoured_to_the_second() -> None:
    """Retry-After of a 429 pauses all attempts for exactly that time, and opens no circuit."""
    breaker = CircuitBreaker(low=1, high=60)
    fail(breaker, "u", "limit", after=7.0, now=100.0)
    fail(breaker, "v", "limit", after=7.0, now=100.0)
    assert breaker.state == "closed"
    assert breaker.wait_time(100) == 7
    assert breaker.paused_until(100) == 107
    assert breaker.wait_time(107) == 0
    assert breaker.paused_until(107) is None


def test_a_limit_of_one_user_delays_others_for_seconds_only() -> None:
    """A 429 that only one event gets pauses other events for a short time only."""
    breaker = CircuitBreaker(low=1, high=60)
    for _ in range(5):
        fail(breaker, "u", "limit", after=3600.0, number=1)
    assert breaker.wait_time(0) <= MAX_PROBE_WAIT


def test_a_rate_is_kept_after_its_burst() -> None:
    """A burst goes at once; further attempts are spaced by the rate."""
    limiter = RateLimiter(rate=10, burst=3)
    assert [limiter.wait_time(50.0) for _ in range(3)] == [0, 0, 0]
    assert limiter.wait_time(50.0) == pytest.approx(0.1)
    assert limiter.wait_time(50.1) == 0
    assert limiter.wait_time(50.1) > 0


def test_a_part_of_a_rate_is_kept() -> None:
    """Rate and burst are divided, and at least one attempt goes at once; no limit stays none."""
    limiter = RateLimiter(rate=10, burst=3)
    limiter.set_share(0.1)
    assert limiter.wait_time(50.0) == 0
    assert limiter.wait_time(50.0) == pytest.approx(1.0)
    limiter.set_share(1.0)
    assert limiter.wait_time(50.1) == 0
    unlimited = RateLimiter()
    unlimited.set_share(0.1)
    assert [unlimited.wait_time(0.0) for _ in range(3)] == [0, 0, 0]


def test_a_cancelled_probe_allows_another() -> None:
    """A cancelled probe, such as a declined event, allows another probe at once."""
    breaker = CircuitBreaker(low=1, high=60)
    for _ in range(THRESHOLD):
        fail(breaker, "", "connect")
    assert attempt_at(breaker, 61)
    assert not attempt_at(breaker, 61)
    breaker.cancel_probe()
    assert attempt_at(breaker, 61)


def queue_of(*jobs: Job, concurrency: int = 8) -> JobQueue:
    """Return a queue with *jobs*."""
    queue = JobQueue(concurrency, lambda: None, set())
    for one in jobs:
        queue.add(one)
    return queue


def from_source(source: str, index: int, *attempts: Attempt) -> Job:
    """Return a job of a source, with a user of its own."""
    entry = msgspec.structs.replace(ENTRY, source=source)
    event = Event(type="track", name="e", user_id=f"{source}{index}")
    return Job(DeliveryRef(1, index), entry, event, attempts=attempts)


def test_sources_take_turns() -> None:
    """Jobs of all sources are taken in turns, however many one source has."""
    many = [from_source("many", n) for n in range(50)]
    queue = queue_of(*many, from_source("few", 0), from_source("few", 1))
    first = [
        job.entry.source for job in (queue.pop(), queue.pop(), queue.pop(), queue.pop()) if job
    ]
    assert sorted(first) == ["few", "few", "many", "many"]


def test_replays_take_their_turn_last() -> None:
    """Replayed deliveries are sent after all others, and take no room from their source."""
    replayed = [from_source("shop", number) for number in range(3)]
    for one in replayed:
        one.entry = msgspec.structs.replace(one.entry, replay=1)
    live = [from_source("shop", number) for number in range(3, 9)]
    queue = queue_of(*replayed, *live[:3], from_source("other", 9, *live[0].attempts), *live[3:])
    assert queue.in_flight.room("shop", 1) == WINDOW_JOBS // 3 - len(live)
    order = [job.entry.replay for _ in range(10) if (job := queue.pop()) is not None]
    assert order == [0] * 7 + [1] * 3


def test_a_sources_jobs_release_their_room() -> None:
    """Each job in flight takes room from its source, and releases it at its end."""
    in_flight = queue_of().in_flight
    jobs = [from_source("shop", number) for number in range(10)]
    for taken, one in enumerate(jobs, 1):
        in_flight.take(one)
        assert in_flight.room("shop", 1) == WINDOW_JOBS - taken
        assert len(in_flight) == taken
    for one in jobs:
        in_flight.release(one)
    assert in_flight.room("shop", 1) == WINDOW_JOBS
    assert len(in_flight) == 0


def test_sources_share_what_may_be_in_memory() -> None:
    """Sources share jobs and bytes in memory equally, with a minimum of jobs for each."""
    in_flight = queue_of().in_flight
    in_flight.take(from_source("other", 0))
    assert in_flight.room("shop", 1) == WINDOW_JOBS // 2
    assert in_flight.room("shop", 3) == WINDOW_JOBS // 3
    assert in_flight.room("shop", WINDOW_JOBS) == SOURCE_JOBS
    half = msgspec.structs.replace(ENTRY.request, body=b"x" * (WINDOW // 2 + 1))
    event = Event(type="track", name="e")
    large = Job(DeliveryRef(2, 0), msgspec.structs.replace(ENTRY, request=half), event)
    in_flight.take(large)
    assert in_flight.room("shop", 1) == 0
    in_flight.release(large)
    in_flight.take(Job(DeliveryRef(2, 0), large.entry, event, siblings=2))
    assert in_flight.room("shop", 1) > 0, "a request counts once, however many events it has"


def test_waiting_users_are_resynced_from_the_spool() -> None:
    """Users with waiting deliveries are blocked; those without a retry are returned."""
    queue = queue_of(job(0, "active"))
    queue.in_flight.restore(WaitingDelivery(DeliveryRef(5, 0), due=0, user="tried now"))
    retry = WaitingDelivery(DeliveryRef(7, 0), due=9, user="tried later")
    found = {"active": 2, "tried now": 1, "tried later": 3, "forgotten": 1}
    assert queue.in_flight.resync(found, [retry]) == {"forgotten"}
    blocked = {user for user in (*found, "tried now", "other") if queue.users.blocked(user)}
    assert blocked == {"active", "tried later", "forgotten"}
    assert queue.in_flight.retries_for("tried later")
    assert not queue.in_flight.retries_for("forgotten")


def test_a_retry_blocks_its_user_only_while_it_waits() -> None:
    """A retry does not block its user while it is in flight, and blocks it once it waits again."""
    queue = queue_of()
    users, in_flight = queue.users, queue.in_flight
    tried = job(0)
    in_flight.spill(tried)
    assert (users.blocked("u"), in_flight.has(tried.mark), in_flight.waiting) == (False, True, 1)
    in_flight.retry_later(tried)
    assert (users.blocked("u"), in_flight.has(tried.mark), in_flight.waiting) == (True, False, 0)
    assert in_flight.retries
    in_flight.restore(tried.to_waiting(9.0))
    assert (users.blocked("u"), in_flight.retries_for("u")) == (False, False)
    in_flight.settle(tried.mark)
    assert in_flight.waiting == 0


def test_the_oldest_in_flight_is_the_first_of_the_log() -> None:
    """The oldest job in flight is the first in the log, in order or ahead of it."""
    in_flight = queue_of().in_flight
    assert in_flight.oldest() is None
    event = Event(type="track", name="e")
    ahead = [Job(DeliveryRef(seq, 0), ENTRY, event, ahead=True) for seq in (9, 2, 7)]
    in_order = [Job(DeliveryRef(seq, 0), ENTRY, event) for seq in (4, 5)]
    for one in (ahead[0], *in_order):
        in_flight.take(one)
    assert in_flight.oldest() is in_order[0]
    for one in ahead[1:]:
        in_flight.take(one)
    assert in_flight.oldest() is ahead[1]
    in_flight.release(ahead[1])
    in_flight.release(in_order[0])
    in_flight.spill(in_order[1])
    assert in_flight.oldest() is ahead[2]


def test_isolated_events_use_a_part_of_the_attempts() -> None:
    """Isolated events use at most a quarter of the concurrent attempts."""
    isolated = Attempt(0, None, 10, "no answer", isolated=True)
    queue = queue_of(*(from_source("s", n, isolated) for n in range(20)), concurrency=8)
    taken = [job for _ in range(20) if (job := queue.pop()) is not None]
    assert len(taken) == 2
    queue.tried(taken[0])
    assert queue.pop() is not None
    assert queue.pop() is None


def test_an_isolated_event_frees_its_share_whatever_its_attempts_say() -> None:
    """The end of an isolated event's attempt counts even if its isolated attempts are forgotten."""
    isolated, failed = Attempt(0, None, 10, "no", isolated=True), Attempt(0, 400, 1, "no")
    queue = queue_of(*(from_source("s", n, isolated) for n in range(9)), concurrency=4)
    while (taken := queue.pop()) is not None:
        for _ in range(REMEMBERED_ATTEMPTS):
            taken.tried(failed)
        assert not taken.isolated
        queue.tried(taken)
    assert not queue.ready


def test_a_probe_prefers_new_events() -> None:
    """A probe prefers new events to failed ones, and failed ones to isolated ones."""
    failed, isolated = Attempt(0, 500, 1, "no"), Attempt(0, 500, 1, "no", isolated=True)
    queue = queue_of(
        from_source("a", 0, isolated), from_source("a", 1, failed), from_source("b", 2)
    )
    probes = [queue.pop(probe=True) for _ in range(3)]
    assert [len(job.attempts) + job.isolated for job in probes if job] == [0, 1, 2]


def test_a_probe_prefers_users_with_successes() -> None:
    """A probe prefers events of users whose events succeeded before."""
    known = msgspec.structs.replace(ENTRY, users=(1,))
    strange = msgspec.structs.replace(ENTRY, users=(2,))
    event = Event(type="track", name="e")
    before, good = (Job(DeliveryRef(seq, 0), known, event) for seq in (1, 3))
    old, late = (Job(DeliveryRef(seq, 0), strange, event) for seq in (2, 4))
    queue = queue_of(old, good, late)
    queue.passed(before)
    assert [queue.pop(probe=True) for _ in range(3)] == [good, late, old]


def test_the_latest_users_with_successes_are_remembered() -> None:
    """A probe knows at least the last `MET` users with successes, and at most twice as many."""
    event = Event(type="track", name="e")

    def of(user: int) -> Job:
        entry = msgspec.structs.replace(ENTRY, users=(user,))
        return Job(DeliveryRef(user, 0), entry, event)

    last = 3 * MET
    for user, known in ((1, False), (last - MET + 1, True)):
        queue = queue_of(of(user), of(last + 1))
        for answered in range(1, last + 1):
            queue.passed(of(answered))
        probe = queue.pop(probe=True)
        assert probe is not None
        assert (probe.user_hash == user) is known


def test_a_users_next_event_waits_for_the_one_before() -> None:
    """A user's events are sent one at a time in order; other users' events do not wait."""
    users = UserOrder()
    first, second, third, other = job(0), job(1), job(2), job(3, "v")
    assert users.acquire(first)
    assert not users.acquire(second)
    assert not users.acquire(third)
    assert users.acquire(other)
    assert users.release("u") is second
    assert users.release("u") is third
    assert users.release("u") is None
    assert users.acquire(job(4))


def test_events_without_a_user_do_not_wait() -> None:
    """An event without a user waits for no other event."""
    users = UserOrder()
    assert all(users.acquire(job(n, "")) for n in range(3))
    assert users.release("") is None


def test_no_users_hash_is_that_of_no_user() -> None:
    """No user's hash equals the hash of an event without a user."""
    numbered = UserHash(b"secret")
    assert numbered("") == 0
    assert all(numbered(f"u{n}") >> 31 for n in range(100))


def test_hash_collisions_depend_on_the_secret() -> None:
    """Users whose hashes collide under one secret differ under another."""
    numbered, other = UserHash(b"a"), UserHash(b"b")
    met: dict[int, str] = {}
    pairs = []
    for key in (f"u{n}" for n in range(300_000)):
        number = numbered(key)
        if number in met:
            pairs.append((key, met[number]))
        met[number] = key
    assert pairs
    assert not any(other(one) == other(two) for one, two in pairs)


def test_a_user_is_blocked_until_all_exceptions_are_settled() -> None:
    """A user with several waiting deliveries is blocked until the last one is settled."""
    users = UserOrder()
    users.load({"u": 1})
    users.block("u")
    users.unblock("u")
    assert users.blocked("u")
    users.unblock("u")
    assert not users.blocked("u")


def test_a_delivery_keeps_a_bounded_number_of_attempts() -> None:
    """A job keeps only its last attempts."""
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
    """Retry-After is seconds or a date (RFC 9110, section 10.2.3); other values are ignored."""
    now = datetime(2026, 11, 22, tzinfo=UTC)
    assert retry_after({"retry-after": asked}, now) == seconds


def test_a_reason_quotes_the_vendor() -> None:
    """The reason of a refusal has the status and the start of the response body."""
    verdict = verdict_by_status(Response(400, {}, b'{"message":"no did"}'))
    assert verdict.reason == 'HTTP 400: {"message":"no did"}'  # type: ignore[union-attr]  # it is refused

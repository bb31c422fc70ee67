"""Which requests are traced although nothing fails."""

from collections import Counter
from pathlib import Path

import pytest

from gateway.trace.sampling import RateSampler, SuccessSampler, equal_share, waited_for_core


class Clock:
    """A clock that a test sets, the CPU time that traces took, and the wait for a core."""

    def __init__(self) -> None:
        self.now = 100.0
        self.used = 0.0
        self.waited = 0.0

    def time(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock."""
    return Clock()


def sampler(clock: Clock, rate: int, share: float = 1.0) -> SuccessSampler:
    """Return a sampler by *clock*."""
    return SuccessSampler(rate, share, lambda: clock.used, clock.time, lambda: clock.waited)


def second(
    sampler: SuccessSampler, clock: Clock, requests: dict[str, int], cost: float = 0.0
) -> dict[str, int]:
    """Let each source send so many requests in the next second; return how many were chosen.

    Each chosen one costs *cost* seconds of CPU time.
    """
    clock.now += 1.1
    found = Counter(dict.fromkeys(requests, 0))
    for place in range(max(requests.values())):
        for source, count in requests.items():
            if place < count and sampler.take(source):
                sampler.charge(source, 1, chosen=True)
                found[source] += 1
    clock.used += found.total() * cost
    return dict(found)


def test_the_first_items_of_each_second_are_taken(clock: Clock) -> None:
    """The first items of each second are taken; a rate of zero takes none."""
    lines = RateSampler(3, clock.time)
    assert [lines.take() for _ in range(5)] == [True, True, True, False, False]
    clock.now = 100.9
    assert not lines.take()
    clock.now = 101.1
    assert [lines.take() for _ in range(4)] == [True, True, True, False]
    assert not RateSampler(0, clock.time).take()
    assert not sampler(clock, 0).take("shop")


def test_excess_items_reduce_the_next_seconds(clock: Clock) -> None:
    """Events taken beyond the rate reduce the room of the next seconds."""
    successes = sampler(clock, 3)

    def taken(times: int) -> list[int]:
        return [second(successes, clock, {"shop": 5})["shop"] for _ in range(times)]

    assert successes.take("shop")
    successes.charge("shop", 10, chosen=True)
    assert taken(4) == [0, 0, 2, 3]
    successes.charge("shop", 1_000_000, chosen=True)
    assert taken(14) == [0] * 10 + [3] * 4


def test_all_requests_are_traced_up_to_the_rate(clock: Clock) -> None:
    """Up to the rate every request is traced, whatever its traces cost."""
    successes = sampler(clock, 50, share=0.05)
    for _ in range(10):
        assert second(successes, clock, {"shop": 30, "app": 20}, cost=0.1) == {
            "shop": 30,
            "app": 20,
        }


def test_a_busy_source_displaces_no_other(clock: Clock) -> None:
    """Above the rate a source with few events keeps all traces; the others share the rest."""
    successes = sampler(clock, 50)
    load = {"busy": 1000, "quiet": 4, "busier": 3000}
    second(successes, clock, load)
    found = [second(successes, clock, load) for _ in range(20)]
    assert all(one["quiet"] == 4 for one in found)
    assert found[-1] == {"busy": 23, "quiet": 4, "busier": 23}
    assert sum(sum(one.values()) for one in found) <= 50 * len(found)


def test_a_new_source_is_traced_at_once(clock: Clock) -> None:
    """A source that begins to send is traced although a busy one has used up the second."""
    successes = sampler(clock, 50)
    for _ in range(3):
        second(successes, clock, {"busy": 1000})
    clock.now += 1.1
    assert sum(successes.take("busy") for _ in range(1000)) == 50
    assert successes.take("new")


def test_above_the_rate_traces_stay_within_their_share_of_the_cpu(clock: Clock) -> None:
    """Above the rate as many are traced as the share of the CPU permits, but at least one."""
    successes = sampler(clock, 50, share=0.05)
    for cost, most in ((0.005, 10), (0.0005, 50), (0.5, 1)):
        for _ in range(40):
            before = clock.used
            second(successes, clock, {"shop": 1000}, cost)
        assert second(successes, clock, {"shop": 1000}, cost) == {"shop": most}
        assert clock.used - before <= max(0.05, cost) * 2.001
    assert successes.rate == 1


def test_a_gateway_that_waits_for_a_core_traces_less(clock: Clock) -> None:
    """The share of the CPU is one of the time that the gateway does not wait for a core."""
    traces = sampler(clock, 1000, share=0.05)
    for _ in range(20):
        alone = second(traces, clock, {"shop": 2000}, cost=0.001)["shop"]
    for _ in range(20):
        clock.waited += 0.66
        shared = second(traces, clock, {"shop": 2000}, cost=0.001)["shop"]
    assert shared == pytest.approx(0.4 * alone, abs=2)


def test_the_wait_for_a_core_is_known_on_linux_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel says how long the main thread has waited; nothing is known without that file."""
    file = tmp_path / "schedstat"
    monkeypatch.setattr("gateway.trace.sampling.SCHEDULER", file)
    assert waited_for_core() == 0
    for text, seconds in (("9 2500000000 7", 2.5), ("", 0), ("9 x", 0)):
        file.write_text(text)
        assert waited_for_core() == seconds


def test_everything_is_traced_again_after_a_burst(clock: Clock) -> None:
    """A second after a burst, requests up to the rate are all traced again."""
    successes = sampler(clock, 50, share=0.05)
    for _ in range(20):
        second(successes, clock, {"shop": 1000}, cost=0.01)
    second(successes, clock, {"shop": 50}, cost=0.01)
    assert second(successes, clock, {"shop": 50}, cost=0.01) == {"shop": 50}


def test_batches_at_once_stay_within_the_rate(clock: Clock) -> None:
    """Batches that come at once take no more than the rate, though their sizes are known later."""
    successes = sampler(clock, 50)
    successes.charge("shop", 10, chosen=successes.take("shop"))
    clock.now += 1.1
    chosen = [successes.take("shop") for _ in range(32)]
    assert sum(chosen) == 5
    for one in chosen:
        successes.charge("shop", 10, chosen=one)
    assert second(successes, clock, {"shop": 50}) == {"shop": 50}


def test_requests_without_events_use_no_share(clock: Clock) -> None:
    """A relayed request uses up none of its source's share."""
    successes = sampler(clock, 5)
    for _ in range(100):
        successes.charge("shop", 0, chosen=successes.take("shop"))
    assert second(successes, clock, {"shop": 5}) == {"shop": 5}


@pytest.mark.parametrize(
    ("wanted", "total", "each"),
    [([], 9.0, 9.0), ([3.0, 6.0], 9.0, 9.0), ([1.0, 5.0, 8.0], 9.0, 4.0), ([7.0, 7.0], 9.0, 4.5)],
)
def test_shares_are_equal(wanted: list[float], total: float, each: float) -> None:
    """Who wants less than an equal share gets it all, and the others divide the rest."""
    assert equal_share(wanted, total) == each

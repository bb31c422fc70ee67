"""An event that a vendor always rejects delays only its own user."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

from tests.e2e.running import PATIENCE
from tests.soak.ledger import dead_letters
from tests.soak.marks import EventMark
from tests.soak.process_harness import ProcessHarness, process_harness
from tests.soak.vendor import Behaviour, Vendor

DEFAULTS = 'timeout = "1s"'
"""Default delivery settings, except for a short timeout."""
SOON = 20.0
"""Seconds within which other users' events must arrive, far below the default `retry_max`."""
LANES = 8
"""Default number of concurrent attempts."""
HASTY = 'timeout = "500ms"\nretry_min = "20ms"\nretry_max = "100ms"\nmax_attempts = 3'


@asynccontextmanager
async def several(
    folder: Path, ways: Iterable[Behaviour], delivery: str = DEFAULTS, *, pause: float = 0.005
) -> AsyncIterator[tuple[ProcessHarness, dict[Behaviour, Vendor]]]:
    """Run a gateway with one vendor for each *way* to fail; the vendors share nothing."""
    names = {f"chrts-{way}": way for way in ways}
    async with process_harness(folder, *names, delivery=delivery, pause=pause) as on:
        yield on, {way: on.vendors[name] for name, way in names.items()}


def disliking(
    bad: Collection[EventMark], way: Behaviour
) -> Callable[[EventMark], Behaviour | None]:
    """Return a function that reacts to the *bad* events in one *way*, and to no others."""
    return lambda mark: way if mark in bad else None


async def others_arrive(on: ProcessHarness, vendor: Vendor, bad_users: set[int]) -> None:
    """Wait until every event of other users has arrived."""
    others = {mark for mark in on.load.acknowledged if mark.user not in bad_users}
    await vendor.until(lambda v: others <= v.accepted.keys(), SOON)


async def test_one_event_that_always_fails_delays_no_other_user(tmp_path: Path) -> None:
    """One event that a vendor always rejects, in any way, delays no other user."""
    bad = EventMark(user=4, number=3)
    ways: tuple[Behaviour, ...] = ("403", "500", "hang", "reset", "413", "401")
    async with several(tmp_path, ways, pause=0.1) as (on, vendors):
        for way, vendor in vendors.items():
            vendor.dislikes = disliking({bad}, way)
        await on.send(240)
        for way, vendor in vendors.items():
            await others_arrive(on, vendor, {bad.user})
            assert vendor.disliked[way], way
            assert bad not in vendor.accepted, way


async def test_five_users_whose_events_always_fail_delay_no_others(tmp_path: Path) -> None:
    """As many bad events as would open a circuit, each of another user, delay no other user."""
    bad = {EventMark(user, 2) for user in (0, 1, 2, 4, 5)}
    async with several(tmp_path, ("500", "403", "hang"), pause=0.1) as (on, vendors):
        for way, vendor in vendors.items():
            vendor.dislikes = disliking(bad, way)
        await on.send(200)
        for way, vendor in vendors.items():
            await others_arrive(on, vendor, {mark.user for mark in bad})
            assert vendor.disliked[way] >= len(bad), way


async def test_one_bad_event_in_a_quiet_hour_delays_no_others(tmp_path: Path) -> None:
    """When events are seconds apart, one that always fails does not take all attempts."""
    bad = EventMark(user=0, number=1)
    async with process_harness(tmp_path, "chrts", delivery=DEFAULTS, users=4, pause=1.5) as on:
        vendor = on.vendors["chrts"]
        vendor.dislikes = disliking({bad}, "500")
        await on.send(13)
        await others_arrive(on, vendor, {bad.user})
        await vendor.until(lambda v: v.disliked["500"] > 1, SOON)


async def test_a_permanent_failure_becomes_a_dead_letter_and_its_user_continues(
    tmp_path: Path,
) -> None:
    """After exactly ``max_attempts`` attempts an event is a dead letter; its user's next go on."""
    bad = EventMark(user=4, number=3)
    async with several(tmp_path, ("403", "500", "hang"), HASTY) as (on, vendors):
        for way, vendor in vendors.items():
            vendor.dislikes = disliking({bad}, way)
        await on.send(120)
        must = set(on.load.acknowledged) - {bad}
        for vendor in vendors.values():
            await vendor.until(lambda v: must <= v.accepted.keys(), PATIENCE)
        await on.ends()
        letters = dead_letters(on.spool)
        for way, vendor in vendors.items():
            assert vendor.disliked[way] == 3, way
            assert letters[vendor.name] == {bad: 1}, way
        verdict = on.judged()
        assert not verdict.complaints, verdict.table()


async def test_a_200_whose_body_breaks_off_is_delivered(tmp_path: Path) -> None:
    """A response with status 200 counts as delivered, even when its body breaks off."""
    async with process_harness(tmp_path, "chrts", delivery=DEFAULTS) as on:
        vendor = on.vendors["chrts"]
        vendor.dislikes = lambda mark: "cut" if mark.number % 3 == 0 else None
        await on.send(120)
        must = set(on.load.acknowledged)
        await vendor.until(lambda v: must <= v.accepted.keys(), SOON)
        await on.ends()
        assert vendor.disliked["cut"] > 20
        verdict = on.judged()
        assert not verdict.complaints, verdict.table()


async def recovers(on: ProcessHarness, vendor: Vendor, probe: Behaviour) -> None:
    """Let the first probe of an open circuit end as *probe*; wait until the circuit is closed."""
    await on.gateway.after(0, "circuit_open", lambda line: line["destination"] == vendor.name)
    planned: list[Behaviour] = ["slow", probe]
    before = vendor.answered[probe]
    vendor.decide = lambda _: planned.pop() if planned else "ok"
    await vendor.until(lambda v: v.answered[probe] > before, PATIENCE)
    await vendor.until(lambda v: v.answered["slow"] > 0, SOON)
    await on.gateway.after(0, "circuit_closed", lambda line: line["destination"] == vendor.name)


async def test_a_probe_that_fails_in_any_way_is_followed_by_another(tmp_path: Path) -> None:
    """When the first probe after an outage fails, another follows, and deliveries go on."""
    slow = 'timeout = "500ms"\nretry_min = "50ms"\nretry_max = "1s"'
    probes: tuple[Behaviour, ...] = ("429", "403", "500", "hang", "reset")
    async with several(tmp_path, probes, slow) as (on, vendors):
        for vendor in vendors.values():
            vendor.weights = {"500": 1}
        await on.send(120)
        await asyncio.gather(*(recovers(on, vendor, probe) for probe, vendor in vendors.items()))
        await on.arrived(*on.vendors)
        await on.ends()
        verdict = on.judged()
        assert not verdict.complaints, verdict.table()


async def test_probes_of_an_outage_are_spaced(tmp_path: Path) -> None:
    """While a vendor fails every request, probes are spaced, and not one per user."""
    slow = 'timeout = "500ms"\nretry_min = "200ms"\nretry_max = "400ms"'
    async with process_harness(tmp_path, "chrts", delivery=slow) as on:
        vendor = on.vendors["chrts"]
        vendor.weights = {"500": 1}
        await on.send(120)
        await on.gateway.saw("circuit_open")
        opened = len(vendor.attempts)
        await vendor.until(lambda v: len(v.attempts) > opened + 14, PATIENCE)
        probes = [attempt.at for attempt in vendor.attempts[opened + 8 :]]
        assert min(b - a for a, b in pairwise(probes)) > 0.05


async def test_a_short_outage_does_not_delay_for_long(tmp_path: Path) -> None:
    """After a short outage everything arrives soon, at default timings."""
    async with process_harness(tmp_path, "chrts", delivery=DEFAULTS) as on:
        vendor: Vendor = on.vendors["chrts"]
        on.load.aim(on.gateway.url)
        on.load.start()
        await on.load.reaches(60)
        await vendor.down()
        await on.gateway.saw("circuit_open")
        await on.load.reaches(len(on.load.acknowledged) + 60)
        await vendor.up()
        await on.load.stop()
        await asyncio.wait_for(on.arrived("chrts"), SOON)

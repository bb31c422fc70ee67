"""What a worker does in an outage and after it, where nothing but the vendor's return helps."""

from pathlib import Path

import pytest

from gateway.delivery.backlog import PAGE
from tests.e2e.running import PATIENCE
from tests.e2e.test_injected_faults import filled, until
from tests.soak.inside import inside
from tests.soak.marks import EventMark
from tests.soak.vendor import Behaviour

LANES = 8
"""Attempts that are made at once by default."""
LONG = 'timeout = "20s"\nretry_min = "20ms"\nretry_max = "1h"'


async def test_all_lanes_work_again_with_the_first_success_after_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a probe was taken as many attempts are made at once as before, without a wait."""
    monkeypatch.setattr("gateway.delivery.circuit_breaker.MAX_PROBE_WAIT", 3600.0)
    marks = [EventMark(4 * n, 1) for n in range(40)]
    await filled(tmp_path / "spool", marks, {})
    async with inside(tmp_path, "chrts", delivery=LONG) as on:
        vendor, breaker = on.vendors["chrts"], on.gateway.workers["chrts"].breaker
        vendor.weights = {"500": 1}
        await until(lambda: breaker.opened > 1)  # what was on its way before has ended
        first: list[Behaviour] = ["ok"]
        vendor.decide = lambda _: first.pop() if first else "held"
        await vendor.until(lambda told: told.answering == LANES, PATIENCE)
        vendor.release()
        await vendor.until(lambda told: set(marks) <= told.accepted.keys(), PATIENCE)


async def test_a_backlog_stays_in_the_log_while_the_circuit_is_open(tmp_path: Path) -> None:
    """In an outage what waits for its turn costs no memory: only what probes is read."""
    marks = [EventMark(4 * n, 1) for n in range(5 * PAGE)]
    await filled(tmp_path / "spool", marks, {})
    brisk = 'timeout = "20s"\nretry_min = "20ms"\nretry_max = "50ms"'
    async with inside(tmp_path, "chrts", delivery=brisk) as on:
        vendor, worker = on.vendors["chrts"], on.gateway.workers["chrts"]
        vendor.weights = {"500": 1}
        await until(lambda: worker.breaker.opened > 0)
        tried = len(vendor.attempts)
        await vendor.until(lambda told: len(told.attempts) > tried + 20, PATIENCE)
        assert worker.backlog.unread > 3 * PAGE
        vendor.weights = {"ok": 1}
        await vendor.until(lambda told: set(marks) <= told.accepted.keys(), PATIENCE)

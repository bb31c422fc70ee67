"""Several gateways on one cluster of NATS, under faults of both: the ledger stays right."""

from collections.abc import Callable
from pathlib import Path

from tests.cluster.servers import nats_servers
from tests.soak.cluster import (
    ACTS,
    NODE_FAULTS,
    SHARDS,
    TAKEN_OVER,
    ClusterChaos,
    Fault,
    table,
)
from tests.soak.vendor import vendors

USERS = 12
BRIEF: tuple[Fault, ...] = (
    "stopped_node", "killed_node", "paused_node", "killed_two_servers", "paused_leader",
    "parted_server",
)  # fmt: skip
"""Faults that hold others: ``make soak NODES=3`` has all of them."""


async def test_nothing_is_lost_and_first_deliveries_stay_in_order(
    tmp_path: Path, record_property: Callable[[str, str], None]
) -> None:
    """Whatever fails, all that was answered is delivered, in order; SIGTERM repeats nothing."""
    with nats_servers(tmp_path / "nats", parted=True) as servers:
        async with vendors("chrts", "growlytics", seed=1) as made:
            chaos = ClusterChaos(tmp_path, servers, made, USERS, seed=1)
            async with chaos.running():
                for number, fault in enumerate(BRIEF):
                    await chaos.round(fault, ACTS[number % len(ACTS)])
                verdict = await chaos.settle()
    record_property("table", f"{table(chaos.reports)}\n{verdict.table()}")
    assert not verdict.complaints, verdict.table()
    by_fault = {report.fault: report for report in chaos.reports}
    assert by_fault["stopped_node"].repeats == 0
    for report in chaos.reports:
        assert report.repeats <= report.busiest + SHARDS, report
        assert report.fault not in NODE_FAULTS or report.slowest_delivery <= TAKEN_OVER, report

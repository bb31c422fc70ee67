"""The shards of a running gateway: it takes one over, gives it up, and loses it."""

from pathlib import Path

from tests.e2e.running import PATIENCE
from tests.soak.in_process_harness import in_process_harness
from tests.soak.load import pour


async def test_a_shard_that_is_given_up_is_recorded_and_delivered_no_more(tmp_path: Path) -> None:
    """Attempts under way end and are recorded; what comes later is left to the next owner."""
    async with in_process_harness(tmp_path, "chrts") as on:
        gateway, vendor = on.gateway, on.vendors["chrts"]
        (shard,) = gateway.spool.shards
        (first,) = await pour(on.url, 1, users=1)
        await vendor.until(lambda v: first in v.accepted, PATIENCE)
        await gateway.finish_shard(shard)
        assert shard.cursor("chrts") == shard.position()
        (second,) = await pour(on.url, 1, users=1)
        assert shard.position() > shard.cursor("chrts")
        team = gateway.teams["chrts"]
        assert team.workers == {}
        team.add(shard)
        await vendor.until(lambda v: second in v.accepted, PATIENCE)


async def test_a_shard_that_is_lost_records_nothing(tmp_path: Path) -> None:
    """Attempts of a lost shard no longer count, in no team of the gateway."""
    async with in_process_harness(tmp_path, "chrts", "quartic") as on:
        gateway, vendor = on.gateway, on.vendors["chrts"]
        (shard,) = gateway.spool.shards
        vendor.decide = lambda _: "held"
        await pour(on.url, 1, users=1)
        await vendor.until(lambda v: v.answering == 1, PATIENCE)
        gateway.abandon_shard(shard)
        vendor.release()
        await vendor.until(lambda v: v.answering == 0, PATIENCE)
        assert [team.workers for team in gateway.teams.values()] == [{}, {}]
        assert shard.cursor("chrts") == 0

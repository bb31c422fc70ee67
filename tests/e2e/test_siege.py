"""Attacks with a public write key on a default configuration: other senders are not affected."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.siege.attacks import SIEGES, Siege
from tests.siege.measurements import HEAD, besiege

pytestmark = pytest.mark.xdist_group("siege")

WITHOUT, BESIDE = 0.6, 1.5
"""Seconds of each measurement; each bystander sends every half second."""
SMALLER = {1000: 200, 100_000: 5_000}
"""The size of an attack in the siege, and in this test."""
SLOWER = 4.0
"""Extra seconds by which a busy machine may delay the slowest bystander's event."""

Record = Callable[[str, object], None]


@pytest.mark.parametrize("siege", SIEGES, ids=lambda siege: siege.name)
async def test_an_attack_does_not_affect_bystanders(
    tmp_path: Path, record_property: Record, siege: Siege
) -> None:
    """During an attack no bystander is refused, and all their events arrive soon."""
    small = siege._replace(size=SMALLER.get(siege.size, siege.size))
    found = await besiege(tmp_path, small, without=WITHOUT, beside=BESIDE)
    record_property("table", f"{HEAD}\n{found.row()}")
    assert found.happened, "the attack did not take place"
    assert not found.refused
    assert found.alone.events > 0
    assert found.beside.events > 0
    assert not found.beside.missing
    assert found.beside.p99 < found.alone.p99 + siege.within + SLOWER

"""The vendors' libraries for Node.js, unmodified, each in a process of its own."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.clients.arrivals import CALLS, KEY, arrived, gateway
from tests.clients.processes import finished_in_node


async def reported(script: str, *args: str) -> dict[str, Any]:
    """Run *script* to its end and return what it reports."""
    report: dict[str, Any] = orjson.loads(await finished_in_node(script, *args))
    return report


@pytest.mark.parametrize(
    ("script", "how", "sent"),
    [
        ("segment.mjs", "1", {}),
        ("segment.mjs", "15", {}),
        ("rudderstack.mjs", "gzip", {"sent": ["gzip application/x-www-form-urlencoded"]}),
        ("rudderstack.mjs", "plain", {"sent": ["plain application/json"]}),
    ],
)
async def test_a_backend_in_node_changes_the_host_and_nothing_else(
    tmp_path: Path, script: str, how: str, sent: dict[str, Any]
) -> None:
    """Each call of each library is reported as sent, and arrives everywhere or is declined."""
    async with gateway(tmp_path) as run:
        report = await reported(script, run.url, KEY, how)
        assert report == {"told": ["sent"] * len(CALLS), "errors": [], **sent}
        journal = await arrived(run, CALLS)
    (view,) = [entry["body"] for entry in journal if entry["path"] == "/store/track/event"]
    assert (view["productId"], view["userId"]) == ("sku-1", "ada-1")


async def test_segments_library_with_the_wrong_key_says_so(tmp_path: Path) -> None:
    """Each call's callback is told of the refusal, and nothing is tried again."""
    async with gateway(tmp_path) as run:
        report = await reported("segment.mjs", run.url, "wrong", "15")
        assert not await run.journal()
    assert all("401" in told for told in report["told"]), report
    assert len(report["errors"]) == len(CALLS)

"""The spool of every earlier version is opened, and nothing of it is lost."""

import gzip
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.spool.sqlite.database import FILE
from tests.e2e.process import gateway_process
from tests.e2e.raw_http import OK, Vendor
from tests.release.project import VERSION
from tests.release.write_spool import (
    CHANGES,
    DESTINATIONS,
    MESSAGES,
    SPOOLS,
    config,
    listening,
    send,
)

FILES = sorted(SPOOLS.glob("*.db.gz"))
NEW = "m-4"


def test_this_version_leaves_a_spool_for_the_next() -> None:
    """A spool of the project's version is kept, so that later versions are tested with it."""
    advice = "run make spool"
    assert f"{VERSION}.db.gz" in {each.name for each in FILES}, advice


def received(vendor: Vendor) -> list[str]:
    """Return the message ids that a vendor got, in order."""
    return [name for got in vendor.got for name in re.findall(r'"(m-\d)"', got.body.decode())]


@pytest.fixture(params=FILES, ids=lambda each: each.name.removesuffix(".db.gz"))
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a folder with the spool that a version left."""
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / FILE).write_bytes(gzip.decompress(request.param.read_bytes()))
    return tmp_path


async def test_a_spool_of_an_earlier_version_goes_on(folder: Path) -> None:
    """Waiting events arrive in order; pause, dead letters, consent and seen ids are kept."""
    async with (
        listening(dict.fromkeys(DESTINATIONS, OK)) as vendors,
        aiohttp.ClientSession(headers=CHANGES) as client,
        gateway_process(config(folder, vendors)) as running,
    ):

        async def change(path: str, **body: Any) -> None:
            async with client.post(f"{running.admin}/{path}", json=body or None) as answer:
                assert answer.status == 200, await answer.text()

        await send(client, running.url, MESSAGES[0])  # was seen, so it is dropped
        await send(client, running.url, NEW)  # without consent of its own
        await running.saw("delivery", 6)
        got = {name: received(each) for name, each in vendors.items()}
        assert got == {"fine": [NEW], "down": [*MESSAGES, NEW], "strict": [NEW], "held": []}
        await change("destinations/held/resume")
        await change("dead-letters/replay", filter={"destination": "strict"})
        await running.saw("delivery", 13)
        assert received(vendors["held"]) == [*MESSAGES, NEW]
        assert received(vendors["strict"]) == [NEW, *MESSAGES]

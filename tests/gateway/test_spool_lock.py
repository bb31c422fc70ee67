"""The spool waits for a short lock of another process."""

import asyncio
from pathlib import Path

import apsw

from gateway.http import Request
from gateway.spool import Appended, Entry
from gateway.spool.sqlite.database import FILE
from tests.gateway.opened_spool import opened_spool

ENTRY = Entry("r-1", "shop", Request(method="POST", url="/", body=b"{}"), {"crm": (0,)})


async def test_an_append_waits_for_a_lock_that_another_holds(tmp_path: Path) -> None:
    """An append waits while another process holds the lock, and succeeds after it."""
    async with opened_spool(tmp_path / "spool", destinations=("crm",)) as spool:
        other = apsw.Connection(str(tmp_path / "spool" / FILE))
        other.execute("BEGIN IMMEDIATE")
        appending = asyncio.ensure_future(spool.append(ENTRY))
        done, _ = await asyncio.wait([appending], timeout=0.3)
        assert not done, "the lock was not held"
        other.execute("ROLLBACK")
        other.close()
        assert await asyncio.wait_for(appending, 10) == Appended(1)

"""An open spool for a test."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.spool import BacklogLimit
from gateway.spool.sqlite.spool import SqliteSpool


@asynccontextmanager
async def opened_spool(
    folder: Path, *limits: Any, destinations: Sequence[str] = ("a",), **settings: Any
) -> AsyncIterator[SqliteSpool]:
    """Open a spool in *folder* and register *destinations*; close it at the end.

    Args:
        folder: of its files.
        limits: of the spool.
        destinations: without limits of their own.
        settings: further arguments of `SqliteSpool`.
    """
    spool = SqliteSpool(folder, *limits, **settings)
    await spool.open()
    try:
        await spool.register(dict.fromkeys(destinations, BacklogLimit()))
        yield spool
    finally:
        await spool.close()

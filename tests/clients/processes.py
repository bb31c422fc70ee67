"""Programs that are run to their end."""

import asyncio
from asyncio.subprocess import PIPE

from tests.clients.arrivals import CLIENTS
from tests.e2e.running import PATIENCE


async def finished(*command: str) -> bytes:
    """Run *command* beside the clients, check that it ends well and complains of nothing.

    Returns what it printed.
    """
    process = await asyncio.create_subprocess_exec(*command, cwd=CLIENTS, stdout=PIPE, stderr=PIPE)
    try:
        async with asyncio.timeout(PATIENCE):
            said, complained = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, complained.decode()) == (0, "")
    return said

"""Programs that are run to their end, and the clients from npm."""

import asyncio
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.clients.arrivals import CLIENTS
from tests.e2e.running import PATIENCE
from tests.external_programs import node


def packages() -> Path:
    """Return where the clients from npm are; if they are not installed, the test fails."""
    found = CLIENTS / "node_modules"
    if not found.is_dir():
        pytest.fail("this needs the clients from npm: run make clients")
    return found


async def finished_in_node(*arguments: str) -> bytes:
    """Run Node.js beside the clients with *arguments*, as `finished` does."""
    packages()
    return await finished(node(), *arguments)


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

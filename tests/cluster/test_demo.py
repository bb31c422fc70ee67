"""``make cluster``: what it prints works."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.cluster.demo import ROOT, free_ports

PATIENCE = 60.0


@asynccontextmanager
async def demo(folder: Path, *options: str) -> AsyncIterator[str]:
    """Run it, and yield what it prints; at the end press Ctrl-C."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.cluster.demo", "--folder", str(folder), *options,
        stdout=PIPE, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            said = await process.stdout.readuntil(b"begins anew")
        yield said.decode()
    finally:
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0


async def curl(command: str) -> str:
    """Run a command of the page; return what it prints."""
    process = await asyncio.create_subprocess_shell(command, stdout=PIPE, stderr=PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        return (await process.stdout.read()).decode()


async def test_what_it_prints_works(tmp_path: Path) -> None:
    """Its commands work, and its curl also after its ``kill -9`` of a gateway and of a server."""
    port, sandbox = free_ports(2)
    async with demo(
        tmp_path / "cluster", "--port", str(port), "--sandbox", str(sandbox)
    ) as said:  # fmt: skip
        found = re.search(r"curl .*?\}\}'", said, re.DOTALL)
        assert found is not None
        assert "Event tracked" in await curl(found[0])
        status = re.search(r"bin/gateway (cluster status -c \S+)", said)
        assert status is not None
        assert "sees it" in await curl(f"{sys.executable} -m gateway {status[1]}")
        for process in re.findall(r"kill -9 (\d+)", said):
            os.kill(int(process), signal.SIGKILL)
            async with asyncio.timeout(PATIENCE):
                while "Event tracked" not in (answer := await curl(found[0])):
                    assert "503" in answer or "502" in answer or not answer, answer

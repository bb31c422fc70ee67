"""Run the gateway as a process of its own, which tests can stop and kill."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import orjson

from gateway.config.loader.load import load_spool
from gateway.testing.live_gateway import check_balance
from tests.e2e.running import PATIENCE

ROOT = Path(__file__).parents[2]
LAUNCHER = ("-m", "gateway")
"""Python's arguments that run the command."""

UNCOMPILED = "PYTHONDONTWRITEBYTECODE"
"""An environment variable; with it each start compiles the gateway again, a fifth of its time."""


class GatewayProcess:
    """``gateway run`` on a configuration, with its log read line by line."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.lines: list[dict[str, object]] = []
        self.url = ""
        self.admin = ""
        """The address of the admin API, if the configuration has one."""
        self._reader = asyncio.get_running_loop().create_task(self._read())
        self._changed = asyncio.Event()

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            if line.startswith(b"{"):
                self.lines.append(orjson.loads(line))
            else:
                self.lines.append({"event": "text", "text": line.decode()})
            self._changed.set()
        self._changed.set()

    async def saw(self, event: str, times: int = 1) -> dict[str, object]:
        """Wait until the log has *times* lines of *event*; return the first."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = [line for line in self.lines if line["event"] == event]
                if len(found) >= times:
                    return found[0]
                assert not self._reader.done(), self.lines
                self._changed.clear()
                await self._changed.wait()

    async def after(
        self,
        since: int,
        event: str | Collection[str],
        holds: Callable[[dict[str, object]], bool] = bool,
    ) -> dict[str, object]:
        """Wait for a line of *event* for which *holds* is true, after the first *since* lines."""
        events = {event} if isinstance(event, str) else event
        async with asyncio.timeout(PATIENCE):
            while True:
                for line in self.lines[since:]:
                    if line["event"] in events and holds(line):
                        return line
                assert not self._reader.done(), self.lines[-20:]
                self._changed.clear()
                await self._changed.wait()

    def hang_up(self) -> None:
        """Request a reload, as ``kill -HUP`` does."""
        self.process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """Kill the process, as ``kill -9`` does."""
        os.kill(self.process.pid, signal.SIGKILL)

    async def killed(self) -> None:
        """Kill the process if it runs, and wait for its end."""
        if self.process.returncode is None:
            self.kill()
        await self.ended()

    async def ended(self) -> int:
        """Wait for the end of the process; return its exit status."""
        async with asyncio.timeout(PATIENCE):
            status = await self.process.wait()
            await self._reader
            return status


def environment() -> dict[str, str]:
    """Return the environment of a process that keeps what it compiled."""
    return {name: value for name, value in os.environ.items() if name != UNCOMPILED}


async def start_gateway(
    config: Path, *options: str, launcher: Sequence[str] = LAUNCHER
) -> GatewayProcess:
    """Start a gateway, and return it once it listens; one that does not is killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *launcher, "run", "--config", str(config), *options,
        stderr=PIPE, cwd=ROOT, env=environment(),
    )  # fmt: skip
    running = GatewayProcess(process)
    try:
        line = await running.saw("listening")
    except BaseException:
        await running.killed()
        raise
    running.url = f"http://{line['host']}:{line['port']}"
    for line in running.lines:
        if line["event"] == "admin_listening":
            running.admin = f"http://{line['host']}:{line['port']}/api/v1"
    return running


@asynccontextmanager
async def gateway_process(
    config: Path, *options: str, launcher: Sequence[str] = LAUNCHER
) -> AsyncIterator[GatewayProcess]:
    """Start a gateway and yield it once it listens; at the end kill it and check its balance."""
    running = await start_gateway(config, *options, launcher=launcher)
    try:
        yield running
    finally:
        await running.killed()
    await asyncio.to_thread(check_balance, load_spool(config).path)

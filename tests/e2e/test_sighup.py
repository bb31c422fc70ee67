"""A SIGHUP while the process starts does not end it, and causes a reload once it runs."""

import asyncio
import contextlib
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.e2e.process import ROOT, GatewayProcess, gateway_process

CONFIG = """
[server]
listen = "127.0.0.1:0"
[spool]
path = "{folder}/spool"
[sources.site]
vendor = "segment"
keys = ["WK"]
[destinations.out]
vendor = "segment"
url = "http://127.0.0.1:9"
write_key = "OUT"
[[routes]]
to = ["out"]
"""
HUNG_UP = """
import os, runpy, signal, sys
class HangUp:
    def find_spec(self, name, *_):
        if name == {at!r}:
            os.kill(os.getpid(), signal.SIGHUP)
sys.meta_path.insert(0, HangUp())
runpy.run_module("gateway", run_name="__main__", alter_sys=True)
"""
"""Runs the command, and sends SIGHUP as soon as it begins to import a module."""


@pytest.mark.parametrize("at", ["gateway.cli", "click", "gateway.config", "gateway.server"])
async def test_a_hangup_while_it_starts_is_a_reload(tmp_path: Path, at: str) -> None:
    """A process survives SIGHUP from its first import on, and reloads when it runs."""
    path = tmp_path / "gateway.toml"
    path.write_text(CONFIG.format(folder=tmp_path))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HUNG_UP.format(at=at), "run", "--config", str(path),
        stderr=PIPE, cwd=ROOT,
    )  # fmt: skip
    running = GatewayProcess(process)
    try:
        await running.saw("listening")
        await running.saw("reloaded")
        process.send_signal(signal.SIGHUP)
        await running.saw("reloaded", times=2)
        process.terminate()
        assert await running.ended() == 0
    finally:
        if process.returncode is None:
            running.kill()
            await running.ended()


async def test_hangups_at_its_end_are_no_failure(tmp_path: Path) -> None:
    """A process that is stopping ends with status 0, however many SIGHUPs it gets."""
    path = tmp_path / "gateway.toml"
    path.write_text(CONFIG.format(folder=tmp_path))
    async with gateway_process(path) as running:
        await running.saw("ready")
        running.process.terminate()
        await running.saw("stopping")
        while running.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                running.hang_up()
            await asyncio.sleep(0)
        assert await running.ended() == 0


async def test_a_short_command_ends_at_sighup(tmp_path: Path) -> None:
    """A command other than ``run`` ends at SIGHUP."""
    path = tmp_path / "gateway.toml"
    path.write_text(CONFIG.format(folder=tmp_path))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HUNG_UP.format(at="gateway.config"), "check", "--config", str(path),
        stderr=PIPE, stdout=PIPE, cwd=ROOT,
    )  # fmt: skip
    await process.communicate()
    assert process.returncode == -signal.SIGHUP

"""One session of a reader: a folder, a shell, and the servers that a page says to start.

Where Linux allows it (``unshare``), a session has its own network, so that pages and tests can use
the same ports at the same time; elsewhere the ports on the pages must be free.
"""

import asyncio
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

import click
import orjson

from gateway.cli import main
from gateway.plugin.registry import load_plugins
from gateway.testing.live_gateway import check_balance
from tests.docs.pages import ROOT

READY = {
    "demo": "The gateway is up",
    "run": '"listening"',
    "sandbox": "is the sandbox of",
    "tail": "\n",
}
"""Commands that do not end by themselves, and what they print when they are ready."""
COMMAND_TIMEOUT = 240.0
"""Seconds that one command may take on a busy machine."""
POLL = 0.05
END = "\x1e"
"""Begins the line that ends the output of a command."""
SHELL = """\
set -uo pipefail -m
curl() { command curl --silent --show-error --fail-with-body --max-time 20 "$@"; }
"""
"""A shell in which an HTTP error is a failure, and Ctrl-C reaches background jobs."""
LOOPBACK = "ip link set lo up && exec bash"
REQUEST_ID = "18a3f0c2b7d4e100a1b2c3d5"
"""The request id on the pages; it stands for the newest one of :func:`premise`."""
DEAD_LETTERS = 20
"""Dead letters of the destination ``crm`` that :func:`premise` makes."""
TEST = """
[[tests]]
name = "a look at a product goes to everybody"
from = "shop"
path = "/push"
file = "view.json"
expect = ["crm", "personaclick", "tracardi", "quartic", "growlytics", "segment"]
"""
"""A test of the routes in :func:`premise`'s configuration."""


class Session:
    """A shell in a folder, and further terminals in which servers run."""

    def __init__(self, shell: Process, folder: Path, path: str) -> None:
        self.folder = folder
        self.request_id = REQUEST_ID
        self._shell = shell
        self._path = path
        self._servers: list[tuple[int, str]] = []
        self._started = 0

    async def run(self, command: str) -> str:
        """Run *command* in the shell; return what it printed.

        Raises:
            AssertionError: it failed, or took too long.
        """
        status, printed = await self._run(command.replace(REQUEST_ID, self.request_id))
        assert status == 0, f"{command}status {status}:\n{printed}"
        return printed.replace(self.request_id, REQUEST_ID)

    async def _run(self, command: str) -> tuple[int, str]:
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{command.rstrip()}\nprintf '\\n{END}%d\\n' $?\n".encode())
        lines: list[str] = []
        async with asyncio.timeout(COMMAND_TIMEOUT):
            while not (line := (await self._shell.stdout.readline()).decode()).startswith(END):
                assert line, "the shell has ended: " + "".join(lines)
                lines.append(line)
        return int(line.removeprefix(END)), "".join(lines).removesuffix("\n")

    async def serve(self, command: str) -> None:
        """Start a server in its own terminal; wait until it is ready.

        The terminal is new: it does not have the shell's exported variables.
        """
        self._started += 1
        terminal = f"terminal-{self._started}"
        (self.folder / terminal).write_text(f"exec {command}")
        log, path = f"{terminal}.log", shlex.quote(self._path)
        (self.folder / log).touch()
        started = f"PATH={path} bash {terminal} >{log} 2>&1 </dev/null &\necho $!"
        pid = int(await self.run(started))
        self._servers.append((pid, command))
        ready = READY[server(command) or ""]
        async with asyncio.timeout(COMMAND_TIMEOUT):
            while ready not in (printed := self.printed(terminal)):
                status, _ = await self._run(f"jobs -r -p | grep -qx {pid}")
                assert status == 0, f"{command}ended:\n{printed}"
                await asyncio.sleep(POLL)

    def printed(self, terminal: str) -> str:
        """Return the output of a terminal so far."""
        return (self.folder / f"{terminal}.log").read_text()

    async def interrupt(self) -> None:
        """Press Ctrl-C in each terminal with a server; each must end with a good status."""
        for pid, command in self._servers:
            os.killpg(pid, signal.SIGINT)
            status, _ = await self._run(f"wait {pid}")
            good = {0} if server(command) != "tail" and "make" not in command else {0, 1, 130}
            assert status in good, f"{command}ended with {status}"
        self._servers.clear()

    async def close(self) -> None:
        """End the servers and the shell."""
        try:
            await self.interrupt()
        finally:
            for pid, _ in self._servers:
                os.killpg(pid, signal.SIGKILL)
            self._shell.kill()
            await self._shell.communicate()


@asynccontextmanager
async def session(folder: Path, *, installed: bool) -> AsyncIterator[Session]:
    """Open a shell in *folder*, a fresh clone of the repository.

    Args:
        folder: an empty folder.
        installed: whether ``gateway`` is on the path from the start.
    """
    _clone(folder)
    programs = Path(sys.executable).parent
    others = [p for p in os.environ["PATH"].split(os.pathsep) if Path(p) != programs]
    path = os.pathsep.join([str(programs), *others] if installed else others)
    environ = {name: value for name, value in os.environ.items() if name != "GATEWAY_CONFIG"}
    own_network = ["unshare", "--map-root-user", "--net", "bash", "-c", LOOPBACK]
    shell = await asyncio.create_subprocess_exec(
        *(own_network if _can_unshare() else ["bash"]),
        cwd=folder, stdin=PIPE, stdout=PIPE, stderr=STDOUT,
        env={**environ, "PATH": path, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    opened = Session(shell, folder, path)
    try:
        await opened.run(SHELL)
        yield opened
    finally:
        await opened.close()
    if (folder / "var/spool/spool.db").exists():
        await asyncio.to_thread(check_balance, folder / "var/spool")


@cache
def _can_unshare() -> bool:
    command = ["unshare", "--map-root-user", "--net", "ip", "link", "set", "lo", "up"]
    try:
        done = subprocess.run(command, stdout=DEVNULL, stderr=DEVNULL, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


def _clone(folder: Path) -> None:
    """Put into *folder* the files of a clone that `make` has installed."""
    shutil.copytree(ROOT / "config", folder / "config")
    for name in ("Makefile", "pyproject.toml", "requirements.run.lock"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv").mkdir()
    for part in Path(sys.executable).parents[1].glob("[!.]*"):
        (folder / ".venv" / part.name).symlink_to(part)
    (folder / ".venv/.running").touch()


async def premise(opened: Session) -> None:
    """Run a gateway on ``config/gateway.toml``, with dead letters of one destination.

    Pages about a running gateway begin with this.
    """
    _furnish(opened.folder)
    await opened.serve("gateway sandbox\n")
    await opened.serve("gateway run\n")
    fault = orjson.dumps({"vendor": "chrts", "status": 422, "count": DEAD_LETTERS}).decode()
    await opened.run(f"curl 127.0.0.1:9100/_sandbox/faults -d {shlex.quote(fault)}\n")
    example = load_plugins().inputs["chrts"].example
    headers = "".join(f" -H {shlex.quote(f'{k}: {v}')}" for k, v in example.headers.items())
    for number in range(DEAD_LETTERS):
        body = orjson.dumps({**orjson.loads(example.body), "uid": f"u{number}"}).decode()
        answer = await opened.run(
            f"curl -i 127.0.0.1:8080{example.url}{headers} -H 'content-type: application/json'"
            f" -d {shlex.quote(body)}\n"
        )
    opened.request_id = re.findall(r"x-gateway-request-id: (\w+)", answer, re.IGNORECASE)[0]
    await _until(lambda: opened.printed("terminal-2").count('"dead_letter"') >= DEAD_LETTERS)
    await _until((opened.folder / "var/spool/traces.db").exists)
    await opened.run(f"gateway tail --failed --lines {DEAD_LETTERS} --limit {DEAD_LETTERS}\n")


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(COMMAND_TIMEOUT):
        while not holds():  # noqa: ASYNC110 - files of another process, which raise no event here
            await asyncio.sleep(POLL)


def _furnish(folder: Path) -> None:
    """Write the files that pages name without showing their content."""
    text = (ROOT / "config/gateway.toml").read_text()
    text = text.replace("[destinations.chrts]", "[destinations.crm]")
    text = text.replace("[sources.personaclick]", "[sources.shop]") + TEST
    text = text.replace('to = ["chrts"', 'to = ["crm"')
    for name in ("config/gateway.toml", "gateway.toml"):
        (folder / name).write_text(text)
    for name in ("view.json", "order.json", "config/view.json"):
        (folder / name).write_bytes(load_plugins().inputs["personaclick"].example.body)


def commands(script: str) -> Iterator[str]:
    """Yield the commands of *script* as they are written, without lines of comment.

    A command continues after a backslash at a line's end, and within quotes.
    """
    waiting = ""
    for line in script.splitlines(keepends=True):
        waiting += line
        if line.rstrip("\n").endswith("\\") or not _closed(waiting):
            continue
        if shlex.split(waiting, comments=True):
            yield waiting
        waiting = ""
    assert not waiting, f"never ends: {waiting}"


def _closed(text: str) -> bool:
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return False
    return True


def server(command: str) -> str | None:
    """Return the server that *command* starts, or None."""
    words = shlex.split(command, comments=True)
    if words == ["make", "run"]:
        return "demo"
    return words[1] if Path(words[0]).name == "gateway" and words[1] in READY else None


def is_run_elsewhere(command: str) -> bool:
    """Tell whether *command* installs or tests something, which other tests do.

    Raises:
        AssertionError: the Makefile lacks the target.
    """
    words = shlex.split(command, comments=True)
    if words[0] == "make" and words[1:] != ["run"]:
        makefile = (ROOT / "Makefile").read_text()
        for target in words[1:]:
            assert "=" in target or re.search(rf"^{target}:", makefile, re.MULTILINE), target
        return True
    # tests/release/test_installed_package.py runs these in its own environment
    return words[:2] == ["pip", "install"] or words[:3] == ["python", "-m", "pytest"]


def parsed(words: Sequence[str]) -> None:
    """Parse *words* as the command line does, without running the command."""
    context = click.Context(main, info_name="gateway")
    command = main.get_command(context, words[0])
    assert command
    command.make_context(words[0], list(words[1:]), parent=context)

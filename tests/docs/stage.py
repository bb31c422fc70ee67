"""Where the commands of a page are run: a gateway, its sandbox, and the files that pages name."""

import asyncio
import os
import re
import shlex
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import orjson

from gateway.cli import main
from gateway.plugin.registry import load_plugins
from tests.docs.pages import ROOT, Snippet
from tests.e2e.process import gateway_process
from tests.e2e.running import sandboxed

GATEWAY = "127.0.0.1:8080"
SANDBOX = "127.0.0.1:9100"
ADMIN = "127.0.0.1:8081"
"""Where the pages have the gateway, the sandbox, and the admin API."""
SERVERS = frozenset({"demo", "run", "sandbox", "tail"})
"""Commands that do not end: the stage has them running, or they look at it; their options are
only parsed."""
REQUEST = "18a3f0c2b7d4e100a1b2c3d5"
"""The request that the pages ask about."""
TESTED = """
[[tests]]
name = "a look at a product goes to everybody"
from = "shop"
path = "/push"
file = "view.json"
expect = ["crm", "personaclick", "tracardi", "quartic", "growlytics", "segment"]
"""
"""A test of the configuration's routes."""
LONGEST = 240.0
"""Seconds that the commands of a block may take, on a machine with much else to do."""
LETTERS = 20
"""Dead letters that lie there, all of the destination ``crm``."""
STRICT = """\
set -euo pipefail
curl() { command curl --silent --show-error --fail-with-body --max-time 20 "$@"; }
"""
"""A shell that stops at the first failure; an HTTP error is one."""


@dataclass
class Stage:
    """A folder with ``config/gateway.toml``, and what runs on it."""

    folder: Path
    addresses: dict[str, str]
    """What stands on the pages for something here: addresses, and a request's id."""

    def write(self, snippet: Snippet) -> None:
        """Write the file that *snippet* is, if its first line says so in a comment."""
        named = re.match(r"# (\w+\.toml)\n", snippet.text)
        if snippet.kind == "toml" and named:
            (self.folder / named[1]).write_text(self.placed(snippet.text))

    async def run(self, script: str) -> str:
        """Run *script* in a shell, here; return what it printed.

        Raises:
            AssertionError: a command of it failed, or took too long.
        """
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", STRICT + self.placed(script),
            cwd=self.folder, stdout=PIPE, stderr=STDOUT,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )  # fmt: skip
        try:
            async with asyncio.timeout(LONGEST):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
        said = output.decode()
        assert process.returncode == 0, f"status {process.returncode}:\n{said}"
        for here, theirs in self.addresses.items():
            said = said.replace(theirs, here)
        return said

    def placed(self, text: str) -> str:
        """Return *text* with the addresses at which gateway and sandbox really are."""
        for here, theirs in self.addresses.items():
            text = text.replace(here, theirs)
        return text


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    """Run a gateway on ``config/gateway.toml``, one of whose destinations has refused events."""
    async with sandboxed() as (sandbox, client):
        stage = Stage(folder, {SANDBOX: sandbox.removeprefix("http://")})
        config = _furnish(stage)
        async with gateway_process(config) as gateway:
            stage.addresses[GATEWAY] = gateway.url.removeprefix("http://")
            admin = await gateway.saw("admin_listening")
            stage.addresses[ADMIN] = f"{admin['host']}:{admin['port']}"
            fault = {"vendor": "chrts", "status": 422, "count": LETTERS}
            async with client.post(f"{sandbox}/_sandbox/faults", json=fault) as answer:
                assert answer.ok, await answer.text()
            example = load_plugins().inputs["chrts"].example
            for number in range(LETTERS):
                body = {**orjson.loads(example.body), "uid": f"u{number}"}
                url, headers = f"{gateway.url}{example.url}", dict(example.headers)
                async with client.post(url, json=body, headers=headers) as answer:
                    assert answer.ok, await answer.text()
                    stage.addresses[REQUEST] = answer.headers["x-gateway-request-id"]
            await gateway.saw("dead_letter", times=LETTERS)
            async with asyncio.timeout(LONGEST):  # the recorder makes its file when it has a record
                while not (folder / "var/spool/traces.db").exists():  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.01)
            await stage.run(f"gateway tail --failed --lines {LETTERS} --limit {LETTERS}")
            yield stage


def _furnish(stage: Stage) -> Path:
    """Write the files that pages name; return the configuration."""
    text = (ROOT / "config/gateway.toml").read_text().replace(GATEWAY, "127.0.0.1:0")
    text = text.replace(ADMIN, "127.0.0.1:0")
    text = text.replace("[destinations.chrts]", "[destinations.crm]")
    text = text.replace("[sources.personaclick]", "[sources.shop]") + TESTED
    text = text.replace('to = ["chrts"', 'to = ["crm"')
    text = stage.placed(text.replace("var/spool", f"{stage.folder}/var/spool"))
    for name in ("config/gateway.toml", "gateway.toml"):
        path = stage.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    for name in ("view.json", "order.json", "config/view.json"):
        (stage.folder / name).write_bytes(load_plugins().inputs["personaclick"].example.body)
    return stage.folder / "gateway.toml"


def commands(script: str) -> Iterator[str]:
    """Yield the commands of *script* as they stand there, without comments of their own line.

    A command goes on where a line ends in a backslash, or within quotes.
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


def runs(command: str) -> bool:
    """Tell whether *command* is to be run; one that is not is checked in other ways.

    Raises:
        AssertionError: it is not run, and there is no such command, option or target.
    """
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text()
        for target in words[1:]:
            assert "=" in target or re.search(rf"^{target}:", makefile, re.MULTILINE), target
        return False
    if words[:2] == ["pip", "install"] or words[:3] == ["python", "-m", "pytest"]:
        return False  # tests/e2e/test_stranger.py does, in an environment of its own
    if words[0] == "gateway" and words[1] in SERVERS:
        parsed(words[1:])
        return False
    return True


def parsed(words: Sequence[str]) -> None:
    """Parse *words* as the command line does, and do nothing."""
    context = click.Context(main, info_name="gateway")
    command = main.get_command(context, words[0])
    assert command
    command.make_context(words[0], list(words[1:]), parent=context)

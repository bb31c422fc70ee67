"""Canaries: credentials that a test can recognise wherever they appear."""

import asyncio
import base64
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from aiohttp import web

from tests.e2e.process import ROOT
from tests.e2e.running import PATIENCE

MARK = "CANARY"
STATUS = {"ok": 200, "refuse": 422, "later": 503, "locked": 401}
"""The status of `echo`'s response, by the first segment of the path."""


def forms() -> Iterator[bytes]:
    """Yield the forms of the mark in bytes: plain, reversed, and inside base64 at each offset."""
    yield MARK.encode()
    yield MARK[::-1].encode()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + MARK.encode() + b"--")
        yield encoded[-(-before * 8 // 6) : (before + len(MARK)) * 8 // 6]


def check_hidden(emitted: Iterable[tuple[object, bytes]]) -> None:
    """Fail if one of *emitted*, pairs of a name and bytes, contains a canary."""
    for place, found in emitted:
        for form in forms():
            at = found.find(form)
            assert at < 0, (place, form, found[max(0, at - 400) : at + 100])


async def echo(request: web.Request) -> web.Response:
    """Respond with the status that the path names, and repeat the whole request."""
    body = (await request.read()).decode("utf-8", "replace")
    said = f"{request.method} {request.path_qs} {dict(request.headers)} {body}"
    return web.Response(text=said, status=STATUS[request.path.split("/")[1]])


async def command_output(config: Path, *command: str) -> bytes:
    """Return the output of a command."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *command, "--config", str(config), cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        out, _ = await process.communicate()
    return out

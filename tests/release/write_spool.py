"""Write a spool as this version of the gateway leaves it, for the versions after it.

``make spool`` runs the gateway with a vendor that accepts, one that is
down, one that refuses and one that is paused, and keeps its file under the project's version.
"""

import argparse
import asyncio
import gzip
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import apsw

from gateway.spool.sqlite.database import FILE
from tests.docs.pages import ROOT
from tests.e2e.configs import ADMIN, base_config, route
from tests.e2e.process import gateway_process
from tests.e2e.raw_http import OK, Vendor, vendor
from tests.release.project import VERSION

SPOOLS: Final = Path(__file__).parent / "spools"
MESSAGES: Final = ("m-1", "m-2", "m-3")
CHANGES: Final = {"x-gateway-admin": "1"}
_STATUS: Final = "HTTP/1.1 {} \r\ncontent-length: 0\r\n\r\n"
_ANSWERS: Final = {
    "fine": OK,
    "down": _STATUS.format(503).encode(),
    "strict": _STATUS.format(400).encode(),
    "held": OK,
}
DESTINATIONS: Final = tuple(_ANSWERS)


def config(folder: Path, vendors: Mapping[str, Vendor]) -> Path:
    """Write the configuration of a gateway whose spool is in *folder*; return its path.

    Its limits of age are longer than the files here are kept.
    """
    path = folder / "gateway.toml"
    long = '"3650d"'
    path.write_text(
        base_config(folder, spool=f"max_age = {long}")
        + f"{ADMIN}[consent]\nretention = {long}\n"
        + f'[sources.site]\nvendor = "segment"\nkeys = ["site-key"]\ndedup = {long}\n'
        + "".join(
            f'[destinations.{name}]\nvendor = "segment"\nwrite_key = "{name}-key"\n'
            f'url = "{vendors[name].url}"\nretry_min = "50ms"\nretry_max = "100ms"\n'
            for name in DESTINATIONS
        )
        + route(*DESTINATIONS, name="all", more='steps = [{ consent = "Advertising" }]')
    )
    return path


@asynccontextmanager
async def listening(answers: Mapping[str, bytes]) -> AsyncIterator[dict[str, Vendor]]:
    """Run the vendor of each destination, with its answer."""
    async with AsyncExitStack() as stack:
        found = {name: await stack.enter_async_context(vendor()) for name in answers}
        for name, answer in answers.items():
            found[name].answer = answer
        yield found


async def send(
    client: aiohttp.ClientSession, url: str, message: str, *, consents: bool = False
) -> None:
    """Send the event called *message*, with its user's consent or without, to a gateway."""
    event: dict[str, Any] = {
        "writeKey": "site-key", "userId": "u-1", "event": "Seen", "messageId": message,
    }  # fmt: skip
    if consents:
        event["context"] = {"consent": {"categoryPreferences": {"Advertising": True}}}
    async with client.post(f"{url}/v1/track", json=event) as answer:
        assert answer.status == 200, await answer.text()


async def write(folder: Path) -> Path:
    """Run a gateway in *folder*; return its spool's file after it has stopped."""
    async with (
        listening(_ANSWERS) as vendors,
        aiohttp.ClientSession(headers=CHANGES) as client,
        gateway_process(config(folder, vendors)) as running,
    ):
        async with client.post(f"{running.admin}/destinations/held/pause") as answer:
            assert answer.status == 200, await answer.text()
        for message in MESSAGES:
            await send(client, running.url, message, consents=True)
        await running.saw("dead_letter", len(MESSAGES))
        await running.saw("delivery", len(MESSAGES) + 1)  # the one more is the retry of `down`
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == 0
    found = folder / "spool" / FILE
    connection = apsw.Connection(str(found))
    connection.pragma("journal_mode", "DELETE")  # nothing stays in a write-ahead log beside it
    connection.close()
    return found


def main() -> None:
    """Write the spool of the project's version."""
    argparse.ArgumentParser(
        prog="python -m tests.release.write_spool", description=__doc__
    ).parse_args()
    target = SPOOLS / f"{VERSION}.db.gz"
    if target.exists():
        raise SystemExit(
            f"{target.relative_to(ROOT)} exists: it stays as that version wrote it; "
            f"delete it first if {VERSION} is not released yet"
        )
    with tempfile.TemporaryDirectory() as folder:
        file = asyncio.run(write(Path(folder)))
        with (
            file.open("rb") as read,
            target.open("wb") as raw,
            gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as packed,
        ):
            shutil.copyfileobj(read, packed)
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size} bytes")  # noqa: T201 - the result


if __name__ == "__main__":
    main()

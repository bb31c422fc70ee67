"""The real thing on loopback sockets: something that serves, and someone who watches."""

import asyncio
import fcntl
import shutil
import types
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from aiohttp import web

from gateway import hookimpl
from gateway.app import GATEWAY
from gateway.connections import Runner
from gateway.event import Event
from gateway.exchange import Declined, Verdict
from gateway.spool import LetterBox
from gateway.spool.store import FILE, LOCK

PATIENCE = 60.0
"""Seconds after which something that should have happened did not."""


@dataclass
class Watch:
    """Sees every event accepted and every delivery settled, and wakes those who wait for it."""

    accepted: list[Event] = field(default_factory=list)
    settled: list[tuple[Event, str, Verdict | Declined]] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def plugin(self) -> types.ModuleType:
        """Return a plugin that observes."""
        module = types.ModuleType("watching")

        @hookimpl
        def event_accepted(event: Event) -> None:
            self.accepted.append(event)
            self._changed.set()

        @hookimpl
        def delivery_settled(event: Event, destination: str, verdict: Verdict) -> None:
            self.settled.append((event, destination, verdict))
            self._changed.set()

        for hook in (event_accepted, delivery_settled):
            setattr(module, hook.__name__, hook)
        return module

    async def until(self, enough: Callable[["Watch"], bool]) -> None:
        """Wait until *enough* holds, at most `PATIENCE` seconds.

        Raises:
            TimeoutError: it did not.
        """
        async with asyncio.timeout(PATIENCE):
            while not enough(self):
                self._changed.clear()
                await self._changed.wait()


def check_balance(spool: Path) -> None:
    """Check that all that was accepted is accounted for, in a spool's folder.

    The gateway that it belongs to may run, have ended, or have been killed: then a copy is looked
    at, so that the next start finds the files as they were left.

    Raises:
        AssertionError: deliveries are missing, or ended more often than they were accepted.
    """
    if not (spool / FILE).exists():
        return
    with TemporaryDirectory() as place:
        looked_at = spool
        if not _is_used(spool):
            looked_at = Path(shutil.copytree(spool, Path(place) / "spool"))
        with LetterBox(looked_at) as box:
            wrong = {name: found for name, found in box.balances().items() if found.missing}
    assert not wrong, f"{spool}: unaccounted for: {wrong}"


def _is_used(spool: Path) -> bool:
    try:
        with (spool / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Serve *app* on a free loopback port; yield its address.

    Where it is a gateway's, its balance is checked once it has ended.
    """
    runner = Runner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
    if GATEWAY in app:
        await asyncio.to_thread(check_balance, app[GATEWAY].config.spool.path)

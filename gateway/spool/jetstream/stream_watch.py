"""Look after a gateway's streams and clock: is one lost, is there room, was the clock set."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping

import structlog

from gateway.errors import SpoolError
from gateway.spool.clock import Clock, check_clock
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.messages import StreamInfo
from gateway.spool.values import SpoolFull

LOOK_INTERVAL = 2.0
"""Seconds between two looks."""
_ROOM = 0.95
"""Part of ``max_bytes`` below which a full spool takes entries again."""
_RETRY_AFTER = 5.0

log = structlog.get_logger()


class StreamWatch:
    """Knows what is wrong with the streams.

    A stream that is not the one that was made has lost what gateways rely on. It counts as lost
    after two looks in a row, since a server that starts may not know its streams yet.

    Args:
        connection: of this gateway.
        made: when each stream was made, as the servers write it.
        max_bytes: of all streams together.
        on_lost: called once when a stream is lost.
        clock: of this gateway's spool.

    Attributes:
        lost: why the gateway takes part no more; empty if nothing is lost.
    """

    def __init__(
        self,
        connection: NatsConnection,
        made: Mapping[str, str],
        max_bytes: int | None,
        on_lost: Callable[[], None],
        clock: Clock,
    ) -> None:
        self.lost = ""
        self._connection, self._made = connection, made
        self._max_bytes, self._on_lost, self._clock = max_bytes, on_lost, clock
        self._full = False
        self._suspected = ""
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Look at the streams; raises SpoolError if one is lost."""
        await self._look()
        if self._suspected:
            await asyncio.sleep(LOOK_INTERVAL)
            await self._look()
        if self.lost:
            raise SpoolError(self.lost)

    def start(self) -> None:
        """Look at the streams from now on."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Look no more."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def trouble(self) -> str | None:
        """Return why nothing can be stored; None if it can."""
        if self.lost:
            return self.lost
        if self._full:
            return (
                f"the spool has reached max_bytes ({self._max_bytes}); wait for deliveries, delete "
                f"dead letters, or raise max_bytes and restart all gateways"
            )
        return None

    def check(self) -> None:
        """Raise SpoolFull if there is no room, and SpoolError if a stream is lost."""
        if trouble := self.trouble():
            raise SpoolError(trouble) if self.lost else SpoolFull(trouble, _RETRY_AFTER)

    def filled(self) -> None:
        """Note that the servers refused an entry for want of room."""
        self._full = True

    async def _run(self) -> None:
        while not self.lost:
            await asyncio.sleep(LOOK_INTERVAL)
            check_clock(self._clock)
            with contextlib.suppress(SpoolError):  # other calls tell that NATS does not answer
                await self._look()
        log.error("stream_lost", reason=self.lost)
        self._on_lost()

    async def _look(self) -> None:
        infos = await asyncio.gather(*[self._connection.find_stream(name) for name in self._made])
        found = dict(zip(self._made, infos, strict=True))
        size = sum(info.bytes for info in infos if info)
        if self._max_bytes is not None:
            least = _ROOM * self._max_bytes if self._full else self._max_bytes
            self._full = size >= least
        wrong = "; ".join(filter(None, (self._loss(name, found[name]) for name in self._made)))
        if wrong and self._suspected:
            self.lost = f"{wrong}: restore it from a backup, then restart all gateways"
        self._suspected = wrong

    def _loss(self, name: str, info: StreamInfo | None) -> str:
        """Return what is wrong with a stream; empty if nothing is."""
        if info is None:
            return f"NATS lost the stream {name}"
        if info.created != self._made[name]:
            return (
                f"NATS lost the stream {name} of {self._made[name]}: another one is of "
                f"{info.created}"
            )
        return ""

"""Answers that go on: server-sent events (https://html.spec.whatwg.org/#server-sent-events)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TypeVar

from aiohttp import web

from gateway.admin.problem import Problem

MOST = 32
"""Streams that may be open at once: each costs the loop something for every event."""
RETRY_AFTER = 15
HEARTBEAT = 15.0
"""Seconds of silence after which a stream is tested, so that one nobody reads comes to its end."""
HEADERS = {"content-type": "text/event-stream", "cache-control": "no-store"}

T = TypeVar("T")


async def beating(source: AsyncIterator[T]) -> AsyncIterator[T | None]:
    """Yield what *source* yields, and None wherever it has nothing for a while."""
    coming: asyncio.Future[T] | None = None
    try:
        while True:
            if coming is None:
                coming = asyncio.ensure_future(anext(source))
            done, _ = await asyncio.wait([coming], timeout=HEARTBEAT)
            if not done:
                yield None
                continue
            found, coming = coming, None
            try:
                yield found.result()
            except StopAsyncIteration:
                return
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


class Streams:
    """The streams that are open, so that they can be ended before the server stops."""

    def __init__(self) -> None:
        self._open: set[_Open] = set()

    async def send(
        self, http: web.Request, parts: AsyncIterator[bytes | None]
    ) -> web.StreamResponse:
        """Send *parts* as they come, until they end, the reader leaves, or the server stops.

        Raises:
            Problem: as many are open as may be.
        """
        opened = self._admit(http)
        try:
            stream = web.StreamResponse(headers=HEADERS)
            await stream.prepare(http)
            opened.task = asyncio.ensure_future(self._copy(stream, parts))
            await self._finished(opened.task)
        finally:
            self._open.discard(opened)
        return stream

    @staticmethod
    async def _finished(task: asyncio.Task[None]) -> None:
        try:
            await task
        except asyncio.CancelledError:
            if not task.cancelled():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                raise

    def _admit(self, http: web.Request) -> "_Open":
        """Count one more stream; those that nobody reads any more are ended and do not count."""
        read = [one for one in self._open if one.read]
        if len(self._open) >= MOST:
            for one in self._open.difference(read):
                one.end()
        if len(read) >= MOST:
            detail = f"{MOST} streams are open, which is as many as may be; end one, then try again"
            raise Problem(503, detail, headers={"retry-after": str(RETRY_AFTER)})
        opened = _Open(http.transport)
        self._open.add(opened)
        return opened

    async def _copy(self, stream: web.StreamResponse, parts: AsyncIterator[bytes | None]) -> None:
        with contextlib.suppress(ConnectionError):
            await stream.write(b": here it begins\n\n")
            async for part in parts:
                await stream.write(part or b": nothing new\n\n")

    async def close(self, app: web.Application) -> None:
        """End every stream."""
        del app
        for one in tuple(self._open):
            one.end()


class _Open:
    """A stream that is open."""

    def __init__(self, transport: asyncio.Transport | None) -> None:
        self._transport = transport
        self.task: asyncio.Task[None] | None = None

    @property
    def read(self) -> bool:
        """Tell whether its reader is there, as far as is known."""
        return self._transport is not None and not self._transport.is_closing()

    def end(self) -> None:
        """End it, once it has begun."""
        if self.task is not None:
            self.task.cancel()

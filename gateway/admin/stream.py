"""Answers that go on: server-sent events (https://html.spec.whatwg.org/#server-sent-events)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TypeVar

from aiohttp import web

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
        self._open: set[asyncio.Task[None]] = set()

    async def send(
        self, http: web.Request, parts: AsyncIterator[bytes | None]
    ) -> web.StreamResponse:
        """Send *parts* as they come, until they end, the reader leaves, or the server stops."""
        stream = web.StreamResponse(headers=HEADERS)
        await stream.prepare(http)
        task = asyncio.ensure_future(self._copy(stream, parts))
        self._open.add(task)
        try:
            await task
        except asyncio.CancelledError:
            if not task.cancelled():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                raise
        finally:
            self._open.discard(task)
        return stream

    async def _copy(self, stream: web.StreamResponse, parts: AsyncIterator[bytes | None]) -> None:
        with contextlib.suppress(ConnectionError):
            await stream.write(b": here it begins\n\n")
            async for part in parts:
                await stream.write(part or b": nothing new\n\n")

    async def close(self, app: web.Application) -> None:
        """End every stream."""
        del app
        for task in tuple(self._open):
            task.cancel()

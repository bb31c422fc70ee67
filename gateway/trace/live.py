"""Pass trace lines to live viewers; each has a bounded queue, and the gateway waits for none."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

from gateway.event import Event
from gateway.trace.records import ALL_LINES, TraceFilter, TraceLine


class LiveSubscription:
    """New lines until the viewer disconnects or is too slow.

    It is a context manager and an iterator: ``with feed.subscribe(which) as lines: async for``. The
    iterator ends if the viewer is too slow, or the gateway stops.

    Attributes:
        dropped: the viewer was too slow, and gets no more lines.
    """

    def __init__(self, hub: "LiveFeed", which: TraceFilter, room: int) -> None:
        self.dropped = False
        self._hub = hub
        self._which = which
        self._queue: asyncio.Queue[TraceLine | None] = asyncio.Queue(room + 1)
        self._room = room

    def __enter__(self) -> Self:
        self._hub.lines.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hub.lines.discard(self)

    async def __aiter__(self) -> AsyncIterator[TraceLine]:
        async for lines in self.batches():
            for line in lines:
                yield line

    async def batches(self) -> AsyncIterator[Sequence[TraceLine]]:
        """Yield all lines that have arrived since the last batch."""
        going_on = True
        while going_on:
            found = [await self._queue.get()]
            found += [self._queue.get_nowait() for _ in range(self._queue.qsize())]
            going_on = found[-1] is not None
            if lines := [line for line in found if line is not None]:
                yield lines

    @property
    def which(self) -> TraceFilter:
        """Return the viewer's filter."""
        return self._which

    def offer(self, line: TraceLine) -> None:
        """Queue *line* if it matches the filter; drop the viewer if its queue is full."""
        if not self._which.takes(line):
            return
        if self._queue.qsize() >= self._room:
            self.dropped = True
            self.end()
        else:
            self._queue.put_nowait(line)

    def end(self) -> None:
        """End the iterator after the queued lines."""
        self._hub.lines.discard(self)
        self._queue.put_nowait(None)


class LiveFeed:
    """The live viewers. Use it on the event loop only.

    Attributes:
        lines: their subscriptions.
    """

    def __init__(self) -> None:
        self.lines: set[LiveSubscription] = set()

    def subscribe(self, which: TraceFilter = ALL_LINES, room: int = 1000) -> LiveSubscription:
        """Return a subscription; a viewer with *room* unread lines is dropped.

        While there are viewers, everything is published, sampled or not. Enter and leave the
        subscription on the event loop.
        """
        return LiveSubscription(self, which, room)

    def wants(self, source: str, to: str, events: Sequence[Event], *, failed: bool) -> bool:
        """Return whether a viewer may want lines about these events.

        See `TraceFilter.concerns`.
        """
        for reader in self.lines:
            if reader.which.concerns(source, to, events, failed=failed):
                return True
        return False

    def publish(self, lines: Sequence[TraceLine]) -> None:
        """Pass *lines* to the viewers whose filters they match."""
        for reader in tuple(self.lines):
            for line in lines:
                reader.offer(line)
                if reader.dropped:
                    break

    def close(self) -> None:
        """End every subscription."""
        for reader in tuple(self.lines):
            reader.end()

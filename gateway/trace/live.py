"""What happens, handed out to those who watch: each has room, and nobody waits."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

from gateway.event import Event
from gateway.trace.records import ALL_LINES, TraceFilter, TraceLine


class LiveSubscription:
    """Lines as they happen, until the reader leaves or is too slow.

    It is a context manager and an iterator: ``with feed.subscribe(which) as lines: async for``.
    The iterator ends where the reader did not keep up, or the gateway stops.

    Attributes:
        dropped: the reader was too slow, so that it gets no more.
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
        """Yield lines, each time as many as have come by then."""
        going_on = True
        while going_on:
            found = [await self._queue.get()]
            found += [self._queue.get_nowait() for _ in range(self._queue.qsize())]
            going_on = found[-1] is not None
            if lines := [line for line in found if line is not None]:
                yield lines

    @property
    def which(self) -> TraceFilter:
        """Return what the reader wants to see."""
        return self._which

    def offer(self, line: TraceLine) -> None:
        """Take *line* if it is wanted; a reader with no room left for it is dropped."""
        if not self._which.takes(line):
            return
        if self._queue.qsize() >= self._room:
            self.dropped = True
            self.end()
        else:
            self._queue.put_nowait(line)

    def end(self) -> None:
        """Let the reader come to an end behind what is in its room."""
        self._hub.lines.discard(self)
        self._queue.put_nowait(None)


class LiveFeed:
    """Those who watch. It is used on the event loop only.

    Attributes:
        lines: their subscriptions.
    """

    def __init__(self) -> None:
        self.lines: set[LiveSubscription] = set()

    def subscribe(self, which: TraceFilter = ALL_LINES, room: int = 1000) -> LiveSubscription:
        """Return the lines to come; one who lets *room* of them pile up is dropped.

        While anybody watches, whatever happens is handed out, sampled or not. Call it, and leave
        it, on the event loop.
        """
        return LiveSubscription(self, which, room)

    def wants(self, source: str, to: str, events: Sequence[Event], *, failed: bool) -> bool:
        """Tell whether anybody may want to see lines about this (see `Which.concerns`)."""
        for reader in self.lines:
            if reader.which.concerns(source, to, events, failed=failed):
                return True
        return False

    def publish(self, lines: Sequence[TraceLine]) -> None:
        """Hand *lines* to those who want them."""
        for reader in tuple(self.lines):
            for line in lines:
                reader.offer(line)
                if reader.dropped:
                    break

    def close(self) -> None:
        """End every subscription."""
        for reader in tuple(self.lines):
            reader.end()

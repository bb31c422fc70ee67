"""Keep large requests from blocking the event loop, by a thread and by small steps."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

LARGE_REQUEST = 16 * 1024
"""Bytes; a larger request is handled in a thread."""

TURN_SIZE = 100
"""Events handled in one step of the loop; each takes some microseconds."""


class OffLoop:
    """Runs functions for large requests in a thread, one at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(1)

    async def __call__(self, size: int, call: Callable[..., T], *args: Any) -> T:
        """Return the result of *call*; *size* is the size of the request in bytes."""
        if size <= LARGE_REQUEST:
            return call(*args)
        async with self._turn:
            return await asyncio.to_thread(call, *args)


class TurnQueue:
    """Runs functions soon and in order, a limited number per step of the loop."""

    def __init__(self) -> None:
        self._left: deque[tuple[Callable[[], object], int]] = deque()
        self._going = False

    def put(self, call: Callable[[], object], size: int = 1) -> None:
        """Run *call* after all earlier ones; *size* is its number of events."""
        self._left.append((call, size))
        if not self._going:
            self._going = True
            asyncio.get_running_loop().call_soon(self._go)

    def _go(self) -> None:
        done = 0
        try:
            while self._left and done < TURN_SIZE:
                call, size = self._left.popleft()
                done += size
                call()
        finally:
            self._going = bool(self._left)
            if self._going:
                asyncio.get_running_loop().call_soon(self._go)

"""What keeps large requests from holding the loop: threads, and turns."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

LARGE_REQUEST = 16 * 1024
"""Bytes past which a request is none of the loop's business."""

TURN_SIZE = 100
"""What is done in one turn of the loop: each is worth some microseconds for one event."""


class OffLoop:
    """Does the work on large requests in a thread, for one of them at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(1)

    async def __call__(self, size: int, call: Callable[..., T], *args: Any) -> T:
        """Return what *call* does; *size* is that of the request, in bytes."""
        if size <= LARGE_REQUEST:
            return call(*args)
        async with self._turn:
            return await asyncio.to_thread(call, *args)


class TurnQueue:
    """Does soon what it is given, in its order, and not too much of it in one turn of the loop."""

    def __init__(self) -> None:
        self._left: deque[tuple[Callable[[], object], int]] = deque()
        self._going = False

    def put(self, call: Callable[[], object], size: int = 1) -> None:
        """Do *call*, after all that was put before; *size* says for how many events it is."""
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

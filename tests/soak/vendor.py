"""A vendor on a real socket that does as it is told: answers, fails, hangs, or is not there."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Literal, NamedTuple

from tests.soak.marks import EventMark, marks_in
from tests.soak.wire import read_message

Behaviour = Literal["ok", "slow", "hang", "reset", "500", "429", "401", "400"]
OK: Mapping[Behaviour, float] = {"ok": 1}
RETRY_AFTER = 1
"""Seconds that a 429 asks for."""
SLOW = (0.02, 0.25)
"""Seconds, at least and at most, that a slow answer takes."""
_STATUS = {
    "ok": b"200 OK", "slow": b"200 OK", "500": b"500 Internal Server Error",
    "429": b"429 Too Many Requests", "401": b"401 Unauthorized", "400": b"400 Bad Request",
}  # fmt: skip


class Attempt(NamedTuple):
    """One request that arrived."""

    at: float
    """Seconds of the clock that never jumps."""
    marks: tuple[EventMark, ...]
    behaviour: Behaviour


class Vendor:
    """Accepts events, or not, at random by weights and by a seed.

    Attributes:
        weights: how likely each behaviour is.
        decide: overrules the weights for one request, where it returns a behaviour.
        accepted: how often each event was answered with success, in the order of first arrival.
        when: the moment of each event's first acceptance, where *timed*.
        refused: events that were refused for good, in a request of their own.
        attempts: every request, where *traced*.
    """

    def __init__(self, name: str, seed: int = 0, *, traced: bool = False) -> None:
        self.name = name
        self.weights: Mapping[Behaviour, float] = OK
        self.decide: Callable[[list[EventMark]], Behaviour | None] = lambda _: None
        self.accepted: Counter[EventMark] = Counter()
        self.refused: set[EventMark] = set()
        self.when: dict[EventMark, float] = {}
        self.attempts: list[Attempt] = []
        self.answered: Counter[str] = Counter()
        self.port = 0
        self._traced = traced
        self._random = random.Random(seed)  # noqa: S311 - no secret, and it must be repeatable
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._changed = asyncio.Event()

    async def up(self) -> None:
        """Listen, at the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Refuse connections, and cut those that are open."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        open_ = dict(self._open)
        for task, writer in open_.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*open_, return_exceptions=True)

    async def until(self, enough: Callable[["Vendor"], bool], patience: float) -> None:
        """Wait until *enough* holds, at most *patience* seconds.

        Raises:
            TimeoutError: it did not come to hold.
        """
        async with asyncio.timeout(patience):
            while not enough(self):
                self._changed.clear()
                await self._changed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is served by a task")
        self._open[task] = writer
        try:
            while True:
                _, body = await read_message(reader)
                if not await self._answer(marks_in(body), writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            del self._open[task]
            writer.transport.abort()

    async def _answer(self, marks: list[EventMark], writer: asyncio.StreamWriter) -> bool:
        """Answer one request; tell whether the connection goes on."""
        chosen = self.decide(marks) or self._choose()
        if self._traced:
            self.attempts.append(Attempt(time.monotonic(), tuple(marks), chosen))
        self.answered[chosen] += 1
        self._changed.set()
        if chosen == "hang":
            await asyncio.Event().wait()
        if chosen == "reset":
            return False
        if chosen == "slow":
            await asyncio.sleep(self._random.uniform(*SLOW))
        if writer.transport.is_closing():
            return False
        if chosen in {"ok", "slow"}:
            self._accept(marks)
        elif chosen == "400" and len(marks) == 1:
            self.refused.update(marks)
        after = b"retry-after: %d\r\n" % RETRY_AFTER if chosen == "429" else b""
        head = b"HTTP/1.1 %s\r\n%scontent-length: 2\r\n\r\n{}" % (_STATUS[chosen], after)
        writer.write(head)
        self._changed.set()
        return True

    def _choose(self) -> Behaviour:
        if len(self.weights) == 1:
            return next(iter(self.weights))
        return self._random.choices(list(self.weights), list(self.weights.values()))[0]

    def _accept(self, marks: list[EventMark]) -> None:
        now = time.monotonic()
        for mark in marks:
            self.accepted[mark] += 1
            self.when.setdefault(mark, now)


@asynccontextmanager
async def vendors(*names: str, seed: int = 0, traced: bool = False) -> AsyncIterator[list[Vendor]]:
    """Run vendors, each at a port of its own."""
    made = [Vendor(name, seed * 100 + n, traced=traced) for n, name in enumerate(names)]
    try:
        for vendor in made:
            await vendor.up()
        yield made
    finally:
        for vendor in made:
            await vendor.down()

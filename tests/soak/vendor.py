"""A scripted vendor on a real socket: it answers, fails, hangs, or is down."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Literal, NamedTuple

from tests.soak.marks import EventMark, marks_in
from tests.soak.raw_http import read_message

Behaviour = Literal[
    "ok", "slow", "held", "cut", "hang", "reset",
    "500", "429", "401", "403", "400", "413",
]  # fmt: skip
"""How a vendor reacts to a request.

The first four accept it: at once, after a while, when released, and with a response that breaks off
after its head. The others accept nothing.
"""
ACCEPTING: Collection[Behaviour] = frozenset({"ok", "slow", "held", "cut"})
FINAL: Collection[Behaviour] = frozenset({"400", "413"})
"""Responses that refuse an event for good."""
OK: Mapping[Behaviour, float] = {"ok": 1}
RETRY_AFTER = 1
"""The `Retry-After` of a 429, in seconds."""
SLOW = (0.02, 0.25)
"""Minimum and maximum seconds of a slow response."""
OVERSLEPT = 0.6
"""Seconds after which a quick response may have come after the gateway's timeout: the machine was
busy, and the vendor runs in the test's process."""
BEAT = 0.1
"""Seconds between two checks whether the process was held up."""
_STATUS = {
    "ok": b"200 OK", "slow": b"200 OK", "held": b"200 OK", "cut": b"200 OK",
    "500": b"500 Internal Server Error", "429": b"429 Too Many Requests",
    "401": b"401 Unauthorized", "403": b"403 Forbidden", "400": b"400 Bad Request",
    "413": b"413 Content Too Large",
}  # fmt: skip


class Attempt(NamedTuple):
    """A request that arrived."""

    at: float
    """By the monotonic clock."""
    marks: tuple[EventMark, ...]
    behaviour: Behaviour


class Vendor:
    """Accepts or refuses events at random, by weights and a seed.

    It records what it accepts before it responds, so an attempt that the gateway times out and
    repeats shows as a duplicate.

    Attributes:
        weights: relative probability of each behaviour.
        decide: returns a behaviour for one request, or None to use the weights.
        dislikes: returns the behaviour for an event in any request; it precedes everything else.
        accepted: how often each event was accepted, in the order of first arrival.
        when: when each event was first accepted.
        refused: events that were refused for good, each in a request of its own.
        unanswered: accepted events to which the vendor gave no response in time.
        disliked: requests by the behaviour of a disliked event in them.
        unwelcome: those events; when retried or replayed they are out of order.
        failed: how often each event was answered and not accepted; the gateway gives up some that
            fail while others succeed, and a replay brings them out of order.
        attempts: every request, if *traced*.
        pace: minimum and maximum seconds of a slow response.
        answering: accepted requests without a response so far.
        most: the highest value of `answering`.
    """

    def __init__(self, name: str, seed: int = 0, *, traced: bool = False) -> None:
        self.name = name
        self.weights: Mapping[Behaviour, float] = OK
        self.decide: Callable[[list[EventMark]], Behaviour | None] = lambda _: None
        self.dislikes: Callable[[EventMark], Behaviour | None] = lambda _: None
        self.accepted: Counter[EventMark] = Counter()
        self.refused: set[EventMark] = set()
        self.when: dict[EventMark, float] = {}
        self.attempts: list[Attempt] = []
        self.answered: Counter[str] = Counter()
        self.unanswered: set[EventMark] = set()
        self.disliked: Counter[str] = Counter()
        self.unwelcome: set[EventMark] = set()
        self.failed: Counter[EventMark] = Counter()
        self.answering = self.most = 0
        self.pace = SLOW
        self.port = 0
        self._traced = traced
        self._random = random.Random(seed)  # noqa: S311 - no secret, and it must be repeatable
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._beating: asyncio.Task[None] | None = None
        self._beat = self._woke = -OVERSLEPT
        self._changed = asyncio.Event()
        self._released = asyncio.Event()

    def release(self) -> None:
        """Respond to all held requests, and hold none from now on."""
        self._released.set()

    def hold(self) -> None:
        """Hold requests with the behaviour "held" again."""
        self._released.clear()

    async def up(self) -> None:
        """Listen, on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self._beat = time.monotonic()
        self._beating = asyncio.get_running_loop().create_task(self._beats())

    async def down(self) -> None:
        """Refuse connections, and abort open ones."""
        if self._server is None or self._beating is None:
            return
        self._beating.cancel()
        self._server.close()
        self._server = None
        open_ = dict(self._open)
        for task, writer in open_.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*open_, return_exceptions=True)

    async def until(self, enough: Callable[["Vendor"], bool], patience: float) -> None:
        """Wait until *enough* returns true.

        Raises:
            TimeoutError: it did not within *patience* seconds.
        """
        async with asyncio.timeout(patience):
            while not enough(self):
                self._changed.clear()
                await self._changed.wait()

    async def _beats(self) -> None:
        """Record when the process continues after a hold-up."""
        while True:
            await asyncio.sleep(BEAT)
            before, self._beat = self._beat, time.monotonic()
            if self._beat - before > OVERSLEPT:
                self._woke = self._beat

    def _overslept(self) -> bool:
        """Tell whether the request just read may have waited too long."""
        now = time.monotonic()
        return now - self._beat > OVERSLEPT or now - self._woke < OVERSLEPT

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
        """Respond to one request; tell whether the connection stays open."""
        chosen = self._met(marks)
        if self._traced:
            self.attempts.append(Attempt(time.monotonic(), tuple(marks), chosen))
        self.answered[chosen] += 1
        accepts = chosen in ACCEPTING
        if accepts:
            self._accept(marks)
        else:
            self.failed.update(marks)
        if accepts and self._overslept():
            self.unanswered.update(marks)
        began = time.monotonic()
        self.answering += accepts
        self.most = max(self.most, self.answering)
        self._changed.set()
        try:
            await self._wait(chosen)
        except asyncio.CancelledError:
            self.unanswered.update(marks if accepts else ())
            raise
        finally:
            self.answering -= accepts
            self._changed.set()
        if accepts and chosen != "held" and time.monotonic() - began > OVERSLEPT:
            self.unanswered.update(marks)
        if chosen == "reset" or writer.transport.is_closing():
            return False
        if chosen in FINAL and len(marks) == 1:
            self.refused.update(marks)
        after = b"retry-after: %d\r\n" % RETRY_AFTER if chosen == "429" else b""
        length = 1000 if chosen == "cut" else 2
        head = b"HTTP/1.1 %s\r\n%scontent-length: %d\r\n\r\n{}"
        writer.write(head % (_STATUS[chosen], after, length))
        self._changed.set()
        return chosen != "cut"

    async def _wait(self, chosen: Behaviour) -> None:
        if chosen == "hang":
            await asyncio.Event().wait()
        elif chosen == "held":
            await self._released.wait()
        elif chosen == "slow":
            await asyncio.sleep(self._random.uniform(*self.pace))

    def _met(self, marks: list[EventMark]) -> Behaviour:
        for mark in marks:
            disliked = self.dislikes(mark)
            if disliked is not None:
                self.disliked[disliked] += 1
                self.unwelcome.add(mark)
                return disliked
        return self.decide(marks) or self._choose()

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
    """Run vendors, each on its own port."""
    made = [Vendor(name, seed * 100 + n, traced=traced) for n, name in enumerate(names)]
    try:
        for vendor in made:
            await vendor.up()
        yield made
    finally:
        for vendor in made:
            await vendor.down()

"""A client that records which events were acknowledged."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from tests.soak.marks import EventMark, request
from tests.soak.raw_http import read_message, status_of

TIRED = 0.02
"""Seconds before the client tries again after a refusal."""


class Load:
    """Concurrent users; each sends one request after the other.

    Args:
        users: the number of users.
        pause: seconds between a response and the user's next request.
        padding: text that makes every event longer.
        leaves: probability that a client leaves without waiting for the response.
        seed: for that probability.
        patience: seconds after which a user gives up waiting for a response.
        certain: whether a refused event is certainly not stored.

    Attributes:
        sent: when each acknowledged event was sent.
        acknowledged: when each success response arrived.
        unsure: events without a response, or that may be stored; they may or may not arrive.
        turned_away: requests that were refused.
        left: how often a client left without waiting.
    """

    def __init__(
        self,
        users: int,
        *,
        pause: float = 0.0,
        padding: str = "",
        leaves: float = 0.0,
        seed: int = 0,
        patience: float | None = None,
        certain: bool = True,
    ) -> None:
        self.sent: dict[EventMark, float] = {}
        self.acknowledged: dict[EventMark, float] = {}
        self.unsure: set[EventMark] = set()
        self.turned_away = 0
        self.left = 0
        self._leaves = leaves
        self._dice = random.Random(seed)  # noqa: S311 - no secret, and it must be repeatable
        self._numbers = dict.fromkeys(range(users), 1)
        self._last: dict[int, int] = {}
        self._pause = pause
        self._padding = padding
        self._patience, self._certain = patience, certain
        self._addresses: list[tuple[str, int]] = []
        self._turns = list(range(users))
        """By user, the number of the gateway to send to next; each failure moves it on."""
        self._up = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._busy = 0
        self._quiet = asyncio.Event()
        self._answered = asyncio.Event()

    def aim(self, *urls: str) -> None:
        """Send to the gateways at *urls* from now on; a user tries another one after a failure."""
        parts = map(urlsplit, urls)
        self._addresses = [(part.hostname or "", part.port or 0) for part in parts]
        self._up.set()

    def _next_address(self, user: int) -> tuple[str, int]:
        self._turns[user] += 1
        return self._addresses[self._turns[user] % len(self._addresses)]

    async def rest(self) -> None:
        """Pause, and wait for outstanding responses."""
        self._up.clear()
        while self._busy:
            self._quiet.clear()
            await self._quiet.wait()

    async def reaches(self, count: int) -> None:
        """Wait until *count* events in total are acknowledged."""
        while len(self.acknowledged) < count:
            self._answered.clear()
            await self._answered.wait()

    async def turned(self, count: int) -> None:
        """Wait until *count* requests in total were refused."""
        while self.turned_away < count:
            self._answered.clear()
            await self._answered.wait()

    async def everyone(self) -> None:
        """Wait until every user has had one more event acknowledged."""
        before = dict(self._last)
        while any(self._last.get(user) == before.get(user) for user in self._numbers):
            self._answered.clear()
            await self._answered.wait()

    def start(self) -> None:
        """Start sending."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._user(user)) for user in self._numbers]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start sending; stop at the end."""
        self.start()
        try:
            yield
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Stop sending."""
        await self.rest()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _user(self, user: int) -> None:
        while True:
            await self._up.wait()
            self._busy += 1
            try:
                await self._converse(user)
            finally:
                self._busy -= 1
                self._quiet.set()
            await asyncio.sleep(TIRED)

    async def _converse(self, user: int) -> None:
        """Send requests over one connection until it breaks or the client pauses."""
        try:
            reader, writer = await asyncio.open_connection(*self._next_address(user))
        except OSError:
            return
        marks: list[EventMark] = []
        try:
            while self._up.is_set():
                data, marks = request(user, self._numbers[user], self._padding)
                self._numbers[user] += len(marks)
                if self._leaves and self._dice.random() < self._leaves:
                    self.left += 1
                    writer.write(data[: self._dice.choice((len(data), len(data) // 2))])
                    self.unsure.update(marks)
                    return
                began = time.monotonic()
                writer.write(data)
                async with asyncio.timeout(self._patience):
                    head, _ = await read_message(reader)
                if not 200 <= status_of(head) < 300:
                    self.turned_away += 1
                    self.unsure.update(() if self._certain else marks)
                    self._answered.set()
                    return
                self._note(user, marks, began)
                marks = []
                if self._pause:
                    await asyncio.sleep(self._pause)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            self.unsure.update(marks)
        finally:
            writer.transport.abort()

    def _note(self, user: int, marks: list[EventMark], began: float) -> None:
        self.sent.update(dict.fromkeys(marks, began))
        self.acknowledged.update(dict.fromkeys(marks, time.monotonic()))
        self._last[user] = self._numbers[user]
        self._answered.set()

    async def burst(self, user: int, events: int, together: int) -> None:
        """Send *events* of a *user* who sends nothing else, *together* per request.

        Raises:
            RuntimeError: a request was refused.
        """
        reader, writer = await asyncio.open_connection(*self._addresses[0])
        number = self._numbers.pop(user, 1)  # this user sends no more
        try:
            for first in range(number, number + events, together):
                data, marks = request(user, first, together=min(together, number + events - first))
                began = time.monotonic()
                writer.write(data)
                head, body = await read_message(reader)
                if status_of(head) != 200:
                    raise RuntimeError(f"not taken: {head!r} {body!r}")
                self.sent.update(dict.fromkeys(marks, began))
                self.acknowledged.update(dict.fromkeys(marks, time.monotonic()))
        finally:
            writer.transport.abort()
        self._answered.set()


async def pour(
    url: str,
    count: int,
    users: int,
    *,
    connections: int = 32,
    padding: str = "",
    first: int = 0,
) -> list[EventMark]:
    """Send *count* events of *users* users in turn, as fast as possible; return them.

    Users are every fourth number from *first* on, because these send single events. Each has one
    connection, because nothing orders what comes over two.

    Raises:
        RuntimeError: a request was refused.
    """
    parts = urlsplit(url)
    sent: list[EventMark] = []

    async def send(connection: int) -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            for number in _of_connection(connection, connections, count, users):
                user = first + 4 * (number % users)
                data, marks = request(user, number // users + 1, padding)
                writer.write(data)
                head, body = await read_message(reader)
                if status_of(head) != 200:
                    raise RuntimeError(f"not taken: {head!r} {body!r}")
                sent.extend(marks)
        finally:
            writer.transport.abort()

    async with asyncio.TaskGroup() as group:
        for connection in range(connections):
            group.create_task(send(connection))
    return sent


def _of_connection(connection: int, connections: int, count: int, users: int) -> Iterator[int]:
    """Yield the numbers of the events that a connection sends: all events of its users."""
    for lap in range(0, count, users):
        yield from range(lap + connection, min(lap + users, count), connections)

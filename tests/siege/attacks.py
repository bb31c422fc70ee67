"""Attacks on a gateway with a default configuration, by a sender with a public write key."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.e2e.running import PATIENCE
from tests.soak.marks import request
from tests.soak.process_harness import ProcessHarness
from tests.soak.raw_http import read_message, status_of
from tests.soak.vendor import Behaviour

FAR = 100_000
"""Numbers of the attackers' users start here."""
ELSEWHERE = "127.0.0.2"
"""The address from which attackers call; bystanders call from another one."""
TOGETHER = 500
"""Events per request of a burst."""
FLOODERS = 6
PADDING = "x" * 20_000
MANY = 700
"""More events of that size than fit into the spool."""
AGAIN = 0.1
"""Seconds before a refused attacker calls again."""

Happened = Counter[str]
"""What an attack did, by kind; it shows an attack that did not take place."""
Attack = Callable[[ProcessHarness, int], AbstractAsyncContextManager[Happened]]


class Siege(NamedTuple):
    """An attack and the set-up that it needs."""

    name: str
    attack: Attack
    size: int
    """Connections, events or users, by kind of attack."""
    latency: float = 0.0
    """Seconds that the vendor takes to answer."""
    dead: bool = False
    """The route has a second destination, which cannot be reached."""
    more: str = ""
    """Lines for the `[spool]` table."""
    within: float = 1.0
    """Seconds by which the bystanders' 99th percentile may grow during the attack."""


@asynccontextmanager
async def _meanwhile(works: Iterable[Coroutine[None, None, None]]) -> AsyncIterator[None]:
    tasks = [asyncio.get_running_loop().create_task(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _connect(on: ProcessHarness) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(on.gateway.url)
    return await asyncio.open_connection(parts.hostname, parts.port, local_addr=(ELSEWHERE, 0))


@asynccontextmanager
async def stalled(on: ProcessHarness, size: int) -> AsyncIterator[Happened]:
    """Hold *size* connections open: half stop within the headers, half within a body."""
    happened, all_open = Happened(), asyncio.Event()

    async def stall(number: int) -> None:
        whole, _ = request(FAR, 1, PADDING)
        part = whole[: 40 if number % 2 else len(whole) // 2]
        first = True
        while True:
            try:
                reader, writer = await _connect(on)
            except OSError:
                await asyncio.sleep(AGAIN)
                continue
            happened["connections"] += first
            first = False
            if happened["connections"] == size:
                all_open.set()
            try:
                writer.write(part)
                await reader.read()
                happened["closed"] += 1
            except ConnectionError:
                happened["closed"] += 1
            finally:
                writer.transport.abort()
            await asyncio.sleep(AGAIN)

    async with _meanwhile(stall(number) for number in range(size)):
        await asyncio.wait_for(all_open.wait(), PATIENCE)
        yield happened


@asynccontextmanager
async def burst(on: ProcessHarness, size: int) -> AsyncIterator[Happened]:
    """Send *size* events of one user as fast as the gateway takes them."""
    happened = Happened()

    async def send() -> None:
        for _ in range(0, size, TOGETHER):
            await on.load.burst(FAR + 3, TOGETHER, TOGETHER)
            happened["events"] += TOGETHER

    async with _meanwhile([send()]):
        await on.load.reaches(len(on.load.acknowledged) + TOGETHER)
        yield happened


async def _flood(
    on: ProcessHarness, first: int, size: int, padding: str, happened: Happened
) -> None:
    """Send *size* events of *size* users repeatedly, whatever the response.

    With more than one user, each round has new users.
    """
    number = 0
    while True:
        reader, writer = await _connect(on)
        number += 1
        first += 4 * size if size > 1 else 0
        try:
            for user in range(first, first + 4 * size, 4):
                data, _ = request(user, number, padding)
                writer.write(data)
                head, _ = await read_message(reader)
                taken = status_of(head) < 300
                happened["events" if taken else "refused"] += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            happened["closed"] += 1
        finally:
            writer.transport.abort()
        await asyncio.sleep(AGAIN)


def disliked(behaviour: Behaviour) -> Attack:
    """Return an attack with events to which the vendor always reacts with *behaviour*."""

    @asynccontextmanager
    async def attack(on: ProcessHarness, size: int) -> AsyncIterator[Happened]:
        vendor = on.vendors["chrts"]
        vendor.dislikes = lambda mark: behaviour if mark.user >= FAR else None
        happened = Happened()
        async with _meanwhile([_flood(on, FAR, size, "", happened)]):
            await vendor.until(lambda v: v.disliked[behaviour] > 0, PATIENCE)
            yield happened
        happened["answers"] = vendor.disliked[behaviour]

    return attack


@asynccontextmanager
async def full(on: ProcessHarness, size: int) -> AsyncIterator[Happened]:
    """Send large events as fast as possible while one destination takes nothing."""
    happened = Happened()
    works = [_flood(on, FAR + 4_000_000 * n, size, PADDING, happened) for n in range(FLOODERS)]
    async with _meanwhile(works):
        async with asyncio.timeout(PATIENCE):
            while happened["events"] < MANY and not happened["refused"]:  # noqa: ASYNC110 - a flood sets no event
                await asyncio.sleep(AGAIN)
        yield happened


SIEGES = (
    Siege("1,000 stalled connections", stalled, 1000),
    Siege("a burst of 100,000 events of one user", burst, 100_000, latency=0.1),
    Siege("one user, whose events get 403", disliked("403"), 1),
    Siege("one user, whose events get 500", disliked("500"), 1),
    Siege("ever new users, whose events get 403", disliked("403"), 100),
    Siege("ever new users, whose events get 500", disliked("500"), 100),
    Siege("a full spool, one destination dead", full, 100, dead=True, more='max_bytes = "12MB"'),
)

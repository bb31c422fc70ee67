"""The follower hands over each message once and in order."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from nats.aio.msg import Msg

from gateway.spool.jetstream import follower
from gateway.spool.jetstream.follower import Follower
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.messages import StoredMessage
from tests.gateway.spool.jetstream.faulty_connection import FaultyConnection, lost_request


class Received:
    """Collects messages, and lets a test wait for them."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self._changed = asyncio.Event()

    def __call__(self, message: StoredMessage) -> None:
        """Take a message."""
        self.messages.append(message.data)
        self._changed.set()

    async def until(self, count: int) -> list[bytes]:
        """Return the messages once there are *count*."""
        async with asyncio.timeout(10):
            while len(self.messages) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.messages


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Received:
    """Return a collector; consumers tell often that they live, and followers look often."""
    monkeypatch.setattr(follower, "CHECK_INTERVAL", 0.01)
    monkeypatch.setattr(follower, "HEARTBEAT", 0.1)
    return Received()


Follow = Callable[..., Follower]


@pytest.fixture
async def follow(connection: FaultyConnection, layout: Layout) -> AsyncIterator[Follow]:
    """Return a function that starts a follower of shard 0's frames."""
    made: list[Follower] = []

    def follow(offer: Callable[[StoredMessage], None], start: int = 1) -> Follower:
        one = Follower(connection, layout.log_stream, layout.log(0), start, offer)
        one.start()
        made.append(one)
        return one

    yield follow
    for one in made:
        await one.stop()


async def store(connection: FaultyConnection, layout: Layout, *names: bytes) -> list[int]:
    """Store messages; return their sequences."""
    return [await connection.store(layout.log(0), name) for name in names]


async def test_messages_come_in_order_from_the_start_that_is_asked(
    connection: FaultyConnection, layout: Layout, received: Received, follow: Follow
) -> None:
    """A follower gets its subject's stored messages from a sequence on, then the new ones."""
    _, second, _ = await store(connection, layout, b"1", b"2", b"3")
    await connection.store(layout.log(1), b"another shard's")
    follow(received, start=second)
    assert await received.until(2) == [b"2", b"3"]
    await store(connection, layout, b"5")
    assert await received.until(3) == [b"2", b"3", b"5"]


@pytest.mark.parametrize("lost", [b"2", b"3"], ids=["within", "the last one"])
async def test_a_lost_message_comes_again(
    connection: FaultyConnection,
    layout: Layout,
    received: Received,
    follow: Follow,
    lost: bytes,
) -> None:
    """A message that is lost on its way comes again, before those after it, each once."""
    losing = [lost]
    one = follow(received)
    take = one._on_message

    async def lossy(message: Msg) -> None:
        if message.data in losing:
            losing.clear()
        else:
            await take(message)

    one._on_message = lossy  # type: ignore[method-assign]
    await store(connection, layout, b"1", b"2", b"3")
    assert await received.until(3) == [b"1", b"2", b"3"]
    assert not losing


async def test_a_message_that_fails_comes_again(
    connection: FaultyConnection, layout: Layout, received: Received, follow: Follow
) -> None:
    """If taking a message fails, it comes again, and none after it before."""
    failures = [b"2", b"2"]

    def take(message: StoredMessage) -> None:
        if message.data in failures:
            failures.pop()
            raise ValueError("not now")
        received(message)

    follow(take)
    await store(connection, layout, b"1", b"2", b"3")
    assert await received.until(3) == [b"1", b"2", b"3"]


async def test_a_silent_consumer_is_replaced(
    connection: FaultyConnection,
    layout: Layout,
    received: Received,
    follow: Follow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A consumer that a server forgot is made anew after some silence, even if that fails once."""
    monkeypatch.setattr(follower, "SILENCE", 0.3)
    follow(received)
    await store(connection, layout, b"1")
    await received.until(1)
    names = (await connection.api(f"CONSUMER.NAMES.{layout.log_stream}"))["consumers"]
    connection.plan("$JS.API.CONSUMER.CREATE", lost_request)
    for name in names:
        await connection.api(f"CONSUMER.DELETE.{layout.log_stream}.{name}")
    await store(connection, layout, b"2")
    assert await received.until(2) == [b"1", b"2"]


async def test_a_stopped_follower_hands_over_nothing(
    connection: FaultyConnection, layout: Layout, received: Received, follow: Follow
) -> None:
    """After `stop` no message is handed over."""
    one, other = follow(received), Received()
    await store(connection, layout, b"1")
    await received.until(1)
    await one.stop()
    follow(other)
    await store(connection, layout, b"2")
    assert await other.until(2) == [b"1", b"2"]
    assert received.messages == [b"1"]

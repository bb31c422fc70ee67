"""A node's part in the cluster: it sends and hears signs of life, and does what they decide."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Final, NamedTuple, Protocol

import msgspec
import nats
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from gateway.errors import SpoolError
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.ownership import Ownership
from gateway.spool.jetstream.presence import INTERVAL, HeardSign, SignOfLife

LOOK_INTERVAL = 0.1
"""Seconds between two looks at the clock."""
UNHEARD: Final = 2 * INTERVAL + LOOK_INTERVAL
"""Seconds without a sign of its own after which a node subscribes again."""

log = structlog.get_logger()
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SignOfLife).decode


def uptime() -> float:
    """Return the seconds since the machine started; time that it was suspended counts."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class HostReport(NamedTuple):
    """What a node tells the others of its shards; see `SignOfLife`."""

    depths: Mapping[str, int] = {}
    digest: str = ""
    version: str = ""
    started: float = 0.0


class ShardHost(Protocol):
    """What runs a node's shards.

    Whatever any method raises is logged, and the shard is dropped.
    """

    async def claim(self, shard: int, may_take: Callable[[str], bool]) -> int | None:
        """Take a shard over and start to deliver; return the claim's epoch.

        None if it is somebody else's: *may_take* tells whether to take it from its owner.
        """
        ...

    async def give(self, shard: int) -> None:
        """Stop to deliver, record what was delivered, and release the shard."""
        ...

    async def drop(self, shard: int) -> None:
        """Stop to deliver at once, and record nothing; also for a claim that was cancelled."""
        ...

    def report(self) -> HostReport:
        """Return what the other nodes are told."""
        ...


class Membership:
    """Sends signs of life, hears those of all nodes, and claims, gives and drops shards.

    Args:
        connection: to the NATS servers.
        subject: of the signs of life.
        ownership: decides.
        host: runs the shards.
        clock: seconds of a clock that never goes back and counts time in which the machine slept.

    Attributes:
        joined: the node was ready once: it knows who is there.
    """

    def __init__(
        self,
        connection: NatsConnection,
        subject: str,
        ownership: Ownership,
        host: ShardHost,
        clock: Callable[[], float] = uptime,
    ) -> None:
        self.joined = False
        self._ownership = ownership
        self._connection, self._subject, self._host = connection, subject, host
        self._clock = clock
        self._subscription: Subscription | None = None
        self._subscribed = 0.0
        self._changed = asyncio.Event()
        self._freed = asyncio.Event()
        self._doing: dict[int, asyncio.Task[None]] = {}
        self._unclaimable: dict[int, str] = {}
        """Why the last claim of a shard failed."""
        """What is being done with each shard, or was done last."""
        self._running: asyncio.Task[None] | None = None

    @property
    def held(self) -> Mapping[int, int]:
        """Return epochs by shard, for all shards that others must leave alone."""
        return self._ownership.held

    def leased(self) -> bool:
        """Return whether deliveries may start; otherwise they wait, until they may or are ended."""
        return self._ownership.presence.leased(self._clock())

    def nodes(self) -> dict[str, SignOfLife]:
        """Return the last signs of the other nodes that are alive."""
        return {node: heard.sign for node, heard in self.heard().items()}

    def now(self) -> float:
        """Return the time by the clock of the signs of life."""
        return self._clock()

    def heard(self) -> Mapping[str, HeardSign]:
        """Return the last signs of the other nodes that are alive, with when they were heard."""
        return self._ownership.presence.others(self._clock())

    def gone(self) -> Mapping[str, HeardSign]:
        """Return the last signs of the nodes that fell silent without leaving."""
        return self._ownership.presence.gone(self._clock())

    def own(self) -> SignOfLife:
        """Return what this node tells the others now."""
        return self._whole(self._ownership.state(self._clock()))

    def start(self) -> None:
        """Take part from now on."""
        self._running = asyncio.get_running_loop().create_task(self._run())

    def lost(self, shard: int) -> None:
        """Drop a shard: a record of it was `Fenced`."""
        self._ownership.lost(shard)
        self._changed.set()

    async def leave(self) -> None:
        """Give all shards away, and end once they are given."""
        self._ownership.leave()
        self._changed.set()
        while self.held:
            self._freed.clear()
            await self._freed.wait()
        with contextlib.suppress(SpoolError):
            await self._step()  # that others take the last shard at once
        await self.close()

    async def close(self) -> None:
        """End at once: drop what is held, and send no more signs of life."""
        if self._running:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        for shard in self.held:
            self._begin(shard, self._drop(shard, self._doing.get(shard)))
        await asyncio.gather(*self._doing.values())
        await self._unsubscribe()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            try:
                await self._step()
            except SpoolError as error:
                log.warning("sign_of_life_failed", reason=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_INTERVAL):  # `wait_for` would lose a cancellation
                    await self._changed.wait()

    async def _step(self) -> None:
        now = self._clock()
        decisions = self._ownership.decide(now)
        # What all nodes miss for a moment must not make all of them unready.
        self.joined = self.joined or self._ownership.presence.ready(now)
        for shard in decisions.drop:
            self._begin(shard, self._drop(shard, self._doing.get(shard)))
        for shard in decisions.give:
            self._begin(shard, self._give(shard))
        for shard in decisions.claim:
            self._begin(shard, self._claim(shard))
        if self._connection.health() is not None:
            return  # a sign that waits for the connection would be old when it is sent
        if min(self._ownership.presence.silence(now), now - self._subscribed) > UNHEARD:
            await self._subscribe(now)
        if sign := self._ownership.sign(now):
            await self._send(sign)

    async def _send(self, sign: SignOfLife) -> None:
        await self._connection.send(self._subject, _encode(self._whole(sign)))

    def _whole(self, sign: SignOfLife) -> SignOfLife:
        return msgspec.structs.replace(sign, **self._host.report()._asdict())

    async def _subscribe(self, now: float) -> None:
        """Subscribe anew: a connection that was made again knows no subscriptions."""
        self._subscribed = now
        await self._unsubscribe()
        self._subscription = await self._connection.subscribe(self._subject, self._hear)

    async def _unsubscribe(self) -> None:
        if self._subscription:
            with contextlib.suppress(nats.errors.Error):
                await self._subscription.unsubscribe()
        self._subscription = None

    async def _hear(self, message: Msg) -> None:
        try:
            sign = _decode(message.data)
        except msgspec.DecodeError as error:
            log.warning("sign_of_life_unreadable", reason=str(error))
            return
        self._ownership.presence.hear(sign, self._clock())
        self._changed.set()

    # ---- shards ----------------------------------------------------------------------------

    def _begin(self, shard: int, what: Coroutine[None, None, None]) -> None:
        self._doing[shard] = asyncio.get_running_loop().create_task(what)

    async def _claim(self, shard: int) -> None:
        def may_take(owner: str) -> bool:
            return self._ownership.may_claim(shard, owner, self._clock())

        try:
            epoch = await self._host.claim(shard, may_take)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other shards go on
            if self._unclaimable.get(shard) != (reason := str(error)):  # it is tried for ever
                self._unclaimable[shard] = reason
                _report("shard_claim_failed", shard, error)
            await self._end(shard)
            return
        self._unclaimable.pop(shard, None)
        if epoch is None:
            self._free(shard)
        else:
            log.info("shard_claimed", shard=shard, epoch=epoch)
            self._ownership.claimed(shard, epoch)
            self._changed.set()

    async def _give(self, shard: int) -> None:
        try:
            await self._host.give(shard)
        except Exception as error:  # noqa: BLE001 - likewise
            _report("shard_give_failed", shard, error)
            await self._end(shard)
        else:
            log.info("shard_given", shard=shard)
            self._free(shard)

    async def _drop(self, shard: int, before: asyncio.Task[None] | None) -> None:
        if before:
            before.cancel()
            await asyncio.wait([before])
        log.warning("shard_dropped", shard=shard)
        await self._end(shard)

    async def _end(self, shard: int) -> None:
        """Stop whatever runs of a shard."""
        try:
            await self._host.drop(shard)
        except Exception as error:  # noqa: BLE001 - likewise
            _report("shard_drop_failed", shard, error)
        self._free(shard)

    def _free(self, shard: int) -> None:
        if self._doing.get(shard) is not asyncio.current_task():
            return  # it is being dropped meanwhile
        self._ownership.ended(shard, self._clock())
        self._doing.pop(shard, None)
        self._freed.set()
        self._changed.set()


def _report(event: str, shard: int, error: Exception) -> None:
    if isinstance(error, SpoolError):
        log.warning(event, shard=shard, reason=str(error))
    else:
        log.error(event, shard=shard, exc_info=error)

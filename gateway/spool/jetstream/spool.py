"""The spool of one gateway of a cluster: it stores entries for any shard, and owns some of them."""

import asyncio
import platform
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from gateway.errors import SpoolError
from gateway.event import Event
from gateway.spool.clock import Clock, SteadyClock
from gateway.spool.interface import ShardRunner
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.consent import ConsentStore
from gateway.spool.jetstream.frames import FrameWriter
from gateway.spool.jetstream.identity import join
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.membership import HostReport, Membership
from gateway.spool.jetstream.ownership import Ownership
from gateway.spool.jetstream.presence import Presence, node_name
from gateway.spool.jetstream.routing import split_by_shard
from gateway.spool.jetstream.shard import JetStreamShard
from gateway.spool.user_hash import UserHash
from gateway.spool.values import Appended, BacklogLimit, ConsentRecord, DedupWindow, Entry


class JetStreamSpool:
    """Stores entries, and runs the shards that this gateway owns.

    Args:
        connection: to the servers, not open; the spool opens and closes it.
        layout: names streams and subjects.
        shards: the number of shards of the cluster, which never changes.
        replicas: of each stream, when it is made.
        max_bytes: of the log, when it is made.
        clock: of the spool.

    Attributes:
        clock: of the spool.
    """

    def __init__(  # noqa: PLR0913 - the settings of a cluster
        self,
        connection: NatsConnection,
        layout: Layout,
        *,
        shards: int,
        replicas: int = 3,
        max_bytes: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.clock: Clock = clock or SteadyClock()
        self._connection, self._layout = connection, layout
        self._count, self._replicas, self._max_bytes = shards, replicas, max_bytes
        self._consent = ConsentStore(connection, layout, self.clock)
        self._runner: ShardRunner
        self._user_hash = UserHash(b"")  # replaced once the identity is known
        self._writer: FrameWriter
        self._membership: Membership
        self._open = False
        self._registered: set[str] = set()
        self._running: dict[int, JetStreamShard] = {}
        """Shards of which anything runs, from the claim until they are released or dropped."""
        self._owned: dict[int, JetStreamShard] = {}
        """Those that are delivered."""

    # ---- life ------------------------------------------------------------------------------

    def run_shards(self, runner: ShardRunner) -> None:
        """Tell *runner* of each shard, now and later; before `open` (see ``Spool.run_shards``)."""
        self._runner = runner

    async def open(self) -> None:
        """Connect, make the streams if there are none, and take part in the cluster.

        A failed call may be repeated.
        """
        await self._connection.open()
        try:
            for name, settings in self._layout.streams(self._replicas, self._max_bytes).items():
                await self._connection.create_stream(name, settings)
            identity = await join(self._connection, self._layout, self._count)
        except BaseException:
            await self._connection.close()
            raise
        self._user_hash = UserHash(identity.secret)
        presence = Presence(node_name(platform.node()))
        self._writer = FrameWriter(self._connection, self._layout, presence.node, self.clock)
        ownership = Ownership(presence, self._count)
        self._membership = Membership(self._connection, self._layout.presence, ownership, self)
        self._membership.start()
        self._open = True

    async def close(self) -> None:
        """Store what is gathered, give all shards away, and disconnect.

        A second call does nothing.
        """
        if not self._open:
            return
        self._open = False
        await self._writer.close()
        await self._membership.leave()
        await self._connection.close()

    @property
    def shards(self) -> Sequence[JetStreamShard]:
        """Return the shards that this gateway delivers now."""
        return tuple(self._owned.values())

    def leased(self) -> bool:
        """Return whether attempts may begin now (see ``Spool.leased``)."""
        return self._open and self._membership.leased()

    # ---- the shards of this gateway ---------------------------------------------------------

    async def claim(self, shard: int, may_take: Callable[[str], bool]) -> int | None:
        """Take a shard over and deliver it (see ``ShardHost.claim``)."""
        made = self._running[shard] = JetStreamShard(
            self._writer, shard, self.user_hash, partial(self._membership.lost, shard)
        )
        if not await made.claim(may_take):
            del self._running[shard]
            return None
        while missing := self._registered - made.state.destinations.keys():
            await made.register(sorted(missing))
        self._owned[shard] = made
        self._runner.start_shard(made)
        made.start()
        return made.epoch

    async def give(self, shard: int) -> None:
        """Finish what is under way, record it, and release the shard."""
        await self._runner.finish_shard(self._owned.pop(shard))
        await self._running[shard].release()
        del self._running[shard]

    async def drop(self, shard: int) -> None:
        """Deliver nothing more of a shard, and record nothing."""
        self._owned.pop(shard, None)
        if dropped := self._running.pop(shard, None):
            self._runner.abandon_shard(dropped)
            await dropped.abandon()

    def report(self) -> HostReport:
        """Return the pending deliveries of this gateway's shards, by destination."""
        depths: dict[str, int] = {}
        for shard in self._owned.values():
            for name, found in shard.state.destinations.items():
                depths[name] = depths.get(name, 0) + found.balance().pending
        return HostReport(depths)

    # ---- intake ----------------------------------------------------------------------------

    def health(self) -> str | None:
        """Return why appends fail; None while they work."""
        return self._connection.health() if self._open else "the spool is closed"

    def user_hash(self, user: str) -> int:
        """Return the hash of a user's key, which all gateways of the cluster compute alike."""
        return self._user_hash(user)

    async def append(
        self,
        entry: Entry,
        events: Sequence[Event] | None = None,
        once: DedupWindow | None = None,
    ) -> Appended:
        """Store an entry in the shard of its users; done once a quorum of the servers has it.

        An entry of users in several shards is stored in each of them with its part of the targets,
        in all or in none; it has no seq then. The owners of the shards find duplicates later.
        Raises SpoolFull at a limit, and SpoolError for other failures; if the servers did not
        answer, the entry may be stored nevertheless.
        """
        if not self._open:
            raise SpoolError("the spool is closed")
        if strangers := entry.targets.keys() - self._registered:
            raise SpoolError(f"unknown destinations: {', '.join(sorted(strangers))}")
        parts = split_by_shard(entry, self._count)
        if len(parts) > 1:
            return Appended(await self._writer.append_together(parts, events, once))
        ((shard, whole),) = parts.items()
        return Appended(await self._writer.append(shard, whole, events, once))

    async def save_consent(
        self, records: Mapping[bytes, Mapping[str, ConsentRecord]], window: float
    ) -> None:
        """Store users' consent for all gateways (see ``Intake.save_consent``)."""
        await self._consent.save(records, window)

    async def load_consent(self, users: Sequence[bytes]) -> dict[bytes, dict[str, ConsentRecord]]:
        """Return the stored consent of users, whichever gateway stored it."""
        return await self._consent.load(users)

    # ---- administration --------------------------------------------------------------------

    async def register(self, destinations: Mapping[str, BacklogLimit]) -> None:
        """Set all destinations (see ``SpoolAdmin.register``).

        Raises SpoolError for a bound of the backlog: the gateways do not add up their shards yet.
        """
        if bounded := [name for name, limit in destinations.items() if limit.max_backlog]:
            raise SpoolError(f"{', '.join(bounded)}: a cluster has no max_backlog yet")
        self._registered = set(destinations)
        await asyncio.gather(*[shard.register(list(destinations)) for shard in self.shards])

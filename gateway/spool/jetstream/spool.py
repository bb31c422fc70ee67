"""The spool of one gateway of a cluster: it stores entries for any shard, and owns some of them."""

import asyncio
import platform
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import TypeVar

from msgspec.structs import replace

from gateway.errors import SpoolError
from gateway.event import Event
from gateway.spool.clock import Clock, SteadyClock
from gateway.spool.cluster import ClusterState
from gateway.spool.dead_letters import DeadLetter
from gateway.spool.interface import ShardRunner
from gateway.spool.jetstream.backlog import ClusterBacklog
from gateway.spool.jetstream.cluster import read_cluster
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.consent import ConsentStore
from gateway.spool.jetstream.follower import Follower
from gateway.spool.jetstream.frames import FrameWriter, RowExtras
from gateway.spool.jetstream.identity import join
from gateway.spool.jetstream.layout import HEAD_ROOM, Layout
from gateway.spool.jetstream.letter_messages import restored_letter
from gateway.spool.jetstream.log_reader import last_time
from gateway.spool.jetstream.membership import HostReport, Membership
from gateway.spool.jetstream.messages import StreamFull
from gateway.spool.jetstream.operations import ClusterOperations
from gateway.spool.jetstream.owners import ShardOwners
from gateway.spool.jetstream.ownership import Ownership
from gateway.spool.jetstream.peers import NatsPeers
from gateway.spool.jetstream.presence import Presence, SignOfLife, node_name
from gateway.spool.jetstream.questions import Question, RestoreLetters
from gateway.spool.jetstream.routing import split_by_shard
from gateway.spool.jetstream.shard import JetStreamShard
from gateway.spool.jetstream.stream_watch import StreamWatch
from gateway.spool.user_hash import UserHash
from gateway.spool.values import (
    Appended,
    BacklogLimit,
    ConsentRecord,
    DedupWindow,
    Entry,
    GivenUp,
    SpoolLimits,
    StoredConsent,
)

T = TypeVar("T")
_NO_LIMITS = SpoolLimits()
OWN_ALL_LIMIT = 30.0
"""Seconds within which a process alone must own all shards."""
_LOOK = 0.1
MESSAGE_IDS = 2000
"""Message ids that are told at a time."""


class JetStreamSpool(ClusterOperations):
    """A ``Spool`` that several gateways share: it runs the shards that this one owns.

    Args:
        connection: to the servers, not open; the spool opens and closes it.
        layout: names streams and subjects.
        shards: the number of shards of the cluster, which never changes.
        replicas: of each stream, when it is made.
        limits: ``max_bytes`` is of all streams, each replica counted once.
        max_body: bytes of the largest request, which a message must have room for.
        clock: of the spool.

    Attributes:
        clock: of the spool.
        node: this gateway's name, which no other start of any has.
        peers: the other gateways.
    """

    def __init__(  # noqa: PLR0913 - the settings of a cluster
        self,
        connection: NatsConnection,
        layout: Layout,
        *,
        shards: int,
        replicas: int = 3,
        limits: SpoolLimits = _NO_LIMITS,
        max_body: int = 0,
        clock: Clock | None = None,
    ) -> None:
        self.clock: Clock = clock or SteadyClock()
        self.node = node_name(platform.node())
        super().__init__(connection, layout)
        self._count, self._replicas, self._limits = shards, replicas, limits
        self._max_body = max_body
        self.peers = NatsPeers(connection, layout, self.node, self._others)
        self._consent = ConsentStore(connection, layout, self.clock)
        self._runner: ShardRunner
        self._user_hash = UserHash(b"")  # replaced once the identity is known
        self._writer = FrameWriter(connection, layout, self.node, self.clock)
        self._membership: Membership
        self._owners: ShardOwners
        self._watch: StreamWatch
        self._on_paused: Callable[[frozenset[str]], None] = lambda _: None
        self._paused: Follower
        self._ending: asyncio.Task[None] | None = None
        self._open = False
        self._digest, self._version = "", version("cdp-gateway")
        self._started = self.clock.of_day()
        self._given_up: dict[str, GivenUp] = {}
        self._running: dict[int, JetStreamShard] = {}
        """Shards of which anything runs, from the claim until they are released or dropped."""
        self._owned: dict[int, JetStreamShard] = {}
        """Those that are delivered."""
        self._backlog = ClusterBacklog(self._owned.values, self._others)

    # ---- life ------------------------------------------------------------------------------

    def run_shards(self, runner: ShardRunner) -> None:
        """Tell *runner* of each shard, now and later; before `open` (see ``Spool.run_shards``)."""
        self._runner = runner

    def follow_pauses(self, listener: Callable[[frozenset[str]], None]) -> None:
        """Call *listener* when any gateway pauses or resumes (see ``Spool.follow_pauses``)."""
        self._on_paused = listener

    async def open(self) -> None:
        """Connect, make the streams if there are none, and take part in the cluster.

        A failed call may be repeated.
        """
        await self._connection.open()
        try:
            await self._join()
        except BaseException:
            await self._connection.close()
            raise
        self._membership.start()
        self._paused = self._pauses.follow(self._on_paused)
        self._paused.start()
        self._open = True

    async def _join(self) -> None:
        """Make the streams if there are none, look at them, and listen to other gateways."""
        connection, layout, max_bytes = self._connection, self._layout, self._limits.max_bytes
        if connection.max_payload < (needed := self._max_body + HEAD_ROOM):
            raise SpoolError(
                f"max_payload of the NATS servers is {connection.max_payload} bytes; set it to "
                f"{needed} or more on every server, or lower max_body in [server]"
            )
        identity = await join(
            connection, layout, self._count, replicas=self._replicas, max_bytes=max_bytes
        )
        self._user_hash = UserHash(identity.secret)
        presence = Presence(self.node)
        ownership = Ownership(presence, self._count)
        self._membership = Membership(connection, layout.presence, ownership, self)
        self._owners = ShardOwners(
            connection,
            layout,
            presence.node,
            shards=self._count,
            own=lambda: self._owned,
            nodes=self._others,
        )
        await self._owners.start()
        await self.peers.start()
        self._watch = StreamWatch(connection, identity.made, max_bytes, self._on_lost, self.clock)
        await self._watch.begin()
        self.clock.begin(*await last_time(connection, layout))
        await connection.update_stream(layout.log_stream, {"max_bytes": max_bytes or -1})
        self._watch.start()

    def _on_lost(self) -> None:
        """Take part no more: what the shards rely on is gone."""
        self._ending = asyncio.get_running_loop().create_task(self._membership.close())

    async def close(self) -> None:
        """Store what is gathered, give all shards away, and disconnect.

        A second call does nothing.
        """
        if not self._open:
            return
        self._open = False
        await self._writer.close()
        await self._watch.stop()
        await self._paused.stop()
        if self._ending:
            await self._ending
        await self._membership.leave()
        await self._owners.stop()
        await self.peers.stop()
        await self._connection.close()

    def spares(self, what: Callable[[], None]) -> None:
        """Do nothing: the spool has no disk of this machine that it could fill."""

    @property
    def shards(self) -> Sequence[JetStreamShard]:
        """Return the shards that this gateway delivers now."""
        return tuple(self._owned.values())

    def leased(self) -> bool:
        """Return whether attempts may begin now (see ``Spool.leased``)."""
        return self._open and self._membership.leased()

    def configs_differ(self) -> bool:
        """Return whether another gateway that is alive tells another digest than this one."""
        return any(sign.digest != self._digest for sign in self._others().values())

    def set_config(self, digest: str) -> None:
        """Tell the others the digest of the configuration, from the next sign of life on."""
        self._digest = digest

    def leads(self) -> bool:
        """Return whether this gateway's name is the first of those that are alive."""
        return all(self.node < other for other in self._others())

    def joined(self) -> bool:
        """Return whether this gateway may own shards, or could since its start."""
        return self._open and self._membership.joined

    def share(self) -> float:
        """Return the part of the shards that this gateway delivers (see ``Spool.share``)."""
        return len(self._owned) / self._count

    # ---- the shards of this gateway ---------------------------------------------------------

    async def claim(self, shard: int, may_take: Callable[[str], bool]) -> int | None:
        """Take a shard over and deliver it (see ``ShardHost.claim``)."""
        made = self._running[shard] = JetStreamShard(
            self._writer, shard, self.user_hash, partial(self._membership.lost, shard)
        )
        made.evictions.max_age, made.evictions.given_up = self._limits.max_age, self._given_up
        made.evictions.backlog_elsewhere = lambda name: self._backlog.elsewhere(name, shard)
        if not await made.claim(may_take):
            del self._running[shard]
            return None
        while made.evictions.bounds is not (registered := self._registered):
            await made.register(registered)
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

    def _others(self) -> Mapping[str, SignOfLife]:
        return self._membership.nodes() if self._open else {}

    async def own_all(self) -> None:
        """Wait until this process owns all shards.

        Raises SpoolError if a gateway of the cluster runs, or if a shard cannot be claimed.
        """
        until = time.monotonic() + OWN_ALL_LIMIT
        while len(self._owned) < self._count:
            if others := self._others():
                raise SpoolError(
                    f"gateway {min(others)} of the cluster {self._layout.name} runs; stop all of "
                    f"its gateways"
                )
            if time.monotonic() >= until:
                left = sorted(set(range(self._count)) - self._owned.keys())
                raise SpoolError(f"shards {', '.join(map(str, left))} cannot be claimed")
            await asyncio.sleep(_LOOK)

    def report(self) -> HostReport:
        """Return what the other gateways are told of this one."""
        return HostReport(self._backlog.own(), self._digest, self._version, self._started)

    # ---- intake ----------------------------------------------------------------------------

    def health(self) -> str | None:
        """Return why appends fail; None while they work."""
        if not self._open:
            return "the spool is closed"
        return self._connection.health() or self._watch.trouble()

    def user_hash(self, user: str) -> int:
        """Return the hash of a user's key, which all gateways of the cluster compute alike."""
        return self._user_hash(user)

    async def append(
        self,
        entry: Entry,
        events: Sequence[Event] | None = None,
        once: DedupWindow | None = None,
        accepted_at: float | None = None,
        reply_within: float = 0.0,
    ) -> Appended:
        """Store an entry in the shard of its users; done once a quorum of the servers has it.

        An entry of users in several shards is stored in each of them with its part of the targets,
        in all or in none; it has no seq then. The owners of the shards find duplicates later.
        Raises SpoolFull at a limit, and SpoolError for other failures; if the servers did not
        answer, the entry may be stored nevertheless.
        """
        if not self._open:
            raise SpoolError("the spool is closed")
        if strangers := entry.targets.keys() - self._registered.keys():
            raise SpoolError(f"unknown destinations: {', '.join(sorted(strangers))}")
        self._watch.check()
        refused = self._backlog.refused(entry.targets)
        parts = split_by_shard(entry, self._count)
        extras = RowExtras(refused, accepted_at or 0.0, reply_within)
        with self._backlog.coming(entry.targets):
            if len(parts) > 1:
                stored = self._writer.append_together(parts, events, once, extras)
            else:
                ((shard, whole),) = parts.items()
                stored = self._writer.append(shard, whole, events, once, extras=extras)
            try:
                return Appended(await stored)
            except StreamFull:
                self._watch.filled()
                raise

    async def save_consent(
        self, records: Mapping[bytes, Mapping[str, ConsentRecord]], window: float
    ) -> None:
        """Store users' consent for all gateways (see ``Intake.save_consent``)."""
        self._watch.check()
        await self._consent.save(records, window)

    async def message_ids(self) -> AsyncIterator[dict[bytes, float]]:
        """Yield the dedup keys of the shards of this gateway."""
        for shard in self.shards:
            known = list(shard.state.ids)
            for start in range(0, len(known), MESSAGE_IDS):
                yield dict(known[start : start + MESSAGE_IDS])

    async def consents(self) -> AsyncIterator[list[StoredConsent]]:
        """Yield the stored consent of all users."""
        async for some in self._consent.all():
            yield some

    async def restore_consents(self, consents: Sequence[StoredConsent]) -> None:
        """Store consent of another spool (see ``SpoolTransfer.restore_consents``)."""
        self._watch.check()
        await self._consent.restore(consents)

    async def restore_dead_letters(self, letters: Mapping[bytes, DeadLetter]) -> None:
        """Store dead letters of another spool, each in the shard of its user."""
        by_shard: dict[int, dict[bytes, bytes]] = {}
        for key, letter in letters.items():
            targets = {letter.destination: (letter.mark.index,)}
            entry = replace(letter.entry, targets=targets)
            (shard,) = split_by_shard(entry, self._count)
            message = restored_letter(key, letter, self._connection.max_payload)
            by_shard.setdefault(shard, {})[key] = message
        await asyncio.gather(
            *[self._ask(RestoreLetters(some), [shard]) for shard, some in by_shard.items()]
        )

    async def load_consent(self, users: Sequence[bytes]) -> dict[bytes, dict[str, ConsentRecord]]:
        """Return the stored consent of users, whichever gateway stored it."""
        return await self._consent.load(users)

    def refusing(self) -> Mapping[str, str]:
        """Return the destinations that accept nothing new (see ``Intake.refusing``)."""
        return self._backlog.refusing() if self._open else {}

    # ---- administration --------------------------------------------------------------------

    def _ask(
        self, question: Question[T], shards: Iterable[int] | None = None
    ) -> Awaitable[dict[int, T]]:
        if not self._open:
            raise SpoolError("the spool is closed")
        if self._watch.lost:
            raise SpoolError(self._watch.lost)
        return self._owners.ask(question, shards)

    async def cluster(self) -> ClusterState:
        """Return the state of the cluster, as far as it answers within two seconds."""
        if not self._open:
            raise SpoolError("the spool is closed")
        return await read_cluster(
            self._membership,
            self._owners,
            self._connection,
            self._layout.streams(self._replicas),
            self.clock.of_day(),
        )

    async def register(self, destinations: Mapping[str, BacklogLimit]) -> None:
        """Set all destinations (see ``SpoolAdmin.register``)."""
        registered = self._registered = dict(destinations)
        self._backlog.set_bounds(registered)
        await asyncio.gather(*[shard.register(registered) for shard in self.shards])

    def given_up(self) -> Mapping[str, GivenUp]:
        """Return how many deliveries this gateway evicted, of the shards that it owned."""
        return dict(self._given_up)

    def unaccounted(self) -> Mapping[str, int]:
        """Return the number of unaccounted deliveries in the shards of this gateway."""
        found: Counter[str] = Counter()
        for shard in self.shards:
            found.update(shard.auditor.unaccounted)
        return found

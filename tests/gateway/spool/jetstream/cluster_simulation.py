"""A cluster in virtual time: nodes with clocks of their own, a bad network, journals that fence."""

import heapq
import random
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import NamedTuple, Protocol

from gateway.spool.jetstream.ownership import Ownership
from gateway.spool.jetstream.presence import Presence, SignOfLife

LOOK = 0.1
"""Seconds between two looks of a node at its clock."""
TURN = 0.05
"""Seconds between two deliveries of one shard."""
PACE = 3
"""Deliveries between two records."""
UNRECORDED = 30
"""Deliveries without a record after which a shard stops."""
PATIENCE = 10.0
"""Seconds for which a write is repeated."""


class Answer(Protocol):
    """Is told whether a write was stored, or fenced."""

    def __call__(self, *, stored: bool) -> None:
        """Take the answer."""


@dataclass
class SimulatedJournal:
    """The journal of a shard; only the one that claimed it last can write."""

    owner: str = ""
    epoch: int = 0
    released: bool = True
    cursor: int = 0


class Delivery(NamedTuple):
    """One delivery: event *number* of a shard."""

    at: float
    shard: int
    number: int
    node: str
    fenced: bool
    """Whether another node had claimed the shard before."""


@dataclass
class Running:
    """What a node runs of one shard."""

    epoch: int
    done: int
    recorded: int
    writing: bool = False


@dataclass
class SimulatedNode:
    """A node: the real decisions, and a host that is simulated."""

    name: str
    ownership: Ownership
    offset: float
    """Seconds that its clock is ahead of the simulation's."""
    alive: bool = True
    paused: bool = False
    missed: list[Callable[[], None]] = field(default_factory=list)
    """What came while it was paused."""
    running: dict[int, Running] = field(default_factory=dict)
    doing: dict[int, object] = field(default_factory=dict)
    """Tokens of what is under way; a drop takes them away."""


class ClusterSimulation:
    """Nodes, a network and journals, driven by a heap of events.

    Args:
        shards: the number of shards.
        seed: of delays and losses.

    Attributes:
        latency: minimum and maximum seconds of a message.
        loss: probability that a sign of life is lost.
        unsure: probability that a claim succeeds and its answer is lost.
        apart: the nodes on the minority's side of a partition; they reach no journal.
        deliveries: all of them, in order.
        moves: when which node claimed which shard.
        taken: those of them of shards that had not been released.
    """

    def __init__(self, shards: int, seed: int = 0) -> None:
        self.now = 0.0
        self.shards = shards
        self.latency = (0.001, 0.03)
        self.loss = self.unsure = 0.0
        self.apart: Collection[str] = ()
        self.nodes: dict[str, SimulatedNode] = {}
        self.journals = [SimulatedJournal() for _ in range(shards)]
        self.deliveries: list[Delivery] = []
        self.moves: list[tuple[float, str, int]] = []
        self.taken: list[tuple[float, str, int]] = []
        self._dice = random.Random(seed)  # noqa: S311 - no secret, and it must be repeatable
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    # ---- time ------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            self.now, _, what = heapq.heappop(self._heap)
            what()
        self.now = end

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """Do something later."""
        self._count += 1
        heapq.heappush(self._heap, (self.now + seconds, self._count, what))

    def _at_node(self, node: SimulatedNode, seconds: float, what: Callable[[], None]) -> None:
        """Do something in a node's process later: not once it is dead, nor while it is paused."""

        def done() -> None:
            if node.paused:
                node.missed.append(done)
            elif node.alive:
                what()

        self.after(seconds, done)

    # ---- faults ------------------------------------------------------------------------------

    def start(self) -> SimulatedNode:
        """Start a node."""
        presence = Presence(f"n{len(self.nodes)}")
        node = SimulatedNode(
            presence.node, Ownership(presence, self.shards), self._dice.uniform(1, 1e6)
        )
        self.nodes[node.name] = node
        self._at_node(node, 0, lambda: self._look(node))
        return node

    def kill(self, node: SimulatedNode) -> None:
        """Kill a node, as ``kill -9`` does."""
        node.alive = node.paused = False

    def stop(self, node: SimulatedNode) -> None:
        """Stop a node in order, as SIGTERM does."""
        self._at_node(node, 0, node.ownership.leave)

    def pause(self, node: SimulatedNode, seconds: float) -> None:
        """Pause a node, as SIGSTOP does; then everything that came meanwhile comes at once."""
        if not node.alive or node.paused:
            return
        node.paused = True

        def resume() -> None:
            if node.alive:
                node.paused = False
                missed, node.missed = node.missed, []
                for what in missed:
                    what()

        self.after(seconds, resume)

    # ---- nodes -------------------------------------------------------------------------------

    def up(self) -> list[SimulatedNode]:
        """Return the nodes that are alive and do not leave."""
        return [n for n in self.nodes.values() if n.alive and not n.ownership.leaving]

    def _clock(self, node: SimulatedNode) -> float:
        return self.now + node.offset

    def _look(self, node: SimulatedNode) -> None:
        self._step(node)
        if node.ownership.leaving and not node.ownership.held:
            node.alive = False
        self._at_node(node, LOOK * self._dice.uniform(0.9, 1.1), lambda: self._look(node))

    def _step(self, node: SimulatedNode) -> None:
        decisions = node.ownership.decide(self._clock(node))
        for shard in decisions.drop:
            node.running.pop(shard, None)
            self._begin(node, shard, 0.01, partial(self._free, node, shard))
        for shard in decisions.give:
            self._begin(node, shard, 0.02, partial(self._give, node, shard))
        for shard in decisions.claim:
            self._begin(node, shard, self._delay(), partial(self._claim, node, shard))
        if sign := node.ownership.sign(self._clock(node)):
            self._tell(node, sign)

    def _begin(
        self, node: SimulatedNode, shard: int, seconds: float, what: Callable[[], None]
    ) -> None:
        """Do something with a shard later, unless it is dropped meanwhile."""
        token = node.doing[shard] = object()

        def done() -> None:
            if node.doing.get(shard) is token:
                what()

        self._at_node(node, seconds, done)

    def _free(self, node: SimulatedNode, shard: int) -> None:
        node.running.pop(shard, None)
        node.doing.pop(shard, None)
        node.ownership.ended(shard, self._clock(node))
        self._step(node)

    def _delay(self) -> float:
        return self._dice.uniform(*self.latency)

    def _tell(self, node: SimulatedNode, sign: SignOfLife) -> None:
        for other in self.nodes.values():
            parted = (node.name in self.apart) != (other.name in self.apart)
            if not parted and self._dice.random() >= self.loss:
                self._at_node(other, self._delay(), partial(self._hear, other, sign))

    def _hear(self, node: SimulatedNode, sign: SignOfLife) -> None:
        node.ownership.presence.hear(sign, self._clock(node))
        self._step(node)

    # ---- the host ------------------------------------------------------------------------------

    def _write(
        self,
        node: SimulatedNode,
        shard: int,
        apply: Callable[[SimulatedJournal], bool],
        answer: Answer,
        failed: Callable[[], None],
    ) -> None:
        """Write to a journal; where none is reached it is tried again until patience ends."""
        sent = self.now

        def arrive() -> None:
            if node.name not in self.apart:
                stored = apply(self.journals[shard])
                self._at_node(node, self._delay(), lambda: answer(stored=stored))
            elif self.now - sent > PATIENCE:
                self._at_node(node, 0, failed)
            else:
                self.after(0.25, arrive)

        self.after(self._delay(), arrive)

    def _claim(self, node: SimulatedNode, shard: int) -> None:
        """Read the journal, ask whether to take it, and write a claim after what was read."""
        if node.name in self.apart:  # it asks until it is answered
            self._begin(node, shard, 0.1, partial(self._claim, node, shard))
            return
        journal = self.journals[shard]
        read = (journal.owner, journal.epoch, journal.released)
        if not journal.released and not node.ownership.may_claim(
            shard, journal.owner, self._clock(node)
        ):
            self._free(node, shard)
            return

        found: list[int] = []

        def apply(journal: SimulatedJournal) -> bool:
            if (journal.owner, journal.epoch, journal.released) != read:
                return False
            journal.owner, journal.epoch, journal.released = node.name, read[1] + 1, False
            found.append(journal.cursor)
            self.moves.append((self.now, node.name, shard))
            self.taken += [] if read[2] else [(self.now, node.name, shard)]
            return True

        token = node.doing[shard]

        def answer(*, stored: bool) -> None:
            if node.doing.get(shard) is not token:
                return
            if not stored or self._dice.random() < self.unsure:
                self._free(node, shard)
                return
            running = node.running[shard] = Running(read[1] + 1, found[0], found[0])
            node.ownership.claimed(shard, read[1] + 1)
            self._at_node(node, 0, lambda: self._deliver(node, shard, running))

        def failed() -> None:
            if node.doing.get(shard) is token:
                self._free(node, shard)

        self._write(node, shard, apply, answer, failed)

    def _give(self, node: SimulatedNode, shard: int) -> None:
        running = node.running.pop(shard)
        token = node.doing[shard]

        def apply(journal: SimulatedJournal) -> bool:
            if (journal.owner, journal.epoch) == (node.name, running.epoch):
                journal.cursor, journal.released = running.done, True
            return True

        def answer(*, stored: bool) -> None:  # noqa: ARG001 - the node lets go in any case
            let_go()

        def let_go() -> None:
            if node.doing.get(shard) is token:  # else it was dropped meanwhile
                self._free(node, shard)

        self._write(node, shard, apply, answer, let_go)

    def _deliver(self, node: SimulatedNode, shard: int, running: Running) -> None:
        """Deliver the shard's next event, if the node may, and record now and then."""
        if node.running.get(shard) is not running:
            return
        stuck = running.done - running.recorded >= UNRECORDED
        if node.ownership.presence.leased(self._clock(node)) and not stuck:
            running.done += 1
            journal = self.journals[shard]
            fenced = (journal.owner, journal.epoch) != (node.name, running.epoch)
            self.deliveries.append(Delivery(self.now, shard, running.done, node.name, fenced))
        if running.done - running.recorded >= PACE and not running.writing:
            self._record(node, shard, running)
        self._at_node(node, TURN, lambda: self._deliver(node, shard, running))

    def _record(self, node: SimulatedNode, shard: int, running: Running) -> None:
        running.writing, done = True, running.done

        def apply(journal: SimulatedJournal) -> bool:
            if (journal.owner, journal.epoch) != (node.name, running.epoch):
                return False
            journal.cursor = done
            return True

        def answer(*, stored: bool) -> None:
            running.writing = False
            if stored:
                running.recorded = done
            elif node.running.get(shard) is running:
                node.ownership.lost(shard)

        def failed() -> None:
            running.writing = False

        self._write(node, shard, apply, answer, failed)

    # ---- judgement -----------------------------------------------------------------------------

    def out_of_order(self) -> list[Delivery]:
        """Return first deliveries that came before that of an earlier event, or skipped one."""
        last = [0] * self.shards
        wrong = []
        for each in self.deliveries:
            if each.number > last[each.shard]:
                if each.number != last[each.shard] + 1:
                    wrong.append(each)
                last[each.shard] = each.number
        return wrong

    def repeats(self, since: float = 0.0) -> list[Delivery]:
        """Return deliveries of an event that was delivered before, from a time on."""
        last = [0] * self.shards
        found = []
        for each in self.deliveries:
            if each.number <= last[each.shard] and each.at >= since:
                found.append(each)
            last[each.shard] = max(last[each.shard], each.number)
        return found

    def gaps(self, begin: float, end: float) -> Iterator[float]:
        """Yield the longest time without a delivery of each shard between two times."""
        for shard in range(self.shards):
            times = [d.at for d in self.deliveries if d.shard == shard and begin <= d.at <= end]
            ticks = [begin, *times, end]
            yield max(b - a for a, b in pairwise(ticks))

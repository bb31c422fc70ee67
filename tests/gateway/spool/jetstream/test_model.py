"""A shard in memory, through its journal and snapshots, agrees with the SQLite spool.

Journal and log are lists here, so that thousands of takeovers take no time; the parts that write
them to NATS have tests of their own.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.spool import BacklogLimit, DeliveryRef, Progress
from gateway.spool.jetstream.shard_state import Changes, ShardState
from gateway.spool.sqlite.spool import SqliteSpool
from gateway.spool.values import Deliveries
from gateway.testing.spool.contract import entry, failed, later

T = TypeVar("T")
NAMES = ("a", "b")
EVER = 1e12
INDEXES = st.sets(st.integers(0, 2), min_size=1).map(lambda found: tuple(sorted(found)))
TARGETS = st.dictionaries(st.sampled_from(NAMES), INDEXES)
MARKS = st.builds(DeliveryRef, st.integers(1, 8), st.integers(0, 2))
WAITING = st.builds(
    lambda mark, parked: later(mark.seq, mark.index, due=mark.seq * 3.0 % 7, parked=parked),
    MARKS,
    st.booleans(),
)
REPORTS = st.builds(
    Progress,
    cursor=st.integers(0, 8),
    later=st.lists(WAITING, max_size=3),
    done=st.lists(MARKS, max_size=3),
    dead=st.lists(MARKS.map(lambda mark: failed(mark.seq, mark.index)), max_size=3),
    delivered=st.none() | st.integers(0, 9),
)


class ShardModel(RuleBasedStateMachine):
    """The same appends and reports for both; takeovers and snapshots for the shard alone."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.log: list[dict[str, Deliveries]] = []
        self.journal: list[bytes] = []
        self.state = ShardState()

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the machine's loop."""
        return self.loop.run_until_complete(asyncio.wait_for(what, 20))

    @initialize()
    def begin(self) -> None:
        """Open the SQLite spool, and register the destinations with both."""

        async def begin() -> None:
            self.spool = SqliteSpool(self.folder)
            await self.spool.open()
            await self.spool.register(dict.fromkeys(NAMES, BacklogLimit()))

        self.run(begin())
        for name in NAMES:
            self.record(name, Progress())

    def teardown(self) -> None:
        """Close everything."""
        self.run(self.spool.close())
        self.loop.close()
        shutil.rmtree(self.folder)

    def record(self, name: str, progress: Progress) -> None:
        """Write a report into the journal and apply what is written there."""
        if name not in self.state.destinations:
            self.state.begin(name, self.state.position)
        body = Changes(self.state.position, [self.state[name].change(progress)])
        self.journal.append(msgspec.msgpack.encode(body))
        self.state.apply(self.read(self.journal[-1]))

    @staticmethod
    def read(body: bytes) -> Changes:
        """Return a record's changes."""
        return msgspec.msgpack.decode(body, type=Changes)

    @rule(sent=TARGETS)
    def append(self, sent: dict[str, Deliveries]) -> None:
        """Append an entry."""

        async def append() -> int:
            one = msgspec.structs.replace(entry(f"r{len(self.log)}"), targets=sent)
            return (await self.spool.append(one)).seq

        seq = self.run(append())
        self.log.append(sent)
        assert seq == len(self.log)
        self.state.add(seq, sent, 0.0)
        self.state.position = seq

    @rule(name=st.sampled_from(NAMES), report=REPORTS)
    def settle(self, name: str, report: Progress) -> None:
        """Report anything: also twice, of what is not there, and of what ended."""
        progress = msgspec.structs.replace(report, cursor=min(report.cursor, len(self.log)))

        async def settle() -> None:
            await self.spool.settle(name, progress)

        self.run(settle())
        self.record(name, progress)

    @rule()
    def take_over(self) -> None:
        """Make the state anew from journal and log, as another owner does."""
        self.state = ShardState()
        for body in self.journal:
            self.state.apply(self.read(body))
        recorded = self.state.position
        for seq, targets in enumerate(self.log, 1):
            self.state.add(seq, targets, 0.0, begin=seq > recorded)
        self.state.position = len(self.log)

    @rule(max_bytes=st.sampled_from((1, 300, 100_000)))
    def snapshot(self, max_bytes: int) -> None:
        """Replace the journal by a snapshot of the state."""
        self.journal = [msgspec.msgpack.encode(one) for one in self.state.snapshot(max_bytes)]

    @invariant()
    def same(self) -> None:
        """Both know the same cursors, waiting, unread and finished deliveries."""
        if hasattr(self, "spool"):
            self.run(self.compare())

    async def compare(self) -> None:
        """Ask both for everything."""
        balances, depths = await self.spool.balances(), await self.spool.depths()
        for name in NAMES:
            mine = self.state[name]
            assert mine.cursor == self.spool.cursor(name)
            assert mine.balance() == balances[name]
            depth = depths[name]
            assert mine.counts() == (depth.backlog, depth.retrying, depth.parked)
            assert mine.dead_letters == depth.dead_letters
            retrying = await self.spool.retrying(name, EVER, 100)
            assert mine.waiting.retrying(EVER, 100, None) == retrying
            assert mine.waiting.retrying(EVER, 2, None) == retrying[:2]
            assert mine.waiting.parked_of("u1", 100) == await self.spool.parked(name, "u1", 100)
            assert dict(mine.waiting.users) == await self.spool.blocked(name)
            page = await self.spool.unread(name, 0, 1000, 1000)
            pending = [
                (seq, numbers)
                for seq in mine.pending.after(0, 1000, 1000)
                if (numbers := mine.open_numbers(seq, self.log[seq - 1][name]))
            ]
            assert pending == [(item.seq, item.numbers) for item in page.items]


TestShardModel = ShardModel.TestCase
TestShardModel.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip

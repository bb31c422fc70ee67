"""The SQLite spool agrees with a simple model under any sequence of operations and crashes."""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.spool import (
    BacklogLimit,
    Balance,
    DeadLetterFilter,
    DeadLettersReplayed,
    DedupWindow,
    DeliveryRef,
    Entry,
    LogRecord,
    Progress,
    WaitingDelivery,
)
from gateway.spool.sqlite import cursors, vacuum, writer
from gateway.spool.sqlite.dead_letters import DeadLetterStore
from gateway.spool.sqlite.spool import SqliteSpool
from gateway.testing.spool.contract import ManualClock, append, entry, failed, follow, later

T = TypeVar("T")
EVER = 1e12
NAMES = ("a", "b", "c")
INDEXES = st.sets(st.integers(0, 2), min_size=1).map(lambda found: tuple(sorted(found)))
TARGETS = st.dictionaries(st.sampled_from(NAMES), INDEXES)
SOURCES = ("shop", "app")
USERS = (7, 0, 9)
ONCE = st.none() | st.builds(
    DedupWindow,
    st.dictionaries(st.integers(0, 2), st.sampled_from("xyz")),
    st.sampled_from((1.0, 3.0)),
)
FATES = ("done", "later", "parked", "dead")

Delivery = tuple[str, int, int]
"""Destination, seq, index."""


class SpoolModel(RuleBasedStateMachine):
    """The expected content of a spool in dictionaries, and the real spool beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        # Housekeeping runs after every commit, in the smallest steps, to reach every state.
        self.patch.setattr(writer, "TICK", 0.001)
        self.patch.setattr(writer, "STEP", 1)
        self.patch.setattr(vacuum, "STEP", 1)
        # Most entries are only counted, and are read from the log when the cursor comes near.
        self.patch.setattr(cursors, "MAX_ENTRIES", 2)
        self.patch.setattr(cursors, "PAGE", 1)
        self.home = Path(tempfile.mkdtemp())
        self.lives = 0
        self.loop = asyncio.new_event_loop()
        self.log: dict[int, Entry] = {}
        self.fresh: set[int] = set()
        self.cursors = dict.fromkeys(NAMES, 0)
        self.waiting: dict[Delivery, WaitingDelivery] = {}
        self.dead: dict[Delivery, Entry] = {}
        self.ended: set[Delivery] = set()
        self.accepted = dict.fromkeys(NAMES, 0)
        self.delivered = dict.fromkeys(NAMES, 0)
        self.dropped = dict.fromkeys(NAMES, 0)
        self.clock = ManualClock()
        self.seen: dict[tuple[str, str], float] = {}

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the machine's loop."""
        return self.loop.run_until_complete(asyncio.wait_for(what, 20))

    @property
    def folder(self) -> Path:
        """Return the current spool's folder."""
        return self.home / str(self.lives)

    def start(self) -> None:
        """Open the spool."""

        async def start() -> None:
            self.spool = SqliteSpool(self.folder, clock=self.clock)
            await self.spool.open()
            await self.spool.register(dict.fromkeys(NAMES, BacklogLimit()))

        self.run(start())

    @initialize()
    def begin(self) -> None:
        """Open the first spool."""
        self.start()

    def teardown(self) -> None:
        """Close everything."""
        self.run(self.spool.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        self.patch.undo()
        shutil.rmtree(self.home)

    # ---- the model -----------------------------------------------------------------------

    def ahead(self, name: str, seq: int) -> bool:
        """Return whether the cursor has not passed the entry."""
        return seq > self.cursors[name] and seq not in self.fresh

    def open_deliveries(self, name: str) -> list[DeliveryRef]:
        """Return the unread deliveries after the cursor, in the order of the log."""
        return [
            DeliveryRef(seq, index)
            for seq, one in self.log.items()
            if self.ahead(name, seq)
            for index in one.targets.get(name, ())
            if not {(name, seq, index)} & {*self.waiting, *self.dead, *self.ended}
        ]

    def progress(
        self,
        name: str,
        marks: list[DeliveryRef],
        fates: list[str],
        cursor: int = 0,
    ) -> Progress:
        """Return the progress with these outcomes, and apply it to the model."""
        done, waits, dead = [], [], []
        self.cursors[name] = max(self.cursors[name], cursor)
        for mark, fate in zip(marks, fates, strict=True):
            key = (name, mark.seq, mark.index)
            was_waiting = self.waiting.pop(key, None)
            if fate == "dead":
                dead.append(failed(mark.seq, mark.index))
                self.dead[key] = self.log[mark.seq]
            elif fate == "done":
                self.delivered[name] += 1
                if self.ahead(name, mark.seq):
                    self.ended.add(key)
                    done.append(mark)
                elif was_waiting:
                    done.append(mark)
            else:
                one = later(mark.seq, mark.index, due=mark.seq * 3.0 % 7, parked=fate == "parked")
                waits.append(one)
                self.waiting[key] = one
        return Progress(
            cursor=cursor,
            later=waits,
            done=done,
            dead=dead,
            delivered=self.delivered[name],
        )

    def dead_lettered(self, key: Delivery) -> None:
        """Remove a dead letter from the model; it does not return if it is ahead of the cursor."""
        del self.dead[key]
        if self.ahead(*key[:2]):
            self.ended.add(key)

    def replayed(self, keys: list[Delivery]) -> None:
        """Move dead letters back to pending in the model."""
        groups: dict[tuple[str, int], list[Delivery]] = {}
        for key in keys:
            groups.setdefault(key[:2], []).append(key)
        for (name, _), group in groups.items():
            seq = max(self.log) + 1
            indexes = tuple(sorted(index for _, _, index in group))
            sent = self.dead[group[0]]
            self.log[seq] = msgspec.structs.replace(sent, targets={name: indexes})
            for key in group:
                self.dead_lettered(key)
                self.waiting[name, seq, key[2]] = later(seq, key[2])
            self.fresh.add(seq)

    # ---- operations ----------------------------------------------------------------------

    def sifted(self, sent: Entry, once: DedupWindow | None) -> Entry | None:
        """Return the entry without duplicates, and record its ids in the model."""
        wanted = {index for indexes in sent.targets.values() for index in indexes}
        repeats = set()
        ids, window = (once.ids, once.window) if once else ({}, 0.0)
        for index in sorted(wanted & set(ids)):
            key = sent.source, ids[index]
            if self.seen.get(key, 0.0) > self.clock.now:
                repeats.add(index)
            else:
                self.seen[key] = self.clock.now + window
        left = {n: tuple(i for i in found if i not in repeats) for n, found in sent.targets.items()}
        left = {name: indexes for name, indexes in left.items() if indexes}
        return msgspec.structs.replace(sent, targets=left) if left or not repeats else None

    @rule(
        batch=st.lists(st.tuples(TARGETS, st.sampled_from(SOURCES), ONCE), min_size=1, max_size=4)
    )
    def append(
        self, batch: list[tuple[dict[str, tuple[int, ...]], str, DedupWindow | None]]
    ) -> None:
        """Append some entries in one call, some with dedup ids."""
        start = max(self.log, default=0) + 1
        sent = [
            msgspec.structs.replace(
                entry(f"r{start + i}"), targets=targets, source=source, users=USERS
            )
            for i, (targets, source, _) in enumerate(batch)
        ]
        told = follow(self.spool)

        async def sending() -> list[int]:
            both = zip(sent, batch, strict=True)
            appends = [append(self.spool, one, once) for one, (*_, once) in both]
            return list(await asyncio.gather(*appends))

        found = self.run(sending())
        left = [self.sifted(one, once) for one, (*_, once) in zip(sent, batch, strict=True)]
        taken = [one for one in left if one is not None]
        seqs = iter(range(start, start + len(taken)))
        assert found == [0 if one is None else next(seqs) for one in left]
        assert told == [LogRecord(seq, one) for seq, one in enumerate(taken, start)]
        self.log |= dict(enumerate(taken, start))
        for one in taken:
            for name, indexes in one.targets.items():
                self.accepted[name] += len(indexes)

    @rule(seconds=st.sampled_from((0.5, 1.0, 2.0)))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.now += seconds

    async def settle(self, name: str, progress: Progress) -> None:
        """Settle in a coroutine."""
        await self.spool.settle(name, progress)

    @rule(name=st.sampled_from(NAMES), data=st.data())
    def advance(self, name: str, data: st.DataObject) -> None:
        """Settle some entries in order, and move the cursor past them."""
        seqs = sorted({mark.seq for mark in self.open_deliveries(name)})
        if seqs:
            cursor = data.draw(st.sampled_from(seqs))
            marks = [mark for mark in self.open_deliveries(name) if mark.seq <= cursor]
            fates = data.draw(st.tuples(*[st.sampled_from(FATES) for _ in marks]))
            self.run(self.settle(name, self.progress(name, marks, list(fates), cursor)))

    @rule(name=st.sampled_from(NAMES), fate=st.sampled_from(FATES), data=st.data())
    def settle_ahead(self, name: str, fate: str, data: st.DataObject) -> None:
        """Settle a delivery out of order, ahead of the cursor."""
        if marks := self.open_deliveries(name):
            mark = data.draw(st.sampled_from(marks))
            self.run(self.settle(name, self.progress(name, [mark], [fate])))

    @rule(fate=st.sampled_from(FATES), data=st.data())
    def settle_waiting(self, fate: str, data: st.DataObject) -> None:
        """Finish a waiting delivery, or make it wait again."""
        if self.waiting:
            name, seq, index = data.draw(st.sampled_from(sorted(self.waiting)))
            self.run(self.settle(name, self.progress(name, [DeliveryRef(seq, index)], [fate])))

    def numbers(self) -> dict[int, Delivery]:
        """Return the ids of all dead letters."""
        letters = self.run(self.spool.dead_letters(limit=10_000))
        return {dead.id: (dead.destination, dead.mark.seq, dead.index) for dead in letters}

    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        """Delete some dead letters."""
        if numbers := self.numbers():
            ids = data.draw(st.sets(st.sampled_from(sorted(numbers))))
            assert self.run(self.spool.delete_dead_letters(sorted(ids))) == len(ids)
            for number in ids:
                self.dead_lettered(numbers[number])
                self.dropped[numbers[number][0]] += 1

    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        """Replay some dead letters."""
        if numbers := self.numbers():
            ids = sorted(data.draw(st.sets(st.sampled_from(sorted(numbers)))))
            assert self.run(self.spool.replay_dead_letters(ids)) == len(ids)
            self.replayed([numbers[number] for number in ids])

    @rule(name=st.sampled_from(NAMES))
    def replay_from_elsewhere(self, name: str) -> None:
        """Replay a destination's dead letters through a separate connection."""
        numbers = self.numbers()
        keys = [numbers[number] for number in sorted(numbers) if numbers[number][0] == name]
        notices: asyncio.Queue[Any] = asyncio.Queue()
        self.spool.subscribe(notices.put_nowait)
        with DeadLetterStore(self.folder) as box:
            assert box.replay(DeadLetterFilter(destination=name)) == len(keys)
        self.replayed(keys)
        while keys and self.run(notices.get()) != DeadLettersReplayed(name):
            pass

    @rule(name=st.sampled_from(NAMES))
    def drop_from_elsewhere(self, name: str) -> None:
        """Delete a destination's dead letters through a separate connection."""
        keys = [key for key in self.dead if key[0] == name]
        with DeadLetterStore(self.folder) as box:
            assert box.drop(DeadLetterFilter(destination=name)) == len(keys)
        for key in keys:
            self.dead_lettered(key)
            self.dropped[name] += 1

    @rule()
    def crash(self) -> None:
        """Continue with the files that a crash would leave."""
        shutil.copytree(self.folder, self.home / str(self.lives + 1))
        self.run(self.spool.close())
        self.lives += 1
        self.start()

    @rule()
    def restart(self) -> None:
        """Close and open again."""
        self.run(self.spool.close())
        self.start()

    # ---- invariants ----------------------------------------------------------------------

    @invariant()
    def same(self) -> None:
        """Every query to the spool returns the model's content."""
        self.run(self.compare())

    async def compare(self) -> None:
        """Query the spool for everything, and compare it with the model."""
        spool = self.spool
        depths = await spool.depths()
        for name in NAMES:
            assert spool.cursor(name) == self.cursors[name]
            expected = self.open_deliveries(name)
            page = await spool.unread(name, 0, 10_000, 10_000)
            unread = [
                (x.seq, *both) for x in page.items for both in zip(x.numbers, x.users, strict=True)
            ]
            assert unread == [(mark.seq, mark.index, USERS[mark.index]) for mark in expected]
            mine = {key[1:]: one for key, one in self.waiting.items() if key[0] == name}
            marks = {mark for mark, one in mine.items() if not one.parked}
            found = await spool.retrying(name, EVER, 10_000)
            assert {(one.mark.seq, one.mark.index) for one in found} == marks
            parked = set(mine) - marks
            found = await spool.parked(name, "u1", 10_000)
            assert [(one.mark.seq, one.mark.index) for one in found] == sorted(parked)
            ahead = [seq for seq, one in self.log.items() if name in one.targets]
            ahead = [seq for seq in ahead if self.ahead(name, seq)]
            assert depths[name].backlog == len(ahead)
            assert depths[name].retrying == len(marks)
            assert depths[name].parked == len(parked)
        needed = sorted({seq for _, seq, _ in self.waiting})
        assert [item.entry for item in await spool.entries(needed)] == [
            self.log[seq] for seq in needed
        ]
        letters = await spool.dead_letters(limit=10_000)
        found_dead = {(d.destination, d.mark.seq, d.index): d.entry for d in letters}
        assert found_dead == self.dead
        assert spool.health() is None
        balances = await spool.balances()
        for name in NAMES:
            assert balances[name] == Balance(
                accepted=self.accepted[name],
                delivered=self.delivered[name],
                declined=0,
                shadowed=0,
                dead_letters=sum(key[0] == name for key in self.dead),
                dropped=self.dropped[name],
                pending=len(self.open_deliveries(name))
                + sum(key[0] == name for key in self.waiting),
            )
            assert balances[name].unaccounted == 0
        with DeadLetterStore(self.folder) as box:
            assert box.balances() == balances


SpoolModel.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestSpoolModel = SpoolModel.TestCase

"""Duplicates and replays are decided in the order of the log, and alike by every owner."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.spool.jetstream import decisions
from gateway.spool.jetstream.decisions import DedupIds
from gateway.spool.jetstream.frames import FrameRow, ReplayedLetter
from gateway.spool.jetstream.shard_state import Changes, ShardState

WINDOW = 10.0
KEYS = [bytes([number]) * 16 for number in range(4)]
APPENDS = st.lists(st.sampled_from(KEYS), max_size=3).map(lambda keys: dict(enumerate(keys)))
STEPS = st.one_of(APPENDS, st.sampled_from(["record", "snapshot", "take over"]))


class Owners:
    """A log in memory, its journal, and the state of the shard's owner."""

    def __init__(self) -> None:
        self.log: list[tuple[FrameRow, tuple[int, ...], float]] = []
        self.journal: list[bytes] = []
        self.state = ShardState()
        self.state.begin("a", 0)
        self.record(1)

    def record(self, max_bytes: int) -> None:
        """Write what is decided and not recorded."""
        *early, last = self.state.decisions(self.state.position, max_bytes)
        new = [self.state[name].snapshot() for name in self.state.new]
        pieces = [Changes(part[-1].seq, new, decisions=part) for part in early]
        for body in [*pieces, Changes(self.state.position, new, decisions=last)]:
            self.journal.append(msgspec.msgpack.encode(body))
            self.state.apply(body)

    def snapshot(self) -> None:
        """Replace the journal by the state."""
        self.journal = [msgspec.msgpack.encode(part) for part in self.state.snapshot(40)]

    def append(self, row: FrameRow, targets: tuple[int, ...], at: float) -> tuple[int, ...]:
        """Return what is left of the next entry's deliveries."""
        self.log.append((row, targets, at))
        seq = len(self.log)
        left = self.state.take(seq, row, {"a": targets}, at)
        self.state.position = seq
        return left.get("a", ())

    def take_over(self) -> None:
        """Make the state from journal and log."""
        self.state = ShardState()
        for body in self.journal:
            self.state.apply(msgspec.msgpack.decode(body, type=Changes))
        recorded = self.state.position
        for seq, (row, targets, at) in enumerate(self.log, 1):
            self.state.restore(seq, row, {"a": targets}, at, recorded)


@given(st.lists(STEPS, max_size=40))
def test_every_owner_decides_alike(steps: list[dict[int, bytes] | str]) -> None:
    """Whatever was recorded before a takeover, an id counts once in its window."""
    owners, known = Owners(), dict[bytes, float]()
    expected: dict[int, frozenset[int]] = {}
    for number, step in enumerate(steps):
        if step == "record":
            owners.record(64)
        elif step == "snapshot":
            owners.snapshot()
        elif step == "take over":
            owners.take_over()
        elif isinstance(step, dict):
            at, repeats = number * 3.0, set[int]()
            for event, key in step.items():
                if known.get(key, at) > at:
                    repeats.add(event)
                else:
                    known[key] = at + WINDOW
            owners.append(FrameRow("r", b"", b"", step, WINDOW), tuple(step), at)
            if repeats:
                expected[len(owners.log)] = frozenset(repeats)
    assert owners.state.left_out == expected
    owners.take_over()
    assert owners.state.left_out == expected


def test_an_owner_replays_a_letter_once() -> None:
    """Of two rows that replay a letter only the first one does, also for the next owner."""
    owners = Owners()
    row = FrameRow("r", b"", b"", replays=[ReplayedLetter(7, 0, "u1", "View", "was refused")])
    assert owners.append(row, (0,), 0.0) == (0,)
    assert owners.append(row, (0,), 0.0) == ()
    for step in (owners.take_over, lambda: owners.record(1), owners.take_over, owners.snapshot):
        step()
        assert [one.mark.seq for one in owners.state["a"].waiting] == [1]
        assert owners.state["a"].replayed == 1
        assert owners.state.removed == {7}


def test_what_a_destination_refuses_waits_to_be_a_dead_letter() -> None:
    """It is handed to nobody, is no part of the backlog, and is known to the next owner."""
    owners = Owners()
    key = {0: KEYS[0]}
    assert owners.append(FrameRow("r0", b"", b"", key, WINDOW), (0,), 0.0) == (0,)
    refused = FrameRow("r1", b"", b"", {0: KEYS[0], 1: KEYS[1]}, WINDOW, refused={"a": "full"})
    assert owners.append(refused, (0, 1), 1.0) == (), "the first event is a duplicate"
    for step in (owners.take_over, lambda: owners.record(1), owners.take_over, owners.snapshot):
        step()
        found = owners.state["a"]
        (waiting,) = found.waiting.parked_of("", 9)
        assert (waiting.mark.seq, waiting.mark.index, waiting.reason) == (2, 1, "full")
        assert (found.counts().backlog, found.balance().accepted, found.balance().pending) == (
            1, 2, 2,
        )  # fmt: skip
        assert not owners.state.replays


def test_expired_ids_are_forgotten() -> None:
    """When the ids have doubled, those that expired are no longer in memory."""
    ids = DedupIds()
    ids.add([(number.to_bytes(16, "big"), float(number)) for number in range(5000)])
    ids.sweep(4000.0)
    assert len(ids) == 999
    assert len(msgspec.msgpack.encode(next(iter(ids)))) <= decisions.ID_BYTES

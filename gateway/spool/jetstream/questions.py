"""What the owners of shards are asked: each question is a message that knows its answer.

A question is answered for one shard. `gateway.spool.jetstream.owners` asks, whoever owns it.
"""

from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from gateway.spool.dead_letters import DeadLetterFilter, DeadLetterGroup
from gateway.spool.jetstream.shard import JetStreamShard
from gateway.spool.rows import pack, unpack
from gateway.spool.values import Balance, Entry, PendingRequest, QueueDepth, WaitingDelivery

T = TypeVar("T")


class Question(msgspec.Struct, Generic[T], frozen=True):
    """Something to ask the owner of a shard.

    Attributes:
        answer_type: the type of `of`'s result, to decode it.
        changes: whether the answer changes the shard. Then it is not asked twice.
    """

    answer_type: ClassVar[Any]
    changes: ClassVar[bool] = False

    async def of(self, shard: JetStreamShard) -> T:
        """Return the answer for a shard of this gateway; raises SpoolError if there is none."""
        raise NotImplementedError


class AskDepths(Question[dict[str, QueueDepth]], frozen=True, tag="depths"):
    """The queue depth of each known destination."""

    answer_type = dict[str, QueueDepth]

    async def of(self, shard: JetStreamShard) -> dict[str, QueueDepth]:
        """Return the shard's part."""
        return await shard.depths()


class AskBalances(Question[dict[str, Balance]], frozen=True, tag="balances"):
    """The balance of each known destination."""

    answer_type = dict[str, Balance]

    async def of(self, shard: JetStreamShard) -> dict[str, Balance]:
        """Return the shard's part."""
        return await shard.balances()


class Forget(Question[int | None], frozen=True, tag="forget"):
    """Delete a destination's cursor and pending deliveries."""

    answer_type = int | None
    changes = True
    destination: str

    async def of(self, shard: JetStreamShard) -> int | None:
        """Return how many deliveries were pending; None if the shard does not know it."""
        if self.destination not in shard.state.destinations:
            return None
        return await shard.forget(self.destination)


class PendingDelivery(msgspec.Struct, frozen=True, array_like=True):
    """A pending delivery of a request."""

    destination: str
    number: int
    waiting: WaitingDelivery | None
    """None for one of the backlog."""


class PendingPart(msgspec.Struct, frozen=True, array_like=True):
    """A shard's part of a request; see `PendingRequest`."""

    id: str
    meta: bytes
    body: bytes
    pending: list[PendingDelivery]
    whole: bool

    @property
    def entry(self) -> Entry:
        """Return the entry."""
        return unpack(self.id, self.meta, self.body)


class AskPending(Question[PendingPart | None], frozen=True, tag="pending"):
    """A request and its pending deliveries."""

    answer_type = PendingPart | None
    request_id: str

    async def of(self, shard: JetStreamShard) -> PendingPart | None:
        """Return the shard's part; None if the request is not in it."""
        found = await shard.pending(self.request_id)
        return _part_of(found) if found else None


def _part_of(found: PendingRequest) -> PendingPart:
    entry = found.entry
    pending = [PendingDelivery(*key, waiting) for key, waiting in found.waits.items()]
    return PendingPart(entry.id, pack(entry), entry.request.body, pending, found.whole)


class FindLetters(Question[list[int]], frozen=True, tag="find_letters"):
    """The ids of dead letters after one."""

    answer_type = list[int]
    which: DeadLetterFilter
    after: int
    limit: int

    async def of(self, shard: JetStreamShard) -> list[int]:
        """Return the first ids; anybody can read the letters themselves."""
        found = await shard.dead_letters.find(self.which, self.after, self.limit)
        return [letter.id for letter in found]


class AskLetter(Question[bool], frozen=True, tag="letter"):
    """Whether a dead letter exists: its message may be there although it was deleted."""

    answer_type = bool
    number: int

    async def of(self, shard: JetStreamShard) -> bool:
        """Return whether it does."""
        return await shard.dead_letters.one(self.number) is not None


class AskLetterGroups(Question[list[DeadLetterGroup]], frozen=True, tag="letter_groups"):
    """The groups of dead letters."""

    answer_type = list[DeadLetterGroup]
    which: DeadLetterFilter

    async def of(self, shard: JetStreamShard) -> list[DeadLetterGroup]:
        """Return the shard's part of each group."""
        return await shard.dead_letters.groups(self.which)


class DeleteLetters(Question[int], frozen=True, tag="delete_letters"):
    """Delete dead letters, by ids or by filter."""

    answer_type = int
    changes = True
    which: list[int] | DeadLetterFilter
    moved: bool = False
    """Another spool has them now."""

    async def of(self, shard: JetStreamShard) -> int:
        """Return how many there were."""
        return await shard.dead_letters.delete(self.which, moved=self.moved)


class RestoreIds(Question[None], frozen=True, tag="restore_ids"):
    """Remember dedup keys of another spool. Asked again, it does no harm."""

    answer_type = None
    ids: dict[bytes, float]

    async def of(self, shard: JetStreamShard) -> None:
        """Remember all of them: a key does not say whose event it was."""
        await shard.restore_ids(self.ids)


class RestoreLetters(Question[None], frozen=True, tag="restore_letters"):
    """Store dead letters of another spool. Asked again, it does no harm."""

    answer_type = None
    letters: dict[bytes, bytes]
    """Their messages by key."""

    async def of(self, shard: JetStreamShard) -> None:
        """Store those whose keys are not known."""
        await shard.restore_letters(self.letters)


class ReplayLetters(Question[int], frozen=True, tag="replay_letters"):
    """Replay dead letters, by ids or by filter."""

    answer_type = int
    changes = True
    which: list[int] | DeadLetterFilter

    async def of(self, shard: JetStreamShard) -> int:
        """Return how many there were."""
        return await shard.replay(self.which)


AnyQuestion = (
    AskDepths
    | AskBalances
    | Forget
    | AskPending
    | FindLetters
    | AskLetter
    | AskLetterGroups
    | DeleteLetters
    | ReplayLetters
    | RestoreIds
    | RestoreLetters
)

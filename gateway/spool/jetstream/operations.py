"""What operators see and decide, of all shards, from any gateway of the cluster."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from msgspec.structs import replace

from gateway.errors import SpoolError
from gateway.spool.dead_letters import (
    ALL_DEAD_LETTERS,
    DeadLetter,
    DeadLetterFilter,
    DeadLetterGroup,
)
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.dead_letters import read_ids
from gateway.spool.jetstream.layout import Layout, message_of
from gateway.spool.jetstream.letter_groups import LetterGroups
from gateway.spool.jetstream.pauses import PausedDestinations
from gateway.spool.jetstream.questions import (
    AskBalances,
    AskDepths,
    AskLetter,
    AskLetterGroups,
    AskPending,
    DeleteLetters,
    FindLetters,
    Forget,
    PendingPart,
    Question,
    ReplayLetters,
    RestoreIds,
)
from gateway.spool.sums import sum_of_balances, sum_of_depths
from gateway.spool.values import BacklogLimit, Balance, Deliveries, PendingRequest, QueueDepth

_NOTHING = QueueDepth(0, 0, 0, 0, 0, None, None)

T = TypeVar("T")
Wanted = Sequence[int] | DeadLetterFilter


class ClusterOperations(ABC):
    """Asks the owners of all shards, and adds their answers up.

    Raises SpoolError where an owner cannot answer.

    Args:
        connection: of this gateway.
        layout: names streams and subjects.
    """

    def __init__(self, connection: NatsConnection, layout: Layout) -> None:
        self._connection, self._layout = connection, layout
        self._pauses = PausedDestinations(connection, layout)
        self._registered: Mapping[str, BacklogLimit] = {}

    @abstractmethod
    def _ask(
        self, question: Question[T], shards: Iterable[int] | None = None
    ) -> Awaitable[dict[int, T]]:
        """Return the answers for some shards, or for all of them, by shard."""

    # ---- destinations ------------------------------------------------------------------------

    async def depths(self) -> dict[str, QueueDepth]:
        """Return the queue depth of every known destination, over all shards."""
        found = sum_of_depths((await self._ask(AskDepths())).values())
        return dict.fromkeys(self._registered, _NOTHING) | found

    async def orphans(self) -> dict[str, QueueDepth]:
        """Return the destinations in the store that this gateway has not registered."""
        depths = await self.depths()
        return {name: depth for name, depth in depths.items() if name not in self._registered}

    async def balances(self) -> dict[str, Balance]:
        """Return the balance of every known destination, over all shards.

        The counts of a shard are of the same moment, so the sum is balanced if all shards are.
        """
        return sum_of_balances((await self._ask(AskBalances())).values())

    async def forget(self, destination: str) -> int:
        """Delete an orphan everywhere (see ``SpoolAdmin.forget``)."""
        if destination in self._registered:
            raise SpoolError(
                f"destination {destination!r} is registered; remove it from the configuration first"
            )
        answers = (await self._ask(Forget(destination))).values()
        if all(pending is None for pending in answers):
            raise SpoolError(f"unknown destination {destination!r}")
        await self._pauses.pause(destination, paused=False)
        return sum(pending or 0 for pending in answers)

    async def pause(self, destination: str, *, paused: bool) -> None:
        """Store whether a destination is paused, for all gateways (see ``SpoolAdmin.pause``)."""
        if destination not in self._registered and destination not in await self.depths():
            raise SpoolError(f"unknown destination {destination!r}")
        await self._pauses.pause(destination, paused=paused)

    async def paused(self) -> frozenset[str]:
        """Return the destinations that are paused."""
        return await self._pauses.names()

    # ---- requests ----------------------------------------------------------------------------

    async def pending(self, request_id: str) -> PendingRequest | None:
        """Return a request and its pending deliveries (see ``SpoolAdmin.pending``)."""
        answers = await self._ask(AskPending(request_id))
        return _together([part for _, part in sorted(answers.items()) if part])

    async def size(self) -> int:
        """Return the bytes of all streams, each replica counted once."""
        layout = self._layout
        streams = (layout.log_stream, layout.state_stream, layout.consent_stream)
        found = await asyncio.gather(*[self._connection.stream_info(name) for name in streams])
        return sum(info.bytes for info in found)

    # ---- dead letters ------------------------------------------------------------------------

    async def dead_letters(
        self, which: DeadLetterFilter = ALL_DEAD_LETTERS, after: int = 0, limit: int = 50
    ) -> list[DeadLetter]:
        """Return dead letters by id; ``after`` is the last id of the previous page."""
        answers = await self._ask(FindLetters(which, after, limit))
        found = sorted((number, shard) for shard, ids in answers.items() for number in ids)
        by_shard: dict[int, set[int]] = {}
        for number, shard in found[:limit]:
            by_shard.setdefault(shard, set()).add(number)
        letters = await asyncio.gather(
            *[
                read_ids(self._connection, self._layout, shard, ids)
                for shard, ids in by_shard.items()
            ]
        )
        return sorted((one for some in letters for one in some), key=lambda letter: letter.id)

    async def letter_groups(
        self, which: DeadLetterFilter = ALL_DEAD_LETTERS, limit: int = 50
    ) -> list[DeadLetterGroup]:
        """Return groups by destination, cause and reason pattern, the largest first."""
        answers = await self._ask(AskLetterGroups(which))
        return LetterGroups(one for some in answers.values() for one in some).largest(limit)

    async def dead_letter(self, number: int) -> DeadLetter | None:
        """Return one dead letter by its id."""
        shard = await self._shard_of(number)
        if shard is None or not (await self._ask(AskLetter(number), [shard]))[shard]:
            return None
        found = await read_ids(self._connection, self._layout, shard, [number])
        return found[0] if found else None

    async def delete_dead_letters(self, which: Wanted) -> int:
        """Delete dead letters, by ids or by filter; return how many there were."""
        if isinstance(which, DeadLetterFilter):
            return sum((await self._ask(DeleteLetters(which))).values())
        return await self._each(DeleteLetters, which)

    async def delete_moved_letters(self, ids: Sequence[int]) -> None:
        """Delete dead letters that another spool has now."""
        await self._each(partial(DeleteLetters, moved=True), ids)

    async def restore_message_ids(self, ids: Mapping[bytes, float]) -> None:
        """Remember dedup keys of another spool in all shards: a key does not name the user."""
        await self._ask(RestoreIds(dict(ids)))

    async def replay_dead_letters(self, which: Wanted) -> int:
        """Replay dead letters (see ``SpoolAdmin.replay_dead_letters``)."""
        if isinstance(which, DeadLetterFilter):
            return sum((await self._ask(ReplayLetters(which))).values())
        return await self._each(ReplayLetters, which)

    async def _each(
        self, question: Callable[[list[int]], Question[int]], ids: Sequence[int]
    ) -> int:
        """Ask the shard of each dead letter; return the sum of the answers."""
        by_shard: dict[int, list[int]] = {}
        for number in ids:
            if (shard := await self._shard_of(number)) is not None:
                by_shard.setdefault(shard, []).append(number)
        answers = await asyncio.gather(
            *[self._ask(question(some), [shard]) for shard, some in by_shard.items()]
        )
        return sum(count for answer in answers for count in answer.values())

    async def _shard_of(self, letter: int) -> int | None:
        """Return the shard of a dead letter; None if its message is not there."""
        found = await self._connection.message_at(self._layout.state_stream, message_of(letter))
        return self._layout.letters_shard(found[0]) if found else None


def _together(parts: Sequence[PendingPart]) -> PendingRequest | None:
    """Return a request of which several shards may have a part."""
    if not parts:
        return None
    waits = {(one.destination, one.number): one.waiting for part in parts for one in part.pending}
    wholes = [part.entry for part in parts if part.whole]
    if not wholes:
        return PendingRequest(parts[0].entry, waits, whole=False)
    targets: dict[str, Deliveries] = {}
    for entry in wholes:
        for name, numbers in entry.targets.items():
            targets[name] = tuple(sorted({*targets.get(name, ()), *numbers}))
    return PendingRequest(replace(wholes[0], targets=targets), waits)

"""The dead letters of a shard: find and delete them."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

from gateway.spool.dead_letters import DeadLetter, DeadLetterFilter, DeadLetterGroup
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.layout import Layout, message_of
from gateway.spool.jetstream.letter_groups import LetterGroups, group_of
from gateway.spool.jetstream.letter_messages import matches, read_letters
from gateway.spool.jetstream.messages import StoredMessage
from gateway.spool.jetstream.recorder import ProgressRecorder
from gateway.spool.jetstream.shard_state import Changes, ShardState

REPLICAS_BEHIND = 600.0
"""Seconds for which deleted letters are remembered: a replica that is behind still has them."""
PORTION = 1000
"""Dead letters that are deleted or replayed at a time."""
CLEANED = 2000
"""Messages that are deleted at a time."""
_TOGETHER = 32
"""Messages that are read at a time, one by one."""


class ShardDeadLetters:
    """Reads the messages of a shard's dead letters; their number is in the shard's state.

    Args:
        connection: of this gateway.
        layout: names stream and subjects.
        shard: its number.
        state: of the shard.
        recorder: of the shard.
    """

    def __init__(
        self,
        connection: NatsConnection,
        layout: Layout,
        shard: int,
        state: ShardState,
        recorder: ProgressRecorder,
    ) -> None:
        self._connection, self._stream = connection, layout.state_stream
        self._subject = layout.dead_letters(shard)
        self._state, self._recorder = state, recorder
        self._deleted: dict[int, float] = {}
        """When messages were deleted, by sequence."""

    async def find(self, which: DeadLetterFilter, after: int, limit: int) -> list[DeadLetter]:
        """Return dead letters by id; *after* is the last id of the previous page."""
        found: list[DeadLetter] = []
        async for letter in self._letters(after):
            if matches(which, letter):
                found.append(letter)
                if len(found) == limit:
                    break
        return found

    async def one(self, number: int) -> DeadLetter | None:
        """Return one dead letter by its id."""
        message = await self._connection.message(self._stream, self._subject, message_of(number))
        letters = self._of(message) if message else []
        return next((letter for letter in letters if letter.id == number), None)

    async def groups(self, which: DeadLetterFilter) -> list[DeadLetterGroup]:
        """Return groups by destination, cause and reason pattern."""
        groups = LetterGroups()
        async for letter in self._letters(0):
            if matches(which, letter):
                groups.add(group_of(letter))
        return groups.largest()

    async def portions(
        self, which: Sequence[int] | DeadLetterFilter
    ) -> AsyncIterator[list[DeadLetter]]:
        """Yield all dead letters with some ids, or that a filter selects, some at a time."""
        found: list[DeadLetter] = []
        letters = self._letters(0) if isinstance(which, DeadLetterFilter) else self._with_ids(which)
        async for letter in letters:
            if not isinstance(which, DeadLetterFilter) or matches(which, letter):
                found.append(letter)
                if len(found) == PORTION:
                    yield found
                    found = []
        if found:
            yield found

    async def _with_ids(self, ids: Sequence[int]) -> AsyncIterator[DeadLetter]:
        for number in ids:
            if letter := await self.one(number):
                yield letter

    async def delete(self, which: Sequence[int] | DeadLetterFilter, *, moved: bool = False) -> int:
        """Delete dead letters, by ids or by filter; return how many there were.

        Those that were *moved* to another spool are not accepted here any more.
        """
        count = 0
        async for letters in self.portions(which):
            count += await self._delete({one.id: one.destination for one in letters}, moved=moved)
        await self.clean()
        return count

    async def _delete(self, found: Mapping[int, str], *, moved: bool) -> int:
        there: dict[int, str] = {}

        def drop() -> Changes:
            gone = self._state.removed
            there.update({number: name for number, name in found.items() if number not in gone})
            return self._state.dropping(there, moved=moved)

        await self._recorder.store(drop)
        return len(there)

    async def clean(self) -> None:
        """Delete messages of which no letter is left, up to `CLEANED` of them."""
        now, removed = time.monotonic(), self._state.removed
        messages = {message_of(letter) for letter in removed} - self._deleted.keys()
        some = sorted(messages)[:CLEANED]
        for start in range(0, len(some), _TOGETHER):
            await asyncio.gather(
                *[self._clean(number, now) for number in some[start : start + _TOGETHER]]
            )
        for number in [n for n, at in self._deleted.items() if at <= now - REPLICAS_BEHIND]:
            del self._deleted[number]
            removed -= {letter for letter in removed if message_of(letter) == number}

    async def _clean(self, number: int, now: float) -> None:
        message = await self._connection.message(self._stream, self._subject, number)
        if message is not None:
            if self._of(message):
                return
            await self._connection.delete(self._stream, number)
        self._deleted[number] = now

    async def _letters(self, after: int) -> AsyncIterator[DeadLetter]:
        last = await self._connection.last(self._stream, self._subject)
        if last is None:
            return
        start = message_of(after)
        async for message in self._connection.read_all(
            self._stream, self._subject, start, last.seq, may_vanish=True
        ):
            for letter in self._of(message):
                if letter.id > after:
                    yield letter

    def _of(self, message: StoredMessage) -> list[DeadLetter]:
        return [one for one in read_letters(message) if one.id not in self._state.removed]


async def read_ids(
    connection: NatsConnection, layout: Layout, shard: int, ids: Collection[int]
) -> list[DeadLetter]:
    """Return dead letters of a shard by their ids, as far as their messages are there."""
    subject = layout.dead_letters(shard)
    numbers = sorted({message_of(number) for number in ids})
    found: list[DeadLetter] = []
    for start in range(0, len(numbers), _TOGETHER):
        messages = await asyncio.gather(
            *[
                connection.message(layout.state_stream, subject, number)
                for number in numbers[start : start + _TOGETHER]
            ]
        )
        letters = [letter for one in messages if one for letter in read_letters(one)]
        found += [letter for letter in letters if letter.id in ids]
    return found

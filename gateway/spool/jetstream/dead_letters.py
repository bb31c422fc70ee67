"""The dead letters of a shard: find and delete them."""

import time
from collections.abc import AsyncIterator, Sequence

from msgspec.structs import replace

from gateway.spool.dead_letters import (
    DeadLetter,
    DeadLetterFilter,
    DeadLetterGroup,
    reason_pattern,
)
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.layout import Layout, message_of
from gateway.spool.jetstream.letter_messages import matches, read_letters
from gateway.spool.jetstream.messages import StoredMessage
from gateway.spool.jetstream.recorder import ProgressRecorder
from gateway.spool.jetstream.shard_state import Changes, ShardState

REPLICAS_BEHIND = 600.0
"""Seconds for which deleted letters are remembered: a replica that is behind still has them."""


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

    async def groups(self, which: DeadLetterFilter, limit: int) -> list[DeadLetterGroup]:
        """Return groups by destination, cause and reason pattern, the largest first."""
        groups: dict[tuple[str, str, str], DeadLetterGroup] = {}
        async for letter in self._letters(0):
            if matches(which, letter):
                pattern = reason_pattern(letter.reason)
                key = (letter.destination, letter.cause, pattern)
                known = groups.get(key) or DeadLetterGroup(
                    *key, letter.reason, 0, letter.at, letter.at, letter.id
                )
                groups[key] = replace(
                    known,
                    count=known.count + 1,
                    first=min(known.first, letter.at),
                    last=max(known.last, letter.at),
                    newest=letter.id,
                )
        order = sorted(groups.values(), key=lambda group: (-group.count, -group.last))
        return order[:limit]

    async def selected(self, which: Sequence[int] | DeadLetterFilter) -> list[DeadLetter]:
        """Return all dead letters with some ids, or that a filter selects."""
        if isinstance(which, DeadLetterFilter):
            return [one async for one in self._letters(0) if matches(which, one)]
        return [one for number in which if (one := await self.one(number))]

    async def delete(self, which: Sequence[int] | DeadLetterFilter) -> int:
        """Delete dead letters, by ids or by filter; return how many there were."""
        found = await self.selected(which)
        there: dict[int, str] = {}

        def drop() -> Changes:
            gone = self._state.removed
            there.update({one.id: one.destination for one in found if one.id not in gone})
            return self._state.dropping(there)

        if found:
            await self._recorder.store(drop)
            await self.clean()
        return len(there)

    async def clean(self) -> None:
        """Delete the messages of which no letter is left."""
        now, removed = time.monotonic(), self._state.removed
        for number in {message_of(letter) for letter in removed} - self._deleted.keys():
            message = await self._connection.message(self._stream, self._subject, number)
            if message is not None:
                if self._of(message):
                    continue
                await self._connection.delete(self._stream, number)
            self._deleted[number] = now
        for number in [n for n, at in self._deleted.items() if at <= now - REPLICAS_BEHIND]:
            del self._deleted[number]
            removed -= {letter for letter in removed if message_of(letter) == number}

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

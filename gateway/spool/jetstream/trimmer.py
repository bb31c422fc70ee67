"""Trim a shard's part of the log: delete the frames that every destination has passed."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable

import msgspec

from gateway.spool.jetstream.frames import Frame, FrameRow, FrameWriter
from gateway.spool.jetstream.layout import message_of, seq_of
from gateway.spool.jetstream.log_reader import LogReader
from gateway.spool.jetstream.messages import WrongSequence
from gateway.spool.jetstream.recorder import ProgressRecorder
from gateway.spool.jetstream.shard_state import Changes, ShardState
from gateway.spool.rows import pack
from gateway.spool.values import Entry

TRIM_DELAY = 15.0
"""Seconds for which passed frames stay: servers forget the ids of deleted messages when they start
again, and a frame may be repeated for as long as a sender has patience."""
_TOGETHER = 64
"""Entries that are copied at a time."""

_encode = msgspec.msgpack.Encoder().encode


class LogTrimmer:
    """Deletes frames, and first copies the entries among them that still wait.

    Args:
        writer: of this gateway; its connection and layout are the trimmer's too.
        shard: its number.
        state: of the shard.
        log: reads the shard's log.
        recorder: of the shard.
        check: raises SpoolError unless the shard is ours.
        delay: seconds, see `TRIM_DELAY`.

    Attributes:
        copied: the seqs of the entries that have copies.
    """

    def __init__(  # noqa: PLR0913 - it stands between log, copies and journal
        self,
        writer: FrameWriter,
        shard: int,
        state: ShardState,
        log: LogReader,
        recorder: ProgressRecorder,
        *,
        check: Callable[[], None],
        delay: float,
    ) -> None:
        self._connection, self._layout, self._clock = (
            writer.connection, writer.layout, writer.clock
        )  # fmt: skip
        self._shard, self._state, self._log, self._recorder = shard, state, log, recorder
        self._check, self._delay = check, delay
        self._passed: deque[tuple[float, int]] = deque()
        """When which frames were no longer needed."""
        self.copied: set[int] = set()

    async def begin(self) -> None:
        """Read which entries have copies."""
        subjects = await self._connection.subjects(
            self._layout.state_stream, self._layout.waiting(self._shard)
        )
        self.copied = {int(subject.rpartition(".")[2]) for subject in subjects}

    async def run(self) -> None:
        """Delete the frames that no destination needs; copy waiting entries out of their way.

        The frame of the last entry stays, so that the end of the log is known.
        """
        if self._state.unrecorded:
            await self._recorder.store(lambda: Changes(self._state.position, []))
        now, cut = time.monotonic(), message_of(self._state.needed())
        self._passed.append((now, cut))
        while self._passed and self._passed[0][0] <= now - self._delay:
            cut = self._passed.popleft()[1]
            await self._trim_before(cut)
        await self._delete_copies()

    async def _trim_before(self, cut: int) -> None:
        if cut <= self._log.trimmed:
            return
        seqs = {seq for seq in self._state.waiting_seqs() if message_of(seq) < cut}
        waiting = sorted(seqs - self.copied)
        for start in range(0, len(waiting), _TOGETHER):
            entries = await self._log.entries(waiting[start : start + _TOGETHER])
            await asyncio.gather(*[self._keep(seq, entry) for seq, entry in entries.items()])
        self._check()
        self._log.trimmed = cut
        self._state.trimmed(seq_of(cut, 0))
        await self._connection.purge(
            self._layout.log_stream, self._layout.log(self._shard), before=cut
        )

    async def _keep(self, seq: int, entry: Entry) -> None:
        """Copy an entry that still waits."""
        row = FrameRow(entry.id, pack(entry), entry.request.body)
        frame = Frame("", 0, self._clock.now(), [row])
        with contextlib.suppress(WrongSequence):  # it is there already
            await self._connection.store(
                self._layout.waiting(self._shard, seq), _encode(frame), expected=0
            )
        self.copied.add(seq)

    async def _delete_copies(self) -> None:
        for seq in self.copied - self._state.waiting_seqs():
            await self._connection.purge(
                self._layout.state_stream, self._layout.waiting(self._shard, seq)
            )
            self.copied.discard(seq)

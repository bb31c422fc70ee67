"""Write the bodies of requests into files, in place of sending them."""

import asyncio
import errno
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from gateway.config import DestinationConfig
from gateway.delivery.circuit_breaker import backoff
from gateway.delivery.connection import OnEnd
from gateway.delivery.file_uploads import FileUploads
from gateway.delivery.line_files import LineFiles
from gateway.delivery.s3_bucket import S3Bucket
from gateway.delivery.transport import CLOSED
from gateway.errors import TransportError
from gateway.http import Request, Response
from gateway.plugin.file_rules import FileRules

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
WRITTEN = Response(200)
LONGEST_WAIT = 60.0
"""Most seconds between two tries to upload, since a try costs little."""


class _Waiting(NamedTuple):
    """A body that waits to be written."""

    lines: bytes
    on_end: OnEnd


class FileTransport:
    """Writes what waits as one group, with one fsync, then answers 200 for all of it.

    A full disk is answered with 507 and any other failure with 503, so that verdicts, the circuit
    breaker and traces treat the disk like a vendor. So is a folder in which too much waits to be
    uploaded: with 507.

    Args:
        rules: where, and when a file is closed.
        uploads: how the destination reaches the bucket in *rules*; without it, nothing is uploaded.

    Attributes:
        uploads: the uploads of closed files; None without them.
    """

    def __init__(self, rules: FileRules, uploads: DestinationConfig | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._every = rules.rotate_every
        self._files = LineFiles(rules, self._on_closed)
        self._thread = ThreadPoolExecutor(1, "files")
        self.uploads: FileUploads | None = None
        if rules.upload is not None and uploads is not None:
            low, high = uploads.retry_min, min(uploads.retry_max, LONGEST_WAIT)
            self.uploads = FileUploads(
                self._files,
                self._thread,
                S3Bucket(rules.upload, uploads),
                rules.upload.max_waiting,
                partial(backoff, low=low, high=high),
            )
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = self._closed = False

    def _on_closed(self) -> None:
        if self.uploads is not None:
            self.uploads.on_closed()

    def post(self, request: Request, on_end: OnEnd, *, whole: bool = False) -> None:
        """Write the body of *request*; see `Transport.post`."""
        del whole
        if self._closed:
            self._loop.call_soon(on_end, TransportError("reset", CLOSED))
            return
        self._waiting.append(_Waiting(request.body, on_end))
        self._wake()

    def _wake(self) -> None:
        if self._task is None:
            self._task = self._loop.create_task(self._work())

    async def _work(self) -> None:
        """Write group after group, and close the file when it is old enough."""
        try:
            while self._waiting or self._due:
                if self._due:
                    self._due = False
                    await self._loop.run_in_executor(self._thread, self._files.finish)
                group, self._waiting = self._waiting, []
                if group:
                    end = await self._written(b"".join(one.lines for one in group))
                    for one in group:
                        one.on_end(end)
        finally:
            self._task = None

    async def _written(self, lines: bytes) -> Response:
        if self.uploads is not None and (full := self.uploads.full()):
            return Response(507, body=full.encode())
        try:
            await self._loop.run_in_executor(self._thread, self._files.append, lines)
        except OSError as error:
            said = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
            return Response(507 if error.errno in FULL else 503, body=said.encode())
        self._watch()
        return WRITTEN

    def _watch(self) -> None:
        """Close the file at its time also if nothing more is written."""
        if not self._files.is_open and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        elif self._files.is_open and self._timer is None:
            self._timer = self._loop.call_later(self._every, self._on_time)

    def _on_time(self) -> None:
        self._timer, self._due = None, True
        self._wake()

    async def close(self) -> None:
        """Finish what waits, and close the file; it is uploaded after the next start."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await self._task
        if self.uploads is not None:
            await self.uploads.stop()
        await self._loop.run_in_executor(self._thread, self._files.close)
        self._thread.shutdown()

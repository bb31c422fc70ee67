"""Upload the closed files of a folder, and remove those that are in their bucket."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import NamedTuple

import structlog

from gateway.delivery.line_files import LineFiles
from gateway.delivery.s3_bucket import S3Bucket
from gateway.errors import UploadFailed
from gateway.log_limit import LogLimit

LOCKED = 1.0
"""Seconds until a folder is asked for again that somebody else writes in: after a reload that is
the same destination with its former settings."""
QUIET = 10.0
"""Seconds between two log lines about uploads that fail."""

log = structlog.get_logger()


class UploadStatus(NamedTuple):
    """How far the uploads of a destination are; counts are since its start."""

    files: int
    """Closed files that wait."""
    size: int
    """Their bytes."""
    problem: str
    """Why the last upload failed; empty if it did not."""
    cause: str
    """Its cause, as in `gateway.errors.UploadFailed`, or ``disk``; empty without one."""
    uploaded: int
    failed: int


class FileUploads:
    """Uploads the oldest closed file first, each until the bucket has it.

    Which files wait is read from the folder, so nothing is forgotten in a crash.

    Args:
        files: the files of the folder.
        thread: runs all calls of *files*.
        bucket: where they are uploaded to.
        max_waiting: bytes of closed files from which nothing more may be written.
        wait: returns the seconds to wait after so many failures in a row.
    """

    def __init__(
        self,
        files: LineFiles,
        thread: Executor,
        bucket: S3Bucket,
        max_waiting: int,
        wait: Callable[[int], float],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._files = files
        self._thread = thread
        self._bucket = bucket
        self._max_waiting = max_waiting
        self._wait = wait
        self._lines = LogLimit(1, QUIET)
        self._closed = asyncio.Event()
        self._problem = self._cause = ""
        self._uploaded = self._failed = self._failed_in_a_row = 0
        self._task = self._loop.create_task(self._run(), name="uploads")

    def on_closed(self) -> None:
        """Upload a file that was closed; callable from any thread."""
        self._loop.call_soon_threadsafe(self._closed.set)

    def full(self) -> str:
        """Return why nothing more may be written; empty if it may."""
        if self._files.closed_bytes < self._max_waiting:
            return ""
        waits, most = megabytes(self._files.closed_bytes), megabytes(self._max_waiting)
        why = f": {self._problem}" if self._problem else ""
        return f"{waits} wait to be uploaded, and max_waiting is {most}{why}"

    def status(self) -> UploadStatus:
        """Return how far the uploads are."""
        files, size = self._files.closed_files, self._files.closed_bytes
        return UploadStatus(files, size, self._problem, self._cause, self._uploaded, self._failed)

    async def stop(self) -> None:
        """Leave the rest for the next start; an upload that was begun is then repeated."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._closed.clear()
            try:
                await self._upload_all()
            except BlockingIOError:
                await asyncio.sleep(LOCKED)
            except UploadFailed as error:
                await self._rest(error.cause, str(error))
            except OSError as error:
                await self._rest("disk", str(error))
            except Exception as error:  # a bug must not end the uploads
                log.exception("upload_failed")
                await self._rest("internal", repr(error))
            else:
                self._well()
                await self._closed.wait()

    async def _upload_all(self) -> None:
        """Upload what waits.

        Raises:
            UploadFailed: a file is not in the bucket; the rest was not tried.
            OSError: files cannot be read or named; all others are in the bucket.
        """
        run = self._loop.run_in_executor
        bad: list[str] = []
        for path in await run(self._thread, self._files.closed):
            try:
                name = await self._bucket.put(path)
            except FileNotFoundError:  # somebody took it
                await run(self._thread, self._files.forget, path)
                continue
            except (OSError, ValueError) as error:
                bad.append(str(error))
                continue
            await run(self._thread, self._files.remove, path)
            self._uploaded += 1
            if not bad:
                self._well()
            log.info("file_uploaded", path=str(path), object=name)
        if bad:
            more = f", and {len(bad) - 1} more files cannot be uploaded" if bad[1:] else ""
            raise OSError(bad[0] + more)

    def _well(self) -> None:
        self._failed_in_a_row = 0
        self._problem = self._cause = ""

    async def _rest(self, cause: str, problem: str) -> None:
        """Note a failure, and wait until the next try."""
        self._failed += 1
        self._failed_in_a_row += 1
        self._problem, self._cause = problem, cause
        if times := self._lines.take():
            waiting = self._files.closed_files
            log.warning("upload_failed", reason=problem, waiting=waiting, times=times)
        await asyncio.sleep(self._wait(self._failed_in_a_row))


def megabytes(size: int) -> str:
    """Return a number of bytes for people to read."""
    return f"{size / 1e6:,.1f} MB"

"""Turn failed deliveries into dead letters."""

import time

import structlog

from gateway.delivery.job import DeliveryCounts, DeliveryObserver, Job
from gateway.delivery.progress import ProgressTracker
from gateway.delivery.sender import Sender
from gateway.event import Event
from gateway.json_text import dumps
from gateway.log_limit import LogLimit
from gateway.spool import Attempt, Cause, DeliveryRef, Entry

LINES = 50
"""Dead letters logged per second; all of them are stored."""

log = structlog.get_logger()


class DeadLetterWriter:
    """Writes dead letters of one destination, with secrets redacted.

    Args:
        destination: its name.
        tracker: records them.
        sender: has the redactor, and whether dead letters are kept at all.
        observer: observes every outcome.
        counts: counts the dead letters.
    """

    def __init__(
        self,
        destination: str,
        tracker: ProgressTracker,
        sender: Sender,
        observer: DeliveryObserver,
        counts: DeliveryCounts,
    ) -> None:
        self._counts = counts
        self._destination = destination
        self._tracker = tracker
        self._rendering = sender.rendering
        self._observer = observer
        self._keeps = sender.keeps_dead_letters
        self._lines = LogLimit(LINES, 1.0)

    def write(self, job: Job, cause: Cause, reason: str, attempt: Attempt | None = None) -> None:
        """Write a dead letter of *job*; *attempt* is the last attempt, if there was one."""
        if not self._keeps:
            self._tracker.completed(job.mark, "shadowed")
            self._observer.on_attempt(job, "shadowed", reason, attempt)
            return
        rendered = b"" if job.sent is None else dumps(self._rendering.shown(job.sent, job))
        clean = self._rendering.redactor(job).text_short(reason)
        self._tracker.dead_lettered(job.to_failed(cause, clean, time.time(), rendered))
        self._counts.dead_lettered += 1
        if times := self._lines.take():
            log.warning(
                "dead_letter",
                destination=self._destination,
                delivery=job.event.id,
                cause=cause,
                attempts=len(job.attempts),
                reason=clean,
                times=times,
            )
        self._observer.on_attempt(job, "dead_letter", f"{cause}: {clean}", attempt)

    def write_unparsable(self, mark: DeliveryRef, entry: Entry, reason: str) -> None:
        """Write a dead letter of a stored delivery that cannot be parsed any more."""
        self.write(Job(mark, entry, nothing_of(mark, entry)), "unrenderable", reason)


def nothing_of(mark: DeliveryRef, entry: Entry) -> Event:
    """Return an event without anything for a delivery whose event is not known."""
    return Event(type="track", id=f"{entry.id}-{mark.event}")

"""Deliveries that are given up."""

import time

import structlog

from gateway.delivery.job import DeliveryObserver, Job
from gateway.delivery.progress import ProgressTracker
from gateway.delivery.sender import Sender
from gateway.event import Event
from gateway.json_text import dumps
from gateway.log_limit import LogLimit
from gateway.spool import Attempt, Cause, DeliveryRef, Entry

LINES = 50
"""Dead letters that are logged each second; all of them are kept."""

log = structlog.get_logger()


class DeadLetterWriter:
    """Makes dead letters for one destination, its credentials kept out of them.

    Args:
        destination: its name.
        tracker: where they are recorded.
        sender: keeps credentials out of what is said, and says whether anything is kept at all.
        witness: sees every end.
    """

    def __init__(
        self, destination: str, tracker: ProgressTracker, sender: Sender, witness: DeliveryObserver
    ) -> None:
        self.count = 0
        """Dead letters made so far."""
        self._destination = destination
        self._tracker = tracker
        self._redactor = sender.rendering.redactor
        self._witness = witness
        self._keeps = sender.keeps_dead_letters
        self._lines = LogLimit(LINES, 1.0)

    def write(self, job: Job, cause: Cause, reason: str, attempt: Attempt | None = None) -> None:
        """Make a dead letter of *job*, after an *attempt* if there was one."""
        if not self._keeps:
            self._tracker.completed(job.mark, "shadowed")
            self._witness.on_attempt(job, "shadowed", reason, attempt)
            return
        redact = self._redactor(job)
        rendered = b"" if job.sent is None else dumps(redact.request(job.sent))
        clean = redact.text_short(reason)
        self._tracker.dead_lettered(job.to_failed(cause, clean, time.time(), rendered))
        self.count += 1
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
        self._witness.on_attempt(job, "dead", f"{cause}: {clean}", attempt)

    def write_unparsable(self, mark: DeliveryRef, entry: Entry, reason: str) -> None:
        """Make a dead letter of a delivery that what is stored no longer leads to."""
        nothing = Event(type="track", id=f"{entry.id}-{mark.event}")
        self.write(Job(mark, entry, nothing), "unrenderable", reason)

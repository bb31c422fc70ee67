"""Deliveries that are given up."""

import time
from collections.abc import Callable

import orjson
import structlog

from gateway.delivery.job import Job
from gateway.delivery.ledger import Ledger
from gateway.delivery.witness import Witness
from gateway.event import Event
from gateway.redact import Redactor
from gateway.spool import Attempt, Cause, Entry, Mark

log = structlog.get_logger()


class Burials:
    """Makes dead letters for one destination, its credentials kept out of them.

    Args:
        destination: its name.
        ledger: where they are recorded.
        redactor: keeps credentials out of what is said of a job.
        witness: sees every end.
        keeps: whether what is given up is kept at all.
    """

    def __init__(
        self,
        destination: str,
        ledger: Ledger,
        redactor: Callable[[Job], Redactor],
        witness: Witness,
        *,
        keeps: bool = True,
    ) -> None:
        self.count = 0
        """Dead letters made so far."""
        self._destination = destination
        self._ledger = ledger
        self._redactor = redactor
        self._witness = witness
        self._keeps = keeps

    def bury(self, job: Job, cause: Cause, reason: str, attempt: Attempt | None = None) -> None:
        """Make a dead letter of *job*, after an *attempt* if there was one."""
        if not self._keeps:
            self._ledger.done(job.mark)
            self._witness.ended(job, "shadowed", reason, attempt)
            return
        self.count += 1
        redact = self._redactor(job)
        rendered = b"" if job.sent is None else orjson.dumps(redact.request(job.sent))
        clean = redact.cut(reason)
        self._ledger.dead(job.failed(cause, clean, time.time(), rendered))
        log.warning(
            "dead_letter",
            destination=self._destination,
            delivery=job.event.id,
            cause=cause,
            attempts=len(job.attempts),
            reason=clean,
        )
        self._witness.ended(job, "dead", f"{cause}: {clean}", attempt)

    def lost(self, mark: Mark, entry: Entry, reason: str) -> None:
        """Make a dead letter of a delivery that what is stored no longer leads to."""
        nothing = Event(type="track", id=f"{entry.id}-{mark.event}")
        self.bury(Job(mark, entry, nothing), "unrenderable", reason)

"""Hand new entries of the log to the workers of their destinations."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from gateway.event import Event
from gateway.ingest.off_loop import TurnQueue
from gateway.ingest.upstream_reply import ReplySource, UpstreamReplies
from gateway.spool import Entry, LogRecord


class DeliveryQueue(ReplySource, Protocol):
    """A destination's worker, as new entries need it."""

    def offer(self, item: LogRecord, events: Sequence[Event]) -> None:
        """Accept a new entry."""


WorkerOf = Callable[[str], DeliveryQueue | None]
"""Returns a destination's current worker; None if it is not configured any more."""


class HandOver:
    """Hands over the entries of one shard; a step of the loop takes a limited number of events.

    Args:
        worker_of: returns the worker of a destination.
        parse: returns the events of a stored request; none if it cannot be parsed.
        replies: the vendors' responses that clients wait for.
    """

    def __init__(
        self,
        worker_of: WorkerOf,
        parse: Callable[[Entry], Sequence[Event]],
        replies: UpstreamReplies,
    ) -> None:
        self._worker_of = worker_of
        self._parse = parse
        self._replies = replies
        self._turns = TurnQueue()

    def offer(self, item: LogRecord, events: Sequence[Event] | None) -> None:
        """Offer an entry to its destinations; without *events*, the stored request is parsed."""
        entry = item.entry
        if events is None:
            events = self._parse(entry)
        if self._replies.waiting or item.reply is not None:
            self._replies.hand_over(item, events, self._worker_of)
        for destination, numbers in entry.targets.items():
            self._turns.put(partial(self._offer, destination, item, events), len(numbers))

    def _offer(self, destination: str, item: LogRecord, events: Sequence[Event]) -> None:
        """Offer an entry to the destination's current worker.

        A worker that started after the entry was stored reads it from the spool.
        """
        worker = self._worker_of(destination)
        if worker is not None:
            worker.offer(item, events)

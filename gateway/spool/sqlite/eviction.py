"""Evict deliveries: the oldest, for age or space, and those that a destination refuses."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import apsw

from gateway.spool.clock import Clock
from gateway.spool.evictions import count_evicted, log_evicted
from gateway.spool.sqlite.cursors import DestinationCursor, DestinationCursors
from gateway.spool.sqlite.dead_letters import drop_oldest
from gateway.spool.sqlite.progress import (
    NOTHING,
    NOWHERE,
    apply_progress,
    count_dropped,
    evict,
    eviction_notice,
    note_evicted,
    refuse,
)
from gateway.spool.sqlite.room import Room
from gateway.spool.sqlite.vacuum import STEP
from gateway.spool.values import (
    Cause,
    Deliveries,
    DeliveryRef,
    FailedDelivery,
    GivenUp,
    Progress,
    SpoolNotice,
)


class RefusedEntry(NamedTuple):
    """The deliveries of an entry that a destination refuses."""

    place: DestinationCursor
    numbers: Deliveries
    why: str


@dataclass
class UnloggedEvictions:
    """Evictions of one destination and cause that are not logged yet."""

    reason: str
    dead: int = 0
    dropped: int = 0


class Evictions:
    """Evicts deliveries within the writer's transactions, and counts them.

    Attributes:
        given_up: evicted deliveries since the start, by destination.
    """

    def __init__(self, places: DestinationCursors, room: Room, clock: Clock) -> None:
        self.given_up: dict[str, GivenUp] = {}
        self._unlogged: dict[tuple[str, Cause], UnloggedEvictions] = {}
        self._places, self._room, self._clock = places, room, clock

    def overflow(self, connection: apsw.Connection, place: DestinationCursor) -> list[SpoolNotice]:
        """Evict a destination's oldest deliveries above its limits, unless its policy is refuse."""
        bounds = place.bounds
        if bounds is None or bounds.overflow == "refuse":
            return []
        at = self._clock.now() + self._clock.ahead
        if (excess := place.excess()) > 0:
            reason = f"more than max_backlog ({bounds.max_backlog}) pending"
            why = FailedDelivery(NOWHERE, "overflow", reason, at)
            return self.evict(connection, place, why, min(excess, STEP), math.inf)
        return self._keep_to_share(connection, place, at) if self._room.is_past(place) else []

    def _keep_to_share(
        self, connection: apsw.Connection, place: DestinationCursor, at: float
    ) -> list[SpoolNotice]:
        """Free the bytes that a destination uses above its share, the oldest first.

        Pending deliveries become dead letters, which frees nothing, so as many bytes of dead
        letters are dropped. In the long run half of the share is pending, half is dead letters.
        """
        size, reason = self._room.excess(place), self._room.past_share(place)
        if not size:
            return []
        notices: list[SpoolNotice] = []
        dead = place.bounds is not None and place.bounds.overflow == "dead_letter"
        if 2 * self._room.letters(place) <= self._room.held(place):
            why = FailedDelivery(NOWHERE, "overflow", reason, at)
            count = place.count_of(2 * size if dead else size, STEP)
            notices = self.evict(connection, place, why, count, math.inf)
        if dead:
            dropped = drop_oldest(connection, place.name, size, STEP)
            place.new_dead -= dropped
            self._count(place, "overflow", 0, dropped, reason)
        return notices

    def evict(
        self,
        connection: apsw.Connection,
        place: DestinationCursor,
        why: FailedDelivery,
        count: int,
        before: float,
    ) -> list[SpoolNotice]:
        """Evict the oldest deliveries of a destination, by its policy.

        Args:
            connection: in a transaction of the writer.
            place: of the destination.
            why: cause, reason and time of the dead letters.
            count: evict at most so many.
            before: Unix seconds; evict only deliveries of earlier requests.
        """
        progress, waiting = evict(connection, place, why, count, before)
        if progress == NOTHING:
            return []
        bounds, dropped = place.bounds, 0
        marks = [failed.mark for failed in progress.dead]
        if bounds is not None and bounds.overflow == "drop":
            progress, dropped = Progress(cursor=progress.cursor, done=waiting), len(progress.dead)
            count_dropped(connection, place, dropped)
        apply_progress(connection, place, progress, self._places.ended, terse=True)
        note_evicted(connection, place, marks, set(waiting), dropped=dropped > 0)
        self._places.evict(place)
        self._count(place, why.cause, len(progress.dead), dropped, why.reason)
        return [eviction_notice(connection, place, progress, waiting, dropped)]

    def refuse(self, connection: apsw.Connection, seq: int, refusal: RefusedEntry) -> None:
        """Evict the deliveries that a destination refuses of an entry that others accept.

        They become dead letters, or are dropped if the destination exceeds its share of the store.
        """
        place, numbers, why = refusal
        if self._room.is_past(place):
            count_dropped(connection, place, len(numbers))
            self._count(place, "overflow", 0, len(numbers), why)
            return
        at = self._clock.now() + self._clock.ahead
        dead = [FailedDelivery(DeliveryRef(seq, number), "overflow", why, at) for number in numbers]
        refuse(connection, place, dead)
        self._count(place, "overflow", len(dead), 0, why)

    def _count(
        self, place: DestinationCursor, cause: Cause, dead: int, dropped: int, reason: str
    ) -> None:
        """Count evicted deliveries, and keep them to be logged."""
        count_evicted(self.given_up, place.name, dead, dropped)
        known = self._unlogged.setdefault((place.name, cause), UnloggedEvictions(reason))
        known.dead += dead
        known.dropped += dropped

    def log_new(self) -> None:
        """Log the evictions since the last call: one line per destination and cause."""
        unlogged, self._unlogged = self._unlogged, {}
        for (name, cause), found in unlogged.items():
            log_evicted(name, cause, found.reason, found.dead, found.dropped)

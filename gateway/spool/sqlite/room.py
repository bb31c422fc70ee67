"""Decide whether the store has room for a request, and a destination for its deliveries.

Appends and the health check use the same rule. A destination may use twice as many bytes as are
free, so destinations with a backlog share the store and leave room for the others: one alone can
use two thirds, two can use two fifths each. About half of an equal share is always allowed.
"""

from collections.abc import Mapping
from pathlib import Path

import apsw

from gateway.spool.evictions import backlog_full
from gateway.spool.sqlite.cursors import DestinationCursor, DestinationCursors
from gateway.spool.sqlite.vacuum import SpaceGauge
from gateway.sqlite import fetch

SHARE = 2
"""A destination may use this many times the free bytes."""
_RELIEVED = 0.8
"""Fraction of its share below which a destination no longer counts as above it."""
_KEPT = "SELECT destination, bytes FROM letter_bytes"
_WAITING = "SELECT name, bytes FROM waiting_bytes JOIN destination USING (number)"


class Room:
    """Decides which appends are refused, and why.

    Attributes:
        full: why the store accepts nothing; None while it accepts entries.
        refusing: by destination, why it accepts nothing new; only refusing ones are listed.
    """

    def __init__(self, places: DestinationCursors, gauge: SpaceGauge, folder: Path) -> None:
        self.full: str | None = None
        self.refusing: Mapping[str, str] = {}
        self._places, self._gauge, self._folder = places, gauge, folder
        self._past: set[str] = set()
        self._letters: dict[str, int] = {}
        self._waiting: dict[str, int] = {}

    def look(self, connection: apsw.Connection) -> None:
        """Measure the free space and the space of each destination."""
        gauge = self._gauge
        if gauge.tight:
            gauge.measure(connection)
        self.full = self.full_reason() if gauge.full else None
        if gauge.tight:
            self._measure(connection)
        else:
            self._past.clear()
        refusing = {}
        for place in self._places.by_name.values():
            if place.bounds is not None and (why := self.refusal(place)):
                refusing[place.name] = why
        self.refusing = refusing

    def full_reason(self) -> str:
        """Return the error message while the store is full."""
        return (
            f"{self._folder}: the spool has reached max_bytes ({self._gauge.max_bytes}); wait for "
            f"deliveries, delete dead letters, shorten dedup, or raise max_bytes"
        )

    def refusal(self, place: DestinationCursor) -> str | None:
        """Return why one more entry for a destination is refused; None if it is accepted."""
        bounds = place.bounds
        if bounds is None or bounds.overflow != "refuse":
            return None
        if place.refuses():
            return backlog_full(place.name, bounds.max_backlog)
        return self.past_share(place) if place.name in self._past else None

    def past_share(self, place: DestinationCursor) -> str:
        """Return the error message for a destination above its share."""
        return (
            f"destination {place.name!r} has used its share of the spool: "
            f"{self.held(place)} bytes of max_bytes {self._gauge.max_bytes}; check why its "
            f"deliveries fail, delete its dead letters, or raise max_bytes"
        )

    def is_past(self, place: DestinationCursor) -> bool:
        """Return whether a destination uses more than its share."""
        return place.name in self._past

    def held(self, place: DestinationCursor) -> int:
        """Return the bytes of a destination's pending deliveries and dead letters."""
        return place.new_bytes + self._waiting.get(place.name, 0) + self.letters(place)

    def letters(self, place: DestinationCursor) -> int:
        """Return the bytes of a destination's dead letters."""
        return self._letters.get(place.name, 0)

    def excess(self, place: DestinationCursor) -> int:
        """Return how many bytes a destination must free to be within its share.

        Freed bytes also raise the share.
        """
        return max(0, self.held(place) - self._share()) // (1 + SHARE)

    @property
    def _known(self) -> list[DestinationCursor]:
        return [place for place in self._places.by_name.values() if place.bounds is not None]

    def _share(self) -> int:
        """Return how many bytes a destination may use."""
        least = (self._gauge.max_bytes or 0) // (2 * (len(self._known) + 1))
        return max(SHARE * self._gauge.free, least)

    def _measure(self, connection: apsw.Connection) -> None:
        self._letters = dict(fetch(connection, _KEPT))
        self._waiting = dict(fetch(connection, _WAITING))
        share, known = self._share(), self._known
        for place in known:
            held = self.held(place)
            if len(known) > 1 and held > share:
                self._past.add(place.name)
            elif held < share * _RELIEVED:
                self._past.discard(place.name)

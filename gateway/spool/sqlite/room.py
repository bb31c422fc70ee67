"""Whether there is room: in the store for a request, and at a destination for its deliveries.

Appends ask here, and so does whoever wants to know whether they would be taken. A destination may
hold twice what is free, so that those in trouble share the store between them and leave something
for the others: one alone holds two thirds, two hold two fifths each. What one of so many may hold
in any case is about half of an equal part.
"""

from collections.abc import Mapping
from pathlib import Path

import apsw

from gateway.spool.sqlite.cursors import DestinationCursor, DestinationCursors
from gateway.spool.sqlite.vacuum import SpaceGauge
from gateway.sqlite import fetch

SHARE = 2
"""How many times as much as is free a destination may hold."""
_RELIEVED = 0.8
"""Part of its share below which a destination that was past it counts as within it again."""
_KEPT = "SELECT destination, bytes FROM letter_bytes"
_WAITING = "SELECT name, bytes FROM waiting_bytes JOIN destination USING (number)"


class Room:
    """Says who is refused, and why.

    Attributes:
        full: why the store takes nothing; None while it does.
        refusing: why a destination takes nothing new, by its name; those that do are left out.
    """

    def __init__(self, lanes: DestinationCursors, gauge: SpaceGauge, folder: Path) -> None:
        self.full: str | None = None
        self.refusing: Mapping[str, str] = {}
        self._lanes, self._gauge, self._folder = lanes, gauge, folder
        self._past: set[str] = set()
        self._letters: dict[str, int] = {}
        self._waiting: dict[str, int] = {}

    def look(self, connection: apsw.Connection) -> None:
        """Find out anew how much there is, and who holds it."""
        gauge = self._gauge
        if gauge.tight:
            gauge.measure(connection)
        self.full = self.says_full() if gauge.full else None
        if gauge.tight:
            self._measure(connection)
        else:
            self._past.clear()
        refusing = {}
        for lane in self._lanes.by_name.values():
            if lane.bounds is not None and (why := self.refusal(lane)):
                refusing[lane.name] = why
        self.refusing = refusing

    def says_full(self) -> str:
        """Return what to say while the store takes nothing."""
        return (
            f"{self._folder}: the spool holds its max_bytes of {self._gauge.max_bytes}; let it "
            f"drain, drop dead letters, dedup for a shorter time, or raise max_bytes"
        )

    def refusal(self, lane: DestinationCursor) -> str | None:
        """Return why one more entry for a destination is refused; None where it is taken."""
        bounds = lane.bounds
        if bounds is None or bounds.overflow != "refuse":
            return None
        if lane.refuses():
            return (
                f"destination {lane.name!r} has its max_backlog of {bounds.max_backlog} pending; "
                f"see why it does not take its events"
            )
        return self.past_share(lane) if lane.name in self._past else None

    def past_share(self, lane: DestinationCursor) -> str:
        """Return what to say of a destination that is past its share."""
        return (
            f"destination {lane.name!r} has used up its share of the spool, "
            f"{self.held(lane)} bytes of max_bytes {self._gauge.max_bytes}; see why it does not "
            f"take its events, drop its dead letters, or raise max_bytes"
        )

    def is_past(self, lane: DestinationCursor) -> bool:
        """Tell whether a destination holds more than its share."""
        return lane.name in self._past

    def held(self, lane: DestinationCursor) -> int:
        """Return how many bytes are kept for a destination: what is pending, and dead letters."""
        return lane.new_bytes + self._waiting.get(lane.name, 0) + self.letters(lane)

    def letters(self, lane: DestinationCursor) -> int:
        """Return how many bytes the dead letters of a destination take."""
        return self._letters.get(lane.name, 0)

    def excess(self, lane: DestinationCursor) -> int:
        """Return how many bytes a destination has to give up to be within its share.

        What it gives up is free then, and lets the share grow.
        """
        return max(0, self.held(lane) - self._share()) // (1 + SHARE)

    @property
    def _known(self) -> list[DestinationCursor]:
        return [lane for lane in self._lanes.by_name.values() if lane.bounds is not None]

    def _share(self) -> int:
        """Return how many bytes a destination may hold."""
        least = (self._gauge.max_bytes or 0) // (2 * (len(self._known) + 1))
        return max(SHARE * self._gauge.free, least)

    def _measure(self, connection: apsw.Connection) -> None:
        self._letters = dict(fetch(connection, _KEPT))
        self._waiting = dict(fetch(connection, _WAITING))
        share, known = self._share(), self._known
        for lane in known:
            held = self.held(lane)
            if len(known) > 1 and held > share:
                self._past.add(lane.name)
            elif held < share * _RELIEVED:
                self._past.discard(lane.name)

"""The balance of every destination: what was accepted for it, and what became of that."""

from collections.abc import Mapping

import apsw
import structlog

from gateway.spool.sqlite.cursors import DestinationCursors
from gateway.spool.values import Balance
from gateway.sqlite import fetch

log = structlog.get_logger()

_COUNTS = "SELECT name, accepted, delivered, declined, shadowed, dropped FROM destination"


def balances(connection: apsw.Connection, lanes: DestinationCursors) -> dict[str, Balance]:
    """Return the balances of all known destinations, within the caller's transaction.

    ``lanes`` is what there is according to the rows, however that was counted; the rest comes
    from counts that were kept in the transactions that changed them.
    """
    found = {}
    for name, accepted, delivered, declined, shadowed, dropped in fetch(connection, _COUNTS):
        lane = lanes[name]
        found[name] = Balance(
            accepted=accepted,
            delivered=delivered,
            declined=declined,
            shadowed=shadowed,
            dead=lane.new_dead,
            dropped=dropped,
            waiting=lane.new_pending + lane.new_waiting,
        )
    return found


class Auditor:
    """Says when a destination's balance is wrong, once for each change.

    What is missing counts when two looks in a row find the same.
    """

    def __init__(self) -> None:
        self.unaccounted: Mapping[str, int] = {}
        """How many deliveries are missing, by destination; replaced at every look."""
        self._found: Mapping[str, int] | None = None

    def look(self, found: Mapping[str, Balance]) -> None:
        """Compare with the last look; the first one, at start, has nothing in flight."""
        missing = {name: balance.missing for name, balance in found.items()}
        before = missing if self._found is None else self._found
        known, self._found = self.unaccounted, missing
        self.unaccounted = {
            name: count if before.get(name) == count else known.get(name, 0)
            for name, count in missing.items()
        }
        for name, count in self.unaccounted.items():
            if count != known.get(name, 0):
                _say(name, found[name])


def _say(name: str, balance: Balance) -> None:
    if balance.missing:
        numbers = {field: getattr(balance, field) for field in Balance.__struct_fields__}
        log.error("balance_wrong", destination=name, missing=balance.missing, **numbers)
    else:
        log.info("balance_right", destination=name)

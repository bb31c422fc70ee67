"""The balance of every destination: accepted deliveries and their outcomes."""

from collections.abc import Mapping

import apsw
import structlog

from gateway.spool.sqlite.cursors import DestinationCursors
from gateway.spool.values import Balance
from gateway.sqlite import fetch

log = structlog.get_logger()

_COUNTS = "SELECT name, accepted, delivered, declined, shadowed, dropped FROM destination"


def balances(connection: apsw.Connection, places: DestinationCursors) -> dict[str, Balance]:
    """Return the balances of all known destinations, within the caller's transaction.

    Pending deliveries and dead letters come from ``places``, which counts rows. The other counts
    are columns that the transactions themselves updated.
    """
    found = {}
    for name, accepted, delivered, declined, shadowed, dropped in fetch(connection, _COUNTS):
        place = places[name]
        found[name] = Balance(
            accepted=accepted,
            delivered=delivered,
            declined=declined,
            shadowed=shadowed,
            dead_letters=place.new_dead,
            dropped=dropped,
            pending=place.new_pending + place.new_waiting,
        )
    return found


class Auditor:
    """Logs each change of a destination's unaccounted deliveries.

    A count is accepted after two checks in a row found the same.
    """

    def __init__(self) -> None:
        self.unaccounted: Mapping[str, int] = {}
        """Number of unaccounted deliveries by destination; replaced at every check."""
        self._found: Mapping[str, int] | None = None

    def look(self, found: Mapping[str, Balance]) -> None:
        """Check the balances; the first check counts at once, since nothing is in flight."""
        unaccounted = {name: balance.unaccounted for name, balance in found.items()}
        before = unaccounted if self._found is None else self._found
        known, self._found = self.unaccounted, unaccounted
        self.unaccounted = {
            name: count if before.get(name) == count else known.get(name, 0)
            for name, count in unaccounted.items()
        }
        for name, count in self.unaccounted.items():
            if count != known.get(name, 0):
                _log_balance(name, found[name])


def _log_balance(name: str, balance: Balance) -> None:
    if balance.unaccounted:
        numbers = {field: getattr(balance, field) for field in Balance.__struct_fields__}
        log.error("balance_wrong", destination=name, unaccounted=balance.unaccounted, **numbers)
    else:
        log.info("balance_restored", destination=name)

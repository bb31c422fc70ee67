"""The balance of every destination: accepted deliveries and their outcomes."""

import apsw

from gateway.spool.sqlite.cursors import DestinationCursors
from gateway.spool.values import Balance
from gateway.sqlite import fetch

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

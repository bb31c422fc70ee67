"""The balance of every destination: what was accepted for it, and what became of that."""

import apsw

from gateway.spool.lanes import Lanes
from gateway.spool.store import fetch
from gateway.spool.values import Balance

_COUNTS = "SELECT name, accepted, delivered, declined, shadowed, dropped FROM destination"


def balances(connection: apsw.Connection, lanes: Lanes) -> dict[str, Balance]:
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

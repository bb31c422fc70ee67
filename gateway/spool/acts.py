"""Acts of the writer: registering destinations, forgetting them, moving dead letters."""

from collections.abc import Mapping, Sequence

import apsw

from gateway.errors import SpoolError
from gateway.spool.balance import balances
from gateway.spool.jobs import Outcome
from gateway.spool.lanes import Lane, Lanes
from gateway.spool.letters import drop, replay
from gateway.spool.session import Session
from gateway.spool.store import fetch
from gateway.spool.values import Bounds, Replayed

_FORGET = (
    "DELETE FROM waiting WHERE destination = ?",
    "DELETE FROM ended WHERE destination = ?",
    "DELETE FROM taken WHERE destination = ?",
    "DELETE FROM destination WHERE number = ?",
)


def register(
    connection: apsw.Connection, lanes: Lanes, destinations: Mapping[str, Bounds]
) -> Outcome:
    """Give new destinations a cursor at the end of the log."""
    added: list[Lane] = []
    for name in destinations:
        if name not in lanes.by_name:
            query = "SELECT count(*) FROM letter WHERE destination = ?"
            ((dead,),) = fetch(connection, query, (name,))  # of one that was forgotten
            connection.execute(
                "INSERT INTO destination(name, cursor, accepted) VALUES (?, ?, ?)",
                (name, lanes.position, dead),
            )
            lane = Lane(name, connection.last_insert_rowid(), lanes.position)
            lane.dead = lane.new_dead = dead
            added.append(lane)

    def then() -> None:
        lanes.by_name = lanes.by_name | {lane.name: lane for lane in added}
        for name, lane in lanes.by_name.items():
            lane.bounds = destinations.get(name)

    return Outcome(then=then)


def secret(connection: apsw.Connection, _lanes: Lanes) -> Outcome:
    """Return the store's own secret."""
    ((found,),) = fetch(connection, "SELECT bytes FROM secret")
    return Outcome(found)


def forget(connection: apsw.Connection, lanes: Lanes, name: str) -> Outcome:
    """Give up an orphan's cursor and its pending deliveries."""
    lane = lanes[name]
    if lane.bounds is not None:
        raise SpoolError(f"destination {name!r} is registered; take it out of the config first")
    for query in _FORGET:
        connection.execute(query, (lane.number,))
    given_up = lane.backlog + lane.waiting

    def then() -> None:
        lanes.by_name = {n: other for n, other in lanes.by_name.items() if n != name}
        lanes.loose.extend(lane.left())
        lanes.rescan(connection)

    return Outcome(given_up, then=then)


def pause(connection: apsw.Connection, lanes: Lanes, name: str, *, paused: bool) -> Outcome:
    """Note that an operator paused a destination, or does so no more."""
    number = lanes[name].number
    connection.execute("UPDATE destination SET paused = ? WHERE number = ?", (paused, number))
    return Outcome()


def drop_some(connection: apsw.Connection, lanes: Lanes, ids: Sequence[int]) -> Outcome:
    """Throw dead letters away."""
    dropped = drop(connection, ids)
    _take_from_dead(lanes, dropped)
    return Outcome(dropped.total())


def replay_some(
    connection: apsw.Connection, lanes: Lanes, ids: Sequence[int], now: float
) -> Outcome:
    """Move dead letters back and tell their workers."""
    moved = replay(connection, ids, now)
    _take_from_dead(lanes, moved)
    for name, count in moved.items():
        lanes[name].new_waiting += count
    if moved:
        lanes.new_position = connection.last_insert_rowid()
    return Outcome(moved.total(), [Replayed(name) for name in moved])


def balance(connection: apsw.Connection, lanes: Lanes, session: Session) -> Outcome:
    """Return the balances of all known destinations."""
    session.count_again(connection)
    return Outcome(balances(connection, lanes))


def _take_from_dead(lanes: Lanes, gone: Mapping[str, int]) -> None:
    for name, count in gone.items():
        if name in lanes.by_name:
            lanes[name].new_dead -= count

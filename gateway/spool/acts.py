"""Acts of the writer: registering destinations, forgetting them, moving dead letters."""

from collections.abc import Mapping, Sequence

import apsw

from gateway.errors import SpoolError
from gateway.spool.jobs import Outcome
from gateway.spool.lanes import Lane, Lanes
from gateway.spool.letters import drop, replay
from gateway.spool.values import Bounds, Replayed


def register(
    connection: apsw.Connection, lanes: Lanes, destinations: Mapping[str, Bounds]
) -> Outcome:
    """Give new destinations a cursor at the end of the log."""
    added: list[Lane] = []
    for name in destinations:
        if name not in lanes.by_name:
            connection.execute(
                "INSERT INTO destination(name, cursor) VALUES (?, ?)", (name, lanes.position)
            )
            added.append(Lane(name, connection.last_insert_rowid(), lanes.position))

    def then() -> None:
        lanes.by_name = lanes.by_name | {lane.name: lane for lane in added}
        for name, lane in lanes.by_name.items():
            lane.bounds = destinations.get(name)

    return Outcome(then=then)


def forget(connection: apsw.Connection, lanes: Lanes, name: str) -> Outcome:
    """Give up an orphan's cursor and its pending deliveries."""
    lane = lanes[name]
    if lane.bounds is not None:
        raise SpoolError(f"destination {name!r} is registered; take it out of the config first")
    connection.execute("DELETE FROM waiting WHERE destination = ?", (lane.number,))
    connection.execute("DELETE FROM destination WHERE number = ?", (lane.number,))
    given_up = lane.backlog + lane.waiting

    def then() -> None:
        lanes.by_name = {n: other for n, other in lanes.by_name.items() if n != name}
        lanes.rescan(connection)

    return Outcome(given_up, then=then)


def pause(connection: apsw.Connection, lanes: Lanes, name: str, *, paused: bool) -> Outcome:
    """Note that an operator paused a destination, or does so no more."""
    number = lanes[name].number
    connection.execute("UPDATE destination SET paused = ? WHERE number = ?", (paused, number))
    return Outcome()


def drop_some(connection: apsw.Connection, _lanes: Lanes, ids: Sequence[int]) -> Outcome:
    """Throw dead letters away."""
    return Outcome(drop(connection, ids))


def replay_some(
    connection: apsw.Connection, lanes: Lanes, ids: Sequence[int], now: float
) -> Outcome:
    """Move dead letters back and tell their workers."""
    moved = replay(connection, ids, now)
    for name, count in moved.items():
        lanes[name].new_waiting += count
    if moved:
        lanes.new_position = connection.last_insert_rowid()
    return Outcome(moved.total(), [Replayed(name) for name in moved])

"""List, drop and replay dead letters, in the gateway or in another process."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import apsw

from gateway.errors import SpoolError
from gateway.spool.dead_letters import (
    ALL_DEAD_LETTERS,
    AT_ONCE,
    DeadLetter,
    DeadLetterFilter,
    DeadLetterGroup,
    replay_reason,
)
from gateway.spool.rows import retarget, unpack, unpack_attempts
from gateway.spool.sqlite.balance import balances
from gateway.spool.sqlite.cursors import DestinationCursors
from gateway.spool.sqlite.database import connect_existing, describe_error, insert
from gateway.spool.sqlite.progress import unkeep
from gateway.spool.sqlite.reader import ahead, read_pending
from gateway.spool.values import Balance, DeliveryRef, PendingRequest, delivery_number
from gateway.sqlite import fetch, transaction

STEP = 200
"""Dead letters per transaction, so that appends wait only briefly."""

_SELECT = """
    SELECT letter.id, destination, letter.seq, idx, kept.id, meta, body, cause, reason, at,
           attempts, rendered, event_name, user
    FROM letter JOIN kept USING (seq)
"""
_TERMS = {
    "destination": "destination = ?",
    "reason": "instr(lower(reason), lower(?)) > 0",
    "since": "at >= ?",
    "until": "at < ?",
    "event_name": "event_name = ?",
    "user": "user = ?",
    "cause": "cause = ?",
    "reason_pattern": "reason_pattern(reason) = ?",
    "request": "letter.seq IN (SELECT seq FROM kept WHERE kept.id = ?)",
    "event": f"letter.idx % {delivery_number(0, 1)} = ?",
}
_GROUPS = """
    SELECT destination, cause, reason_pattern(reason), max(reason), count(*), min(at), max(at),
        max(id)
    FROM letter"""

_OLDEST = """
    SELECT letter.id, 200 + length(rendered) + length(meta) + length(body)
    FROM letter JOIN kept USING (seq) WHERE destination = ? ORDER BY letter.seq, idx LIMIT ?
"""
_MOVING = """
    SELECT destination, seq, idx, cause, reason, user, event_name FROM letter WHERE id = ?
"""
_END_AHEAD = """
    INSERT OR IGNORE INTO ended
    SELECT number, seq, ?3 FROM destination JOIN log ON seq > cursor
    WHERE name = ?1 AND seq = ?2 AND mask <> 0
"""

Which = Sequence[int] | DeadLetterFilter


def _where(which: DeadLetterFilter) -> tuple[str, list[Any]]:
    terms, values = [], []
    for field, term in _TERMS.items():
        if (value := getattr(which, field)) is not None:
            terms.append(term)
            values.append(value)
    return " AND ".join(terms) or "1", values


def listing(
    connection: apsw.Connection, which: DeadLetterFilter, after: int, limit: int
) -> list[DeadLetter]:
    """Return up to ``limit`` dead letters with an id above ``after``."""
    terms, values = _where(which)
    query = f"{_SELECT} WHERE {terms} AND letter.id > ? ORDER BY letter.id LIMIT ?"
    return [_dead(row) for row in fetch(connection, query, [*values, after, limit])]


def groups(
    connection: apsw.Connection, which: DeadLetterFilter, limit: int
) -> list[DeadLetterGroup]:
    """Return the largest groups of dead letters with the same cause and reason pattern."""
    terms, values = _where(which)
    query = f"{_GROUPS} WHERE {terms} GROUP BY 1, 2, 3 ORDER BY 5 DESC, 8 DESC LIMIT ?"
    return [DeadLetterGroup(*row) for row in fetch(connection, query, [*values, limit])]


def one(connection: apsw.Connection, number: int) -> DeadLetter | None:
    """Return the dead letter with this id."""
    rows = fetch(connection, f"{_SELECT} WHERE letter.id = ?", (number,))
    return _dead(rows[0]) if rows else None


def _dead(row: tuple[Any, ...]) -> DeadLetter:
    number, destination, seq, index, entry_id, meta, body, cause, reason, at, *rest = row
    attempts, rendered, event_name, user = rest
    return DeadLetter(
        id=number,
        destination=destination,
        mark=DeliveryRef(seq, index),
        entry=unpack(entry_id, meta, body),
        cause=cause,
        reason=reason,
        at=at,
        attempts=unpack_attempts(attempts),
        rendered=rendered,
        event_name=event_name,
        user=user,
    )


def newest(connection: apsw.Connection) -> int:
    """Return the highest id of all dead letters."""
    ((number,),) = fetch(connection, "SELECT coalesce(max(id), 0) FROM letter")
    return int(number)


def portion(connection: apsw.Connection, which: Which, after: int, upto: int) -> list[int]:
    """Return the next selected ids above ``after``, up to ``upto``."""
    if not isinstance(which, DeadLetterFilter):
        return sorted({number for number in which if after < number <= upto})[:STEP]
    terms, values = _where(which)
    start = "SELECT id FROM letter WHERE id > ? AND id <= ?"
    query = f"{start} AND {terms} ORDER BY id LIMIT {STEP}"
    return [number for (number,) in fetch(connection, query, [after, upto, *values])]


def drop(connection: apsw.Connection, ids: Sequence[int]) -> Counter[str]:
    """Delete dead letters within the caller's transaction; return how many, by destination."""
    dropped = remove(connection, ids)
    count = "UPDATE destination SET dropped = dropped + ? WHERE name = ?"
    connection.executemany(count, ((number, name) for name, number in dropped.items()))
    return dropped


def remove(connection: apsw.Connection, ids: Iterable[int]) -> Counter[str]:
    """Delete dead letters; those after the cursor are marked as ended."""
    removed: Counter[str] = Counter()
    seqs = set()
    for number in ids:
        gone = "DELETE FROM letter WHERE id = ? RETURNING destination, seq, idx"
        for name, seq, index in fetch(connection, gone, (number,)):
            seqs.add(seq)
            removed[name] += 1
            connection.execute(_END_AHEAD, (name, seq, index))
    unkeep(connection, seqs)
    return removed


def drop_oldest(connection: apsw.Connection, destination: str, size: int, most: int) -> int:
    """Delete a destination's oldest dead letters until *size* bytes are free, *most* at once."""
    ids, freed = [], 0
    for number, length in fetch(connection, _OLDEST, (destination, most)):
        ids.append(number)
        freed += length
        if freed >= size:
            break
    return drop(connection, ids).total()


def replay(connection: apsw.Connection, ids: Sequence[int], now: float) -> Counter[str]:
    """Replay dead letters within the caller's transaction; return how many, by destination.

    Dead letters of the same request and destination share a new entry. Raises SpoolError if a
    destination is no longer known.
    """
    groups: dict[tuple[str, int], list[_Moving]] = {}
    for number in ids:
        for name, seq, *rest in fetch(connection, _MOVING, (number,)):
            groups.setdefault((name, seq), []).append(_Moving(number, *rest))
    for (name, seq), group in groups.items():
        found = fetch(connection, "SELECT number FROM destination WHERE name = ?", (name,))
        if not found:
            raise SpoolError(
                f"dead letter {group[0].id}: destination {name!r} no longer exists; "
                f"add it to the configuration again, or delete its dead letters"
            )
        indexes = tuple(sorted(letter.event for letter in group))
        fresh = _repeat(connection, seq, {name: indexes}, now)
        for letter in group:
            reason = replay_reason(letter.cause, letter.reason)
            connection.execute(
                "INSERT INTO waiting VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?)",
                (
                    found[0][0],
                    fresh,
                    letter.event,
                    AT_ONCE,
                    letter.user,
                    letter.event_name,
                    reason,
                    b"",
                ),
            )
    remove(connection, [letter.id for group in groups.values() for letter in group])
    moved: Counter[str] = Counter()
    for (name, _), group in groups.items():
        moved[name] += len(group)
    return moved


class _Moving(NamedTuple):
    id: int
    event: int
    cause: str
    reason: str
    user: str
    event_name: str


def _repeat(
    connection: apsw.Connection, seq: int, targets: dict[str, tuple[int, ...]], now: float
) -> int:
    query = "SELECT id, meta, body FROM kept WHERE seq = ?"
    entry_id, meta, body = fetch(connection, query, (seq,))[0]
    return insert(connection, [(0, now, entry_id, retarget(meta, targets), body)])


class DeadLetterStore:
    """The dead letters of a spool folder, for a process other than the gateway.

    The gateway may be running; it notices a replay within about a second. Use it as a context
    manager. Every method raises SpoolError if the file cannot be used; the message says what to do.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock
        self._connection: apsw.Connection | None = None

    def __enter__(self) -> Self:
        self._connection = connect_existing(self._folder)
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection:
            self._connection.close(force=True)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except apsw.Error as e:
            raise describe_error(e, self._folder) from e

    @property
    def _open(self) -> apsw.Connection:
        if self._connection is None:
            raise SpoolError("use DeadLetterStore in a with statement")
        return self._connection

    def dead_letters(
        self, which: DeadLetterFilter = ALL_DEAD_LETTERS, after: int = 0, limit: int = 50
    ) -> list[DeadLetter]:
        """Return dead letters by id; ``after`` is the last id of the previous page."""
        with self._explained():
            return listing(self._open, which, after, limit)

    def dead_letter(self, number: int) -> DeadLetter | None:
        """Return one dead letter by its id."""
        with self._explained():
            return one(self._open, number)

    def pending(self, request_id: str) -> PendingRequest | None:
        """Return the pending deliveries of a request; None if it is not in the log."""
        with self._explained():
            return read_pending(self._open, request_id)

    def balances(self) -> dict[str, Balance]:
        """Return the balance of each destination, counted from the rows."""
        with self._explained():
            self._open.execute("BEGIN")  # one snapshot; it does not block the writer
            try:
                places = DestinationCursors()
                places.load(self._open)
                return balances(self._open, places)
            finally:
                self._open.execute("COMMIT")

    def drop(self, which: Which) -> int:
        """Delete dead letters, by ids or by filter; return how many there were."""
        return self._each(which, lambda ids: drop(self._open, ids).total())

    def replay(self, which: Which) -> int:
        """Replay dead letters, by ids or by filter; return how many there were."""
        return self._each(which, self._replay)

    def _replay(self, ids: list[int]) -> int:
        return replay(self._open, ids, self._clock() - ahead(self._open)).total()

    def _each(self, which: Which, act: Callable[[list[int]], int]) -> int:
        after, total = 0, 0
        with self._explained():
            upto = newest(self._open)
            while ids := portion(self._open, which, after, upto):
                with transaction(self._open):
                    total += act(ids)
                after = ids[-1]
        return total

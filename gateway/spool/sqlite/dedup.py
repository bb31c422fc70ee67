"""Drop duplicate events: the store remembers the ids of recent events.

An id is stored in the transaction that appends its entry. It is kept for the dedup window, even if
the entry is deleted earlier.
"""

from collections.abc import Sequence

import apsw
import msgspec

from gateway.spool.dedup import numbers_of, without
from gateway.spool.sqlite.commands import AppendEntry
from gateway.sqlite import fetch

ROOM = 72
"""Bytes per id in the file, with table and index: a million ids took 70 bytes each."""

_SIZES = (64, 16, 4, 1)
_SELECT = "SELECT id FROM seen WHERE +until > ? AND id IN "
"""The plus sign stops SQLite from using the index on ``until``."""
_KNOWN = {n: _SELECT + f"({', '.join('?' * n)})" for n in _SIZES}
_INSERT = "INSERT OR REPLACE INTO seen(id, until, seq) VALUES "
_REMEMBER = {n: _INSERT + ", ".join(["(?, ?, ?)"] * n) for n in _SIZES}
_PURGE = """
    DELETE FROM seen WHERE id IN (SELECT id FROM seen WHERE until <= ? ORDER BY until LIMIT ?)
"""


class Deduplicator:
    """Separates new events from duplicates in one batch, which is one transaction.

    It reads and writes the ids of a batch in few statements, because each statement must wait for
    the GIL. Ids are stored with the time ``now`` and expire by ``sure`` (see
    `gateway.spool.clock`).
    """

    def __init__(
        self, connection: apsw.Connection, now: float, sure: float, jobs: Sequence[AppendEntry]
    ) -> None:
        self._connection, self._now, self._sure = connection, now, sure
        self._met = self._known([key for job in jobs for key in job.ids.values()])
        self._noted: list[tuple[AppendEntry, list[bytes]]] = []
        self._new: list[bytes] = []

    def _known(self, ids: Sequence[bytes]) -> set[bytes]:
        found: set[bytes] = set()
        done = 0
        for size, query in _KNOWN.items():
            while len(ids) - done >= size:
                rows = fetch(self._connection, query, (self._sure, *ids[done : done + size]))
                found.update(row[0] for row in rows)
                done += size
        return found

    def drop_duplicates(self, job: AppendEntry) -> int:
        """Remove duplicates from the job's entry; return the bytes that its new ids need.

        If nothing is left, the job's result is 0.
        """
        new: dict[bytes, None] = {}
        repeats = set()
        for index, key in job.ids.items():
            if key in self._met or key in new:
                repeats.add(index)
            else:
                new[key] = None
        self._new = list(new)
        job.repeats = frozenset(repeats)
        if repeats:
            targets = job.entry.targets
            left = without(targets, numbers_of(targets, repeats))
            job.kept = msgspec.structs.replace(job.entry, targets=left) if left else None
        if job.kept is None:
            job.result = 0
        return ROOM * len(new)

    def note(self, job: AppendEntry) -> None:
        """Keep the new ids of the last job passed to `drop_duplicates`: its entry is accepted."""
        self._met.update(self._new)
        self._noted.append((job, self._new))

    def remember(self) -> None:
        """Store the kept ids; the results of their jobs must be their seqs."""
        rows = [(k, self._now + job.window, job.result) for job, new in self._noted for k in new]
        done = 0
        for size, statement in _REMEMBER.items():
            while len(rows) - done >= size:
                values = [value for row in rows[done : done + size] for value in row]
                self._connection.execute(statement, values)
                done += size


def purge(connection: apsw.Connection, now: float, count: int) -> bool:
    """Delete up to ``count`` expired ids; return whether there may be more."""
    connection.execute(_PURGE, (now, count))
    return connection.changes() >= count

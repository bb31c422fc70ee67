"""The stored consent of users.

A row has one user's latest consent per category. Each change of it starts the retention window
again.
"""

from collections.abc import Mapping, Sequence

import apsw

from gateway.spool.consent import merge_consent, pack_consent, unpack_consent
from gateway.spool.values import ConsentRecord
from gateway.sqlite import fetch

ROOM = 96
"""Most bytes per user in the file, without the names of the categories."""

_KNOWN = "SELECT said FROM consent WHERE user = ? AND until > ?"
_REMEMBER = "INSERT OR REPLACE INTO consent(user, until, said) VALUES (?, ?, ?)"
_PURGE = """
    DELETE FROM consent WHERE user IN
    (SELECT user FROM consent WHERE until <= ? ORDER BY until LIMIT ?)
"""


def bytes_needed(records: Mapping[bytes, Mapping[str, ConsentRecord]]) -> int:
    """Return the bytes that the records may need."""
    return sum(ROOM + sum(12 + len(name) for name in words) for words in records.values())


def remember(
    connection: apsw.Connection,
    records: Mapping[bytes, Mapping[str, ConsentRecord]],
    now: float,
    window: float,
) -> None:
    """Store the records of users; the newest of each category wins."""
    for user, words in records.items():
        known = recall(connection, [user], now).get(user, {})
        packed = pack_consent(merge_consent(known, words))
        connection.execute(_REMEMBER, (user, now + window, packed))


def recall(
    connection: apsw.Connection, users: Sequence[bytes], now: float
) -> dict[bytes, dict[str, ConsentRecord]]:
    """Return the stored records of *users*; users without any are left out."""
    return {
        user: unpack_consent(packed)
        for user in users
        for (packed,) in fetch(connection, _KNOWN, (user, now))
    }


def purge(connection: apsw.Connection, now: float, count: int) -> bool:
    """Delete up to ``count`` expired users; return whether there may be more."""
    connection.execute(_PURGE, (now, count))
    return connection.changes() >= count

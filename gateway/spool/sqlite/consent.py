"""The stored consent of users.

A row has one user's latest consent per category. Each change of it starts the retention window
again.
"""

from collections.abc import Mapping, Sequence

import apsw
import msgspec

from gateway.spool.values import ConsentRecord
from gateway.sqlite import fetch

ROOM = 96
"""Most bytes per user in the file, without the names of the categories."""

CATEGORIES = 100
"""Most categories that are stored per user."""

_KNOWN = "SELECT said FROM consent WHERE user = ? AND until > ?"
_REMEMBER = "INSERT OR REPLACE INTO consent(user, until, said) VALUES (?, ?, ?)"
_PURGE = """
    DELETE FROM consent WHERE user IN
    (SELECT user FROM consent WHERE until <= ? ORDER BY until LIMIT ?)
"""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, tuple[bool, float]]).decode


def bytes_needed(said: Mapping[bytes, Mapping[str, ConsentRecord]]) -> int:
    """Return the bytes that the records may need."""
    return sum(ROOM + sum(12 + len(name) for name in words) for words in said.values())


def newest(words: dict[str, ConsentRecord]) -> dict[str, ConsentRecord]:
    """Return the newest `CATEGORIES` of a user's records, since senders may invent categories."""
    if len(words) <= CATEGORIES:
        return words
    order = sorted(words, key=lambda name: words[name].at)
    return {name: words[name] for name in order[-CATEGORIES:]}


def remember(
    connection: apsw.Connection,
    said: Mapping[bytes, Mapping[str, ConsentRecord]],
    now: float,
    window: float,
) -> None:
    """Store the records of users; the newest of each category wins."""
    for user, words in said.items():
        known = recall(connection, [user], now).get(user, {})
        later = {n: w for n, w in words.items() if n not in known or known[n].at <= w.at}
        kept = newest(known | later)
        packed = _encode({name: (word.granted, word.at) for name, word in kept.items()})
        connection.execute(_REMEMBER, (user, now + window, packed))


def recall(
    connection: apsw.Connection, users: Sequence[bytes], now: float
) -> dict[bytes, dict[str, ConsentRecord]]:
    """Return the stored records of *users*; users without any are left out."""
    return {
        user: {name: ConsentRecord(*word) for name, word in _decode(packed).items()}
        for user in users
        for (packed,) in fetch(connection, _KNOWN, (user, now))
    }


def purge(connection: apsw.Connection, now: float, count: int) -> bool:
    """Delete up to ``count`` expired users; return whether there may be more."""
    connection.execute(_PURGE, (now, count))
    return connection.changes() >= count

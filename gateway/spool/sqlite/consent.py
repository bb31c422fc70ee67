"""What users consented to, in the store beside the log.

A row is one user's last word per category. It is kept for a time that has nothing to do with the
log, and each new word of the user's prolongs it.
"""

from collections.abc import Mapping, Sequence

import apsw
import msgspec

from gateway.spool.values import ConsentRecord
from gateway.sqlite import fetch

ROOM = 96
"""Bytes that a user takes in the file at most, beside the names of the categories."""

CATEGORIES = 100
"""Categories of which a user's word is remembered."""

_KNOWN = "SELECT said FROM consent WHERE user = ? AND until > ?"
_REMEMBER = "INSERT OR REPLACE INTO consent(user, until, said) VALUES (?, ?, ?)"
_PURGE = """
    DELETE FROM consent WHERE user IN
    (SELECT user FROM consent WHERE until <= ? ORDER BY until LIMIT ?)
"""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, tuple[bool, float]]).decode


def bytes_needed(said: Mapping[bytes, Mapping[str, ConsentRecord]]) -> int:
    """Return the bytes that *said* may need."""
    return sum(ROOM + sum(12 + len(name) for name in words) for words in said.values())


def newest(words: dict[str, ConsentRecord]) -> dict[str, ConsentRecord]:
    """Return a user's last *words*, of many categories the newest; senders can invent some."""
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
    """Write down what users said, each category by its last word."""
    for user, words in said.items():
        known = recall(connection, [user], now).get(user, {})
        later = {n: w for n, w in words.items() if n not in known or known[n].at <= w.at}
        kept = newest(known | later)
        packed = _encode({name: (word.granted, word.at) for name, word in kept.items()})
        connection.execute(_REMEMBER, (user, now + window, packed))


def recall(
    connection: apsw.Connection, users: Sequence[bytes], now: float
) -> dict[bytes, dict[str, ConsentRecord]]:
    """Return what these users said, without those of whom nothing is known."""
    return {
        user: {name: ConsentRecord(*word) for name, word in _decode(packed).items()}
        for user in users
        for (packed,) in fetch(connection, _KNOWN, (user, now))
    }


def purge(connection: apsw.Connection, now: float, count: int) -> bool:
    """Forget up to ``count`` users whose time is over; say whether there may be more."""
    connection.execute(_PURGE, (now, count))
    return connection.changes() >= count

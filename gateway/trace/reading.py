"""Looking at traces: while the gateway runs, and after."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import apsw

from gateway.errors import TraceError
from gateway.spool.store import fetch
from gateway.trace.interface import (
    EVERYTHING,
    Line,
    Parsed,
    Received,
    Trace,
    Tried,
    Which,
)
from gateway.trace.store import SCHEMA, explained, identity_of, line_of, unpack

_REQUESTS = """
SELECT DISTINCT request FROM (
    SELECT number, request FROM record WHERE kind = 'event' AND message_id != '' AND message_id = ?1
    UNION ALL
    SELECT number, request FROM record WHERE kind = 'event' AND user_id != '' AND user_id = ?1
    UNION ALL
    SELECT number, request FROM record
    WHERE kind = 'event' AND anonymous_id != '' AND anonymous_id = ?1
    ORDER BY number DESC LIMIT ?2 * 100)
LIMIT ?2
"""
_OF = """
SELECT number, kind, packed FROM record WHERE kind = 'request' AND request = ?1
UNION ALL
SELECT number, kind, packed FROM record
WHERE kind = 'event' AND event > ?1 || '-' AND event < ?1 || '.'
UNION ALL
SELECT number, kind, packed FROM record WHERE kind = 'delivery' AND request = ?1
ORDER BY number
"""


class NothingTraced(TraceError):
    """There is no file of traces, or it is only just being made."""


class Reader:
    """The file of traces, for reading; it may be written meanwhile.

    Args:
        path: of the file.

    Raises:
        NothingTraced: there is none yet.
        TraceError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        nothing = f"{path}: nothing was traced yet, or [trace] is off"
        if not path.exists():
            raise NothingTraced(nothing)
        self._path = path
        with explained(path):
            self._connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
            self._identity = identity_of(path)
            self._connection.set_busy_timeout(2000)
            version = self._connection.pragma("user_version")
        if version != SCHEMA:
            self._connection.close()
        if not version:
            raise NothingTraced(nothing)
        if version != SCHEMA:
            raise TraceError(f"{path}: another version of the gateway wrote it (schema {version})")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @property
    def replaced(self) -> bool:
        """Tell whether another file has come in its place: it was taken away, or damaged."""
        return identity_of(self._path) not in {self._identity, None}

    def last(self) -> int:
        """Return the number of the newest record; 0 where there is none."""
        with explained(self._path):
            ((number,),) = fetch(self._connection, "SELECT max(number) FROM record")
        return number or 0

    def lines(
        self,
        which: Which = EVERYTHING,
        *,
        before: int | None = None,
        after: int = 0,
        limit: int = 50,
        newest: bool = True,
    ) -> list[Line]:
        """Return lines between two numbers, neither included, in the order asked for."""
        terms, values = _where(which)
        upper = before if before is not None else 1 << 62
        order = "DESC" if newest else "ASC"
        query = (
            "SELECT number, kind, packed FROM record "  # noqa: S608 - the terms are constants
            f"WHERE shown AND number > ? AND number < ? {terms} ORDER BY number {order} LIMIT ?"
        )
        with explained(self._path):
            rows = fetch(self._connection, query, (after, upper, *values, limit))
        found = (line_of(unpack(kind, packed), number) for number, kind, packed in rows)
        return [line for line in found if line is not None]

    def show(self, identity: str, limit: int = 20) -> list[Trace]:
        """Return what is kept under an id, the newest first (see `Traces.show`)."""
        with explained(self._path):
            for request in found_ids(identity):
                one = self._trace(request)
                if one is not None:
                    return [one]
            rows = fetch(self._connection, _REQUESTS, (identity, limit))
            found = (self._trace(request) for (request,) in rows)
            return [one for one in found if one is not None]

    def _trace(self, request: str) -> Trace | None:
        rows = fetch(self._connection, _OF, (request,))
        records = [unpack(kind, packed) for _, kind, packed in rows]
        if not records:
            return None
        return Trace(
            request,
            next((one for one in records if isinstance(one, Received)), None),
            tuple(one for one in records if isinstance(one, Parsed)),
            tuple(one for one in records if isinstance(one, Tried)),
        )


def _where(which: Which) -> tuple[str, list[Any]]:
    terms, values = [], list[Any]()
    for column in ("source", "destination", "name"):
        value = getattr(which, column)
        if value is not None:
            terms.append(f"AND {column} = ?")
            values.append(value)
    if which.user is not None:
        terms.append("AND ? IN (user_id, anonymous_id)")
        values.append(which.user)
    if which.failed:
        terms.append("AND failed")
    if which.since is not None:
        terms.append("AND at >= ?")
        values.append(which.since)
    if which.until is not None:
        terms.append("AND at < ?")
        values.append(which.until)
    return " ".join(terms), values


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Reader]:
    """Open the file of traces for a while.

    Raises:
        NothingTraced: there is none yet.
        TraceError: it cannot be read.
    """
    reader = Reader(path)
    try:
        yield reader
    finally:
        reader.close()


class FileTraces:
    """The traces of a running gateway (`gateway.trace.interface.Traces`), read off the loop."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def find(
        self, which: Which = EVERYTHING, before: int | None = None, limit: int = 50
    ) -> list[Line]:
        """Return the newest lines, the newest first.

        Raises:
            TraceError: they cannot be read.
        """
        return await asyncio.to_thread(self._find, which, before, limit)

    def _find(self, which: Which, before: int | None, limit: int) -> list[Line]:
        with contextlib.suppress(NothingTraced), reading(self._path) as reader:
            return reader.lines(which, before=before, limit=limit)
        return []

    async def show(self, identity: str, limit: int = 20) -> list[Trace]:
        """Return what is kept under an id, the newest first.

        Raises:
            TraceError: it cannot be read.
        """
        return await asyncio.to_thread(partial(self._show, identity, limit))

    def _show(self, identity: str, limit: int) -> list[Trace]:
        with contextlib.suppress(NothingTraced), reading(self._path) as reader:
            return reader.show(identity, limit)
        return []


def found_ids(identity: str) -> Sequence[str]:
    """Return what of *identity* may be a request's id: all of it, or what stands before a dash."""
    request, dash, _ = identity.partition("-")
    return (identity, request) if dash else (identity,)

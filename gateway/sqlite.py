"""SQLite helpers that the spool, traces and shadows share."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import apsw


def fetch(connection: apsw.Connection, query: str, values: Sequence[Any] = ()) -> list[Any]:
    """Return all rows of a query; what they hold is known from the schema alone."""
    return connection.execute(query, values).fetchall()


@contextlib.contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """Run the body in one write transaction: committed and synced at its end, or undone."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        undo(connection)
        raise


def undo(connection: apsw.Connection) -> None:
    """Roll back if a transaction is still open; SQLite ends it by itself after some errors."""
    if connection.in_transaction:
        with contextlib.suppress(apsw.Error):
            connection.execute("ROLLBACK")

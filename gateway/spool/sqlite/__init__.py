"""The embedded spool: one SQLite file, one writer thread, one reader thread."""

from gateway.spool.sqlite.dead_letters import DeadLetterStore
from gateway.spool.sqlite.spool import SqliteSpool

__all__ = ["DeadLetterStore", "SqliteSpool"]

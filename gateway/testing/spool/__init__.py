"""The contract of every ``Spool`` as tests: subclass ``SpoolSuite`` and define ``make``."""

from gateway.testing.spool.balance import BalancesSuite
from gateway.testing.spool.consent import ConsentSuite
from gateway.testing.spool.contract import ManualClock, eventually
from gateway.testing.spool.dead_letters import DeadLettersSuite
from gateway.testing.spool.dedup import DedupSuite
from gateway.testing.spool.limits import LimitsSuite
from gateway.testing.spool.log import LogSuite
from gateway.testing.spool.progress import DestinationsSuite, ProgressSuite
from gateway.testing.spool.unread import UnreadSuite

__all__ = ["ManualClock", "SpoolSuite", "eventually"]


class SpoolSuite(
    LogSuite,
    DedupSuite,
    ConsentSuite,
    DestinationsSuite,
    ProgressSuite,
    DeadLettersSuite,
    LimitsSuite,
    UnreadSuite,
    BalancesSuite,
):
    """Tests every sentence of the ``Spool`` interface.

    A subclass provides ``make`` and ``after_crash`` (see ``SpoolContract``). Its name begins with
    ``Test``, so that pytest collects it. The tests are coroutines: run them with pytest-aiohttp, or
    with pytest-asyncio in auto mode.
    """

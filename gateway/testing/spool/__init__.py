"""The contract of every ``Spool``, as tests: subclass ``SpoolSuite`` and say how to make one."""

from gateway.testing.spool.balances import BalancesSuite
from gateway.testing.spool.bounds import BoundsSuite
from gateway.testing.spool.contract import Clock, eventually
from gateway.testing.spool.destinations import DestinationsSuite
from gateway.testing.spool.letters import LettersSuite
from gateway.testing.spool.log import LogSuite
from gateway.testing.spool.once import OnceSuite
from gateway.testing.spool.remembering import RememberingSuite
from gateway.testing.spool.settling import SettlingSuite
from gateway.testing.spool.unread import UnreadSuite

__all__ = ["Clock", "SpoolSuite", "eventually"]


class SpoolSuite(
    LogSuite,
    OnceSuite,
    RememberingSuite,
    DestinationsSuite,
    SettlingSuite,
    LettersSuite,
    BoundsSuite,
    UnreadSuite,
    BalancesSuite,
):
    """Every sentence of the ``Spool`` interface.

    A subclass provides ``make`` and ``after_crash`` (see ``SpoolContract``); its name begins with
    ``Test``, so that pytest collects it. The tests are coroutines: run them with pytest-aiohttp
    or pytest-asyncio in auto mode.
    """

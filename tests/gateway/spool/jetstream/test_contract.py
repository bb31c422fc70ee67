"""The contract of spools holds on a JetStream shard, with frames of many entries.

What differs is skipped.
"""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from gateway.spool import SpoolLimits
from gateway.spool.jetstream.layout import Layout
from gateway.testing.spool.balance import BalancesSuite
from gateway.testing.spool.consent import ConsentSuite
from gateway.testing.spool.contract import ShardSpool, SpoolContract
from gateway.testing.spool.dead_letters import DeadLettersSuite
from gateway.testing.spool.dedup import DedupSuite
from gateway.testing.spool.limits import LimitsSuite
from gateway.testing.spool.log import LogSuite
from gateway.testing.spool.progress import DestinationsSuite, ProgressSuite
from gateway.testing.spool.unread import UnreadSuite
from tests.cluster.servers import NatsServers
from tests.gateway.spool.jetstream.one_shard_spool import OneShardSpool, differs

DIFFERENT = {
    "test_full_backlog_takes_a_repeat": "a gateway refuses before the owner finds duplicates",
    "test_report_from_before_an_eviction_is_made_anew": "an owner evicts after the append",
}
"""Tests of what differs for good, and why."""


class OnJetStream(SpoolContract):
    """Makes spools whose data is in the test's servers; a crash is a second claim."""

    @pytest.fixture(autouse=True)
    def _servers(
        self, request: pytest.FixtureRequest, nats_cluster: NatsServers, layout: Layout
    ) -> None:
        if how := DIFFERENT.get(request.node.originalname):
            differs(how)
        self._urls, self._layout = nats_cluster.urls, layout
        self._layouts: dict[Path, Layout] = {}

    def make(self, place: Path, limits: SpoolLimits, clock: Callable[[], float]) -> ShardSpool:
        """Return a spool whose streams are named for the place."""
        if limits.max_bytes is not None:
            differs("one bound for all streams, without shares (test_stream_watch.py)")
        own = Layout.__new__(type(self._layout), f"{self._layout.name}{len(self._layouts)}")
        known = self._layouts.setdefault(place, own)
        return cast("ShardSpool", OneShardSpool(self._urls, known, clock, limits))

    async def after_crash(
        self, spool: ShardSpool, place: Path, limits: SpoolLimits, clock: Callable[[], float]
    ) -> ShardSpool:
        """Return a spool that takes over while the other one still runs."""
        del place
        before = cast("OneShardSpool", spool)
        return cast("ShardSpool", OneShardSpool(self._urls, before.layout, clock, limits))


class TestLog(OnJetStream, LogSuite):
    """Append, read and trim."""


class TestProgress(OnJetStream, ProgressSuite):
    """Settling."""


class TestUnread(OnJetStream, UnreadSuite):
    """Unread deliveries."""


class TestDestinations(OnJetStream, DestinationsSuite):
    """Destinations."""


class TestDeadLetters(OnJetStream, DeadLettersSuite):
    """Dead letters."""


class TestDedup(OnJetStream, DedupSuite):
    """Duplicates."""


class TestConsent(OnJetStream, ConsentSuite):
    """Consent."""


class TestLimits(OnJetStream, LimitsSuite):
    """Limits."""


class TestBalances(OnJetStream, BalancesSuite):
    """Balances."""

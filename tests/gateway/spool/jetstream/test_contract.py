"""The contract of spools holds on a JetStream shard, with frames of many entries.

What a shard cannot do yet is skipped.
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
from tests.gateway.spool.jetstream.one_shard_spool import OneShardSpool, not_yet

REFUSING = "refusing at max_backlog, which a gateway does before it appends"
MISSING = {
    "test_refused_entry_leaves_no_id": REFUSING,
    "test_full_backlog_refuses": REFUSING,
    "test_a_full_destination_holds_up_no_other": REFUSING,
    "test_a_shadow_alone_takes_nothing": REFUSING,
    "test_bound_holds_within_a_batch": REFUSING,
    "test_waiting_deliveries_count_as_backlog": REFUSING,
    "test_replayed_deliveries_count_as_backlog": REFUSING,
    "test_report_from_before_an_eviction_is_made_anew": "evicting with the append (see test_shard)",
    "test_forgotten_destination_has_no_balance": "counting letters of forgotten destinations",
}
"""Tests of what a shard cannot do yet, beside those that `OneShardSpool` skips."""


class OnJetStream(SpoolContract):
    """Makes spools whose data is in the test's servers; a crash is a second claim."""

    @pytest.fixture(autouse=True)
    def _servers(
        self, request: pytest.FixtureRequest, nats_cluster: NatsServers, layout: Layout
    ) -> None:
        if what := MISSING.get(request.node.originalname):
            not_yet(what)
        self._urls, self._layout = nats_cluster.urls, layout
        self._layouts: dict[Path, Layout] = {}

    def make(self, place: Path, limits: SpoolLimits, clock: Callable[[], float]) -> ShardSpool:
        """Return a spool whose streams are named for the place."""
        if limits.max_bytes is not None:
            not_yet("max_bytes")
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

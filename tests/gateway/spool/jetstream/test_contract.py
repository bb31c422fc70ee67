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
from gateway.testing.spool.contract import ShardSpool, SpoolContract
from gateway.testing.spool.dead_letters import DeadLettersSuite
from gateway.testing.spool.dedup import DedupSuite
from gateway.testing.spool.log import LogSuite
from gateway.testing.spool.progress import DestinationsSuite, ProgressSuite
from gateway.testing.spool.unread import UnreadSuite
from tests.cluster.servers import NatsServers
from tests.gateway.spool.jetstream.one_shard_spool import OneShardSpool, not_yet

MISSING = {
    "test_refused_entry_leaves_no_id": "bounds",
    "test_pending_deliveries_are_found_by_id": "look-up of a request's deliveries",
    "test_depths_count_what_is_pending": "the age of the oldest delivery",
    "test_users_are_hashed_with_a_secret_of_the_spools_own": "the secret of the cluster",
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
        if limits != SpoolLimits():
            not_yet("bounds")
        own = Layout.__new__(type(self._layout), f"{self._layout.name}{len(self._layouts)}")
        known = self._layouts.setdefault(place, own)
        return cast("ShardSpool", OneShardSpool(self._urls, known, clock))

    async def after_crash(
        self, spool: ShardSpool, place: Path, limits: SpoolLimits, clock: Callable[[], float]
    ) -> ShardSpool:
        """Return a spool that takes over while the other one still runs."""
        del spool, place
        (known,) = self._layouts
        return self.make(known, limits, clock)


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


class TestBalances(OnJetStream, BalancesSuite):
    """Balances."""

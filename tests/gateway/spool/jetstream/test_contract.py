"""The contract of spools holds on a JetStream shard, with frames of many entries.

What a shard cannot do yet is skipped by name.
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
from gateway.testing.spool.log import LogSuite
from gateway.testing.spool.progress import DestinationsSuite, ProgressSuite
from gateway.testing.spool.unread import UnreadSuite
from tests.cluster.servers import NatsServers
from tests.gateway.spool.jetstream.one_shard_spool import OneShardSpool, Place

LOOK_UP, REPLAY, BOUNDS = "look-up of a request by its id", "replay", "bounds"
AGE = "orphans, and the age of the oldest delivery"
MISSING = {
    "test_what_is_owed_of_a_request_is_told": LOOK_UP,
    "test_what_is_owed_is_found_by_the_id": LOOK_UP,
    "test_users_are_hashed_with_a_secret_of_the_spools_own": "the secret of the cluster",
    "test_what_is_over_ahead_of_the_cursor_is_not_read_again": LOOK_UP,
    "test_letters_that_go_ahead_of_the_cursor_do_not_come_again": REPLAY,
    "test_bounds_and_age_take_only_what_is_not_over": BOUNDS,
    "test_orphan_keeps_everything": AGE,
    "test_a_pause_is_remembered": "pauses",
    "test_the_size_grows_with_what_is_kept": "the size",
    "test_depths_count_what_is_pending": AGE,
    "test_replay_appends_a_fresh_entry": REPLAY,
    "test_letters_are_found_by_their_request": REPLAY,
    "test_replay_by_ids": REPLAY,
    "test_replay_of_many": REPLAY,
    "test_replayed_ends_like_any_other": REPLAY,
    "test_replay_survives_a_crash": REPLAY,
    "test_replay_needs_a_known_destination": REPLAY,
    "test_repeats_are_not_accepted": "dedup",
    "test_letters_that_move_are_counted_where_they_are": REPLAY,
    "test_letter_that_is_withdrawn_is_delivered": BOUNDS,
    "test_letter_that_moved_before_its_delivery_arrived": BOUNDS,
    "test_what_was_forgotten_and_arrives_is_delivered": BOUNDS,
    "test_what_was_taken_is_claimed_by_what_became_of_it": BOUNDS,
    "test_retry_that_was_forgotten_and_arrives_is_delivered": BOUNDS,
    "test_what_was_to_wait_and_was_taken_before_is_claimed": BOUNDS,
    "test_report_of_before_the_taking_is_made_anew": BOUNDS,
    "test_claiming_what_was_not_taken_changes_nothing": BOUNDS,
    "test_expiry_keeps_the_balance": BOUNDS,
    "test_forgotten_destination_has_no_balance": "letters of forgotten destinations",
}
"""Tests of what a shard cannot do yet, and what that is."""


class OnJetStream(SpoolContract):
    """Makes spools whose data is in the test's servers; a crash is a second claim."""

    @pytest.fixture(autouse=True)
    def _servers(
        self, request: pytest.FixtureRequest, nats_cluster: NatsServers, layout: Layout
    ) -> None:
        if what := MISSING.get(request.node.originalname):
            pytest.skip(f"not on JetStream yet: {what}")
        self._urls, self._layout = nats_cluster.urls, layout
        self._places: dict[Path, Place] = {}

    def make(self, place: Path, limits: SpoolLimits, clock: Callable[[], float]) -> ShardSpool:
        """Return a spool whose streams are named for the place."""
        del limits, clock
        known = self._places.setdefault(place, Place(self._layout))
        return cast("ShardSpool", OneShardSpool(self._urls, known))

    async def after_crash(
        self, spool: ShardSpool, place: Path, limits: SpoolLimits, clock: Callable[[], float]
    ) -> ShardSpool:
        """Return a spool that takes over while the other one still runs."""
        del spool, place
        (known,) = self._places
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


class TestBalances(OnJetStream, BalancesSuite):
    """Balances."""

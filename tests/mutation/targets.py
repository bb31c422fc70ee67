"""The modules to mutate, and the tests that must notice their mutants."""

from collections.abc import Mapping
from pathlib import Path

G, E = "tests/gateway/test_", "tests/e2e/test_"
DISLIKED = (
    f"{E}disliked_events.py::test_a_permanent_failure_becomes_a_dead_letter_and_its_user_continues",
    f"{E}disliked_events.py::test_probes_of_an_outage_are_spaced",
)
UNDER_LOAD = (
    f"{E}reload_under_load.py::test_a_replay_under_load_delivers_each_dead_letter_once",
    f"{E}reload_under_load.py::test_a_paused_destination_gets_nothing_new",
    f"{E}reload_under_load.py::test_an_end_takes_one_drain_timeout_whoever_hangs",
)
WORKER = (
    f"{G}delivery_parts.py",
    f"{G}delivery_progress.py",
    f"{E}batch.py",
    f"{E}injected_faults.py",
    f"{E}long_backlog.py",
    f"{E}order.py",
    f"{E}routing.py",
    f"{E}worker.py",
    f"{E}upstream_answers.py",
    *DISLIKED,
    *UNDER_LOAD,
)
"""Tests of deliveries, for every part of a worker."""
ANSWERS = (f"{G}verdicts.py", f"{G}unreadable_answers.py", f"{E}vendor_answers.py")
RENDERED = (
    f"{G}renderer.py",
    f"{E}batch.py",
    f"{E}resource_limits.py",
    f"{E}client_credentials.py",
    f"{E}relay_credentials.py",
    f"{E}passthrough.py",
    f"{E}refused_passthrough.py",
    f"{E}upstream_answers.py",
    f"{E}client_address.py",
)
SPOOL = (
    f"{G}spool_sqlite.py",
    f"{G}spool_balance.py",
    f"{G}spool_clock.py",
    f"{G}spool_cursors.py",
    f"{G}spool_disk.py",
    f"{G}spool_lock.py",
    f"{G}spool_model.py",
    f"{G}spool_dedup.py",
    f"{G}spool_rows.py",
    f"{G}spool_weather.py",
    f"{G}cli_dead_letters.py",
    f"{E}resource_limits.py",
    f"{E}full_disk.py",
)
JETSTREAM = tuple(
    f"tests/gateway/spool/jetstream/test_{name}.py"
    for name in (
        "connection", "contract", "follower", "frames", "journal", "membership", "model",
        "ownership", "shard",
    )
)  # fmt: skip
LIFE = (
    f"{E}admin.py::test_a_drain_waits_for_nothing",
    f"{E}admin.py::test_a_pause_outlives_reloads_and_restarts",
    f"{E}admin.py::test_a_reload_opens_nothing",
    f"{E}admin.py::test_a_reload_says_what_it_changed",
    f"{E}crash.py::test_a_terminated_gateway_finishes_and_forgets_nothing",
    f"{E}full_disk.py",
    f"{E}injected_faults.py",
    f"{E}keyed_sources.py",
    f"{E}reload.py",
    f"{E}reload_scope.py",
    f"{E}shadow_destinations.py",
    f"{E}trace_accuracy.py",
    f"{E}upstream_answers.py",
)
INGEST = (
    f"{E}connections.py::test_behind_a_proxy_the_client_with_most_gives_way",
    f"{E}browsers.py",
    f"{E}dedup.py",
    f"{E}hostile_senders.py",
    f"{E}keyed_sources.py",
    f"{E}refusals.py",
    f"{E}relay.py",
    f"{E}tracking_plans.py",
    f"{E}upstream_answers.py",
)
COVERING: Mapping[str, tuple[str, ...]] = {
    "gateway/delivery": WORKER,
    "gateway/delivery/sender.py": (*ANSWERS, *RENDERED, f"{E}upstream_answers.py"),
    "gateway/delivery/circuit_breaker.py": (
        f"{G}delivery_parts.py", f"{E}worker.py", *DISLIKED,
    ),
    "gateway/delivery/log_tail.py": (f"{G}log_tail.py", f"{E}long_backlog.py"),
    "gateway/delivery/pump.py": (f"{G}pump.py", f"{E}worker.py", *UNDER_LOAD),
    "gateway/delivery/rate_limiter.py": (f"{G}delivery_parts.py",),
    "gateway/delivery/renderer.py": RENDERED,
    "gateway/delivery/unread.py": (
        f"{G}unread_index.py", f"{E}injected_faults.py",
        f"{E}bursts.py::test_a_burst_keeps_its_own_order",
    ),
    "gateway/spool": SPOOL,
    "gateway/spool/jetstream": JETSTREAM,
    "gateway/ingest/receiver.py": INGEST,
    "gateway/app.py": LIFE,
    "gateway/reload.py": LIFE,
    **dict.fromkeys(
        (f"gateway/delivery/{name}.py" for name in ("connection", "request_head", "transport")),
        (f"{G}transport.py", f"{G}connection.py", f"{G}unreadable_answers.py"),
    ),
}  # fmt: skip
"""Modules and folders of the core with the tests that cover them; a module's own tests replace its
folder's."""


def modules(root: Path) -> dict[str, tuple[str, ...]]:
    """Return each module of the core, relative to *root*, with the tests that cover it.

    Raises:
        FileNotFoundError: a test or a module does not exist.
    """
    found: dict[str, tuple[str, ...]] = {}
    for place, tests in COVERING.items():
        for name in (place, *tests):
            file, _, test = name.partition("::")
            if not (root / file).exists() or (test and test not in (root / file).read_text()):
                raise FileNotFoundError(f"{name}, which tests/mutation/targets.py names")
        under = sorted((root / place).glob("**/*.py")) or [root / place]
        found.update({str(path.relative_to(root)): tests for path in under})
    return found

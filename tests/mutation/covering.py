"""Which modules mistakes are made in, and which tests are there to notice them."""

from pathlib import Path

DELIVERY = (
    "tests/gateway/test_delivery_parts.py",
    "tests/gateway/test_delivery_ledger.py",
    "tests/gateway/test_delivery_rendering.py",
    "tests/gateway/test_unread_index.py",
    "tests/e2e/test_batch.py",
    "tests/e2e/test_upstream_answers.py",
    "tests/e2e/test_bounds.py",
    "tests/e2e/test_injected_faults.py",
    "tests/e2e/test_reload_under_load.py",
    "tests/e2e/test_bursts.py",
)
SPOOL = (
    "tests/gateway/test_spool_sqlite.py",
    "tests/gateway/test_spool_once.py",
    "tests/gateway/test_spool_rows.py",
    "tests/gateway/test_spool_lock.py",
    "tests/gateway/test_spool_clock.py",
    "tests/gateway/test_spool_balance.py",
    "tests/gateway/test_spool_disk.py",
    "tests/gateway/test_spool_model.py",
    "tests/e2e/test_dedup.py",
    "tests/e2e/test_bounds.py",
)
LIFE = (
    "tests/e2e/test_reload_reaches.py",
    "tests/e2e/test_keyed_sources.py",
    "tests/e2e/test_reload.py",
    "tests/e2e/test_crash.py",
    "tests/e2e/test_bounds.py",
    "tests/e2e/test_admin.py",
    "tests/e2e/test_stories.py",
    "tests/e2e/test_reload_under_load.py",
)
ENTRANCE = (
    "tests/e2e/test_keyed_sources.py",
    "tests/e2e/test_dedup.py",
    "tests/e2e/test_tracking_plans.py",
    "tests/e2e/test_upstream_answers.py",
    "tests/e2e/test_refusals.py",
    "tests/e2e/test_hostile_senders.py",
    "tests/e2e/test_traces.py",
    "tests/e2e/test_browsers.py",
)
COVERING: dict[str, tuple[str, ...]] = {
    "gateway/delivery": DELIVERY,
    "gateway/spool": SPOOL,
    "gateway/ingest.py": ENTRANCE,
    "gateway/app.py": LIFE,
    "gateway/reload.py": LIFE,
    "gateway/transport.py": ("tests/gateway/test_transport.py",),
}
"""Modules and folders of the core to the tests that cover them, the quick ones first."""


def modules(root: Path) -> dict[str, tuple[str, ...]]:
    """Return every module of the core, from *root* on, and the tests that cover it."""
    found = {}
    for place, tests in COVERING.items():
        under = sorted((root / place).glob("**/*.py")) or [root / place]
        found.update({str(path.relative_to(root)): tests for path in under})
    return found

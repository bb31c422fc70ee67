"""The record of what operators do."""

from pathlib import Path

import pytest

from gateway.admin import audit
from gateway.admin.audit import FILE, AuditLog, entry_of
from gateway.admin.caller import Caller
from gateway.errors import SpoolError

ALICE = Caller("alice", "operator", "token")


class Clock:
    """A clock that the test sets."""

    now = 1_000_000.0

    def __call__(self) -> float:
        """Return Unix seconds."""
        return self.now


def actions(log: AuditLog) -> list[str]:
    """Return the recorded actions, the newest first."""
    return [entry.action for entry in log.entries()]


def test_an_action_is_kept_with_who_and_when(tmp_path: Path) -> None:
    """An action is read as it was recorded, also by another process; its texts are bounded."""
    tmp_path /= "spool"  # made with the first action: a spool in NATS has no folder
    AuditLog(tmp_path, lambda: 60.0, Clock()).add(
        entry_of(ALICE, "pause_destination", target="crm", error="x" * 1000)
    )
    (found,) = AuditLog(tmp_path, lambda: 60.0, Clock()).entries()
    assert (found.id, found.at) == (1, Clock.now)
    assert (found.name, found.role, found.via) == ALICE
    assert (found.action, found.target, found.error) == ("pause_destination", "crm", "x" * 500)


def test_actions_come_in_pages(tmp_path: Path) -> None:
    """The newest come first, and `before` gives the page after."""
    log = AuditLog(tmp_path, lambda: 60.0)
    for number in range(5):
        log.add(entry_of(ALICE, f"a{number}"))
    assert [entry.action for entry in log.entries(limit=2)] == ["a4", "a3"]
    assert [entry.action for entry in log.entries(before=4, limit=2)] == ["a2", "a1"]


def test_old_actions_are_deleted(tmp_path: Path) -> None:
    """Actions past the retention are not shown, and go with the next one."""
    clock, kept = Clock(), [100.0]
    log = AuditLog(tmp_path, lambda: kept[0], clock)
    log.add(entry_of(ALICE, "old"))
    clock.now += 101
    assert actions(log) == []
    log.add(entry_of(ALICE, "new"))
    kept[0] = 1000.0
    assert actions(log) == ["new"]


def test_surplus_actions_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit the oldest go."""
    monkeypatch.setattr(audit, "MAX_ENTRIES", 3)
    log = AuditLog(tmp_path, lambda: 60.0)
    for number in range(5):
        log.add(entry_of(ALICE, f"a{number}"))
    assert actions(log) == ["a4", "a3", "a2"]


def test_reading_creates_no_file(tmp_path: Path) -> None:
    """Without a file there are no actions, and reading makes none."""
    assert AuditLog(tmp_path, lambda: 60.0).entries() == []
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    """A file that is no database is an error that names it."""
    (tmp_path / FILE).write_bytes(b"not a database, but long enough to be one" * 100)
    log = AuditLog(tmp_path, lambda: 60.0)
    with pytest.raises(SpoolError, match="corrupt"):
        log.entries()
    with pytest.raises(SpoolError, match=FILE):
        log.add(entry_of(ALICE, "a"))

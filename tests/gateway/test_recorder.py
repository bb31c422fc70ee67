"""Which records the trace recorder exports, and which it loses."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.trace.live import LiveFeed
from gateway.trace.recorder import WORK, Recorder, TraceFile
from gateway.trace.records import AttemptRecord


class Collected:
    """A replacement for the exporter that sends spans to a collector."""

    def __init__(self) -> None:
        self.added: list[Any] = []

    def add(self, raw: Any, made: Any) -> None:
        """Store the records."""
        del made
        self.added.append(raw)

    def close(self) -> None:
        """Do nothing."""


class Nothing:
    """A reporter without records."""

    def tried(self, raw: Any) -> list[Any]:
        """Return no record."""
        del raw
        return []


@pytest.mark.parametrize("keep", [True, False])
async def test_only_sampled_records_are_exported(*, keep: bool) -> None:
    """Only sampled records are exported, not those shown only to live watchers."""
    collected = Collected()
    maker, spans = Nothing(), lambda: collected
    recorder = Recorder(maker, LiveFeed(), None, spans)  # type: ignore[arg-type]  # as much as it uses
    recorder.start()
    recorder.put("a try", 10, keep=keep)  # type: ignore[arg-type]  # likewise
    await asyncio.wait_for(recorder.stop(), 10)
    assert collected.added == (["a try"] if keep else [])


class Reasons:
    """A reporter of attempts that failed for the reasons it is given."""

    def tried(self, raw: Any) -> list[AttemptRecord]:
        """Return one record."""
        at = time.time()
        return [AttemptRecord(f"r{raw}-0", f"r{raw}", at, "s", "to", "v", "e", "retry", reason=raw)]


async def test_a_record_that_cannot_be_written_costs_no_other(tmp_path: Path) -> None:
    """Traces go on after a record with a text that no file takes, and the loss is counted."""
    opens = TraceFile(tmp_path / "traces.db", 3600.0, 1 << 20, time.time)
    recorder = Recorder(Reasons(), LiveFeed(), opens, None)  # type: ignore[arg-type]  # as much as it uses
    for reason in ("\ud800", "fine"):
        recorder.start()
        recorder.put(reason, 10, keep=True)  # type: ignore[arg-type]  # likewise
        await asyncio.wait_for(recorder.stop(), 10)
    await asyncio.sleep(0)  # the thread's last count
    assert (recorder.dropped, recorder.recorded) == (1, 1)


class Slow:
    """A reporter that takes half a millisecond of CPU time for each attempt."""

    def tried(self, raw: Any) -> list[Any]:
        """Return no record."""
        del raw
        until = time.thread_time() + 0.0005
        while time.thread_time() < until:
            pass
        return []


def test_the_thread_rests_as_long_as_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread rests for as long as it works, after milliseconds and not after each record."""
    rests: list[float] = []
    monkeypatch.setattr(time, "sleep", rests.append)
    recorder = Recorder(Slow(), LiveFeed(), None)  # type: ignore[arg-type]  # as much as it uses
    recorder._write([("a try", True)] * 40)  # type: ignore[list-item]  # likewise
    assert sum(rests) >= 40 * 0.0005 - WORK
    assert len(rests) <= 20
    assert all(rest >= WORK for rest in rests)

"""Which records the trace recorder exports."""

import asyncio
from typing import Any

import pytest

from gateway.trace.live import LiveFeed
from gateway.trace.recorder import Recorder


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
async def test_what_is_not_chosen_goes_to_no_collector(*, keep: bool) -> None:
    """Only sampled records are exported, not those shown only to live watchers."""
    collected = Collected()
    maker, spans = Nothing(), lambda: collected
    recorder = Recorder(maker, LiveFeed(), None, spans)  # type: ignore[arg-type]  # as much as it uses
    recorder.start()
    recorder.put("a try", 10, keep=keep)  # type: ignore[arg-type]  # likewise
    await asyncio.wait_for(recorder.stop(), 10)
    assert collected.added == (["a try"] if keep else [])

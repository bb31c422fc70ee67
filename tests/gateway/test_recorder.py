"""What the recorder of traces hands on, and to whom."""

import asyncio
from typing import Any

import pytest

from gateway.trace.live import LiveFeed
from gateway.trace.recorder import Recorder


class Collected:
    """Stands for what sends spans to a collector."""

    def __init__(self) -> None:
        self.added: list[Any] = []

    def add(self, raw: Any, made: Any) -> None:
        """Take what is to be sent."""
        del made
        self.added.append(raw)

    def close(self) -> None:
        """End."""


class Nothing:
    """Makes no records of anything."""

    def tried(self, raw: Any) -> list[Any]:
        """Return no record."""
        del raw
        return []


@pytest.mark.parametrize("keep", [True, False])
async def test_what_is_not_chosen_goes_to_no_collector(*, keep: bool) -> None:
    """Spans are sent of what is kept, not of what is only shown to those who watch."""
    collected = Collected()
    maker, spans = Nothing(), lambda: collected
    recorder = Recorder(maker, LiveFeed(), None, spans)  # type: ignore[arg-type]  # as much as it uses
    recorder.start()
    recorder.put("a try", 10, keep=keep)  # type: ignore[arg-type]  # likewise
    await asyncio.wait_for(recorder.stop(), 10)
    assert collected.added == (["a try"] if keep else [])

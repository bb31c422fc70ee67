"""Run the shadows of a gateway: count what they would receive, and write the counts to disk."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from gateway.config import DestinationConfig
from gateway.delivery.renderer import Renderer
from gateway.delivery.sender import Sender
from gateway.delivery.transport import Transport
from gateway.errors import SpoolError
from gateway.redact import Redactor
from gateway.shadow.sender import LiveComparison, ShadowSender
from gateway.shadow.store import ShadowStore
from gateway.shadow.tally import ShadowTally
from gateway.spool import BacklogLimit, Evicted, SpoolAdmin, SpoolNotice

EVERY = 1.0
"""Seconds between two writes."""
MAX_BACKLOG = 10_000
"""Default number of requests that may wait for a shadow; it skips the rest."""

log = structlog.get_logger()


class ShadowRecorder:
    """The state that all shadows of a gateway share.

    Args:
        folder: the spool's folder.
        hides: returns the redactor of the current configuration.
    """

    def __init__(self, folder: Path, hides: Callable[[], Redactor]) -> None:
        self._hides = hides
        self.file = ShadowStore(folder)
        self.tally = ShadowTally()
        self.comparison = LiveComparison(self.tally)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the earlier counts, and start to write once a second.

        Raises:
            SpoolError: the file cannot be read.
        """
        self.tally.know(await asyncio.to_thread(self.file.read))
        self._task = asyncio.get_running_loop().create_task(self._write(), name="shadows")

    async def stop(self) -> None:
        """Write the remaining counts and stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.flush()

    async def flush(self) -> None:
        """Write the counts; if the disk fails, keep them for the next time."""
        counts = self.tally.drain(self._hides())
        if not counts:
            return
        try:
            await asyncio.to_thread(self.file.add, counts)
        except SpoolError as error:
            log.warning("shadow_write_failed", error=str(error))
            self.tally.restore(counts)

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            await asyncio.shield(self.flush())

    async def know(self, destinations: Mapping[str, DestinationConfig], spool: SpoolAdmin) -> None:
        """Register which *destinations* are shadows; log the deliveries that new shadows discard.

        Raises:
            SpoolError: the file cannot be written.
        """
        shadows = {name for name, config in destinations.items() if config.shadow}
        self.comparison.wanted = any(config.shadow == "send" for config in destinations.values())
        fresh = shadows - await self.known() if shadows else shadows
        await asyncio.to_thread(self.file.name, shadows, set(destinations) - shadows)
        depths = await spool.depths() if fresh else {}
        for name in fresh:
            depth = depths[name]
            pending = depth.backlog + depth.retrying + depth.parked
            if pending:
                log.warning("shadow_backlog_discarded", destination=name, deliveries=pending)

    async def known(self) -> set[str]:
        """Return the destinations that are shadows, and removed ones that were.

        Raises:
            SpoolError: the file cannot be read.
        """
        return await asyncio.to_thread(self.file.names)

    def sender(
        self, name: str, config: DestinationConfig, rendering: Renderer, transport: Transport
    ) -> Sender:
        """Return the sender of a shadow."""
        comparison = self.comparison if config.shadow == "send" else None
        longest = config.retry_after_max
        return ShadowSender(
            name, rendering, transport, self.tally, comparison, longest_pause=longest
        )

    def noticed(self, notice: SpoolNotice, at: float) -> None:
        """Count the deliveries that the spool dropped because a shadow was too slow."""
        if isinstance(notice, Evicted) and notice.dropped:
            self.tally.skipped(notice.destination, notice.dropped, at)


def bounds_of(config: DestinationConfig) -> BacklogLimit:
    """Return the backlog limit of a destination."""
    if config.shadow:
        return BacklogLimit(config.max_backlog or MAX_BACKLOG, "drop")
    return BacklogLimit(config.max_backlog, config.on_full)


def shadow_delivery(config: DestinationConfig) -> DestinationConfig:
    """Return the delivery settings of a shadow's worker.

    A shadow that sends nothing only computes, so one event at a time is enough.
    """
    if config.shadow is True:
        return config.model_copy(update={"concurrency": 1, "rate": None})
    return config

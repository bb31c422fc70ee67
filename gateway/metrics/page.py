"""The page that Prometheus reads."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

from gateway.errors import SpoolError
from gateway.metrics.families import Snapshot, families

if TYPE_CHECKING:
    from gateway.app import Gateway

FRESH = 1.0
"""Seconds for which a page is served again as it is: whoever asks too often costs nothing."""


class _Collected:
    """The metrics of one moment, as `prometheus_client` wants them."""

    def __init__(self, gateway: "Gateway", snapshot: Snapshot) -> None:
        self._gateway = gateway
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        return families(self._gateway, self._snapshot)


class Page:
    """Writes the page, off the loop."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._known: dict[str, tuple[float, bytes, str]] = {}
        self._writing = asyncio.Lock()

    async def get(self, accept: str = "") -> tuple[bytes, str]:
        """Return the page and its content type, in the format that *accept* prefers.

        https://prometheus.io/docs/instrumenting/content_negotiation/
        """
        async with self._writing:
            encoder, kind = choose_encoder(accept)
            known = self._known.get(kind)
            if known is not None and time.monotonic() - known[0] < FRESH:
                return known[1:]
            snapshot = await self._snapshot()

            def write() -> bytes:
                registry = CollectorRegistry()
                registry.register(_Collected(self._gateway, snapshot))
                ProcessCollector(registry=registry)
                return encoder(registry)

            page = await asyncio.to_thread(write)
            self._known = {**self._known, kind: (time.monotonic(), page, kind)}
            return page, kind

    async def _snapshot(self) -> Snapshot:
        gateway = self._gateway
        config = gateway.config
        try:
            depths = await gateway.spool.depths()
        except SpoolError:  # readiness says so; the other metrics matter the more
            depths = {}
        spool, trace = config.spool.path, config.trace.file(config.spool.path)
        return Snapshot(
            depths,
            await asyncio.to_thread(_size, spool / "spool.db"),
            await asyncio.to_thread(_size, trace),
            gateway.trouble() is None,
        )


def _size(file: Path) -> int:
    """Return the bytes of a SQLite file and of what belongs to it."""
    return sum(one.stat().st_size for one in file.parent.glob(f"{file.name}*") if one.is_file())

"""Take requests in that were received earlier, by this gateway or another one.

They pass the same checks as requests from clients, except those of keys and addresses: an operator
brings them, and exported requests have no keys. They keep their ids and arrival times.
"""

import asyncio
import time
from collections.abc import Sequence

import msgspec
import structlog
from msgspec.structs import replace

from gateway.errors import GatewayError, Rejected, SpoolError
from gateway.http import Request
from gateway.ingest.arrival import RequestContext
from gateway.ingest.events import read_trusted_events, without_unused_client_id
from gateway.ingest.off_loop import OffLoop
from gateway.ingest.receiver import IngestServices, check_events, store_events
from gateway.ingest.sources import Source
from gateway.replay.exported import ExportedRequest
from gateway.spool import DedupWindow
from gateway.spool.restore import together, waves
from gateway.suggestions import check_name
from gateway.tracking import PlannedEvents

IMPORT_WINDOW = 86400.0
"""Seconds for which an import may be repeated, if its source does not deduplicate for longer."""
GROUP = 32
"""Most requests that are stored at once: live events share the commits."""
OK = 200

log = structlog.get_logger()


class ImportRefusal(msgspec.Struct, frozen=True):
    """A request that cannot be imported."""

    index: int
    """Its place in the call, from 0."""
    reason: str


class ImportCounts(msgspec.Struct):
    """What became of requests that were sent for import."""

    requests: int = 0
    """Those of which at least one event was taken, and those without events."""
    events: int = 0
    """Events that were taken."""
    repeated: int = 0
    """Events that are known already: they are left out."""
    suppressed: int = 0
    """Events of people on the suppression list: they are left out."""
    unrouted: int = 0
    """Requests that no route leads to a destination: they are not stored."""


class _Ready:
    """A request that passed all checks."""

    def __init__(self, arrival: RequestContext, stored: Request, kept: PlannedEvents) -> None:
        self.arrival, self.stored, self.kept = arrival, stored, kept
        self.users: tuple[int, ...] = ()


class Importer:
    """Imports the requests of one call.

    Args:
        services: the parts of the gateway.
        max_body: bytes of the largest body.

    Attributes:
        counts: what became of the requests.
        refused: those that cannot be imported.
    """

    def __init__(self, services: IngestServices, max_body: int) -> None:
        self.counts = ImportCounts()
        self.refused: list[ImportRefusal] = []
        self._services = services
        self._max_body = max_body
        self._off_loop = OffLoop()

    async def run(
        self, requests: Sequence[ExportedRequest], source: str | None, *, dry_run: bool
    ) -> None:
        """Check requests and store them, those of a user one after the other.

        Args:
            requests: in the order of their arrival.
            source: the source that takes them; None for the one that each names.
            dry_run: check them only.

        Raises:
            SpoolError: some cannot be stored now. The call may be repeated: what is stored is not
                stored again.
        """
        if not self._services.accepting:
            raise SpoolError("the gateway is starting or stopping; try again")
        ready = list[_Ready]()
        for index, one in enumerate(requests):
            try:
                ready.append(await self._read(one, source or one.source))
            except GatewayError as error:
                self.refused.append(ImportRefusal(index, str(error)))
            except Exception:
                log.exception("plugin_failed", vendor=one.vendor, step="parse", request=one.request)
                reason = "the plugin failed; see plugin_failed in the gateway's log"
                self.refused.append(ImportRefusal(index, reason))
            await asyncio.sleep(0)  # live events come first
        if dry_run:
            for checked in ready:
                self._count(checked)
            return
        for wave in waves(ready, lambda each: each.users):
            for start in range(0, len(wave), GROUP):
                await together(self._store(each) for each in wave[start : start + GROUP])

    async def _read(self, one: ExportedRequest, name: str) -> _Ready:
        """Return a request that passed all checks.

        Raises:
            GatewayError: it did not.
        """
        sources = self._services.sources.by_name
        check_name("source", name, sources)
        source = sources[name]
        if one.vendor != source.input.name:
            reason = f"{one.vendor!r}, but source {name} reads {source.input.name}"
            raise Rejected("vendor", reason)
        request = one.to_request()
        if len(request.body) > self._max_body:
            raise Rejected("body", f"larger than max_body, {self._max_body} bytes")
        if not source.translates(request.method, request.path):
            raise source.rejection_for(request.method, request.path)
        return await self._off_loop(len(request.body), self._checked, source, request)

    def _checked(self, source: Source, request: Request) -> _Ready:
        arrival = RequestContext(replace(request, body=b""), source)
        stored = source.to_stored(request, request.body)
        payload = source.input.decode(stored)
        events = arrival.events = read_trusted_events(source, stored, payload)
        arrival.stored = stored = without_unused_client_id(stored, events)
        kept = check_events(self._services, arrival, stored, payload, events)
        ready = _Ready(arrival, stored, kept)
        user_hash = self._services.spool.user_hash
        ready.users = tuple([user_hash(event.user_key) for event in arrival.events])
        return ready

    async def _store(self, one: _Ready) -> None:
        arrival, began = one.arrival, time.perf_counter()
        routed = True
        if not arrival.private:
            routed = await store_events(self._services, arrival, one.stored, one.kept, _window(one))
        arrival.status, arrival.seconds = OK, time.perf_counter() - began
        self._services.observer.received(arrival)
        self._count(one)
        self.counts.unrouted += not routed

    def _count(self, one: _Ready) -> None:
        arrival, counts = one.arrival, self.counts
        taken = offered = len(arrival.events) - len(arrival.suppressed)
        if arrival.kept is not None:
            taken = len(arrival.kept)
        counts.requests += taken > 0 or not arrival.events
        counts.events += taken
        counts.suppressed += len(arrival.suppressed)
        counts.repeated += offered - taken


def _window(one: _Ready) -> DedupWindow:
    """Return the ids that must not repeat: those of the source, or ids of the import."""
    source, events = one.arrival.source, one.arrival.events
    own = source.dedup is not None
    return DedupWindow(
        {
            index: (own and event.message_id) or f"\0imported {one.stored.id} {index}"
            for index, event in enumerate(events)
        },
        IMPORT_WINDOW if source.dedup is None else source.dedup,
    )

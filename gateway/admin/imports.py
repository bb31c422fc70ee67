"""The endpoint that takes exported requests in."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.admin.context import AdminContext
from gateway.admin.endpoint import Endpoint, Name, endpoint
from gateway.admin.moving import largest_batch
from gateway.replay.exported import ExportedRequest
from gateway.replay.importer import Importer, ImportRefusal
from gateway.suggestions import check_name

MOST_REQUESTS = 1000
"""Requests of a call."""


class ImportBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Requests to import, in the order of their arrival."""

    requests: Annotated[list[ExportedRequest], Meta(max_length=MOST_REQUESTS)]
    source: Name | UnsetType = UNSET
    """The source that takes them; by default the one that each names."""
    dry_run: bool = False
    """Check them, and store nothing."""


class ImportResult(msgspec.Struct, frozen=True):
    """What became of the requests."""

    requests: int
    """Those of which at least one event was taken, and those without events."""
    events: int
    """Events that were taken."""
    repeated: int
    """Events that are known already: they are left out."""
    suppressed: int
    """Events of people on the suppression list: they are left out."""
    unrouted: int
    """Requests that no route leads to a destination: they are not stored."""
    refused: list[ImportRefusal]


def _what(given: Mapping[str, Any], answer: ImportResult) -> str:
    body = given["body"]
    said = f"{answer.requests} requests with {answer.events} events"
    if body.source is not UNSET:
        said += f" through {body.source}"
    if answer.refused:
        said += f", {len(answer.refused)} refused"
    return f"{said}, dry run" if body.dry_run else said


@endpoint("POST", "/import", detail=_what, largest_body=largest_batch)
async def import_requests(context: AdminContext, body: ImportBatch) -> ImportResult:
    """Take in requests that `gateway export --as-received` wrote, through a source.

    They pass the checks of the source, except those of keys and addresses, and keep their ids and
    arrival times. The answer comes once they are durable. The same call may be repeated: nothing is
    stored twice, for as long as the source deduplicates, or else for 24 hours.
    """
    gateway = context.gateway
    name = None if body.source is UNSET else str(body.source)
    if name is not None:
        check_name("source", name, gateway.sources.by_name)
    importer = Importer(gateway, gateway.config.server.max_body)
    await importer.run(body.requests, name, dry_run=body.dry_run)
    counts = importer.counts
    return ImportResult(
        counts.requests,
        counts.events,
        counts.repeated,
        counts.suppressed,
        counts.unrouted,
        [ImportRefusal(one.index, context.hide(one.reason)) for one in importer.refused],
    )


ENDPOINTS: tuple[Endpoint, ...] = (import_requests,)

"""Which fields of a request a tracking plan left out, as its sender spells them."""

import re
from collections.abc import Collection, Iterator

from gateway.admin.told import Payload
from gateway.event import Event
from gateway.json_text import loads
from gateway.mapping import Mapped, spelt
from gateway.tracking.violations import Path

_INDEX = re.compile(r"\[(\d+)\]")


def left_out(mapped: Mapped, received: Payload, came: Event, paths: Collection[Path]) -> list[str]:
    """Return the paths of those fields of a request that went no further.

    Args:
        mapped: what read it.
        received: the request.
        came: the event as it was before.
        paths: what was left out of it.
    """
    if not (paths and received.fields):
        return []
    gone = list(_spelt(mapped, received.body, came, paths))
    return [
        field.path
        for field in received.fields
        if any(_below(_INDEX.sub(r".\1", field.path), path) for path in gone)
        or (field.link.startswith("extra.") and came.extra)
    ]


def _spelt(mapped: Mapped, body: str, came: Event, paths: Collection[Path]) -> Iterator[str]:
    payload = loads(body)
    index = int(came.id.rpartition("-")[2])
    for path in paths:
        yield spelt(mapped, payload, came, index, path)


def _below(path: str, above: str) -> bool:
    return path == above or path.startswith(f"{above}.")

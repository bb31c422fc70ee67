"""Which events of an entry are deduplicated, and an entry without some of its deliveries."""

from collections.abc import Collection, Mapping
from hashlib import blake2b

from gateway.spool.values import DedupWindow, Deliveries, Entry, event_index


def dedup_keys(entry: Entry, once: DedupWindow) -> dict[int, bytes]:
    """Return the dedup key of each event by index: 16 bytes from the source and the event's id.

    Events without a target are left out.
    """
    wanted = sorted({event_index(n) for numbers in entry.targets.values() for n in numbers})
    source = entry.source.encode("utf-8", "surrogatepass") + b"\0"
    return {
        index: blake2b(
            source + once.ids[index].encode("utf-8", "surrogatepass"), digest_size=16
        ).digest()
        for index in wanted
        if index in once.ids
    }


def numbers_of(targets: Mapping[str, Deliveries], events: Collection[int]) -> set[int]:
    """Return the numbers of all deliveries of some events."""
    return {n for numbers in targets.values() for n in numbers if event_index(n) in events}


def without(targets: Mapping[str, Deliveries], left_out: Collection[int]) -> dict[str, Deliveries]:
    """Return targets without some deliveries, by number; destinations without any are left out."""
    found = {
        name: tuple([n for n in numbers if n not in left_out]) for name, numbers in targets.items()
    }
    return {name: numbers for name, numbers in found.items() if numbers}

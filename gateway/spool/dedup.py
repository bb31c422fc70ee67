"""Which events of an entry are deduplicated, and an entry without some of its deliveries."""

from collections.abc import Collection, Mapping
from hashlib import blake2b

from gateway.spool.values import DedupWindow, Deliveries, Entry, event_index


def dedup_keys(entry: Entry, once: DedupWindow) -> dict[int, bytes]:
    """Return the dedup key of each event by index: 16 bytes from the source and the event's id.

    Events without a target are left out.
    """
    wanted = sorted({event_index(n) for numbers in entry.targets.values() for n in numbers})
    return {
        index: dedup_key(entry.source, once.ids[index]) for index in wanted if index in once.ids
    }


def dedup_key(source: str, message_id: str) -> bytes:
    """Return the dedup key of an event of *source*."""
    text = f"{source}\0{message_id}".encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=16).digest()


def numbers_of(targets: Mapping[str, Deliveries], events: Collection[int]) -> set[int]:
    """Return the numbers of all deliveries of some events."""
    return {n for numbers in targets.values() for n in numbers if event_index(n) in events}


def without(targets: Mapping[str, Deliveries], left_out: Collection[int]) -> dict[str, Deliveries]:
    """Return targets without some deliveries, by number; destinations without any are left out."""
    found = {
        name: tuple([n for n in numbers if n not in left_out]) for name, numbers in targets.items()
    }
    return {name: numbers for name, numbers in found.items() if numbers}

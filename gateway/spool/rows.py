"""How an entry and its attempts are stored: packed rows, whatever the store.

A row is an id, a meta and a body. The meta has everything else of an entry, as MessagePack.
"""

from collections.abc import Collection
from datetime import datetime

import msgspec

from gateway.http import ClientInfo, Request
from gateway.spool.values import (
    REPLAYS,
    Attempt,
    Deliveries,
    Entry,
    Routes,
    UnreadEntry,
    event_index,
)


class Meta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An entry except its id and body, as MessagePack.

    Newer fields have defaults, so that rows of older gateways can be read. Older gateways ignore
    fields that they do not know.
    """

    targets: dict[str, Deliveries]
    source: str
    method: str
    url: str
    headers: dict[str, str]
    received_at: datetime
    request_id: str
    vendor: str = ""
    client: ClientInfo | None = None
    routes: Routes = {}
    dropped: dict[int, tuple[tuple[str | int, ...], ...]] = {}
    unkeyed: tuple[int, ...] = ()
    """User hashes that earlier gateways made without a secret; unused."""
    users: tuple[int, ...] = ()
    replay: int = 0


class _Targets(msgspec.Struct, frozen=True, array_like=True, gc=False):
    targets: dict[str, Deliveries]


class _Attempt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    at: float
    status: int | None
    latency: float
    said: str
    isolated: float | bool = 0.0
    """A boolean in earlier versions."""


_encode = msgspec.msgpack.Encoder().encode
_meta = msgspec.msgpack.Decoder(Meta).decode
_targets = msgspec.msgpack.Decoder(_Targets).decode
_attempts = msgspec.msgpack.Decoder(tuple[_Attempt, ...]).decode


def pack(entry: Entry) -> bytes:
    """Return the meta of an entry: ``unpack`` needs it, the id and the body."""
    request = entry.request
    return _encode(
        (
            entry.targets,
            entry.source,
            request.method,
            request.url,
            request.headers,
            request.received_at,
            request.id,
            entry.vendor,
            request.client,
            entry.routes,
            entry.dropped,
            (),
            entry.users,
            entry.replay,
        )
    )


def unpack(entry_id: str, meta: bytes, body: bytes) -> Entry:
    """Return the entry of a row."""
    known = _meta(meta)
    request = Request(
        method=known.method,
        url=known.url,
        headers=known.headers,
        body=body,
        id=known.request_id,
        received_at=known.received_at,
        client=known.client,
    )
    return Entry(
        entry_id,
        known.source,
        request,
        known.targets,
        known.vendor,
        known.routes,
        known.dropped,
        known.users,
        known.replay,
    )


def targets_of(meta: bytes) -> dict[str, Deliveries]:
    """Return a row's targets, without unpacking the rest."""
    return _targets(meta).targets


def unread_entry(
    seq: int, meta: bytes, destination: str, excepted: Collection[int]
) -> UnreadEntry | None:
    """Return a row's pending deliveries for a destination; None if there are none."""
    known = _meta(meta)
    numbers = known.targets.get(destination, ())
    if excepted:
        numbers = tuple([number for number in numbers if number not in excepted])
    if not numbers:
        return None
    users = known.users
    hashes = tuple([users[event_index(n)] if users else 0 for n in numbers])
    lane = REPLAYS if known.replay else known.source
    return UnreadEntry(seq, lane, known.vendor, numbers, hashes)


def anonymized(meta: bytes) -> bytes:
    """Return *meta* without what its request says of a person: its URL, headers and client."""
    known = _meta(meta)
    bare = msgspec.structs.replace(known, url="", headers={}, client=None, users=())
    return _encode(bare)


def retarget(meta: bytes, targets: dict[str, Deliveries]) -> bytes:
    """Return *meta* with other targets."""
    return _encode(msgspec.structs.replace(_meta(meta), targets=targets))


def pack_attempts(attempts: tuple[Attempt, ...]) -> bytes:
    """Return a delivery's attempts as MessagePack; no bytes if there are none."""
    if not attempts:
        return b""
    return _encode([(a.at, a.status, a.latency, a.response_excerpt, a.isolated) for a in attempts])


def unpack_attempts(packed: bytes) -> tuple[Attempt, ...]:
    """Return the attempts that ``pack_attempts`` packed."""
    return (
        tuple(
            Attempt(row.at, row.status, row.latency, row.said, float(row.isolated))
            for row in _attempts(packed)
        )
        if packed
        else ()
    )

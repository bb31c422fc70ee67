"""How an entry lies in a row: what is searched has a column, the rest is packed beside the body."""

from collections.abc import Collection
from datetime import datetime

import apsw
import msgspec

from gateway.exchange import Client, Request
from gateway.spool.values import (
    Attempt,
    Deliveries,
    Entry,
    Routes,
    UnreadEntry,
    event_of,
)


class Meta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Everything of an entry except its id and its request's body, as MessagePack.

    Later fields have defaults, so that rows of older gateways are read; older gateways pass over
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
    client: Client | None = None
    routes: Routes = {}
    dropped: dict[int, tuple[tuple[str | int, ...], ...]] = {}
    unkeyed: tuple[int, ...] = ()
    """Hashes of users that earlier gateways made without a secret; they are of no use."""
    users: tuple[int, ...] = ()


class _Targets(msgspec.Struct, frozen=True, array_like=True, gc=False):
    targets: dict[str, Deliveries]


class _Attempt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    at: float
    status: int | None
    latency: float
    said: str
    isolated: float | bool = 0.0
    """Yes or no in earlier versions."""


Row = tuple[int, float, str, bytes, bytes]
"""mask, at, id, meta, body: a row of the log without its seq."""

_INSERT = "INSERT INTO log(mask, at, id, meta, body) VALUES "
_BY_SIZE = {n: _INSERT + ", ".join(["(?, ?, ?, ?, ?)"] * n) for n in (64, 16, 4, 1)}

_encode = msgspec.msgpack.Encoder().encode
_meta = msgspec.msgpack.Decoder(Meta).decode
_targets = msgspec.msgpack.Decoder(_Targets).decode
_attempts = msgspec.msgpack.Decoder(tuple[_Attempt, ...]).decode


def pack(entry: Entry) -> bytes:
    """Return what ``unpack`` needs beside the id and the body."""
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
    )


def targets_of(meta: bytes) -> dict[str, Deliveries]:
    """Return where a row's events go, without unpacking the rest."""
    return _targets(meta).targets


def unread_entry(
    seq: int, meta: bytes, destination: str, excepted: Collection[int]
) -> UnreadEntry | None:
    """Return what of a row is pending for a destination; None where nothing is."""
    known = _meta(meta)
    numbers = known.targets.get(destination, ())
    if excepted:
        numbers = tuple([number for number in numbers if number not in excepted])
    if not numbers:
        return None
    users = known.users
    hashes = tuple([users[event_of(n)] if users else 0 for n in numbers])
    return UnreadEntry(seq, known.source, known.vendor, numbers, hashes)


def retarget(meta: bytes, targets: dict[str, Deliveries]) -> bytes:
    """Return the same request's meta with other targets."""
    return _encode(msgspec.structs.replace(_meta(meta), targets=targets))


def pack_attempts(attempts: tuple[Attempt, ...]) -> bytes:
    """Return a delivery's tries as MessagePack; nothing for none."""
    if not attempts:
        return b""
    return _encode([(a.at, a.status, a.latency, a.said, a.isolated) for a in attempts])


def unpack_attempts(packed: bytes) -> tuple[Attempt, ...]:
    """Return the tries that ``pack_attempts`` packed."""
    return (
        tuple(
            Attempt(row.at, row.status, row.latency, row.said, float(row.isolated))
            for row in _attempts(packed)
        )
        if packed
        else ()
    )


def insert(connection: apsw.Connection, rows: list[Row]) -> int:
    """Append rows to the log; return the first one's seq, the others' follow it.

    Several rows share a statement, because each run of one means waiting for the GIL again.
    Within a write transaction nobody else can take a seq in between.
    """
    done = 0
    for size, statement in _BY_SIZE.items():
        while len(rows) - done >= size:
            values = [value for row in rows[done : done + size] for value in row]
            connection.execute(statement, values)
            done += size
    return connection.last_insert_rowid() - done + 1

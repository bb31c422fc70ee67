"""What all gateways of a cluster must agree on: the first one stores it."""

import secrets
from typing import Final

import msgspec

from gateway.errors import SpoolError
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.messages import WrongSequence

FORMAT: Final = 1
"""The format of frames and records."""


class ClusterIdentity(msgspec.Struct, frozen=True):
    """Stored once, and never changed."""

    format: int
    shards: int
    """Users are divided among them, so their number cannot change."""
    secret: bytes
    """The key of the user hashes (`gateway.spool.user_hash`)."""


_decode = msgspec.json.Decoder(ClusterIdentity).decode


async def join(connection: NatsConnection, layout: Layout, shards: int) -> ClusterIdentity:
    """Return the identity of the cluster, which is made if there is none.

    Raises SpoolError if it has another number of shards, or a format of another version.
    """
    while True:
        found = await connection.last(layout.state_stream, layout.identity)
        if found:
            return checked_identity(found.data, layout, shards)
        made = ClusterIdentity(FORMAT, shards, secrets.token_bytes(16))
        try:
            await connection.store(layout.identity, msgspec.json.encode(made), expected=0)
        except WrongSequence:
            continue  # another gateway was first, or an earlier attempt arrived
        return made


def checked_identity(data: bytes, layout: Layout, shards: int) -> ClusterIdentity:
    """Return a stored identity.

    Raises SpoolError if it has another number of shards, or a format of another version.
    """
    try:
        found = _decode(data)
    except msgspec.DecodeError as error:
        raise SpoolError(f"{layout.identity}: unreadable: {error}") from error
    if found.format != FORMAT:
        raise SpoolError(
            f"{layout.identity}: format {found.format} is of another version of the gateway, which "
            f"knows {FORMAT}"
        )
    if found.shards != shards:
        raise SpoolError(
            f"{layout.identity}: the cluster has {found.shards} shards, not {shards}; their number "
            "cannot change"
        )
    return found

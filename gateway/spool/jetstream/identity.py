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
    made: dict[str, str] = {}
    """When each stream was made, as the servers write it: another time is another stream."""


_decode = msgspec.json.Decoder(ClusterIdentity).decode


async def join(
    connection: NatsConnection,
    layout: Layout,
    shards: int,
    *,
    replicas: int = 3,
    max_bytes: int | None = None,
) -> ClusterIdentity:
    """Return the identity of the cluster; if there is none, it is made, and the streams before it.

    Raises SpoolError if it has another number of shards, or a format of another version, or if NATS
    lost it.
    """
    streams = layout.streams(replicas, max_bytes)
    await connection.create_stream(layout.config_stream, streams[layout.config_stream])
    while True:
        found = await connection.last(layout.config_stream, layout.identity)
        if found:
            return checked_identity(found.data, layout, shards)
        for name, settings in streams.items():
            await connection.create_stream(name, settings)
        if remains := await _remains(connection, layout):
            raise SpoolError(
                f"NATS lost {layout.identity}, which all gateways need, in {layout.config_stream}: "
                f"{remains} is in use; restore {layout.config_stream} from a backup, or delete the "
                f"streams {layout.name}_* with all that they hold"
            )
        times = {name: (await connection.stream_info(name)).created for name in streams}
        made = ClusterIdentity(FORMAT, shards, secrets.token_bytes(16), times)
        try:
            await connection.store(layout.identity, msgspec.json.encode(made), expected=0)
        except WrongSequence:
            continue  # another gateway was first, or an earlier attempt arrived
        return made


async def _remains(connection: NatsConnection, layout: Layout) -> str:
    """Return a stream that has messages although there is no identity; empty if there is none."""
    for name in (layout.log_stream, layout.state_stream, layout.consent_stream):
        if await connection.subjects(name, f"{layout.name}.>"):
            # Another gateway may have made the identity, and used the streams, meanwhile.
            found = await connection.last(layout.config_stream, layout.identity)
            return "" if found else name
    return ""


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

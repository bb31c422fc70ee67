"""The identity of a cluster: the first gateway makes it, and all others agree."""

import asyncio

import pytest

from gateway.errors import SpoolError
from gateway.spool.jetstream.identity import join
from gateway.spool.jetstream.layout import Layout
from tests.gateway.spool.jetstream.faulty_connection import FaultyConnection, lost_answer


async def test_all_gateways_get_the_same_identity(
    connection: FaultyConnection, layout: Layout
) -> None:
    """Gateways that start together agree on one secret, also if an answer is lost."""
    connection.plan(layout.identity, lost_answer)
    found = await asyncio.gather(*[join(connection, layout, 16) for _ in range(4)])
    assert len({one.secret for one in found}) == 1
    assert len(found[0].secret) == 16
    assert await join(connection, layout, 16) == found[0]


async def test_the_number_of_shards_cannot_change(
    connection: FaultyConnection, layout: Layout
) -> None:
    """A gateway with another number of shards is refused, since users would change their shard."""
    await join(connection, layout, 16)
    with pytest.raises(SpoolError, match="has 16 shards, not 8"):
        await join(connection, layout, 8)


async def test_an_identity_that_nats_lost_is_not_made_anew(
    connection: FaultyConnection, layout: Layout
) -> None:
    """Where a stream is in use already, a new secret would give users other shards."""
    await connection.store(layout.dead_letters(0), b"letter")
    with pytest.raises(SpoolError, match=f"lost {layout.identity}, .* shared_STATE is in use"):
        await join(connection, layout, 16)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"format": 2, "shards": 16, "secret": ""}', "format 2 is of another version"),
        (b"{", "unreadable"),
    ],
)
async def test_an_identity_of_another_version_is_refused(
    connection: FaultyConnection, layout: Layout, data: bytes, reason: str
) -> None:
    """A gateway touches no cluster that it does not understand."""
    await connection.store(layout.identity, data)
    with pytest.raises(SpoolError, match=reason):
        await join(connection, layout, 16)

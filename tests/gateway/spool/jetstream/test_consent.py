"""Consent in a cluster: words of several gateways, and lost answers."""

import asyncio

from gateway.spool.clock import SteadyClock
from gateway.spool.jetstream.consent import ConsentStore
from gateway.spool.jetstream.layout import Layout
from gateway.spool.values import ConsentRecord
from tests.gateway.spool.jetstream.faulty_connection import FaultyConnection, lost_answer

ADA = b"a" * 16


async def test_words_of_many_gateways_are_all_stored(
    connection: FaultyConnection, layout: Layout
) -> None:
    """Of words that come at the same time none is lost, and the newest of a category wins."""
    stores = [ConsentStore(connection, layout, SteadyClock()) for _ in range(10)]
    said = [
        {
            f"own{n}": ConsentRecord(granted=True, at=1.0),
            "ads": ConsentRecord(granted=n == 9, at=float(n)),
        }
        for n in range(10)
    ]
    await asyncio.gather(*[
        store.save({ADA: words}, 60.0) for store, words in zip(stores, said, strict=True)
    ])  # fmt: skip
    words = (await stores[0].load([ADA]))[ADA]
    assert set(words) == {"ads", *[f"own{n}" for n in range(10)]}
    assert words["ads"] == ConsentRecord(granted=True, at=9.0)


async def test_a_word_whose_answer_is_lost_is_stored(
    connection: FaultyConnection, layout: Layout
) -> None:
    """A lost answer costs a repeat, and nothing else."""
    store = ConsentStore(connection, layout, SteadyClock())
    connection.plan(layout.consent(ADA), lost_answer)
    await store.save({ADA: {"ads": ConsentRecord(granted=True, at=1.0)}}, 60.0)
    assert await store.load([ADA]) == {ADA: {"ads": ConsentRecord(granted=True, at=1.0)}}
    stored = await connection.last(layout.consent_stream, layout.consent(ADA))
    assert stored is not None

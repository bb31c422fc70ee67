"""Questions to the owners of shards: answered whole, or not at all."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from nats.aio.msg import Msg

from gateway.errors import SpoolError
from gateway.spool import BacklogLimit, Unreachable
from gateway.spool.jetstream import owners
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.owners import ShardOwners
from gateway.spool.jetstream.presence import SignOfLife
from gateway.spool.jetstream.questions import AskDepths, Forget, Question
from gateway.spool.jetstream.shard import JetStreamShard
from tests.gateway.spool.jetstream.conftest import ClaimShard
from tests.gateway.spool.jetstream.faulty_connection import FaultyConnection

PATIENCE = 10.0


class Node:
    """A gateway that asks and answers, with what it believes about the others."""

    def __init__(self, connection: FaultyConnection, layout: Layout, name: str) -> None:
        self.own: dict[int, JetStreamShard] = {}
        self.signs: dict[str, SignOfLife] = {}
        self.owners = ShardOwners(
            connection, layout, name, shards=1, own=lambda: self.own, nodes=lambda: self.signs
        )

    def hears(self, owned: Mapping[str, int]) -> None:
        """Believe that some gateways name shard 0, with the epochs of their claims."""
        self.signs = {node: SignOfLife(node, 0.0, owned={0: own}) for node, own in owned.items()}


OpenNode = Callable[[str], "asyncio.Future[Node]"]


@pytest.fixture
async def node(connection: FaultyConnection, layout: Layout) -> AsyncIterator[OpenNode]:
    """Return a function that opens a gateway by its name."""
    async with AsyncExitStack() as stack:

        @asynccontextmanager
        async def opened(name: str) -> AsyncIterator[Node]:
            made = Node(connection, layout, name)
            await made.owners.start()
            yield made
            await made.owners.stop()

        yield lambda name: asyncio.ensure_future(stack.enter_async_context(opened(name)))


async def test_the_gateway_with_the_latest_claim_is_asked(
    node: OpenNode, claimed: ClaimShard
) -> None:
    """Of two gateways that name a shard, the one with the later claim answers."""
    one, two = await node("one"), await node("two")
    two.own[0] = await claimed()
    one.hears({"two": 2, "silent": 1})
    assert set((await one.owners.ask(AskDepths()))[0]) == {"a", "b"}
    assert (await two.owners.ask(AskDepths())).keys() == {0}


async def test_a_shard_without_owner_makes_no_sum(
    node: OpenNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an owner in time the question fails, and names the shard."""
    monkeypatch.setattr(owners, "OWNER_LIMIT", 0.2)
    asking = await node("one")
    with pytest.raises(Unreachable, match="try again: no gateway owns shard 0 now"):
        await asking.owners.ask(AskDepths())


async def test_without_a_connection_the_reason_is_that(
    node: OpenNode, connection: FaultyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What keeps owners unknown is named, not that they are unknown."""
    monkeypatch.setattr(owners, "OWNER_LIMIT", 0.0)
    asking = await node("one")
    await connection.close()
    with pytest.raises(SpoolError, match=r"try again: .*: no connection to NATS"):
        await asking.owners.ask(AskDepths())


async def test_a_new_owner_answers_what_a_dead_one_was_asked(
    node: OpenNode, claimed: ClaimShard, connection: FaultyConnection, layout: Layout
) -> None:
    """A question to a gateway that falls silent goes to the next owner, if it changes nothing."""
    heard = asyncio.Event()

    async def say_nothing(_: Msg) -> None:
        heard.set()

    await connection.listen(layout.questions("silent"), say_nothing)
    asking, heir = await node("one"), await node("heir")
    heir.own[0] = await claimed()
    questions: tuple[Question[Any], ...] = (AskDepths(), Forget("x"))
    for question in questions:
        asking.hears({"silent": 1})
        asked = asyncio.ensure_future(asking.owners.ask(question))
        async with asyncio.timeout(PATIENCE):
            await heard.wait()
        heard.clear()
        asking.hears({"heir": 2})
        if question.changes:
            with pytest.raises(SpoolError, match="silent did not answer, and may have done"):
                await asked
        else:
            assert (await asked).keys() == {0}
    asking.hears({"gone": 3})
    asked = asyncio.ensure_future(asking.owners.ask(Forget("x")))
    await asyncio.sleep(0)
    asking.hears({"heir": 4})
    assert await asked == {0: None}, "nobody was there to do anything"


async def test_an_owner_says_why_it_cannot_answer(
    node: OpenNode, claimed: ClaimShard, connection: FaultyConnection, layout: Layout
) -> None:
    """The reason of an owner reaches whoever asked, with the name of the owner."""
    asking, owner = await node("one"), await node("owner")
    owner.own[0] = await claimed()
    asking.hears({"owner": 1})
    await owner.own[0].register({"b": BacklogLimit()})
    with pytest.raises(SpoolError, match="gateway owner: destination 'b' is registered"):
        await asking.owners.ask(Forget("b"))
    answer = await connection.request(layout.questions("owner"), b"nonsense")
    assert b"gateway owner" in answer.data
    with pytest.raises(SpoolError, match="cannot be written"):
        await asking.owners.ask(Forget("\ud800"))


async def test_an_answer_that_is_too_large_is_an_error(
    node: OpenNode, claimed: ClaimShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer above the servers' max_payload says so instead of being lost."""
    asking, owner = await node("one"), await node("owner")
    owner.own[0] = await claimed()
    asking.hears({"owner": 1})
    monkeypatch.setattr(FaultyConnection, "max_payload", 10)
    with pytest.raises(SpoolError, match=r"gateway owner: the answer has \d+ of 10 bytes"):
        await asking.owners.ask(AskDepths())


async def test_a_shard_that_is_given_away_is_asked_of_its_next_owner(
    node: OpenNode, claimed: ClaimShard
) -> None:
    """A gateway that still names a shard which it does not deliver any more is asked again."""
    asking, owner = await node("one"), await node("owner")
    asking.hears({"owner": 1})
    asked = asyncio.ensure_future(asking.owners.ask(Forget("x")))
    await asyncio.sleep(0)
    owner.own[0] = await claimed()
    assert await asked == {0: None}


async def test_a_client_that_is_made_anew_listens_again(
    node: OpenNode, claimed: ClaimShard, connection: FaultyConnection
) -> None:
    """Questions are answered again after the client gave its connection up."""
    asking, owner = await node("one"), await node("owner")
    owner.own[0] = await claimed()
    asking.hears({"owner": 1})
    assert connection._client is not None
    await connection._client.close()
    assert (await asking.owners.ask(AskDepths())).keys() == {0}

"""Ask the owners of shards, over core NATS: what concerns all shards is answered by any gateway.

An answer is whole or an error: a shard without an owner, or an owner without an answer, makes no
sum that is wrong.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from gateway.errors import SpoolError
from gateway.spool.jetstream.answering import QuestionListener
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.messages import Unanswered
from gateway.spool.jetstream.presence import SignOfLife
from gateway.spool.jetstream.questions import AnyQuestion, Question
from gateway.spool.jetstream.shard import JetStreamShard
from gateway.spool.values import Unreachable

OWNER_LIMIT = 10.0
"""Seconds within which a shard must have an owner: longer than a takeover."""
ANSWER_LIMIT = 60.0
"""Seconds that an owner who is alive may work on an answer."""
_LOOK = 0.1
"""Seconds between two looks at who owns what."""

T = TypeVar("T")
log = structlog.get_logger()


class _Asked(msgspec.Struct, frozen=True, array_like=True):
    shards: list[int]
    question: AnyQuestion


class _Answered(msgspec.Struct, frozen=True, array_like=True):
    answers: dict[int, msgspec.Raw]
    """By shard; shards that the gateway does not own are left out."""
    error: str = ""


_encode = msgspec.msgpack.Encoder().encode
_asked = msgspec.msgpack.Decoder(_Asked).decode
_answered = msgspec.msgpack.Decoder(_Answered).decode


class ShardOwners:
    """Asks the owners of all shards, and answers for the shards of this gateway.

    Args:
        connection: of this gateway.
        layout: names the subjects.
        node: the name of this start of this gateway.
        shards: the number of shards of the cluster.
        own: returns the shards that this gateway delivers, by number.
        nodes: returns the last signs of life of the other gateways that are alive.

    Attributes:
        shards: the numbers of all shards.
    """

    def __init__(  # noqa: PLR0913 - who we are, and whom we know
        self,
        connection: NatsConnection,
        layout: Layout,
        node: str,
        *,
        shards: int,
        own: Callable[[], Mapping[int, JetStreamShard]],
        nodes: Callable[[], Mapping[str, SignOfLife]],
    ) -> None:
        self._connection, self._layout, self._node = connection, layout, node
        self.shards = range(shards)
        self._own, self._nodes = own, nodes
        self._listener = QuestionListener(connection, layout.questions(node), self._reply)

    async def start(self) -> None:
        """Answer from now on."""
        await self._listener.start()

    async def stop(self) -> None:
        """Answer no more; what is being answered is given up."""
        await self._listener.stop()

    async def ask(self, question: Question[T], shards: Iterable[int] | None = None) -> dict[int, T]:
        """Return the answers for some shards, or for all of them, by shard.

        Raises Unreachable if a shard has no owner, and SpoolError if its owner cannot answer. A
        question that changes something may have been acted on nevertheless, by some owners.
        """
        left = set(self.shards if shards is None else shards)
        answers: dict[int, T] = {}
        until = time.monotonic() + OWNER_LIMIT
        while left:
            found = await asyncio.gather(
                *[self._ask(node, question, some) for node, some in self._by_owner(left).items()],
                return_exceptions=True,
            )
            for one in found:
                if isinstance(one, BaseException):
                    raise one
                answers |= one
            left -= answers.keys()
            if left and time.monotonic() >= until:
                names = ", ".join(map(str, sorted(left)))
                why = self._connection.health() or f"no gateway owns shard {names} now"
                raise Unreachable(f"try again: {why}")
            if left:
                await asyncio.sleep(_LOOK)
        return answers

    async def ask_once(self, question: Question[T], seconds: float) -> dict[int, T]:
        """Return the answers that come within some seconds, by shard; others are left out.

        It is for questions that change nothing.
        """

        async def asked(node: str, shards: list[int]) -> dict[int, T]:
            try:
                async with asyncio.timeout(seconds):
                    return await self._ask(node, question, shards)
            except (SpoolError, TimeoutError):
                return {}

        owners = self._by_owner(self.shards)
        found = await asyncio.gather(*[asked(node, some) for node, some in owners.items()])
        return {shard: answer for answers in found for shard, answer in answers.items()}

    def _by_owner(self, shards: Iterable[int]) -> dict[str, list[int]]:
        """Return shards by the gateway that names them, with the latest claim of each."""
        owners: dict[int, tuple[int, str]] = {}
        for node, sign in self._nodes().items():
            for shard, epoch in sign.owned.items():
                owners[shard] = max(owners.get(shard, (0, "")), (epoch, node))
        owners |= dict.fromkeys(self._own(), (0, self._node))
        found: dict[str, list[int]] = {}
        for shard in shards:
            if shard in owners:
                found.setdefault(owners[shard][1], []).append(shard)
        return found

    def _ask(self, node: str, question: Question[T], shards: list[int]) -> Awaitable[dict[int, T]]:
        if node == self._node:
            return self._answer(question, shards)
        return self._ask_other(node, question, shards)

    async def _ask_other(self, node: str, question: Question[T], shards: list[int]) -> dict[int, T]:
        try:
            data = _encode((shards, question))
        except ValueError as error:
            raise SpoolError(f"a question to {node} cannot be written: {error}") from error
        try:
            answered = _answered((await self._request(node, data)).data)
        except Unanswered as error:
            if question.changes and not isinstance(error.__cause__, NoRespondersError):
                raise SpoolError(
                    f"gateway {node} did not answer, and may have done what was asked; look, and "
                    f"try again ({error})"
                ) from error
            return {}
        if answered.error:
            raise SpoolError(answered.error)
        kind = question.answer_type
        return {n: msgspec.msgpack.decode(raw, type=kind) for n, raw in answered.answers.items()}

    async def _request(self, node: str, data: bytes) -> Msg:
        """Return a gateway's answer; raises Unanswered if it dies."""
        asking = asyncio.ensure_future(
            self._connection.request(self._layout.questions(node), data, wait=ANSWER_LIMIT)
        )
        try:
            while not asking.done():
                await asyncio.wait({asking}, timeout=_LOOK)
                if not asking.done() and node not in self._nodes():
                    raise Unanswered("it is silent")
            return asking.result()
        finally:
            asking.cancel()

    # ---- answers ---------------------------------------------------------------------------

    async def _answer(self, question: Question[T], shards: Iterable[int]) -> dict[int, T]:
        """Return the answers for those of the shards that this gateway owns."""
        own = self._own()
        asked = [number for number in shards if number in own]
        found = await asyncio.gather(
            *[question.of(own[number]) for number in asked], return_exceptions=True
        )
        answers: dict[int, T] = {}
        for number, one in zip(asked, found, strict=True):
            if not isinstance(one, BaseException):
                answers[number] = one
            elif question.changes or not isinstance(one, SpoolError) or number in self._own():
                raise one
        return answers

    async def _reply(self, message: Msg) -> None:
        try:
            asked = _asked(message.data)
            question: Question[Any] = asked.question
            found = await self._answer(question, asked.shards)
            data = _encode(_Answered({n: msgspec.Raw(_encode(one)) for n, one in found.items()}))
            if len(data) > (most := self._connection.max_payload):
                data = self._error(f"the answer has {len(data)} of {most} bytes; ask for less")
        except (SpoolError, ValueError) as error:
            data = self._error(str(error))
        except Exception as error:
            log.exception("question_failed")
            data = self._error(repr(error))
        try:
            await self._connection.send(message.reply, data)
        except SpoolError as error:
            log.warning("answer_failed", reason=str(error))

    def _error(self, text: str) -> bytes:
        return _encode(_Answered({}, f"gateway {self._node}: {text}"))

"""Ask the other gateways themselves, over core NATS, what only they know."""

import asyncio
from collections.abc import Callable, Iterable

import msgspec
import structlog
from nats.aio.msg import Msg

from gateway.errors import GatewayError, SpoolError
from gateway.spool.cluster import PeerAnswer, PeerAnswers
from gateway.spool.jetstream.answering import QuestionListener
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.layout import Layout

LIMIT = 2.0
"""Seconds within which a gateway must answer."""
HEAD_ROOM = 1024
"""Bytes of a message beside the answer."""

log = structlog.get_logger()


class _Asked(msgspec.Struct, frozen=True, array_like=True):
    topic: str
    data: bytes


class _Answered(msgspec.Struct, frozen=True, array_like=True):
    data: bytes
    error: str = ""


_encode = msgspec.msgpack.Encoder().encode
_asked = msgspec.msgpack.Decoder(_Asked).decode
_answered = msgspec.msgpack.Decoder(_Answered).decode


class NatsPeers:
    """The other gateways (see `gateway.spool.cluster.Peers`).

    Args:
        connection: of this gateway.
        layout: names the subjects.
        node: the name of this start of this gateway.
        others: returns the names of the other gateways that are alive.
    """

    def __init__(
        self,
        connection: NatsConnection,
        layout: Layout,
        node: str,
        others: Callable[[], Iterable[str]],
    ) -> None:
        self._connection, self._layout = connection, layout
        self._node, self._others = node, others
        self._topics: dict[str, PeerAnswer] = {}
        self._listener = QuestionListener(connection, layout.peer(node), self._reply)

    def serve(self, topic: str, answer: PeerAnswer) -> None:
        """Answer questions about *topic* (see ``Peers.serve``)."""
        self._topics[topic] = answer

    @property
    def room(self) -> int:
        """Return the bytes that an answer may have."""
        return self._connection.max_payload - HEAD_ROOM

    async def start(self) -> None:
        """Answer from now on."""
        await self._listener.start()

    async def stop(self) -> None:
        """Answer no more; what is being answered is given up."""
        await self._listener.stop()

    async def ask(self, topic: str, data: bytes) -> PeerAnswers:
        """Return the answers that come in time (see ``Peers.ask``)."""
        asked = _encode(_Asked(topic, data))
        others = sorted(self._others())
        found = await asyncio.gather(*[self._ask(node, asked) for node in others])
        answers = dict(zip(others, found, strict=True))
        return PeerAnswers(
            {node: one.data for node, one in answers.items() if not one.error},
            {node: one.error for node, one in answers.items() if one.error},
        )

    async def tell(self, node: str, topic: str, data: bytes) -> None:
        """Send *data* to one of them (see ``Peers.tell``)."""
        await self._connection.send(self._layout.peer(node), _encode(_Asked(topic, data)))

    async def _ask(self, node: str, asked: bytes) -> _Answered:
        try:
            message = await self._connection.request(self._layout.peer(node), asked, wait=LIMIT)
            return _answered(message.data)
        except (SpoolError, msgspec.DecodeError) as error:
            return _Answered(b"", str(error))

    async def _reply(self, message: Msg) -> None:
        try:
            asked = _asked(message.data)
            if (answer := self._topics.get(asked.topic)) is None:
                found = _Answered(b"", f"it knows nothing of {asked.topic}; upgrade it")
            else:
                found = _Answered(await answer(asked.data))
            if len(found.data) > self.room:
                found = _Answered(b"", f"its answer has {len(found.data)} bytes; ask for less")
        except (GatewayError, ValueError) as error:
            found = _Answered(b"", str(error))
        except Exception as error:
            log.exception("question_failed")
            found = _Answered(b"", repr(error))
        if not message.reply:  # it was told, not asked
            return
        try:
            await self._connection.send(message.reply, _encode(found))
        except SpoolError as error:
            log.warning("answer_failed", reason=str(error))

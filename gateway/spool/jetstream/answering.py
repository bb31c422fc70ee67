"""Answer the questions of other gateways, each in a task of its own."""

import asyncio
from collections.abc import Awaitable, Callable

from nats.aio.msg import Msg

from gateway.spool.jetstream.connection import NatsConnection


class QuestionListener:
    """Listens for questions.

    Args:
        connection: of this gateway.
        subject: of the questions.
        reply: answers one.
    """

    def __init__(
        self, connection: NatsConnection, subject: str, reply: Callable[[Msg], Awaitable[None]]
    ) -> None:
        self._connection, self._subject, self._reply = connection, subject, reply
        self._answering: set[asyncio.Future[None]] = set()

    async def start(self) -> None:
        """Answer from now on."""
        await self._connection.listen(self._subject, self._on_question)

    async def stop(self) -> None:
        """Answer no more; what is being answered is given up."""
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)

    async def _on_question(self, message: Msg) -> None:
        task = asyncio.ensure_future(self._reply(message))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

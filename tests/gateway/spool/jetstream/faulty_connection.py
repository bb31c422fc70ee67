"""A connection with faults that a test plans: lost answers, refusals, servers that are behind."""

import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

from nats.aio.msg import Msg

from gateway.spool.jetstream.connection import ATTEMPT, NatsConnection
from gateway.spool.jetstream.messages import StoredMessage, Unanswered

Call = Callable[[], Awaitable[Msg]]
Fault = Callable[[Call], Awaitable[Msg]]


class FaultyConnection(NatsConnection):
    """A real connection; the next requests to a subject meet the faults planned for it.

    Attributes:
        requests: the subjects of all requests.
        pages: what the next reads return instead; None for the truth.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        super().__init__(urls)
        self._faults: deque[tuple[str, Fault]] = deque()
        self.requests: list[str] = []
        self.pages: deque[list[StoredMessage] | None] = deque()

    def plan(self, subject: str, *faults: Fault) -> None:
        """Let the next requests to subjects that begin like this meet *faults*."""
        self._faults.extend((subject, fault) for fault in faults)

    def forget_plan(self) -> None:
        """Plan no faults any more."""
        self._faults.clear()

    async def request(
        self,
        subject: str,
        data: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        wait: float = ATTEMPT,
    ) -> Msg:
        """Send a request, or meet the fault that is planned for it."""
        self.requests.append(subject)

        def call() -> Awaitable[Msg]:
            return super(FaultyConnection, self).request(subject, data, headers, wait=wait)

        if self._faults and subject.startswith(self._faults[0][0]):
            return await self._faults.popleft()[1](call)
        return await call()

    async def collect(
        self, subject: str, request: bytes, first: float = ATTEMPT
    ) -> list[StoredMessage]:
        """Read messages, or return the planned page."""
        if self.pages and (page := self.pages.popleft()) is not None:
            return page
        return await super().collect(subject, request, first)


async def lost_request(_: Call) -> Msg:
    """Lose the request."""
    raise Unanswered("lost on the way there")


async def lost_answer(call: Call) -> Msg:
    """Let the servers do it, and lose their answer."""
    await call()
    raise Unanswered("lost on the way back")


def refused(code: int, err_code: int, description: str = "no") -> Fault:
    """Let a server refuse it with these codes."""

    async def refuse(_: Call) -> Msg:
        error = {"code": code, "err_code": err_code, "description": description}
        return answered({"error": error})

    return refuse


def instead(answer: Mapping[str, object]) -> Fault:
    """Answer something else: what a server that no longer leads believes."""

    async def answer_instead(_: Call) -> Msg:
        return answered(answer)

    return answer_instead


def answered(answer: Mapping[str, object]) -> Msg:
    """Return an answer."""
    return Msg(_client=None, data=json.dumps(answer).encode())  # type: ignore[arg-type]

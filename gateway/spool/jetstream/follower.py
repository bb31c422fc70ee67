"""Follow a subject: each message once and in order, whatever becomes of consumers and servers."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from gateway.errors import SpoolError
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.messages import StoredMessage

HEARTBEAT = 0.7
"""Seconds after which an idle consumer tells that it lives."""
SILENCE = 1.6
"""Seconds without a sign of the consumer after which it is made anew."""
CHECK_INTERVAL = 0.2
_INACTIVE = 10
"""Seconds after which a server deletes a consumer that nobody listens to."""

_SHORT_REPLY = 9
"""Tokens of a message's reply subject without domain and account."""

log = structlog.get_logger()


class Follower:
    """Hands over a subject's messages through an ephemeral consumer.

    The consumer remembers nothing for us: it is made anew, after the last message that was handed
    over, when its own numbers have a gap or it is silent.

    Args:
        connection: of this gateway.
        stream: the subject's stream.
        subject: what to follow.
        start: the sequence to begin at.
        offer: gets each message; if it raises, the message comes again.
        check: called before a consumer is made, if given; if it raises SpoolError, none is.
    """

    def __init__(  # noqa: PLR0913 - what to follow, and how
        self,
        connection: NatsConnection,
        stream: str,
        subject: str,
        start: int,
        offer: Callable[[StoredMessage], None],
        *,
        check: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._connection, self._stream, self._subject = connection, stream, subject
        self._next, self._offer, self._check = max(1, start), offer, check
        self._subscription: Subscription | None = None
        self._inbox = ""
        self._received = 0
        self._heard = 0.0
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    def start(self) -> None:
        """Follow from now on, until `stop`."""
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        """End; nothing is handed over any more."""
        self._stopped = True
        self._inbox = ""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._unsubscribe()

    async def _watch(self) -> None:
        # A request that is answered in the moment of the cancellation swallows it.
        told = ""
        while not self._stopped:
            if time.monotonic() - self._heard > SILENCE:
                try:
                    await self._consume()
                except SpoolError as error:
                    if told != (told := str(error)):
                        log.warning("follow_failed", subject=self._subject, reason=told)
                else:
                    told = ""
            await asyncio.sleep(CHECK_INTERVAL)

    async def _consume(self) -> None:
        await self._unsubscribe()
        if self._check:
            await self._check()
        inbox = self._inbox = self._connection.new_inbox()
        self._received = 0

        async def on_message(message: Msg) -> None:
            if inbox == self._inbox and not self._stopped:
                await self._on_message(message)

        self._subscription = await self._connection.subscribe(inbox, on_message)
        self._heard = time.monotonic()
        made = await self._connection.api(
            f"CONSUMER.CREATE.{self._stream}",
            {
                "stream_name": self._stream,
                "config": {
                    "deliver_subject": inbox,
                    "filter_subject": self._subject,
                    "ack_policy": "none",
                    "max_deliver": 1,
                    "mem_storage": True,
                    "num_replicas": 1,
                    "deliver_policy": "by_start_sequence",
                    "opt_start_seq": self._next,
                    "flow_control": True,
                    "idle_heartbeat": int(HEARTBEAT * 1e9),
                    "inactive_threshold": _INACTIVE * 1_000_000_000,
                },
            },
        )
        if not made:
            raise SpoolError(f"there is no stream {self._stream}")
        if self._inbox == inbox:
            self._heard = time.monotonic()

    async def _on_message(self, message: Msg) -> None:
        self._heard = time.monotonic()
        if not message.reply.startswith("$JS.ACK."):
            await self._on_control(message)
            return
        seq, number, at = _place(message.reply)
        if number != self._received + 1:
            self._restart()
            return
        if seq >= self._next:
            try:
                self._offer(StoredMessage(seq, message.data, at))
            except Exception:
                log.exception("follow_failed", subject=self._subject, seq=seq)
                self._restart()
                return
            self._next = seq + 1
        self._received = number

    async def _on_control(self, message: Msg) -> None:
        """Answer flow control; notice a last message that did not arrive."""
        headers = message.headers or {}
        reply = message.reply or headers.get("Nats-Consumer-Stalled", "")
        if reply:
            with contextlib.suppress(SpoolError):
                await self._connection.send(reply)
        if int(headers.get("Nats-Last-Consumer", self._received)) > self._received:
            self._restart()

    def _restart(self) -> None:
        """Listen to this consumer no more; `_watch` makes another."""
        self._inbox = ""
        self._heard = 0.0

    async def _unsubscribe(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription:
            with contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()


def _place(reply: str) -> tuple[int, int, float]:
    """Return sequence in the stream, number at the consumer, and Unix seconds of a message.

    The reply is ``$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<number>.<ns>.<pending>``,
    with two tokens (domain, account) after ``ACK`` in newer servers.
    """
    tokens = reply.split(".")
    first = 5 if len(tokens) == _SHORT_REPLY else 7
    return int(tokens[first]), int(tokens[first + 1]), int(tokens[first + 2]) / 1e9

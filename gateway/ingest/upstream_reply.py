"""Return the vendor's own response to events, if a source asks for it.

Where several gateways share the log, another one may deliver a request. It sends the response to
the gateway whose client waits, over core NATS: an answer that is lost is replaced by the gateway's.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

import msgspec
from multidict import CIMultiDict

from gateway.errors import SpoolError
from gateway.event import Event
from gateway.http import Response
from gateway.ingest.response_masking import AS_IT_IS, Masking
from gateway.plugin.client_credentials import client_secrets
from gateway.plugin.vendor import Input
from gateway.spool import Entry, LogRecord
from gateway.spool.cluster import Peers

TOPIC = "upstream.reply"
"""What other gateways are told under."""


class ReplySource(Protocol):
    """A destination whose vendor's response can be awaited."""

    def forwards_from(self, vendor: str) -> bool:
        """Return whether requests in a vendor's format are forwarded unchanged."""

    def own_secrets(self) -> Iterable[str]:
        """Return the secrets in the destination's settings."""

    def wait_for_reply(self, request_id: str) -> "asyncio.Future[Response | None]":
        """Return a future of the vendor's response to a request; its result may be None."""

    def sends_now(self, user: str) -> bool:
        """Return whether a new event of *user* would be sent without waiting behind others."""


class UpstreamReply:
    """The vendor's response to one request, that a client waits for.

    Args:
        patience: seconds to wait after the request was stored.

    Attributes:
        handed_over: the request was handed over to the destinations, here or elsewhere.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.handed_over = False
        self._masking = AS_IT_IS
        self._attempt: asyncio.Future[Response | None] | None = None
        self._found: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()

    def follow(self, attempt: "asyncio.Future[Response | None]", masking: Masking) -> None:
        """Resolve it by the result of an *attempt*, with keys masked.

        A vendor may repeat the destination's key in it.
        """
        self._attempt, self._masking, self.handed_over = attempt, masking, True
        attempt.add_done_callback(self._on_attempt)

    def resolve(self, found: Response | None) -> None:
        """Set the vendor's response; None if there is none. A later call changes nothing."""
        self.handed_over = True
        if not self._found.done():
            self._found.set_result(found)

    def _on_attempt(self, attempt: "asyncio.Future[Response | None]") -> None:
        if not attempt.cancelled():
            self.resolve(attempt.result())

    async def wait(self) -> Response | None:
        """Return the vendor's response; None if the gateway should respond itself."""
        try:
            async with asyncio.timeout(self.patience):
                found = await self._found
        except TimeoutError:
            return None
        finally:
            if self._attempt is not None:
                self._attempt.cancel()
        return self._masking.response(found) if found and self._masking.hides else found


class _Sent(msgspec.Struct, frozen=True, array_like=True):
    """A response on its way to the gateway whose client waits."""

    request_id: str
    status: int = 0
    """0 if the gateway should respond itself."""
    headers: list[tuple[bytes, bytes]] = []
    """As bytes: a vendor may send any."""
    body: bytes = b""


_encode = msgspec.msgpack.Encoder().encode
_sent = msgspec.msgpack.Decoder(_Sent).decode


class UpstreamReplies:
    """The vendors' responses that clients of this gateway wait for, and those of other gateways.

    Args:
        input_of: returns the input that reads a stored request; None if it is gone.
        node: this gateway's name among those that share the log.
        peers: the others; None if it is alone.

    Attributes:
        waiting: those of clients of this gateway, by request id.
    """

    def __init__(
        self, input_of: Callable[[Entry], Input | None], node: str = "", peers: Peers | None = None
    ) -> None:
        self.waiting: dict[str, UpstreamReply] = {}
        self._input_of = input_of
        self._node, self._peers = node, peers
        self._sending: dict[asyncio.Task[None], UpstreamReply] = {}
        if peers is not None:
            peers.serve(TOPIC, self._on_sent)

    @contextmanager
    def expect(self, request_id: str, patience: float) -> Iterator[UpstreamReply]:
        """Expect the response to a request that is to be stored, as long as the context lasts."""
        reply = self.waiting[request_id] = UpstreamReply(patience)
        try:
            yield reply
        finally:
            self.waiting.pop(request_id, None)

    def patience(self, request_id: str) -> float:
        """Return the seconds that a client waits for the response to a request; 0 for none."""
        reply = self.waiting.get(request_id)
        return 0.0 if reply is None else reply.patience

    def stored(self, reply: UpstreamReply) -> None:
        """Tell that the request is stored, or that nothing of it is.

        A gateway that is alone has handed it over by then, unless all of it was left out.
        """
        if self._peers is None and not reply.handed_over:
            reply.resolve(None)

    def hand_over(
        self,
        item: LogRecord,
        events: Sequence[Event],
        worker_of: Callable[[str], ReplySource | None],
    ) -> None:
        """Find who responds to *item*, before it is offered to the workers.

        Args:
            item: an entry that a client of this or of another gateway may wait for.
            events: its events; none if it cannot be parsed.
            worker_of: returns the worker of a destination.
        """
        entry, wanted = item.entry, item.reply
        if (reply := self.waiting.get(entry.id)) is not None:
            self._find(reply, entry, events, worker_of)
        elif wanted is not None and wanted.node != self._node and self._peers is not None:
            reply = UpstreamReply(wanted.seconds)
            self._find(reply, entry, events, worker_of)
            send = self._send(self._peers, wanted.node, entry.id, reply)
            task = asyncio.get_running_loop().create_task(send)
            self._sending[task] = reply
            task.add_done_callback(self._sending.pop)

    def _find(
        self,
        reply: UpstreamReply,
        entry: Entry,
        events: Sequence[Event],
        worker_of: Callable[[str], ReplySource | None],
    ) -> None:
        """Follow the attempt of the first destination that gets all events as they came."""
        for name, indexes in entry.targets.items():
            worker = worker_of(name)
            if worker is None or not events or len(indexes) < len(events):
                continue
            if not worker.forwards_from(entry.vendor):
                continue
            reads = self._input_of(entry)
            if reads is None or not worker.sends_now(events[0].user_key):
                break
            masking = Masking(worker.own_secrets(), client_secrets(entry.request, reads))
            reply.follow(worker.wait_for_reply(entry.id), masking)
            return
        reply.resolve(None)

    async def _send(self, peers: Peers, node: str, request_id: str, reply: UpstreamReply) -> None:
        """Send the response to the gateway whose client waits, even if there is none."""
        found = await reply.wait()
        data = _encode(_Sent(request_id))
        if found is not None:
            pairs = [(_bytes(name), _bytes(value)) for name, value in found.headers.items()]
            whole = _encode(_Sent(request_id, found.status, pairs, found.body))
            data = whole if len(whole) <= peers.room else data
        with suppress(SpoolError):  # that gateway responds itself, and why is told elsewhere
            await peers.tell(node, TOPIC, data)

    async def _on_sent(self, data: bytes) -> bytes:
        sent = _sent(data)
        if (reply := self.waiting.get(sent.request_id)) is not None:
            headers = CIMultiDict((_text(name), _text(value)) for name, value in sent.headers)
            reply.resolve(Response(sent.status, headers, sent.body) if sent.status else None)
        return b""

    async def stop(self) -> None:
        """Let other gateways respond themselves where no vendor has responded yet."""
        for reply in self._sending.values():
            reply.resolve(None)
        await asyncio.gather(*self._sending)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(header: bytes) -> str:
    return header.decode("utf-8", "surrogateescape")

"""The connection to NATS: every call may be repeated, and every error is a `SpoolError`."""

import asyncio
import contextlib
import itertools
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from math import ceil
from typing import Any, TypeVar

import nats
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import AuthorizationError, MaxPayloadError

from gateway.errors import SpoolError
from gateway.spool.jetstream.access import TLS_MISSING, NatsAccess, NatsClient
from gateway.spool.jetstream.messages import (
    EXPECTED,
    MESSAGE_ID,
    AlreadyStored,
    StoredMessage,
    StreamInfo,
    StreamMessage,
    TooLarge,
    Unanswered,
    api_answer,
    batch_headers,
    leader_message,
    read_stream_info,
    stored_message,
    stored_sequence,
)

ATTEMPT = 1.0
"""Seconds after which a call without an answer is repeated."""
PATIENCE = 10.0
"""Seconds for which a call is repeated; a new leader is elected within 4 to 9 s."""
_FIRST_WAIT, _LONGEST_WAIT = 0.02, 0.25
_FIRST_ANSWERS = (0.1, 0.2, 0.4)
"""Seconds that the first tries of a read wait: another replica answers if one hangs."""
_REOPEN_WAIT = 0.5
_MAX_UNSENT = 64 * 1024 * 1024
"""Bytes that wait in memory while no server is connected."""
_MAX_SEQ = (1 << 63) - 1
_PAGE, _PAGE_BYTES = 256, 4_000_000

T = TypeVar("T")
Callback = Callable[[Msg], Awaitable[None]]

log = structlog.get_logger()


class NatsConnection:
    """One connection to a cluster, which is made again whatever ends it.

    All calls are idempotent, so they are repeated until they succeed or ``patience`` is over. The
    client sends what was unsent after it reconnects, old calls too: they must bear that.

    Args:
        urls: servers, without user and password.
        access: who the gateway is.
        name: shown by the servers.
        patience: seconds for which calls are repeated.
    """

    def __init__(
        self,
        urls: Sequence[str],
        access: NatsAccess | None = None,
        *,
        name: str = "gateway",
        patience: float = PATIENCE,
    ) -> None:
        self.urls = list(urls)
        self.patience = patience
        self._access = access or NatsAccess()
        self._name = name
        self._client: Client | None = None
        self._closing = False
        self._reopening: asyncio.Task[None] | None = None
        self._error: Exception | None = None
        self._listening: dict[str, Callback] = {}

    async def open(self) -> None:
        """Connect.

        Raises Unanswered if no server answers within ``patience``, and another SpoolError if they
        do not let the gateway in.
        """
        self._closing = False
        self._client = await self._connect()

    async def _connect(self) -> Client:
        options = {"connect_timeout": 2, **self._access.options()}
        client = NatsClient()
        try:
            async with asyncio.timeout(self.patience):
                await client.connect(
                    self.urls,
                    name=self._name,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.1,  # type: ignore[arg-type] # it only sleeps for it
                    ping_interval=1,
                    max_outstanding_pings=2,
                    pending_size=_MAX_UNSENT,
                    error_cb=self._note,
                    closed_cb=self._on_closed,
                    **options,
                )
        except (nats.errors.Error, OSError, TimeoutError, ValueError) as error:
            await _close(client)
            last = self._error or error
            kind = SpoolError if _is_refusal(last) else Unanswered
            what = f"{', '.join(self.urls)}: cannot connect to NATS: {_describe(last)}"
            raise kind(what) from error
        return client

    async def close(self) -> None:
        """Disconnect; a second call does nothing."""
        self._closing = True
        self._listening.clear()
        if self._reopening:
            self._reopening.cancel()
            await asyncio.gather(self._reopening, return_exceptions=True)
        client, self._client = self._client, None
        if client:
            await _close(client)

    def health(self) -> str | None:
        """Return why no server is connected; None if one is."""
        if self._client and self._client.is_connected:
            return None
        reason = f": {_describe(self._error)}" if self._error else ""
        return f"{', '.join(self.urls)}: no connection to NATS{reason}"

    @property
    def max_payload(self) -> int:
        """Return the bytes of the largest message that the server takes."""
        return int(self._connected().max_payload)

    # ---- messages that are not stored ----------------------------------------------------

    async def send(self, subject: str, data: bytes = b"", reply: str = "") -> None:
        """Publish a message that nobody acknowledges."""
        with _spool_errors(subject):
            await self._connected().publish(subject, data, reply)

    async def subscribe(self, subject: str, callback: Callback) -> Subscription:
        """Call *callback* with each message, until ``unsubscribe``; a new client forgets it."""
        with _spool_errors(subject):
            return await self._connected().subscribe(subject, cb=callback)

    async def listen(self, subject: str, callback: Callback) -> None:
        """Call *callback* with each message until the connection is closed."""
        self._listening[subject] = callback
        await self.subscribe(subject, callback)

    def new_inbox(self) -> str:
        """Return a subject of this client's own."""
        return self._connected().new_inbox()

    # ---- JetStream -----------------------------------------------------------------------

    async def api(self, call: str, request: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer to a call of the JetStream API.

        It is ``{}`` if what it names is not there, or the stream that it makes is. Raises
        SpoolError for other errors.
        """
        data = json.dumps(request).encode() if request is not None else b""

        async def once() -> dict[str, Any]:
            return api_answer(call, await self.request(f"$JS.API.{call}", data))

        return await self._repeat(once)

    async def store(
        self,
        subject: str,
        data: bytes,
        *,
        message_id: str = "",
        expected: int | None = None,
        patience: float | None = None,
    ) -> int:
        """Store a message; return its sequence once a quorum has it.

        With *message_id* a repeat within two minutes is the same message. With *expected* it is
        stored only after that last message of its subject; after a repeat, WrongSequence may mean
        that an earlier attempt arrived. Raises SpoolFull at the stream's limit, and Unanswered
        when patience is over; 0 is one attempt.
        """
        headers = {MESSAGE_ID: message_id} if message_id else {}
        if expected is not None:
            headers[EXPECTED] = str(expected)
        return await self._store(subject, data, headers, patience)

    async def store_for(self, seconds: float, subject: str, data: bytes, expected: int) -> int:
        """Store a message that the servers delete after some time; otherwise like `store`."""
        headers = {EXPECTED: str(expected), "Nats-TTL": f"{ceil(seconds)}s"}
        return await self._store(subject, data, headers)

    async def _store(
        self, subject: str, data: bytes, headers: dict[str, str], patience: float | None = None
    ) -> int:
        async def once() -> int:
            return stored_sequence(subject, await self.request(subject, data, headers))

        return await self._repeat(once, patience)

    async def store_batch(self, batch_id: str, messages: Sequence[StreamMessage]) -> int:
        """Store messages of one stream, all or none; return the sequence of the last one.

        It is one attempt. Raises WrongSequence if an expectation fails, AlreadyStored if one of
        the messages has the id of a stored one, and Unanswered if the batch may or may not be
        stored.
        """
        *first, last = messages
        for number, message in enumerate(first, 1):
            headers = batch_headers(batch_id, number, message)
            with _spool_errors(message.subject):
                await self._connected().publish(message.subject, message.data, headers=headers)
        headers = batch_headers(batch_id, len(messages), last) | {"Nats-Batch-Commit": "1"}
        return stored_sequence(last.subject, await self.request(last.subject, last.data, headers))

    async def store_together(
        self, batch_id: str, messages: Sequence[StreamMessage], patience: float | None = None
    ) -> None:
        """Store messages of one stream, all or none.

        Each has an id of its own, so that a repeat is the same messages. Raises as `store` does.
        """
        tries = itertools.count(1)

        async def once() -> None:
            with contextlib.suppress(AlreadyStored):
                await self.store_batch(f"{batch_id}.{next(tries)}", messages)

        await self._repeat(once, patience)

    async def last(self, stream: str, subject: str) -> StoredMessage | None:
        """Return a subject's last message; asks the leader, whose answer is never behind."""
        return await self._from_leader(stream, {"last_by_subj": subject})

    async def message(self, stream: str, subject: str, seq: int) -> StoredMessage | None:
        """Return a subject's message by its sequence; asks the leader."""
        found = await self._from_leader(stream, {"seq": seq, "next_by_subj": subject})
        return found if found and found.seq == seq else None

    async def message_at(self, stream: str, seq: int) -> tuple[str, StoredMessage] | None:
        """Return a message of any subject, which is the first of the result; asks the leader."""
        if not 0 < seq <= _MAX_SEQ:
            return None
        answer = await self.api(f"STREAM.MSG.GET.{stream}", {"seq": seq})
        found = leader_message(answer)
        return (str(answer["message"]["subject"]), found) if found else None

    async def _from_leader(self, stream: str, which: dict[str, Any]) -> StoredMessage | None:
        return leader_message(await self.api(f"STREAM.MSG.GET.{stream}", which))

    async def read(self, stream: str, subject: str, start: int, limit: int) -> list[StoredMessage]:
        """Return messages of a subject from sequence *start* on, in order.

        Any replica answers. It may be behind, but has no holes: fewer messages than there are mean
        "read on", and none mean nothing.
        """
        request = json.dumps({
            "seq": max(1, start), "batch": limit, "next_by_subj": subject,
            "max_bytes": _PAGE_BYTES,
        }).encode()  # fmt: skip

        waits = itertools.chain(_FIRST_ANSWERS, itertools.repeat(ATTEMPT))

        async def once() -> list[StoredMessage]:
            return await self.collect(f"$JS.API.DIRECT.GET.{stream}", request, next(waits))

        return await self._repeat(once)

    async def read_all(
        self, stream: str, subject: str, start: int, end: int, *, may_vanish: bool = False
    ) -> AsyncIterator[StoredMessage]:
        """Yield a subject's messages from sequence *start* to *end*, which must exist.

        With *may_vanish* it may be deleted meanwhile. Raises Unanswered if no replica has it in
        time.
        """
        until = time.monotonic() + self.patience
        while start <= end:
            page = await self.read(stream, subject, start, _PAGE)
            for message in page:
                if message.seq <= end:
                    yield message
            if page:
                start = page[-1].seq + 1
                until = time.monotonic() + self.patience
            elif may_vanish and await self.message(stream, subject, end) is None:
                return
            elif time.monotonic() >= until:
                raise Unanswered(f"{subject}: no replica has message {end}")
            else:
                await asyncio.sleep(_LONGEST_WAIT)

    async def delete(self, stream: str, seq: int) -> None:
        """Delete one message; nothing if it is not there."""
        await self.api(f"STREAM.MSG.DELETE.{stream}", {"seq": seq, "no_erase": True})

    async def create_stream(self, name: str, settings: Mapping[str, Any]) -> None:
        """Create a stream; one that exists is left as it is."""
        await self.api(f"STREAM.CREATE.{name}", {"name": name, **settings})

    async def find_stream(self, stream: str) -> StreamInfo | None:
        """Return what the leader knows of a stream; None if there is none."""
        answer = await self.api(f"STREAM.INFO.{stream}")
        return read_stream_info(answer) if answer else None

    async def stream_info(self, stream: str) -> StreamInfo:
        """Return what the leader knows of a stream; raises SpoolError if there is none."""
        if (found := await self.find_stream(stream)) is None:
            raise SpoolError(f"NATS has no stream {stream}")
        return found

    async def update_stream(self, stream: str, settings: Mapping[str, Any]) -> None:
        """Change settings of a stream."""
        config = (await self.stream_info(stream)).config
        if any(config.get(key) != value for key, value in settings.items()):
            await self.api(f"STREAM.UPDATE.{stream}", {**config, **settings})

    async def subjects(self, stream: str, pattern: str) -> list[str]:
        """Return the subjects that have messages in a stream."""
        found: list[str] = []
        while True:
            request = {"subjects_filter": pattern, "offset": len(found)}
            answer = await self.api(f"STREAM.INFO.{stream}", request)
            page = answer.get("state", {}).get("subjects") or {}
            found += page
            if not page or len(found) >= answer.get("total", 0):
                return found

    async def purge(self, stream: str, subject: str, before: int | None = None) -> None:
        """Delete a subject's messages, or only those before a sequence."""
        which = {"filter": subject} | ({} if before is None else {"seq": before})
        await self.api(f"STREAM.PURGE.{stream}", which)

    # ---- one try ---------------------------------------------------------------------------

    async def request(
        self,
        subject: str,
        data: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        wait: float = ATTEMPT,
    ) -> Msg:
        """Return the answer to one request; raises Unanswered if none comes within *wait* s."""
        with _spool_errors(subject):
            return await self._connected().request(
                subject, data, timeout=wait, headers=dict(headers) if headers else None
            )

    async def collect(
        self, subject: str, request: bytes, first: float = ATTEMPT
    ) -> list[StoredMessage]:
        """Return the messages that answer one request; raises Unanswered if none could.

        The first must come within *first* seconds. If they stop coming, those that came are
        returned: they are in order.
        """
        queue: asyncio.Queue[Msg] = asyncio.Queue()
        inbox = self.new_inbox()

        async def take(message: Msg) -> None:
            queue.put_nowait(message)

        subscription = await self.subscribe(inbox, take)
        found: list[StoredMessage] = []
        try:
            await self.send(subject, request, inbox)
            while True:
                async with asyncio.timeout(ATTEMPT if found else first):
                    message = await queue.get()
                headers = message.headers or {}
                if "Nats-Sequence" in headers:
                    found.append(stored_message(headers, message.data))
                elif headers.get("Status") == "503" and not found:
                    raise Unanswered(f"{subject}: no replica answers")
                else:
                    return found
        except TimeoutError:
            if found:
                return found
            raise Unanswered(f"{subject}: no answer in time") from None
        finally:
            with contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()

    async def _repeat(self, once: Callable[[], Awaitable[T]], patience: float | None = None) -> T:
        """Return what a call returns, repeated while it is unanswered and patience lasts."""
        end = time.monotonic() + (self.patience if patience is None else patience)
        wait = _FIRST_WAIT
        while True:
            try:
                return await once()
            except Unanswered:
                if time.monotonic() >= end:
                    raise
            await asyncio.sleep(wait)
            wait = min(wait * 1.5, _LONGEST_WAIT)

    def _connected(self) -> Client:
        if self._client is None:
            raise Unanswered(self.health() or "no connection to NATS")
        return self._client

    async def _note(self, error: Exception) -> None:
        """Keep the reason for `health`; the client goes on by itself.

        A server that refuses the gateway may close before its reason is read: the one before stays.
        """
        if self._client is None and self._error and isinstance(error, ConnectionResetError):
            return
        self._error = error

    async def _on_closed(self) -> None:
        """Connect anew: the client gives up for some errors that a server tells it."""
        if self._closing or self._client is None:
            return
        self._client = None
        self._reopening = asyncio.get_running_loop().create_task(self._reopen())

    async def _reopen(self) -> None:
        while not self._closing:
            try:
                self._client = await self._connect()
                for subject, callback in self._listening.items():
                    await self.subscribe(subject, callback)
            except SpoolError as error:
                log.warning("nats_connection_failed", reason=str(error))
                client, self._client = self._client, None
                if client:
                    await _close(client)
                await asyncio.sleep(_REOPEN_WAIT)
            else:
                return


async def _close(client: Client) -> None:
    # uvloop raises RuntimeError if the client writes to a connection that is closed.
    with contextlib.suppress(nats.errors.Error, OSError, RuntimeError):
        await client.close()


@contextlib.contextmanager
def _spool_errors(what: str) -> Iterator[None]:
    """Turn the client's errors into `SpoolError`, the only one that readers of a spool expect."""
    try:
        yield
    except MaxPayloadError as error:
        raise TooLarge(f"{what}: larger than max_payload of the NATS servers") from error
    except (nats.errors.Error, OSError, TimeoutError, ValueError) as error:
        raise Unanswered(f"{what}: {_describe(error)}") from error


def _is_refusal(error: BaseException) -> bool:
    """Return whether a server answered and does not let the gateway in, or is not trusted."""
    return isinstance(error, ssl.SSLError) or _is_unauthorized(error) or TLS_MISSING in str(error)


def _is_unauthorized(error: BaseException) -> bool:
    return isinstance(error, AuthorizationError) or "authorization" in str(error).lower()


def _describe(error: BaseException) -> str:
    if _is_unauthorized(error):
        return "NATS refuses the credentials"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error).removeprefix("nats: ") or type(error).__name__
